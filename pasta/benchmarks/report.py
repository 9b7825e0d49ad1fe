"""Scores as people read them: two runs compared, failures counted, a table.

Scores are as in pasta/benchmarks/scoring.py: {group: {unit: 1.0, 0.0 or None}}.
"""

import math
import re

from pasta.benchmarks.scoring import paired_difference, percent


def mcnemar(units, others):
    """Exact two-sided p of McNemar's test: are two runs equally often right?

        p = min(1, 2 P(X <= min(gained, lost))),   X ~ Binomial(gained + lost, 1/2)

    units, others: {unit: 1.0, 0.0 or None}; gained and lost are those that one run alone has right.
    """
    pairs = [(units[unit], others[unit]) for unit in units]
    pairs = [pair for pair in pairs if None not in pair]
    gained, lost = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    n, fewer = gained + lost, min(gained, lost)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(fewer + 1)) / 2**n)


def comparison(scores, baseline, macro=True, seed=0) -> dict:
    """scores - baseline in percentage points, with 95 % intervals and McNemar's p.

    Every group, and the mean as of `summary`, whose p is that of all units together.
    """
    groups = {
        group: percent(paired_difference({group: units}, baseline, seed=seed))
        | {"p": mcnemar(units, baseline[group])}
        for group, units in scores.items()
    }
    mean = None
    if macro is not None:
        p = mcnemar(together(scores), together(baseline))
        mean = percent(paired_difference(scores, baseline, macro, seed)) | {"p": p}
    return {"groups": groups, "mean": mean}


def together(scores):
    """{(group, unit): score} of all groups."""
    return {(group, unit): s for group, units in scores.items() for unit, s in units.items()}


def counts(rows, drawn=False, empty_is="wrong") -> dict:
    """How many answers are no option: {what happened: number of rows}.

    drawn: the benchmark has a letter drawn for a response that names none, an empty one too.
    empty_is: what it makes of an empty response otherwise.
    """
    failed = sum("error" in row for row in rows)
    empty = sum(row["response"] == "" for row in rows) - failed
    if drawn:
        unread = sum("drawn" in row for row in rows)
        return {"no option named: drawn": unread, "video not decoded: wrong": failed}
    unread = sum(row["response"] != "" and row["predicted"] is None for row in rows)
    return {
        f"empty: {empty_is}": empty,
        "no option named: wrong": unread,
        "video not decoded: wrong": failed,
    }


def markdown(text) -> str:
    """A table of `table` as one of Markdown."""
    cells = [re.split(r"  +", line.strip()) for line in text.splitlines()]
    width = max(map(len, cells))
    rows = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in cells]
    return "\n".join([rows[0], "|---" * width + "|", *rows[1:]]) + "\n"


def table(runs, differences, macro=True) -> str:
    """Summaries side by side: a line a group, then the mean, then the counts of failures.

    runs: {name: summary with "counts"}; differences: {name: comparison} for some of the names.
    macro: as in `mean_of`.
    """
    first = next(iter(runs.values()))
    mean_label = f"mean of {len(first['groups'])} tasks" if macro else "mean of all items"
    lines = [["percent [95 % interval]", "n"]]
    lines += [[label, str(x["of"])] for label, x in labelled(first, mean_label).items()]
    lines += [[label, ""] for label in first["counts"]]
    for name, run in runs.items():
        add_column(lines, name, labelled(run, mean_label), run["counts"], "")
        if name in differences:
            add_column(lines, "minus base", labelled(differences[name], mean_label), {}, "+")
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        line[0].ljust(widths[0]) + "".join(map(str.rjust, line[1:], [w + 2 for w in widths[1:]]))
        for line in lines
    ]
    return "\n".join(map(str.rstrip, rows))


def labelled(numbers, mean_label):
    mean = {mean_label: numbers["mean"]} if numbers["mean"] else {}
    return numbers["groups"] | mean


def add_column(lines, head, numbers, failures, sign):
    """One more cell on every line: "67.1 [65.6, 68.5]", with signs for a difference; or a count."""
    lines[0].append(head)
    for line in lines[1:]:
        if x := numbers.get(line[0]):
            line.append(f"{x['value']:{sign}.1f} [{x['low']:{sign}.1f}, {x['high']:{sign}.1f}]")
        else:
            line.append(str(failures.get(line[0], "")))
