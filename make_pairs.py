"""Make preference pairs from videos: queries, good and misled answers, judge, pairs.

    python make_pairs.py                                                  # the toy world
    torchrun --nproc_per_node 8 make_pairs.py --responder Qwen/Qwen2.5-VL-7B-Instruct --videos DIR
    python make_pairs.py --responder Qwen/Qwen2.5-VL-7B-Instruct --videos DIR --target 7020 \\
        --asker http://127.0.0.1:8000/v1 --judge http://127.0.0.1:8001/v1    # vLLM's servers

Writes queries.jsonl, candidates.jsonl, pairs.jsonl, dropped.jsonl, skipped.jsonl and audit.json
into --out. queries.jsonl, candidates.jsonl and replies.jsonl are written row by row, so the same
command continues a killed run. With torchrun, each process writes its own files, such as
candidates.rank1.jsonl. In the toy world, other defaults hold: see the end of --help.
"""

import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import ClassVar, Literal

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))  # with PYTHONSAFEPATH it is not there

from pasta import toy
from pasta.candidates import KINDS
from pasta.making.audit import write_report
from pasta.making.roles import Roles
from pasta.making.server import ServerError, is_address
from pasta.making.stages import unusable_videos, write_candidates, write_pairs, write_queries
from pasta.pairs import MODES
from pasta.prompts import PROMPT_VERSION
from pasta.run import flags, ranks
from pasta.run.command import command_line, to_paste, typed
from pasta.run.config import changed_settings, knob, parse, read_config, write_config
from pasta.run.locks import claim_folder
from pasta.run.rows import rows_of
from pasta.run.schema import ABSENT, printable
from pasta.video import list_videos

ROLE = "model folder, hub id, or http://HOST:PORT/v1 of an OpenAI-compatible server"
PIXELS = "pixels per frame, at most; 0: the checkpoint's. 602112 are 768 patches of 28 x 28"


@dataclass
class PairsConfig:
    ROLES: ClassVar = "models"
    responder: str = knob(f"to align: {ROLE}", "Qwen/Qwen2.5-VL-7B-Instruct", toy.model_folder)
    asker: str | None = knob(f"writes the queries: {ROLE} (default: the responder)", None)
    judge: str = knob(f"reads the answers: `rules`, or {ROLE}", "rules")
    WORK: ClassVar = "what to make"
    videos: Path = knob("folder of videos, searched recursively", toy=toy.videos_folder)
    out: Path = knob("folder of the result", Path("out/pairs"))
    stage: Literal["all", "queries", "candidates", "judge"] = knob("run only one stage", "all")
    limit: flags.Limit = knob("use only the first N videos; 0: all", 0)
    target: flags.Limit = knob("stop at this many pairs, as many per mode (paper: 7020); 0: all", 0)
    queries: Path | None = knob("your own queries; replaces --asker", None, toy.queries_file)
    n_queries: flags.Count = knob("queries per video and mode", 1)
    adversarial_qa: bool = knob("also write items for evaluate.py --bench adversarial", False)
    seed: flags.Seed = knob("random seed of queries and answers", 0)
    ANSWERS: ClassVar = "how the responder answers"
    candidates: flags.Count = knob("K, adversarial responses per query (paper: 3)", 3)
    adversary: Literal[tuple(KINDS)] = knob("how to mislead the model; sample: not at all", "both")
    n_frames: flags.Limit = knob("frames per video, at most; 0: the checkpoint's, or 32 (paper)", 0)
    sparse_frames: flags.Limit = knob("maximum frames of adversarial answers, at 1 fps", 8, toy=16)
    max_pixels: flags.Limit = knob(PIXELS, 602112, toy=0)
    temperature: flags.Temperature = knob("sampling temperature of adversarial answers", 0.7)
    max_new_tokens: flags.Count = knob("maximum tokens per query or response", 128, toy=24)
    PAIRS: ClassVar = "which pairs to keep"
    select: Literal["none", "flip", "contrast"] = knob("selection rule", "flip", toy="contrast")
    keep: flags.Share = knob("share of each mode that --select contrast keeps", 0.5, toy=0.8)
    balance: bool = knob("balance which response is longer and which side is chosen", True)
    judge_tokens: flags.Count = knob("maximum tokens per judge reply, with reasoning", 512)
    SPEED: ClassVar = "speed and memory"
    batch_videos: flags.Count = knob("videos per batch; the next batch is prefetched", 1, toy=16)
    batch_size: flags.Count = knob("prompts per forward pass", 16, toy=64)
    in_flight: flags.Count = knob("parallel server requests per process", 16)
    timeout: flags.Seconds = knob("seconds until a server request times out", 300.0)
    dtype: Literal["float32", "bfloat16"] = knob("dtype of the weights", "bfloat16", toy="float32")
    device: flags.Device = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")


# Settings that may change between two runs into one folder: no costly row depends on them.
FREE = """
    out stage limit target judge judge_tokens select keep balance adversarial_qa
    batch_videos batch_size in_flight timeout device
""".split()


def main(config):
    if not config.videos.is_dir():
        raise SystemExit(f"there is no folder {config.videos}; --videos expects a folder of videos")
    if not (videos := [str(path.absolute()) for path in list_videos(config.videos)]):
        raise SystemExit(f"no videos found in {config.videos}; --videos expects a folder of videos")
    check_choices(config)
    config.asker = None if config.queries else config.asker or config.responder
    device = ranks.start(config.device)
    try:
        roles = Roles(config, device)
        names = roles.open()
        claim_folder(config.out, config, config.responder)
        if ranks.rank() == 0:
            start_folder(config, roles, names)
        ranks.gather([])  # no rank writes before the folder is checked
        n, failed = make(config, roles, videos)
        failed = dict(ranks.gather(list(failed.items())))
        if ranks.rank() == 0:
            write_report(config, roles, videos, n, failed)
            print_next(config)
    except ServerError as error:
        raise SystemExit(f"{error}\nAnswers received so far are kept in {config.out}.") from None


def check_choices(config):
    """Refuse flags that do not work together before any work."""
    if config.select == "flip" and "frames" not in KINDS[config.adversary]:
        raise SystemExit("--select flip needs corrupted videos: --adversary frames or both")
    if config.select == "contrast" and is_address(config.responder):
        raise SystemExit("--select contrast needs log-probabilities; a server has none: use flip")
    if config.asker and config.queries:
        text = "use --queries or --asker, not both. The toy default sets --queries: with --asker"
        raise SystemExit(f"{text}, also give --responder")
    toy_alone = toy.is_toy(config.responder) and not typed("responder", "model", "queries")
    if toy_alone and typed("videos"):
        raise SystemExit("--videos needs --responder: the toy model's queries are about its own")
    if 0 < (n := config.target) < len(MODES):
        raise SystemExit(f"--target {n}: expected 0 or at least {len(MODES)} (one pair per mode)")


def start_folder(config, roles, names):
    """Write config.json; refuse a folder with rows of other settings or weights of models."""
    exists, schema = (config.out / "config.json").exists(), {"weights": dict | ABSENT}
    before = read_config(config.out, schema) if exists else {}
    known, authors = before.get("weights", {}), (config.asker, config.responder)
    weights = known | {name: roles.model(name).digest for name in names if name in authors}
    made_by = {"weights": weights, "prompt_version": PROMPT_VERSION}
    ours = {k: str(v) for k, v in (asdict(config) | made_by).items() if k not in FREE}
    theirs = {k: str(v) for k, v in (before | {"weights": weights | known}).items()}
    if before and (changed := changed_settings(theirs, ours)):
        raise SystemExit(printable(f"{config.out}: {', '.join(changed)}; choose another --out"))
    write_config(config.out, config, **made_by)


def make(config, roles, videos):
    """Run the stages. Returns (number of videos used, {video: reason} of those left out).

    With --target, rounds use more and more videos until each mode has its share of pairs.
    """
    before = {"candidates": "queries", "judge": "candidates"}.get(config.stage)
    if before and not rows_of(config.out / f"{before}.jsonl"):
        raise SystemExit(f"no rows in {config.out}/{before}.jsonl; run --stage {before} first")
    n = last = min(config.limit or len(videos), len(videos))
    share = config.target // len(MODES) if config.stage == "all" else 0
    if share:
        n = min(n, math.ceil(share / (config.n_queries * config.candidates)))
    modes, asked, counts = MODES, dict.fromkeys(MODES, 0), {}
    unusable = unusable_videos(config, videos)
    failed = dict(unusable)
    while True:
        if config.stage in ("all", "queries"):
            failed |= write_queries(config, roles, videos, n, modes, unusable)
        if config.stage in ("all", "candidates"):
            failed |= write_candidates(config, roles, videos, n, unusable)
        asked |= dict.fromkeys(modes, n)
        if config.stage in ("all", "judge"):
            counts = write_pairs(config, roles, videos, asked, unusable)
        modes = [mode for mode in MODES if share and counts[mode] < share]
        if all(asked[mode] == last for mode in modes):
            break
        # What the slowest mode needs at its rate so far, at most three times as many as now. It
        # depends only on the pairs so far, so a resumed run has the same rounds.
        needed = 1.1 * n * share / max(1, min(counts[mode] for mode in modes))
        n = min(last, 3 * n, max(n + 1, math.ceil(needed)))
    if modes and ranks.rank() == 0:
        print(f"{n} videos are not enough for --target {config.target}; add videos or --n_queries")
    return n, failed


def print_next(config):
    """Print the commands to run next, ready to paste."""
    if then := {"queries": "candidates", "candidates": "judge"}.get(config.stage):
        return print("next:", to_paste(*sys.argv, stage=then))
    # The weights of a server are ADDRESS#MODEL, those of a local model a digest.
    weights = read_config(config.out, {"weights": dict})["weights"].get(config.responder, "")
    model = weights.partition("#")[2] or config.responder
    flags = {"model": None if toy.is_toy(model) else model}
    more = typed("n_frames", "max_pixels", "dtype", "device")
    if config.adversarial_qa and rows_of(config.out / "items.jsonl"):
        items = {"bench": "adversarial", "data": config.out}
        print(f"ask the items; next: {to_paste('evaluate.py', **items, **flags, **more)}")
    print(f"look at the pairs first; next: python -m pasta.tools.report {quote(str(config.out))}")
    name = config.out.absolute().name.removeprefix("pairs").strip("-_")
    if flags["model"] or name:
        run = Path("out") / f"dpo-{name or Path(model).name}"
        flags |= {"pairs": config.out / "pairs.jsonl", "out": run}
    print(f"train on them; next: {to_paste('train_dpo.py', **flags, **more)}")


if __name__ == "__main__":
    with command_line():
        main(parse(PairsConfig))
        ranks.stop()
