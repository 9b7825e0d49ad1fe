"""Make preference pairs from videos: queries, good and misled answers, judge, pairs.

    python make_pairs.py                                                  # the toy world
    torchrun --nproc_per_node 8 make_pairs.py --responder Qwen/Qwen2.5-VL-7B-Instruct --videos DIR
    python make_pairs.py --responder Qwen/Qwen2.5-VL-7B-Instruct --videos DIR --target 7020 \\
        --asker http://127.0.0.1:8000/v1 --judge http://127.0.0.1:8001/v1    # vLLM's servers

Writes into --out queries.jsonl, candidates.jsonl, pairs.jsonl, dropped.jsonl, skipped.jsonl and
audit.json. The first two grow row by row, and so does replies.jsonl, what judges and servers said:
a killed run goes on where it was. Of several processes each has its own, as candidates.rank1.jsonl.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch

from pasta import toy
from pasta.candidates import KINDS
from pasta.making.adversarial_items import write_items
from pasta.making.audit import audit_of, audit_table
from pasta.making.made import CONFIG, SKIPPED
from pasta.making.roles import Roles
from pasta.making.server import EndpointError, is_address
from pasta.making.stages import candidates_in_order, write_candidates, write_pairs, write_queries
from pasta.pairs import MODES
from pasta.prompts import PROMPT_VERSION
from pasta.run import ranks
from pasta.run.atomic import write_json
from pasta.run.config import knob, parse, read_config, seed_all, write_config
from pasta.run.locks import lock_folder
from pasta.run.rows import rows_of, write_rows
from pasta.tools.dry_run import pair_making
from pasta.video import list_videos

ROLE = "model folder, hub id, or http://HOST:PORT/v1 of an OpenAI-compatible server"


@dataclass
class PairsConfig:
    ROLES: ClassVar = "who is asked"
    responder: str = knob(
        f"who is to be aligned: {ROLE}", "Qwen/Qwen2.5-VL-7B-Instruct", toy.model_folder
    )
    asker: str | None = knob(f"who writes the queries: {ROLE}; None: the responder", None)
    judge: str = knob(f"who reads the answers: `rules`, or {ROLE}", "rules")
    WORK: ClassVar = "what is made"
    videos: Path = knob("folder of videos, searched recursively", toy=toy.videos_folder)
    out: Path = knob("folder of the result", Path("out/pairs"))
    stage: Literal["all", "queries", "candidates", "judge"] = knob("do one stage alone", "all")
    limit: int = knob("only this many videos, the first ones; 0: all", 0)
    target: int = knob("stop at this many pairs, as many of each mode (paper: 7020); 0: all", 0)
    queries: Path | None = knob("own rows video, mode, query; no --asker", None, toy.queries_file)
    n_queries: int = knob("queries per video and mode", 1)
    adversarial_qa: bool = knob("also write items for evaluate.py --bench adversarial", False)
    seed: int = knob("of all sampling", 0)
    dry_run: bool = knob("say what would be made, what it would take, and stop", False)
    ANSWERS: ClassVar = "how the responder answers"
    candidates: int = knob("K, adversarial responses per query (paper: 3)", 3)
    adversary: Literal[tuple(KINDS)] = knob("what misleads the responder; sample: nothing", "both")
    n_frames: int = knob("frame budget; 0: the checkpoint's, or 32 (paper: 32)", 0)
    sparse_frames: int = knob("frame budget of adversarial responses, at 1 fps", 8, toy=16)
    max_pixels: int = knob("pixels per frame at most; 0: the checkpoint's", 602112, toy=0)
    temperature: float = knob("of adversarial responses; preferred ones are greedy", 0.7)
    max_new_tokens: int = knob("tokens per query or response at most", 128, toy=24)
    PAIRS: ClassVar = "which pairs stay"
    select: Literal["none", "flip", "contrast"] = knob("which pairs stay", "flip", toy="contrast")
    keep: float = knob("share of each mode that --select contrast keeps", 0.5, toy=0.8)
    balance: bool = knob("even out which response is longer and which side is chosen", True)
    judge_tokens: int = knob("tokens per reply of a judge at most; one that thinks needs more", 512)
    SPEED: ClassVar = "speed and memory"
    batch_videos: int = knob("videos worked on at a time; as many are read ahead", 1, toy=16)
    batch_size: int = knob("prompts per forward pass", 8, toy=64)
    in_flight: int = knob("requests to a server at a time, of each process; see --batch_videos", 16)
    timeout: float = knob("seconds that a server has for one request", 300.0)
    dtype: Literal["float32", "bfloat16"] = knob("of the weights", "bfloat16", toy="float32")
    device: str = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")


# What may change between two runs into one folder: nothing that is in its costly rows.
FREE = """
    out stage limit target judge judge_tokens select keep balance adversarial_qa dry_run
    batch_videos batch_size in_flight timeout device
""".split()


def main(config):
    found = list_videos(config.videos) if config.videos.is_dir() else []
    videos = [str(path.absolute()) for path in found]
    if not videos:
        raise SystemExit(f"no videos in {config.videos}; --videos takes a folder of them")
    check_choices(config)
    config.asker = None if config.queries else config.asker or config.responder
    seed_all(config.seed)
    device, failed = ranks.start(config.device), {}  # failed: video -> reason
    try:
        roles = Roles(config, device)
        names = roles.open()
        if config.dry_run:
            return pair_making(config, roles, videos)
        lock_folder(config.out)
        if ranks.rank() == 0:
            start_folder(config, roles, names)
        ranks.gather([])  # nobody writes into a folder that is refused
        n = make(config, roles, videos, failed)
        failed = dict(ranks.gather(list(failed.items())))
        if ranks.rank() == 0:
            write_report(config, roles, videos, n, failed)
    except EndpointError as error:
        raise SystemExit(f"{error}\nWhat was answered so far is kept in {config.out}.") from None


def check_choices(config):
    """Refuse at once what cannot work, and not after hours."""
    if config.select == "flip" and config.adversary in ("prompt", "sample"):
        raise SystemExit("--select flip needs answers on broken videos: --adversary frames or both")
    if config.select == "contrast" and is_address(config.responder):
        raise SystemExit("--select contrast needs log-probabilities, which a server does not give: "
                         "take --select flip or none, or a --responder in a folder")
    if config.asker and config.queries:
        raise SystemExit("--queries has no --asker: give one of them. The toy world has queries; "
                         f"for --asker there, name --responder {config.responder}, too")
    if 0 < config.target < len(MODES):
        raise SystemExit(f"--target {config.target} is less than a pair of each mode; expected 0, "
                         f"or {len(MODES)} and more")


def start_folder(config, roles, names):
    """Write config.json; refuse a folder whose rows were made with other settings or weights.

    names: the models that are asked now; what is known of the others is kept.
    """
    authors = [name for name in names if name in (config.asker, config.responder)]
    weights = {name: roles.origin(name) for name in authors}
    before = read_config(config.out, CONFIG) if (config.out / "config.json").exists() else {}
    known = before.get("weights", {})
    made_by = {"weights": known | weights, "prompt_version": PROMPT_VERSION}
    ours = {k: str(v) for k, v in (asdict(config) | made_by).items() if k not in FREE}
    theirs = before | {"weights": known | weights | known}  # in our order, with their digests
    if before and (changed := [k for k in ours if str(theirs.get(k)) != ours[k]]):
        told = ", ".join(f"--{k} {theirs.get(k)}, now {ours[k]}" for k in changed)
        raise SystemExit(f"{config.out} was begun with {told}; choose another --out")
    write_config(config.out, config, **made_by)


def make(config, roles, videos, failed):
    """The stages; with --target in rounds, more videos until each mode has its share of pairs.

    How many videos come next depends on nothing but the pairs so far: a run that goes on after a
    kill takes the same rounds. Returns the number of videos that were used.
    """
    last = min(config.limit or len(videos), len(videos))
    if config.stage != "all":
        make_stage(config, roles, videos, last, failed)
        return last
    share, modes, n, asked = config.target // len(MODES), MODES, last, dict.fromkeys(MODES, 0)
    if share:
        n = min(n, math.ceil(share / (config.n_queries * config.candidates)))
    while True:
        write_queries(config, roles, videos, n, modes, failed)
        write_candidates(config, roles, videos, n, failed)
        asked |= dict.fromkeys(modes, n)
        counts = write_pairs(config, roles, videos, asked)
        modes = [mode for mode in MODES if counts[mode] < share]
        if all(asked[mode] == last for mode in modes):
            break
        # As many as the poorest mode needs at its rate so far, and at most thrice as many.
        needed = 1.1 * n * share / max(1, min(counts[mode] for mode in modes))
        n = min(last, 3 * n, max(n + 1, math.ceil(needed)))
    if modes and ranks.rank() == 0 and share:
        print(f"{n} videos do not make --target {config.target}; add videos or --n_queries")
    return n


def make_stage(config, roles, videos, n, failed):
    """One stage alone, about the first n videos."""
    if config.stage == "queries":
        return write_queries(config, roles, videos, n, MODES, failed)
    before = {"candidates": "queries", "judge": "candidates"}[config.stage]
    if not rows_of(config.out / f"{before}.jsonl"):
        raise SystemExit(f"no rows in {config.out}/{before}.jsonl; first: --stage {before}")
    if config.stage == "candidates":
        return write_candidates(config, roles, videos, n, failed)
    return write_pairs(config, roles, videos, dict.fromkeys(MODES, n))


def write_report(config, roles, videos, n, failed):
    """Name the videos that were left out, and show what became of the n others."""
    path = config.out / "skipped.jsonl"
    if config.stage in ("candidates", "judge"):  # the stages before have met others
        failed = {row["video"]: row["reason"] for row in rows_of(path, SKIPPED)} | failed
    if config.stage != "judge":
        rows = [{"video": video, "reason": failed[video]} for video in sorted(failed)]
        write_rows(path, rows)
        for row in rows:
            print(f"skipped {row['video']}: {row['reason']}")
    pairs = config.out / "pairs.jsonl"
    if config.stage in ("all", "judge"):
        report = audit_of(config.out)
        write_json(config.out / "audit.json", report)
        print(audit_table(report))
        kept = sum(row["kept"] for row in report.values())
        print(f"wrote {kept} pairs to {pairs}")
        if config.adversarial_qa:
            rows = candidates_in_order(config, videos[:n], dict.fromkeys(MODES, n))
            write_items(config, roles, rows)
    following = {"queries": "this with --stage candidates", "candidates": "this with --stage judge"}
    then = following.get(config.stage, f"torchrun train_dpo.py --pairs {pairs}")
    print(f"{n} videos, {len(failed)} of them skipped; next: {then}")


if __name__ == "__main__":
    main(parse(PairsConfig))
    ranks.stop()
