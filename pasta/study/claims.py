"""The paper's claims: means over seeds of rows of results.jsonl, with intervals, and verdicts.

All numbers are percent or percentage points. A gain is the difference from the base model of the
same seed, so it does not depend on how good that base model was.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import partial, reduce
from operator import getitem
from statistics import fmean, stdev

from pasta.pairs import MODES
from pasta.toy.captions import GENERAL

T = (0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 97.5 %, by n - 1
CHANCE = 50.0  # percent: two options, each right equally often
BEATEN = {
    "sft": "fine-tuning on the same chosen responses",
    "sft_preferred": "fine-tuning on the preferred responses",
    "generic": "generic DPO",
}


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its 95 % interval of Student's t, infinite with one seed.

    mean +- t(n - 1) s / sqrt(n)
    """

    values: tuple[float, ...]

    @property
    def mean(self):
        return fmean(self.values)

    @property
    def half(self):
        n = len(self.values)
        return T[n - 1] * stdev(self.values) / math.sqrt(n) if n > 1 else math.inf

    @property
    def low(self):
        return self.mean - self.half

    @property
    def high(self):
        return self.mean + self.half

    def text(self, sign="", digits=1):
        """As "71.2 [68.3, 73.9]"; with one seed the mean alone."""
        mean, low, high = (f"{x:{sign}.{digits}f}" for x in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]" if len(self.values) > 1 else mean


class Results:
    """The rows of results.jsonl by family, arm and seed."""

    def __init__(self, rows):
        self.rows = defaultdict(dict)
        for row in rows:
            self.rows[row["family"], row["arm"]][row["seed"]] = row

    def of(self, arm, family="qwen"):
        """{seed: row} of an arm, in the order of the seeds."""
        return dict(sorted(self.rows[family, arm].items()))

    def present(self, arms, family="qwen"):
        return [arm for arm in arms if self.of(arm, family)]

    def score(self, arm, read, family="qwen", scale=100):
        """Estimate of read(exam) over the rows of an arm, in percent. None without rows."""
        values = [scale * read(row["exam"]) for row in self.of(arm, family).values()]
        return Estimate(tuple(values)) if values else None

    def gain(self, arm, read, family="qwen", over="base"):
        """Estimate of the differences of an arm from another one, paired by seed."""
        ours, theirs = self.of(arm, family), self.of(over, family)
        seeds = [seed for seed in ours if seed in theirs]
        values = [100 * (read(ours[s]["exam"]) - read(theirs[s]["exam"])) for s in seeds]
        return Estimate(tuple(values)) if values else None

    def mean(self, arm, field, family="qwen"):
        return fmean(row[field] for row in self.of(arm, family).values())


def mean_of_modes(exam, group="benchmark"):
    return fmean(exam[group][mode] for mode in MODES)


def field(*keys):
    """A function that reads one number of an exam, such as exam["benchmark"]["spatial"]."""
    return lambda exam: reduce(getitem, keys, exam)


def above(estimate, least=0.0):
    """The verdict on "more than `least`": decided by a whole interval on either side."""
    if estimate.low > least:
        return "holds"
    return "does not hold" if estimate.high < least else "not decided"


def within(low, high, estimate):
    """The verdict on "no change", in [low, high]: it holds unless the whole interval is outside."""
    return "holds" if estimate.high >= low and estimate.low <= high else "does not hold"


NO_LOSS, NO_GAIN = partial(within, 0.0, math.inf), partial(within, -math.inf, 0.0)
AT_CHANCE = partial(within, CHANCE, CHANCE)


def verdicts(results):
    """Rows (claim, verdict, estimate as text) of every claim of arms that have results."""
    ours = "videopasta"

    def gain(arm, over="base", read=mean_of_modes, family="qwen"):
        return results.gain(arm, read, family, over)

    five, refusals = partial(above, least=5.0), lambda exam: fmean(exam["adversarial"].values())
    rows = [("VideoPASTA beats the base, by 5 points at least (T. 1)", five, "gain", gain(ours))]
    for arm, text in BEATEN.items():
        rows.append((f"VideoPASTA beats {text} (T. 1)", above, "difference", gain(ours, arm)))
    for mode in MODES:
        claim = f"all three modes together do no harm in {mode} (T. 2)"
        rows.append((claim, NO_LOSS, "gain", gain("equal", read=field("benchmark", mode))))
    for mode in MODES:
        claim = f"all three modes beat {mode} alone in the mean (T. 2)"
        rows.append((claim, above, "difference", gain("equal", f"only_{mode}")))
    rows += [
        (
            "VideoPASTA handles adversarial QA better (T. 6)",
            above,
            "gain",
            gain(ours, read=refusals),
        ),
        ("a second family gains, too", above, "gain", gain(ours, family="onevision")),
    ]
    for family, text in (("qwen", ""), ("onevision", " in a second family")):
        for kind in GENERAL:
            change = gain(ours, read=field("general", kind), family=family)
            rows.append((f"other abilities are preserved{text}: {kind}", NO_LOSS, "change", change))
    blind = results.score(ours, partial(mean_of_modes, group="blind"))
    rows += [
        ("pairs with the videos of others teach nothing", NO_GAIN, "gain", gain("shuffled")),
        ("a blind model is at chance", AT_CHANCE, "score", blind),
    ]
    return [
        (claim, verdict(estimate), f"{what} {estimate.text('+' * (what != 'score'))}")
        for claim, verdict, what, estimate in rows
        if estimate
    ]
