"""Make preference pairs from videos: queries, good and misled answers, judge, pairs.

    python make_pairs.py                                                  # the toy world
    torchrun --nproc_per_node 8 make_pairs.py --model Qwen/Qwen2.5-VL-7B-Instruct --videos DIR

Writes into --out queries.jsonl, candidates.jsonl, pairs.jsonl, dropped.jsonl, skipped.jsonl and
audit.json. The first two grow row by row, and so do a judge's replies.jsonl: a killed run goes on
where it was. Of several processes each has its own, such as candidates.rank1.jsonl.
"""

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby, product
from operator import itemgetter
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from pasta import ranks, toy
from pasta.adversaries import PROMPT_VERSION
from pasta.ask import Request, ask
from pasta.benchmarks.adversarial_items import adversarial_rows
from pasta.config import knob, parse, read_config, seed_all, write_config, write_json
from pasta.generate import Reader, candidate_rows, query_rows
from pasta.hub import weights_digest
from pasta.judge import judge_by_rules, model_judge
from pasta.packs import pack_responses
from pasta.pairs import MODES, Appender, read_rows, write_rows
from pasta.policy import Policy
from pasta.selection import audit, audit_table, make_pairs, query_key
from pasta.video import list_videos
from pasta.vlm import load_processor, load_vlm


@dataclass
class PairsConfig:
    """Make preference pairs from videos with a Video-LLM."""

    model: str = knob("model folder or hub id", "Qwen/Qwen2.5-VL-7B-Instruct", toy.model_folder)
    asker: str | None = knob("model that writes the queries; None: the same", None)
    judge: str = knob("`rules`, or a Video-LLM's folder or hub id, asked in text alone", "rules")
    videos: Path = knob("folder of videos, searched recursively", toy=toy.videos_folder)
    out: Path = knob("folder of the result", Path("out/pairs"))
    limit: int = knob("only this many videos, the first ones; 0: all", 0)
    queries: int = knob("queries per video and mode", 1)
    candidates: int = knob("K, adversarial responses per query (paper: 3)", 3)
    adversary: Literal["prompt", "frames", "both"] = knob("what misleads the responder", "both")
    select: Literal["none", "flip", "contrast"] = knob("which pairs stay", "flip", toy="contrast")
    keep: float = knob("share of each mode that --select contrast keeps", 0.5, toy=0.8)
    adversarial_qa: bool = knob("also write items for evaluate.py --bench adversarial", False)
    balance: bool = knob("even out which side of an opposite is chosen", True)
    n_frames: int = knob("frame budget; 0: the checkpoint's, or 32", 0)
    sparse_frames: int = knob("frame budget of adversarial responses, at 1 fps", 8, toy=16)
    max_pixels: int = knob("pixels per frame at most; 0: the checkpoint's", 602112, toy=0)
    temperature: float = knob("of adversarial responses; preferred ones are greedy", 0.7)
    max_new_tokens: int = knob("tokens per query or response at most", 128, toy=24)
    batch_videos: int = knob("videos worked on at a time", 1, toy=16)
    batch_size: int = knob("prompts per forward pass", 8, toy=64)
    dtype: Literal["float32", "bfloat16"] = knob("of the weights", "bfloat16", toy="float32")
    seed: int = knob("of all sampling", 0)
    device: str = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")


RECIPE = "model asker adversary candidates temperature sparse_frames max_pixels seed".split()
# What may change between two runs into one folder: nothing that is in its costly rows.
FREE = "out judge limit select keep balance adversarial_qa batch_videos batch_size device".split()


def main(config):
    found = list_videos(config.videos) if config.videos.is_dir() else []
    videos = [str(path.absolute()) for path in found][: config.limit or None]
    if not videos:
        raise SystemExit(f"no videos in {config.videos}; --videos takes a folder of them")
    if config.select == "flip" and config.adversary == "prompt":
        raise SystemExit("--select flip needs answers on broken videos: --adversary frames or both")
    if config.judge != "rules":
        load_processor(config.judge)  # what cannot be loaded fails now, and not after hours
    load = partial(one_model, {}, config, ranks.start(config.device))
    seed_all(config.seed)
    if ranks.rank() == 0:
        start_folder(config)
    failed = {}  # path -> reason
    write_queries(config, load, videos, failed)
    write_candidates(config, load, videos, failed)
    failed = sorted(set(ranks.gather(list(failed.items()))))
    if ranks.rank() == 0:
        write_pairs(config, load, set(videos))
        skipped = [{"video": video, "reason": reason} for video, reason in failed]
        write_rows(config.out / "skipped.jsonl", skipped)
        for row in skipped:
            print(f"skipped {row['video']}: {row['reason']}")
        print(f"{len(videos)} videos, {len(skipped)} of them skipped; next: torchrun train_dpo.py")
    ranks.stop()


def start_folder(config):
    """Write config.json; refuse a folder whose rows were made with other settings or weights."""
    models = dict.fromkeys((config.model, config.asker or config.model))
    weights = {name: weights_digest(name) for name in models}
    made_by = {"weights": weights, "prompt_version": PROMPT_VERSION}
    ours = {k: str(v) for k, v in (asdict(config) | made_by).items() if k not in FREE}
    if (config.out / "config.json").exists():
        before = read_config(config.out)
        if changed := [k for k in ours if str(before.get(k)) != ours[k]]:
            told = ", ".join(f"--{k} {before.get(k)}, now {ours[k]}" for k in changed)
            raise SystemExit(f"{config.out} was begun with {told}; choose another --out")
    write_config(config.out, config, **made_by)


def one_model(held, config, device, name):
    """The VLM `name`. The one held before is let go of first: memory need not hold two."""
    if name not in held:
        held.clear()
        held[name] = load_vlm(name, config.dtype, device, config.max_pixels)
    return held[name]


def write_queries(config, load, videos, failed):
    """Stage 1: queries.jsonl."""
    path, asker = config.out / "queries.jsonl", config.asker or config.model
    done = set(map(itemgetter("video", "mode", "n"), rows_of(path)))
    wanted = product(ranks.share(videos), MODES, range(config.queries))
    todo = [key for key in wanted if key not in done]
    reader = Reader(videos, load_processor(asker, config.max_pixels), config.n_frames, failed)
    answer = partial(ask_all, load, asker, config)
    make = partial(query_rows, reader=reader, ask=answer, asker=asker, seed=config.seed)
    append(path, todo, config.batch_videos, make)


def write_candidates(config, load, videos, failed):
    """Stage 2: candidates.jsonl."""
    path, mine = config.out / "candidates.jsonl", set(ranks.share(videos))
    done = set(map(query_key, rows_of(path)))
    wanted = dict.fromkeys(map(query_key, rows_of(config.out / "queries.jsonl")))  # each query once
    todo = [key for key in wanted if key[0] in mine and key not in done]
    processor = load_processor(config.model, config.max_pixels)
    reader = Reader(videos, processor, config.n_frames, failed, config.sparse_frames)
    recipe = {name: getattr(config, name) for name in RECIPE}
    recipe |= {"n_frames": reader.n_frames, "twins": config.select == "contrast"}
    answer, logps = partial(ask_all, load, config.model, config), partial(score, load, config.model)
    make = partial(candidate_rows, reader=reader, ask=answer, score=logps, recipe=recipe)
    append(path, todo, config.batch_videos, make)


def write_pairs(config, load, videos):
    """Stage 3: pairs.jsonl, dropped.jsonl and the audit."""
    rows = [row for row in rows_of(config.out / "candidates.jsonl") if row["video"] in videos]
    choices = (config.select, config.keep, config.balance, config.seed)
    with judge_of(config, load) as judge:
        pairs, dropped = make_pairs(tqdm(rows, "judge", unit="query"), judge, *choices)
        write_rows(config.out / "pairs.jsonl", pairs)
        write_rows(config.out / "dropped.jsonl", dropped)
        if config.adversarial_qa:
            write_adversarial_qa(config, load, rows, judge)
    report = audit(pairs, dropped)
    write_json(config.out / "audit.json", report)
    print(audit_table(report))
    print(f"wrote {len(pairs)} pairs to {config.out / 'pairs.jsonl'}")


def write_adversarial_qa(config, load, rows, judge):
    """items.jsonl; its videos should not be those that a model is aligned on."""
    ask = partial(ask_all, load, config.asker or config.model, config, temperature=0.0)
    items = adversarial_rows(rows, judge, ask)
    write_rows(config.out / "items.jsonl", items)
    print(f"wrote {len(items)} items; next: evaluate.py --bench adversarial --data {config.out}")


def judge_of(config, load):
    """The judge as a function, in a context that closes the file of a model's replies."""
    if config.judge == "rules":
        return nullcontext(judge_by_rules)

    def reply(prompt):
        return ask_all(load, config.judge, config, [Request(None, prompt)], 0.0)[0].text

    return model_judge(reply, config.out / "replies.jsonl", config.judge)


def append(path, keys, n, make):
    """Append to `path` the rows that `make` makes of keys (video, ...), n videos at a time."""
    groups = [(video, list(group)) for video, group in groupby(keys, itemgetter(0))]
    chunks = [groups[start : start + n] for start in range(0, len(groups), n)]
    bar = tqdm(desc=path.stem, total=len(groups), unit="video", disable=ranks.rank() > 0)
    with Appender(ranks.named(path)) as out, bar:
        for chunk in chunks:
            for row in make(chunk):
                out.write(row)
            bar.update(len(chunk))


def rows_of(path):
    """The rows of a file, and of those that other processes wrote beside it."""
    files = [path, *sorted(path.parent.glob(f"{path.stem}.rank*{path.suffix}"))]
    return [row for file in files if file.exists() for row in read_rows(file)]


def ask_all(load, name, config, requests, temperature):
    """Answer any number of requests, batch by batch; the model is loaded if there is one."""
    answers = []
    for start in range(0, len(requests), config.batch_size):
        batch = requests[start : start + config.batch_size]
        answers += ask(load(name), batch, config.max_new_tokens, temperature)
    return answers


@torch.inference_mode()
def score(load, name, inputs, texts):
    """The logps, in nats, of (query, response) texts about a video, or about none."""
    vlm = load(name)
    pack, where = pack_responses(vlm.processor, inputs, texts)
    return Policy(vlm)(pack)[where].tolist()


if __name__ == "__main__":
    main(parse(PairsConfig))
