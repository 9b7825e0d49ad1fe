"""Estimates of the study: means over seeds, with intervals, of rows of results.jsonl.

All numbers are percent or percentage points. A gain is the difference from the base model of the
same seed, so it does not depend on how good that base model was.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from statistics import fmean, stdev

from pasta.toy.world import MODES

T = (0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 97.5 %, by n - 1


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
        """{seed: row} of an arm, in the order of the seeds; {} for an arm without rows."""
        return dict(sorted(self.rows[family, arm].items()))

    def present(self, arms, family="qwen"):
        """The arms that have rows."""
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
        """The mean over seeds of a field of the rows, such as "pairs"."""
        return fmean(row[field] for row in self.of(arm, family).values())


def mean_of_modes(exam):
    """The benchmark's mean over the modes."""
    return fmean(exam["benchmark"][mode] for mode in MODES)


def field(*keys):
    """A function that reads one number of an exam, such as exam["benchmark"]["spatial"]."""
    return lambda exam: reduce(getitem, keys, exam)
