"""Reports of runs: comparisons and tables. Scores are as in scoring.py."""

import os
import shlex
from pathlib import Path

from pasta.benchmarks import SCORED
from pasta.benchmarks.scoring import paired_difference, percent, summary
from pasta.run.atomic import write_json
from pasta.run.reasoning import final_answer
from pasta.run.rows import read_rows
from pasta.run.schema import read_json

TOY = "TOY benchmark: videos of drawn shapes. Do not compare these numbers with published ones.\n"


def comparison(scores, baseline, macro=True, seed=0) -> dict:
    """scores - baseline in percentage points, with 95 % intervals, in the form of `summary`."""

    def compared(ours):
        return percent(paired_difference(ours, baseline, macro, seed))

    groups = {group: compared({group: units}) for group, units in scores.items()}
    return {"groups": groups, "mean": None if macro is None else compared(scores)}


def counts(bench, rows) -> dict:
    """How many answers are no option: {what happened: number of rows}."""
    failed = {"video not decoded: wrong": sum("error" in row for row in rows)}
    if cut := sum(not final_answer(row["response"])[1] for row in rows):
        failed["reasoning cut off: read with its tags"] = cut
    if bench.draws:  # also for an empty response
        return {"no option named: drawn": sum("drawn" in row for row in rows)} | failed
    empty = sum(row["response"] == "" and "error" not in row for row in rows)
    unread = sum(row["response"] != "" and row["predicted"] is None for row in rows)
    return {f"empty: {bench.empty}": empty, "no option named: wrong": unread} | failed


def labelled(numbers, mean_label):
    return numbers["groups"] | ({mean_label: numbers["mean"]} if numbers["mean"] else {})


def table(runs, differences, macro=True) -> str:
    """Text of {name: summary} side by side, {name: comparison} for some; then means and counts."""
    first = next(iter(runs.values()))
    mean_label = f"mean of {len(first['groups'])} tasks" if macro else "mean of all items"

    def cells(numbers, sign=""):
        one = f"{{value:{sign}.1f}} [{{low:{sign}.1f}}, {{high:{sign}.1f}}]"
        found = {label: one.format(**x) for label, x in labelled(numbers, mean_label).items()}
        return found | numbers.get("counts", {})

    def n_of(label):  # with two numbers, some answers of one run do not count
        found = [labelled(run, mean_label) for run in runs.values()]
        numbers = [str(x[label]["counted"]) for x in found if label in x]
        return "/".join(numbers if len({*numbers}) > 1 else numbers[:1])

    columns = [("n", {label: n_of(label) for label in labelled(first, mean_label)})]
    for name, run in runs.items():
        columns.append((name, cells(run)))
        if name in differences:
            columns.append(("minus base", cells(differences[name], "+")))
    lines = [["percent [95 % interval]", *(head for head, _ in columns)]]
    lines += [[label, *(str(x.get(label, "")) for _, x in columns)] for label in cells(first)]
    label_width, *widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    form = f"{{:<{label_width}}}" + "".join(f"  {{:>{width}}}" for width in widths)
    return "\n".join(form.format(*line).rstrip() for line in lines)


def scored_rows(folder) -> dict:
    """{id: row} of the scored answers of a run, without videos that did not decode."""
    rows = read_rows(Path(folder) / "scored.jsonl", SCORED)
    return {row["id"]: row for row in rows if "error" not in row}


def compare(folders, name, bench, seed):
    """Print how much better the second run is than the first, over items that both answered."""
    if len(folders) != 2:
        raise SystemExit(f"--compare takes two folders, such as out/eval/BENCH/NAME, not {folders}")
    for folder in map(Path, folders):
        config = folder.parent / "config.json"
        if config.is_file() and (of := read_json(config).get("bench")) not in (name, None):
            raise SystemExit(f"{folder} is a run of {of}, not of {name}: add --bench {of}")
    a, b = map(scored_rows, folders)
    if not (both := [id_ for id_ in a if id_ in b]):
        raise SystemExit(f"{' and '.join(folders)} have no answered item in common")
    if other := [x for x in both if any(a[x].get(k) != b[x].get(k) for k in ("task", "answer"))]:
        text = f"{len(other)} of {len(both)} ids, such as {other[0]}, are of other questions in"
        raise SystemExit(f"{text} {' than in '.join(folders)}; compare runs of the same data")
    scores = [bench.aggregate([rows[id_] for id_ in both]) for rows in (a, b)]
    first, second = (summary(s, bench.macro) for s in scores)
    difference = comparison(scores[1], scores[0], bench.macro, seed)
    alone = f"{len(a) - len(both)} by A alone, {len(b) - len(both)} by B alone"
    print(f"A: {folders[0]}\nB: {folders[1]}\n{len(both)} items answered by both, {alone}")
    print(table({"A": first, "B": second}, {"B": difference}, bench.macro))


def report(bench, rows, folder, facts, seed):
    """Print and write the table of runs, {name: rows}, the base model's first.

    Returns their numbers: {name: summary} and, but for the first, {name: comparison}.
    """
    scores = {name: bench.aggregate(of) for name, of in rows.items()}
    base, *others = scores
    runs = {x: summary(scores[x], bench.macro) | {"counts": counts(bench, rows[x])} for x in rows}
    differences = {x: comparison(scores[x], scores[base], bench.macro, seed) for x in others}
    for name, of in rows.items() if bench.repaired else ():
        sound = bench.aggregate([row | {"score": row["sound"]} for row in of])
        runs[f"{name} sound"] = summary(sound, bench.macro)
    text = TOY * facts["toy"] + table(runs, differences, bench.macro)
    text += f"\nsound: {bench.repaired}" * bool(bench.repaired)
    text += "\n--clips: questions with a start and an end saw only this part" * facts["clips"]
    print(text)
    (folder / "scores.md").write_text(f"```\n{text}\n```\n", "utf-8", "backslashreplace")
    write_json(folder / "scores.json", facts | {"runs": runs, "differences": differences})
    print(f"wrote {folder / 'scores.json'}; every answer is in {folder}/NAME/answers.jsonl")
    for run in (os.path.relpath(Path(x).parent) for x in facts["adapters"].values() if x):
        if os.path.isfile(f"{run}/metrics.jsonl"):  # train_dpo.py wrote it
            command = ["python", "-m", "pasta.tools.report", run]
            print(f"draw the run; next: {shlex.join(command)}")
    return runs, differences


def suite_table(scores):
    """Text: each benchmark's mean, or its groups if it has none. scores: {name: of `report`}."""
    sides = ({}, {})  # of the runs, of the differences
    for bench, found in scores.items():
        for side, of_models in zip(sides, found, strict=True):
            for model, numbers in of_models.items():
                groups = {f"{bench} {group}": x for group, x in numbers["groups"].items()}
                lines = {bench: numbers["mean"]} if numbers["mean"] else groups
                side.setdefault(model, {"groups": {}, "mean": None})["groups"] |= lines
    return table(*sides)
