"""Make preference pairs from videos: queries, good and misled answers, judge, pairs.

    python make_pairs.py                                                  # the toy world
    python make_pairs.py --model Qwen/Qwen2.5-VL-7B-Instruct --videos DIR --out out/pairs-7b

Writes into --out queries.jsonl, candidates.jsonl, pairs.jsonl, dropped.jsonl, skipped.jsonl and
audit.json. The first two grow row by row: a killed run goes on where it was.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from pasta import toy
from pasta.ask import Request, ask
from pasta.config import knob, parse, read_config, seed_all, write_config, write_json
from pasta.generate import Reader, Recipe, candidate_rows, query_rows, work_of
from pasta.judge import judge_by_model, judge_by_rules
from pasta.packs import pack_responses
from pasta.pairs import MODES, Appender, read_rows, write_rows
from pasta.policy import Policy
from pasta.selection import audit, audit_table, make_pairs
from pasta.video import VideoError, list_videos
from pasta.vlm import load_vlm


@dataclass
class PairsConfig:
    """Make preference pairs from videos with a Video-LLM."""

    model: str = knob(
        "responder: model folder or hub id", "Qwen/Qwen2.5-VL-7B-Instruct", toy=toy.model_folder
    )
    asker: str | None = knob("writes the queries; None: the responder", None)
    judge: str = knob("`rules`, or a model folder or hub id", "rules")
    videos: Path = knob("folder of videos, searched recursively", toy=toy.videos_folder)
    out: Path = knob("folder of the result", Path("out/pairs"))
    limit: int = knob("videos at most; 0: all", 0)
    queries: int = knob("queries per video and mode", 1)
    candidates: int = knob("K, adversarial responses per query (paper: 3)", 3)
    adversary: Literal["prompt", "frames", "both"] = knob("what misleads the responder", "both")
    select: Literal["none", "flip", "contrast"] = knob(
        "which judged pairs stay", "flip", toy="contrast"
    )
    keep: float = knob("share of each mode that --select contrast keeps", 0.5)
    balance: bool = knob("even out which side of an opposite is chosen", True)
    n_frames: int = knob("frame budget; 0: the checkpoint's, or 32", 0)
    max_pixels: int = knob("pixels per frame at most; 0: the checkpoint's", 602112, toy=0)
    temperature: float = knob("of adversarial responses; preferred ones are greedy", 0.7)
    max_new_tokens: int = knob("tokens per query or response at most", 128, toy=24)
    batch_videos: int = knob("videos worked on at a time", 1, toy=16)
    batch_size: int = knob("prompts per forward pass", 8, toy=64)
    dtype: Literal["float32", "bfloat16"] = knob("of the weights", "bfloat16", toy="float32")
    seed: int = knob("of all sampling", 0)
    device: str = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")


# What may change between two runs into one folder: nothing that is in its costly rows.
FREE = ("judge", "limit", "select", "keep", "balance", "batch_videos", "batch_size", "device")


def main(config):
    seed_all(config.seed)
    videos = [str(path.absolute()) for path in list_videos(config.videos)][: config.limit or None]
    if not videos:
        raise SystemExit(f"no videos in {config.videos}; --videos takes a folder of them")
    start_folder(config)
    vlm = load(config.asker or config.model, config)
    reader = Reader(videos, vlm.processor, config.n_frames or vlm.processor.n_frames)
    write_queries(config, vlm, reader)
    if config.asker not in (None, config.model):
        vlm = load(config.model, config)
        reader = Reader(videos, vlm.processor, config.n_frames or vlm.processor.n_frames)
    score = scorer(vlm)
    write_candidates(config, vlm, reader, score)
    write_pairs(config, vlm, set(videos), score)
    write_rows(
        config.out / "skipped.jsonl",
        [{"video": video, "reason": reason} for video, reason in reader.failed.items()],
    )
    for video, reason in reader.failed.items():
        print(f"skipped {video}: {reason}")
    n, failed = len(videos), len(reader.failed)
    print(f"{n} videos, {failed} of them skipped; next: torchrun train_dpo.py")


def start_folder(config):
    """Write config.json; refuse a folder whose rows were made with other settings."""
    ours = {k: str(v) for k, v in asdict(config).items() if k not in FREE}
    if (config.out / "config.json").exists():
        before = read_config(config.out)
        if changed := [k for k in ours if str(before.get(k)) != ours[k]]:
            told = ", ".join(f"--{k} {before.get(k)}, now {ours[k]}" for k in changed)
            raise SystemExit(f"{config.out} was begun with {told}; choose another --out")
    write_config(config.out, config)


def load(name, config):
    return load_vlm(name, config.dtype, config.device, config.max_pixels)


def write_queries(config, vlm, reader):
    """Stage 1: queries.jsonl."""
    path = config.out / "queries.jsonl"
    done = {row["video"] for row in read_rows(path)} if path.exists() else set()
    todo = [video for video in reader.videos if video not in done]
    with Appender(path) as out, tqdm(desc="queries", total=len(todo), unit="video") as bar:
        for chunk in chunks(todo, config.batch_videos):
            inputs = {}
            for video in chunk:
                with suppress(VideoError):  # it is in reader.failed, and named at the end
                    inputs[video] = vlm.processor.prepare(*reader.frames(video, "uniform"))
            ask_here = partial(ask_all, vlm, config)
            for row in query_rows(inputs, ask_here, config.queries, config.seed):
                out.write(row)
            bar.update(len(chunk))


def write_candidates(config, vlm, reader, score):
    """Stage 2: candidates.jsonl."""
    recipe = Recipe(
        responder=config.model,
        asker=config.asker or config.model,
        adversary=config.adversary,
        n_candidates=config.candidates,
        n_frames=config.n_frames or vlm.processor.n_frames,
        temperature=config.temperature,
        contrast=config.select == "contrast",
        seed=config.seed,
    )
    path = config.out / "candidates.jsonl"
    done = {key(row) for row in read_rows(path)} if path.exists() else set()
    wanted = set(reader.videos)
    queries = [
        row for row in read_rows(config.out / "queries.jsonl")
        if row["video"] in wanted and key(row) not in done
    ]  # fmt: skip
    with Appender(path) as out, tqdm(desc="candidates", total=len(queries), unit="query") as bar:
        for chunk in chunks(queries, config.batch_videos * len(MODES) * config.queries):
            works = []
            for row in chunk:
                with suppress(VideoError):  # it is in reader.failed, and named at the end
                    works.append(work_of(row, reader, recipe))
            for row in candidate_rows(works, partial(ask_all, vlm, config), score, recipe):
                out.write(row)
            bar.update(len(chunk))


def write_pairs(config, vlm, videos, score):
    """Stage 3: pairs.jsonl, dropped.jsonl and the audit."""
    rows = [r for r in read_rows(config.out / "candidates.jsonl") if r["video"] in videos]
    judge = judge_by_rules
    if config.judge != "rules":
        text_model = load(config.judge, config)
        judge = partial(
            judge_by_model, ask=lambda prompt: ask(text_model, [Request(None, prompt)])[0].text
        )
    rows = tqdm(rows, "judge", unit="query")
    pairs, dropped = make_pairs(
        rows, judge, config.select, config.keep, config.balance, config.seed
    )
    blind = []
    for pair in tqdm(pairs, "audit: blind", unit="pair"):
        chosen, rejected = score(None, [(pair["query"], pair[k]) for k in ("chosen", "rejected")])
        blind.append(chosen > rejected)
    for name, out_rows in (("pairs", pairs), ("dropped", dropped)):
        write_rows(config.out / f"{name}.jsonl", out_rows)
    report = audit(pairs, dropped, blind)
    write_json(config.out / "audit.json", report)
    print(audit_table(report))
    print(f"wrote {len(pairs)} pairs to {config.out / 'pairs.jsonl'}")


def ask_all(vlm, config, requests, temperature):
    """Answer any number of requests, batch by batch."""
    answers = []
    for batch in chunks(requests, config.batch_size):
        answers += ask(vlm, batch, config.max_new_tokens, temperature)
    return answers


def scorer(vlm):
    """(VideoInputs, [(query, response)]) -> list of logps, nats."""
    policy = Policy(vlm)

    @torch.inference_mode()
    def score(inputs, texts):
        pack, where = pack_responses(vlm.processor, inputs, texts)
        return policy(pack)[where].tolist()

    return score


def chunks(items, n):
    """Lists of n items, the last one shorter."""
    return [items[i : i + n] for i in range(0, len(items), n)]


def key(row):
    return row["video"], row["mode"], row["query"]


if __name__ == "__main__":
    main(parse(PairsConfig))
