"""What evaluate.py found: the scores, and the answers that the adapter turned."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pasta.benchmarks import ANSWER, NAMES, benchmark
from pasta.benchmarks.report import table as score_table
from pasta.models.load import load_processor
from pasta.run.config import read_config
from pasta.run.rows import read_rows
from pasta.run.schema import read_json, schema_error
from pasta.tools.report_frames import uniform_view
from pasta.tools.report_page import block, heading, missing, paragraph, table
from pasta.tools.report_run import FAULTS, tried, words_of

CONFIG = {"bench": NAMES, "model": str, "max_pixels": int}
SCORES = {"data": str, "n_frames": int, "runs": dict, "differences": dict, "adapters": dict}
RUN = {"groups": dict, "counts": dict, "mean": dict | None}
TURNS = {"from wrong to right": (False, True), "from right to wrong": (True, False)}


def scores_of(run):
    """(config.json, scores.json, names of the runs, this run's own) of the evaluation.

    The base's name is the first, and own's when the run is the base, tuned whole; own is None when
    nothing there is of the run.
    Raises OSError, ValueError.
    """
    path = run.evaluated / "scores.json"
    config, scores = read_config(run.evaluated, CONFIG), read_json(path, SCORES)
    for name, of in scores["runs"].items():
        if wrong := schema_error(of, RUN, f"runs.{name}"):
            raise ValueError(f"{path}: {wrong}")
    folder = run.folder.resolve()
    weights = {name: path or config["model"] for name, path in scores["adapters"].items()}
    own = [name for name, path in weights.items() if Path(path).resolve().parent == folder]
    return config, scores, list(scores["runs"]), next(iter(own), None)


def scores_section(run):
    """The table of the runs and its picture. Raises OSError, ValueError."""
    config, scores, (base, *others), own = scores_of(run)
    runs, differences = scores["runs"], scores["differences"]
    parts = [paragraph(f"{config['bench']} from {scores['data']}, {scores['n_frames']} frames.")]
    if own is None:
        parts.append(missing(f"{run.evaluated} has no scores of {run.folder}", run.evaluate))
    parts.append(block(score_table(runs, differences, benchmark(config["bench"]).macro)))
    names = dict.fromkeys([base, *([own] if own else others)])
    shown = {name: runs[name] for name in names}
    caption = "Scores and their differences, paired by question; lines are 95 % intervals."
    parts.append(run.draw("scores", caption, shown, differences))
    return "".join(parts)


def turned_section(run):
    """How many answers the adapter turned, and some of them. Raises OSError, ValueError."""
    config, scores, (base, *_), own = scores_of(run)
    if own is None:
        return missing(f"{run.evaluated} has no answers of {run.folder}", run.evaluate)
    if own == base:
        told = "a model that was tuned whole is scored alone, with no base beside it"
        return missing(told, f"python evaluate.py --bench {config['bench']} --compare A B")
    before, after = (answers(run.evaluated / name) for name in (base, base + own))
    both = [id_ for id_ in before if id_ in after]
    parts = [counts_table(before, after, both)]
    try:
        items = {x.id: x for x in benchmark(config["bench"]).items(Path(scores["data"]))}
        processor = load_processor(run.model or config["model"], config["max_pixels"])
        look = partial(uniform_view, processor, scores["n_frames"])
    except FAULTS as error:
        items, look = {}, None
        parts.append(missing(f"No frames: {words_of(error)}", run.again))
    for what, turn in TURNS.items():
        ids = [i for i in both if (before[i]["correct"], after[i]["correct"]) == turn]
        rng, name = np.random.default_rng(run.seed), what.replace(" ", "-")
        ids = [ids[k] for k in sorted(rng.permutation(len(ids))[: run.n])]
        for k, id_ in enumerate(tqdm(ids, "answers", leave=False, disable=None), start=1):
            parts += answer(before[id_], after[id_], items.get(id_), what)
            if look and id_ in items:
                show = partial(frames, run, look, items[id_], f"turned-{name}-{k}")
                parts.append(tried(show, f"python evaluate.py --bench {config['bench']} --check"))
    return "".join(parts)


def answers(folder):
    """{id: row} of a run's scored.jsonl, without videos that did not decode."""
    rows = read_rows(folder / "scored.jsonl", ANSWER)
    return {row["id"]: row for row in rows if "error" not in row}


def counts_table(before, after, both):
    """How many answers of each task were turned, and how many were not."""
    counts = Counter((before[i]["task"], before[i]["correct"], after[i]["correct"]) for i in both)
    kinds = [(False, True), (True, False), (True, True), (False, False)]
    tasks = sorted({before[i]["task"] for i in both})
    rows = [[task, *(counts[task, *kind] for kind in kinds)] for task in tasks]
    rows.append(["all", *(sum(row[k] for row in rows) for k in range(1, 5))])
    return table(["task", *TURNS, "right in both", "wrong in both"], rows)


def answer(before, after, item, what):
    """One question with its right answer and both responses."""
    right = before["answer"] or "none of the options"
    if item and item.letters and right in item.letters:
        right += f": {item.options[item.letters.index(right)]}"
    rows = [["right answer", right], ["base", before["response"]], ["adapter", after["response"]]]
    head = heading(f"{what}: {before['video']}", before["task"])
    return [head, block(before["prompt"], "asked"), table((), rows)]


def frames(run, look, item, name):
    """The frames of a question. Raises VideoError, ValueError."""
    clip = {"start": item.start, "end": item.end, "folder_fps": item.folder_fps}
    return run.show(name, look(item.video, **clip))
