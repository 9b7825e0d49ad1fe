"""The paper's claims in miniature: every comparison, over several seeds, as one command.

    python -m pasta.study.study            # killed, the same command goes on
    python -m pasta.study.study --quick    # two seeds, one model, Table 1 alone
    python -m pasta.study.page             # docs/miniature.md from the results, without running

The main tables take five seeds, all else three. Every seed draws its own videos, pairs and order of
training, and asks its own benchmark; three models were trained from different seeds in turn.
Everything runs through make_pairs.py and train_dpo.py; results.jsonl has a row for every arm and
seed, with the commands that made it.
"""

import json
import multiprocessing
import runpy
import shutil
import sys
import time
from argparse import ArgumentParser
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch

from pasta import toy
from pasta.models.load import load_vlm
from pasta.models.peft import load_adapter
from pasta.run.atomic import atomic_folder, write_json
from pasta.run.config import ROOT
from pasta.run.locks import lock_folder
from pasta.run.rows import Appender, read_rows, rows_of, write_rows
from pasta.study import page
from pasta.study.arms import ALL, ARMS, EDITED, JUDGED, MADE, MOST, QUICK, WHOLE
from pasta.study.jobs import base_job, planned, work
from pasta.study.measure import exam

OUT = Path("out/miniature")
PAIRS = (
    "--select contrast --keep 0.8 --sparse_frames 16 --max_pixels 0 --max_new_tokens 24 "
    "--batch_videos 16 --batch_size 64 --dtype float32 --device cpu"
)
TRAIN = (
    "--lr 5e-4 --beta 3 --lora_rank 16 --lora_alpha 32 --max_pixels 0 --no-checkpointing "
    "--workers 0 --dtype float32 --device cpu"
)


def base(family, seed):
    """The folder of the model that a seed begins with."""
    _, number, family = base_job(family, seed)
    return toy.model_folder(number, family)


def home(family, seed):
    return OUT / f"{family}-{seed}"


def run(command, log):
    """Run a script in this process, what it prints appended to a file. Returns the seconds it took.

    A process of its own would load torch and transformers anew, which takes as long as a training.
    """
    script, *argv = command.split()
    log.parent.mkdir(parents=True, exist_ok=True)
    before, start = sys.argv, time.perf_counter()
    with open(log, "a") as file, redirect_stdout(file), redirect_stderr(file):
        print(f"$ python {command}", flush=True)
        sys.argv = [script, *argv]
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        finally:
            sys.argv = before
    return round(time.perf_counter() - start)


def make_set(name, family, seed):
    """Make a set of pairs unless it is there. Returns (its folder, the commands, their seconds)."""
    out = home(family, seed) / "pairs" / name
    if name in MADE:
        return out, *make_pairs(out, family, seed, MADE[name])
    source, *change = (JUDGED | EDITED)[name]
    there, made_by, seconds = make_set(source, family, seed)
    if name in JUDGED:
        k, flags = change
        if not out.exists():
            with atomic_folder(out) as part:
                for file in ("queries.jsonl", "config.json"):
                    shutil.copy(there / file, part)
                rows = read_rows(there / "candidates.jsonl")
                fewer = [row | {"adversarial": row["adversarial"][:k]} for row in rows]
                write_rows(part / "candidates.jsonl", fewer)
        judged, more = make_pairs(out, family, seed, f"{flags} --stage judge".lstrip())
        return out, [*made_by, *judged], seconds + more
    out.mkdir(exist_ok=True)
    if not (out / "pairs.jsonl").exists():
        write_rows(out / "pairs.jsonl", change[0](there, np.random.default_rng(seed)))
    return out, [*made_by, f"pasta.study.arms.EDITED[{name!r}] from {there} to {out}"], seconds


def make_pairs(out, family, seed, flags):
    """Run make_pairs.py into a folder unless it has been. Returns ([the command], its seconds)."""
    videos, queries = toy.videos_folder(100 + seed), toy.queries_file(100 + seed)
    command = f"make_pairs.py --responder {base(family, seed)} --videos {videos} "
    command += f"--queries {queries} --out {out} --seed {seed} {PAIRS} {flags}".rstrip()
    if not (out / "seconds.json").exists():
        write_json(out / "seconds.json", run(command, out / "log.txt"))
    return [f"python {command}"], json.loads((out / "seconds.json").read_text())


def rows_of_set(name, family, seed, arms):
    """Train the arms of one set of pairs and examine them: rows of results.jsonl.

    One after another: they share the reference's log-probabilities, a file with one writer.
    """
    return [row_of(arm, family, seed) for arm in arms]


def row_of(arm, family, seed):
    """The row of one arm, made unless it is there."""
    out, start = home(family, seed) / arm, time.perf_counter()
    if (out / "row.json").exists():
        return json.loads((out / "row.json").read_text())
    row, vlm = {"arm": arm, "family": family, "seed": seed}, load_vlm(base(family, seed))
    if arm != "base":
        name, flags = ARMS[arm]
        there, made_by, row["pairs_seconds"] = make_set(name, family, seed)
        pairs = there / "pairs.jsonl"
        command = f"train_dpo.py --model {base(family, seed)} --pairs {pairs} --out {out}"
        command += f" --seed {seed} {TRAIN} {flags}".rstrip()
        if not (out / "adapter").exists():
            run(f"{command} --resume", out / "log.txt")
        load_adapter(vlm.model, out / "adapter")
        row |= {"commands": [*made_by, f"python {command}"], "pairs": len(read_rows(pairs))}
        if arm == "videopasta":
            row["curve"] = curve(read_rows(out / "metrics.jsonl"))
    row["exam"] = exam(vlm, 200 + seed, whole=arm in WHOLE)
    row["seconds"] = round(time.perf_counter() - start)
    write_json(out / "row.json", row)
    return row


def curve(metrics):
    """{name: values} of the rewards over the steps: Figure 4."""
    names = ("step", "rewards/chosen", "rewards/rejected", "rewards/accuracies")
    return {name: [round(row[name], 3) for row in metrics] for name in names}


def task(job):
    """Do one job: (which function, its arguments). Returns rows, if it makes rows."""
    torch.set_num_threads(1)
    kind, *arguments = job
    if kind == "rows":
        return rows_of_set(*arguments)
    {"base": toy.model_folder, "set": make_set}[kind](*arguments)


def main():
    told = "Measure the paper's claims in the toy world."
    parser = ArgumentParser("python -m pasta.study.study", description=told)
    parser.add_argument("--quick", action="store_true", help="two seeds, one model, Table 1 alone")
    parser.add_argument("--processes", type=int, default=2, help="that work side by side")
    parser.add_argument("--results", type=Path, help="folder of the results; default: "
                        f"{page.RESULTS}, of --quick {OUT / 'quick'}")  # fmt: skip
    args = parser.parse_args()
    folder = args.results or (OUT / "quick" if args.quick else page.RESULTS)
    path = folder / "results.jsonl"
    lock_folder(OUT)
    context = multiprocessing.get_context(
        "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    )
    # Three seeds take each model once; the first and the fourth have the same one.
    parts = [((0, 3), QUICK)] if args.quick else [(range(5), MOST), (range(3), ALL)]
    known = {(row["arm"], row["family"], row["seed"]) for row in rows_of(path)}
    with Appender(path) as file, ProcessPoolExecutor(args.processes, context) as pool:
        needs = planned(parts, known)
        work(pool, args.processes, needs, task, lambda done: [file.write(r) for r in done or ()])
    page.write(folder, folder / "miniature.md" if args.quick else page.PAGE)


if __name__ == "__main__":
    main()
