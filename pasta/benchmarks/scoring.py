"""From answers to numbers: reading a letter, and how sure a score is.

A run's scores are {group: {unit: score}}. A group is a row of the table (a task), a unit is what is
right or wrong as a whole (an item) and what two runs are paired by, and a score is 0.0 to 1.0, or
None for a unit that the benchmark leaves out. Shapes: n units of a group, K groups.
"""

import math
import re

import numpy as np

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
DRAWS = 2000  # the ends of an interval are then off by 1.5 % of its width (one standard error)


def lettered_text(text) -> str:
    """The option letter that a text names: "A" to "E", or the cleaned text if it names none.

    MVBench's rule in lmms-eval (tasks/mvbench/utils.py, `mcq_acc`), applied to answer and response,
    which are then compared. Case is ignored, so the article in "Put down a cup" is option A.
    """
    text = text.strip()
    if option := re.match(r"([A-E])\.\s*(.+)$", text, re.IGNORECASE):
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
    """The letter with the largest log-probability (nats), the earlier one in a tie."""
    if any(map(math.isnan, logps)):  # it must not become a guess
        text = f"logps of {', '.join(letters)} are {logps}"
        raise ValueError(f"{text}; expected numbers: try --dtype float32")
    return letters[logps.index(max(logps))]


def by_task(rows, count_empty=True):
    """{task: {id: score}} of rows of answers.py; None for an empty response that does not count."""
    scores = {}
    for row in rows:
        # a failed video always counts: leaving it out would reward a model for failing
        counts = count_empty or row["response"] or "error" in row
        score = float(row.get("score", row["correct"])) if counts else None
        scores.setdefault(row["task"], {})[row["id"]] = score
    return scores


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

    groups: list of (correct, n). macro: the mean of the groups' shares p_k, or else the share of
    all answers. The interval joins the groups' Wilson limits l_k, u_k as independent
    (Zou & Donner 2008); of one group it is Wilson's:

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
    """How much better a run is than a baseline over the same units, with a 95 % bootstrap interval.

    macro: as in `mean_of`; units are drawn within their group, or else from all. A draw takes the
    same units from both runs, because what is hard for one is hard for the other.
    Returns (value, low, high), fractions.
    """
    pairs = [[(units[x], baseline[group][x]) for x in units] for group, units in scores.items()]
    # (n, 4) of each group: score and counted (0 or 1) of the run, the same of the baseline
    strata = [np.array([[a or 0, a is not None, b or 0, b is not None] for a, b in of], float)
              for of in pairs]  # fmt: skip
    if not macro:
        strata = [np.concatenate(strata)]

    def difference(strata):
        sums = [s.sum(0) for s in strata]
        return float(np.mean([s[0] / max(s[1], 1) - s[2] / max(s[3], 1) for s in sums]))

    rng = np.random.default_rng(seed)
    samples = ([s[rng.integers(0, len(s), len(s))] for s in strata] for _ in range(DRAWS))
    low, high = np.percentile([difference(sample) for sample in samples], [2.5, 97.5])
    return difference(strata), float(low), float(high)


def summary(scores, macro=True) -> dict:
    """A run's numbers in percent, with 95 % intervals: groups, and unless macro is None their mean.

    "of" is the number of units, "counted" without those of score None.
    """
    groups, totals = {}, []
    for group, units in scores.items():
        counted = [score for score in units.values() if score is not None]
        totals.append((sum(counted), len(counted)))
        groups[group] = percent(mean_of(totals[-1:])) | {"counted": len(counted), "of": len(units)}
    sums = {key: sum(group[key] for group in groups.values()) for key in ("counted", "of")}
    mean = None if macro is None else percent(mean_of(totals, macro)) | sums
    return {"groups": groups, "mean": mean}


def percent(interval):
    return {key: 100 * x for key, x in zip(("value", "low", "high"), interval, strict=True)}
