"""From answers to numbers: reading a letter, and how sure a score is.

A run's scores are {group: {unit: score}}. A group is a row of the table (a task), a unit is what is
right or wrong as a whole (an item), and a score is 1.0, 0.0, or None for a unit that the benchmark
leaves out of the count. The units are what two runs are paired by.

Shapes: n units of a group, K groups.
"""

import math
import re

import numpy as np

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
DRAWS = 2000  # the ends of an interval are then off by 1.5 % of its width (one standard error)


def lettered_text(text) -> str:
    """The option letter that a text names: "A" to "E", or the cleaned text if it names none.

    The rule of MVBench in lmms-eval (tasks/mvbench/utils.py, `mcq_acc`), which applies it to the
    answer and to the response and compares the two. Its traps are kept: case is ignored, so the
    article in "Put down a cup" is option A.
    """
    text = text.strip()
    option = re.match(r"([A-E])\.\s*(.+)$", text, re.IGNORECASE)
    if option:
        return option[1].upper()
    text = text.replace("\n", " ").replace("\t", " ")
    cleaned, has_thousands = text, re.search(r"\d,\d", text)
    for mark in PUNCTUATION:
        delete = has_thousands or f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if delete else " ")
    # 32 periods, not all: lmms-eval passes re.UNICODE, which is 32, where the count belongs.
    cleaned = re.sub(r"\.(?!\d)", "", cleaned, count=32).strip("'").strip().lower()
    letter = re.search(r"\b[a-e]\b", cleaned)
    return letter[0].upper() if letter else cleaned


def likeliest_letter(letters, logps) -> str:
    """The letter with the largest log-probability, the earlier one in a tie.

    logps: (len(letters),) nats, each letter's as the first token of the answer.
    Raises ValueError for nan: a broken model has no favourite.
    """
    if any(math.isnan(logp) for logp in logps):
        raise ValueError(
            f"log-probabilities of {', '.join(letters)} are {logps}; expected numbers: try "
            "--dtype float32"
        )
    return max(zip(letters, logps, strict=True), key=lambda pair: pair[1])[0]


def wilson(correct, n):
    """95 % interval of a share (Wilson 1927): where its true value may lie after n trials.

        (p + z^2/2n -+ z sqrt(p (1-p)/n + z^2/4n^2)) / (1 + z^2/n),   p = correct/n, z = 1.96

    Returns (low, high) in [0, 1]; all of it when n is 0. Unlike p -+ z s.e. it is no point at 0/n.
    """
    if n == 0:
        return 0.0, 1.0
    z, p = 1.959964, correct / n
    centre, scale = p + z * z / (2 * n), 1 + z * z / n
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def mean_of(groups, macro=True):
    """The mean of groups of answers, with a 95 % interval.

    groups: list of (correct, n). macro: the mean of the groups' shares p_k; otherwise the share of
    all answers. The interval joins the groups' Wilson limits l_k, u_k as independent
    (Zou & Donner 2008), and with one group it is Wilson's:

        mean - sqrt(sum_k (p_k - l_k)^2) / K   to   mean + sqrt(sum_k (u_k - p_k)^2) / K

    Returns (value, low, high) in [0, 1]. A group of no answers counts 0.
    """
    if not macro:
        groups = [tuple(map(sum, zip(*groups, strict=True)))]
    limits = np.array([(correct / max(n, 1), *wilson(correct, n)) for correct, n in groups])
    p, low, high = limits.T  # (K,) each
    value = p.mean()
    spread = [math.sqrt(((end - p) ** 2).sum()) / len(p) for end in (low, high)]
    return float(value), max(0.0, float(value - spread[0])), min(1.0, float(value + spread[1]))


def paired_difference(scores, baseline, macro=True, seed=0):
    """How much better a run is than a baseline, with a 95 % bootstrap interval.

    scores, baseline: {group: {unit: score}} over the same groups and units.
    macro: as in `mean_of`; the units are then drawn within their group, and otherwise from all.
    A draw takes the same units from both runs: what is hard for one is hard for the other.
    Returns (value, low, high), fractions; equal runs differ by exactly 0.
    Raises ValueError when the two runs do not hold the same units.
    """
    strata = [columns(units, baseline.get(group)) for group, units in scores.items()]
    if not macro:
        strata = [np.concatenate(strata)]
    rng = np.random.default_rng(seed)
    drawn = [
        mean_difference([s[rng.integers(0, len(s), len(s))].sum(0) for s in strata])
        for _ in range(DRAWS)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return mean_difference([s.sum(0) for s in strata]), float(low), float(high)


def columns(units, others):
    """(n, 4) array of a group: score and counted (0 or 1) of the run, the same of the baseline."""
    if others is None or units.keys() != others.keys():
        raise ValueError(
            f"runs hold {len(units)} and {len(others or ())} units of a group; expected the same "
            "ones: evaluate both with the same --limit and data"
        )
    pairs = [(units[unit], others[unit]) for unit in units]
    return np.array([[a or 0.0, a is not None, b or 0.0, b is not None] for a, b in pairs], float)


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


def mean_difference(sums):
    """Mean over groups of (run - baseline), from each group's summed columns (4,)."""
    shares = [s[0] / max(s[1], 1) - s[2] / max(s[3], 1) for s in sums]
    return float(np.mean(shares))


def summary(scores, macro=True) -> dict:
    """A run's numbers in percent, with 95 % intervals: every group and the mean.

    scores: {group: {unit: score}}. macro: as in `mean_of`; None: the benchmark has no mean. "of" is
    the number of units, and "counted" that of those that are not left out.
    """
    groups, totals = {}, []
    for group, units in scores.items():
        counted = [score for score in units.values() if score is not None]
        totals.append((sum(counted), len(counted)))
        groups[group] = percent(mean_of(totals[-1:])) | {"counted": len(counted), "of": len(units)}
    sums = {key: sum(group[key] for group in groups.values()) for key in ("counted", "of")}
    mean = None if macro is None else percent(mean_of(totals, macro)) | sums
    return {"groups": groups, "mean": mean}


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


def percent(interval):
    return {key: 100 * x for key, x in zip(("value", "low", "high"), interval, strict=True)}


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
