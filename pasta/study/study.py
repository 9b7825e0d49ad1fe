"""The paper's claims in miniature: every comparison, over several seeds, with one command.

    python -m pasta.study.study            # after a kill, the same command continues
    python -m pasta.study.study --quick    # prints Table 1 of two seeds of the shipped model
    python -m pasta.study.page             # only refreshes docs/miniature.md from the results
"""

import json
import multiprocessing
import os
import shutil
import time
from argparse import ArgumentParser
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from tqdm import tqdm

from pasta import toy
from pasta.models.load import load_vlm
from pasta.models.peft import load_adapter
from pasta.run.atomic import atomic_folder, write_json
from pasta.run.command import command_line, number, run_script
from pasta.run.locks import lock_folder
from pasta.run.rows import Appender, read_rows, rows_of, write_rows
from pasta.study import page
from pasta.study.arms import ARMS, EDITED, FULL, JUDGED, MADE, QUICK, right_answer
from pasta.study.measure import measure

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
    """The folder of a seed's base model: 1, 2, 3 in turn; from seed 5 on the shipped one and 2."""
    kind, _, noise = family.partition("-noise")
    number = 1 if kind != "qwen" else 1 + seed % 3 if seed < 5 else 2 * (seed % 2)
    return toy.model_folder(number, kind, float(noise) if noise else None)


def run(command, log):
    """Run a script and append its output to `log`. Returns its CPU seconds."""
    start = time.process_time()
    run_script(command, log)
    return round(time.process_time() - start)


def make_set(name, family, seed):
    """Make a set of pairs unless it exists. Returns (its folder, the commands, their seconds)."""
    out = OUT / f"{family}-{seed}" / "pairs" / name
    if name in MADE:
        return out, *make_pairs(out, family, seed, MADE[name])
    source, edit, *flags = (JUDGED | EDITED)[name]
    source, made_by, seconds = make_set(source, family, seed)
    if name in JUDGED:
        if not out.exists():
            with atomic_folder(out) as part:
                for file in ("queries.jsonl", "config.json"):
                    shutil.copy(source / file, part)
                rows = edit(read_rows(source / "candidates.jsonl"), seed)
                write_rows(part / "candidates.jsonl", rows)
        judged, more = make_pairs(out, family, seed, f"{flags[0]} --stage judge".lstrip())
        return out, [*made_by, *judged], seconds + more
    if not (out / "pairs.jsonl").exists():
        pairs, rng = read_rows(source / "pairs.jsonl"), np.random.default_rng(seed)
        write_rows(out / "pairs.jsonl", edit(pairs, source, rng))
    return out, [*made_by, f"pasta.study.arms.EDITED[{name!r}] from {source} to {out}"], seconds


def make_pairs(out, family, seed, flags):
    """Run make_pairs.py into a folder unless it has run. Returns ([the command], its seconds)."""
    videos, queries = toy.videos_folder(100 + seed), toy.queries_file(100 + seed)
    command = f"make_pairs.py --responder {base(family, seed)} --videos {videos} "
    command += f"--queries {queries} --out {out} --seed {seed} {PAIRS} {flags}".rstrip()
    if not (out / "seconds.json").exists():
        write_json(out / "seconds.json", run(command, out / "log.txt"))
    return [f"python {command}"], json.loads((out / "seconds.json").read_text())


def row_of(arm, family, seed):
    """The row of one arm for results.jsonl, with its commands. Made unless it exists."""
    out, model = OUT / f"{family}-{seed}" / arm, base(family, seed)
    if (out / "row.json").exists():
        return json.loads((out / "row.json").read_text())
    row, start = {"arm": arm, "family": family, "seed": seed}, time.process_time()
    if arm != "base":
        name, flags = ARMS[arm]
        source, made_by, row["pairs_seconds"] = make_set(name, family, seed)
        start, pairs = time.process_time(), source / "pairs.jsonl"
        command = f"train_dpo.py --model {model} --pairs {pairs} --out {out} --seed {seed} "
        command += f"{TRAIN} {flags}".rstrip()
        if not (out / "adapter").exists():
            run(f"{command} --resume", out / "log.txt")
        rows = read_rows(pairs)
        row |= {"commands": [*made_by, f"python {command}"], "pairs": len(rows)}
        row["right"] = fmean(pair["chosen"] == right_answer(pair, seed) for pair in rows)
    vlm = load_vlm(model)
    if arm != "base":
        load_adapter(vlm.model, out / "adapter")
    if arm == "videopasta":  # Figure 4
        names = ("step", "rewards/chosen", "rewards/rejected", "rewards/accuracies")
        metrics = read_rows(out / "metrics.jsonl")
        row["curve"] = {name: [round(x[name], 3) for x in metrics] for name in names}
    fully = "_true" not in arm and "-noise" not in family  # not only on the benchmark
    blind = arm in ("base", "shuffled", "videopasta")
    row["measured"] = measure(vlm, 200 + seed, fully, blind)
    row["seconds"] = round(time.process_time() - start)
    write_json(out / "row.json", row)
    return row


def rows_of_seed(family, seed, arms):
    """(rows, errors) of the arms of one seed. In turn: they share sets of pairs and a cache."""
    torch.set_num_threads(1)
    rows, errors = [], []
    for arm in arms:
        try:
            rows.append(row_of(arm, family, seed))
        except (Exception, SystemExit) as error:  # SystemExit: a script refuses its flags
            errors.append(f"{family}-{seed}/{arm}: {error!r}")
    return rows, errors


def run_all(plan, path, processes):
    """Append the missing rows of a plan {(family, seed): arms} to results.jsonl. Returns errors."""
    known = {(row["arm"], row["family"], row["seed"]) for row in rows_of(path)}
    missing = {key: [arm for arm in arms if (arm, *key) not in known] for key, arms in plan.items()}
    errors, context = [], multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    with Appender(path) as file, ProcessPoolExecutor(processes or 1, context) as pool:
        runs = [pool.submit(rows_of_seed, *key, arms) for key, arms in missing.items() if arms]
        try:
            for done in tqdm(as_completed(runs), "seeds", len(runs)):
                rows, failed = done.result()
                errors += failed
                for row in rows:
                    file.write(row)
        except BrokenExecutor:
            raise SystemExit("a process was killed (no memory?); rerun to continue") from None
    return errors


def main():
    parser = ArgumentParser("python -m pasta.study.study", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two seeds, one family, Table 1 only")
    parser.add_argument("--processes", type=number, default=2, help="number of parallel processes")
    args = parser.parse_args()
    lock_folder(OUT)
    path = (OUT / "quick" if args.quick else page.RESULTS) / "results.jsonl"
    errors = sorted(run_all(QUICK if args.quick else FULL, path, args.processes))
    if errors:
        raise SystemExit("\n".join([f"failed in {OUT} (see log.txt); rerun to continue:", *errors]))
    if not args.quick:
        return page.write()
    results = page.Results(rows_of(path))
    (_, *arms), *_ = QUICK.values()
    print(page.scores(results, "qwen", *arms), page.claims(results), sep="\n")


if __name__ == "__main__":
    with command_line():
        main()
