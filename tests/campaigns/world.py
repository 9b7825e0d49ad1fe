"""A small world for the campaigns, a run of each script in it, and the results of the run."""

import json

from conftest import numbers
from tiny_models import write_babbler

from pasta.pairs import MODES
from pasta.run.rows import read_rows, write_rows
from pasta.toy import files
from pasta.toy.pretrain import make_folder

SCRIPTS = ("make_pairs.py", "train_dpo.py", "evaluate.py")
N_VIDEOS = 8


def write_world(folder):
    """Write a model, videos, queries, pairs and a benchmark."""
    make_folder(folder / "tiny")
    write_babbler(folder / "model", folder / "tiny")
    for name in ("videos", "bench", "pairs"):
        (folder / name).mkdir()
    files.write_videos(folder / "videos", N_VIDEOS, seed=0)
    files.write_benchmark(folder / "bench", 20, seed=0)
    rows = queries(N_VIDEOS)
    write_rows(folder / "queries.jsonl", rows)
    answers = {"chosen": " left right", "rejected": " kept last, same"}
    write_rows(folder / "pairs/pairs.jsonl", [row | answers for row in rows])


def queries(n_videos):
    """Rows of queries.jsonl: two of each mode about each video."""
    return [
        {"video": f"{i:05d}.avi", "mode": mode, "query": f"Is the {colour} square left?"}
        for i in range(n_videos)
        for mode in MODES
        for colour in ("red", "pink")
    ]


def command(script, world, disk):
    """(flags, switches) of a run into DISK/out."""
    common = {"out": disk / "out", "device": "cpu", "dtype": "float32", "max_pixels": 0}
    model, videos = world / "model", world / "videos"
    if script == "make_pairs.py":
        flags = {"responder": model, "videos": videos, "queries": world / "queries.jsonl"}
        flags |= {"select": "contrast", "keep": 0.9, "max_new_tokens": 16}
        return common | flags, ["--no-balance"]
    if script == "train_dpo.py":
        flags = {"model": model, "pairs": disk / "pairs/pairs.jsonl", "video_root": videos}
        flags |= {"epochs": 6, "batch_pairs": 8, "save_every": 2, "workers": 1, "lr": 1e-3}
        return common | flags, ["--resume"]
    return common | {"model": model, "data": world / "bench", "batch_size": 4}, []


def results(script, disk):
    """The results of a finished run, without times and paths."""
    out = disk / "out"
    if script == "make_pairs.py":
        names = ("queries", "candidates", "pairs", "dropped", "skipped")
        return [(out / f"{name}.jsonl").read_bytes() for name in names]
    if script == "train_dpo.py":
        adapter = (out / "adapter/adapter_model.safetensors").read_bytes()
        return numbers(read_rows(out / "metrics.jsonl")), adapter
    saved = json.loads((out / "mvbench/scores.json").read_text())
    return saved["runs"], numbers(read_rows(out / "mvbench/model/scored.jsonl"))
