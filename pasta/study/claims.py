"""The paper's claims: means over seeds of rows of results.jsonl, with intervals, and verdicts.

All numbers are percent or percentage points. A gain is the difference from the base model of the
same seed, so it does not depend on how good that base model was.
"""

import math
from collections import defaultdict
from functools import partial, reduce
from itertools import product
from operator import getitem
from statistics import fmean, stdev
from typing import NamedTuple

from pasta.toy.captions import GENERAL
from pasta.toy.world import MODES

T = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]  # 97.5 %, by n - 1
T += [2.228, 2.201, 2.179, 2.160, 2.145]
PAPER, SAME, GENERIC = "the paper's rule", "SFT on the same chosen responses", "generic DPO"
COMPARED = {  # arm -> its name, and what it is to beat
    "paper": (PAPER, {"sft_preferred": SAME, "generic": GENERIC}),
    "videopasta": ("`contrast`", {"sft": SAME, "generic": GENERIC, "paper": PAPER}),
    "rpo5": ("`contrast`, `--sft_weight 5`,", {"videopasta": "`contrast` alone"}),
}


class Estimate(NamedTuple):
    """A mean over seeds and its 95 % interval, mean +- half."""

    values: tuple[float, ...]
    mean: float
    half: float
    low: float
    high: float

    def text(self, sign="", digits=1):
        """As "71.2 [68.3, 73.9]"; with one seed the mean alone."""
        mean, low, high = (f"{x:{sign}.{digits}f}" for x in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]" if len(self.values) > 1 else mean


def estimate(values):
    """mean +- t(n - 1) s / sqrt(n), Student's t; infinite with one value. None without values."""
    if not values:
        return None
    n, mean = len(values), fmean(values)
    half = T[n - 1] * stdev(values) / math.sqrt(n) if n > 1 else math.inf
    return Estimate(tuple(values), mean, half, mean - half, mean + half)


def mean_of_modes(measured):
    return fmean(measured["benchmark"][mode] for mode in MODES)


def refusals(measured, kind=""):
    """The share of adversarial questions answered rightly; kind: "question" or "options" only."""
    return fmean(share for name, share in measured["adversarial"].items() if kind in name)


class Results:
    """The rows of results.jsonl by family, arm and seed."""

    def __init__(self, rows):
        self.rows = defaultdict(dict)
        for row in rows:
            self.rows[row["family"], row["arm"]][row["seed"]] = row

    def of(self, arm, family="qwen"):
        """{seed: row} of an arm, in the order of the seeds."""
        return dict(sorted(self.rows.get((family, arm), {}).items()))

    def score(self, arm, read, family="qwen", scale=100):
        """Estimate of read(measurements) over the rows of an arm, in percent. None without rows."""
        return estimate([scale * read(row["measured"]) for row in self.of(arm, family).values()])

    def gain(self, arm, read=mean_of_modes, family="qwen", over="base", scale=100):
        """Estimate of the differences of an arm from another one, paired by seed."""
        ours, theirs = self.of(arm, family), self.of(over, family)
        both = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
        return estimate([scale * (read(a["measured"]) - read(b["measured"])) for a, b in both])


def field(*keys):
    """A function that reads one measurement, such as measured["benchmark"]["spatial"]."""
    return lambda measured: reduce(getitem, keys, measured)


def above(x, least=0.0):
    """The verdict on "more than `least`" of an Estimate: a whole interval on one side decides."""
    return "holds" if x.low > least else "does not hold" if x.high < least else "not decided"


def within(low, high, x):
    """The verdict on "no change", in [low, high]: it holds unless the whole interval is outside."""
    return "holds" if x.high >= low and x.low <= high else "does not hold"


NO_LOSS, NO_GAIN = partial(within, 0.0, math.inf), partial(within, -math.inf, 0.0)
AT_CHANCE = partial(within, 50.0, 50.0)  # percent: two options, each right equally often


def verdicts(results):
    """Rows (claim, verdict, estimate as text) of every claim of arms that have results."""
    rows, gain = [], results.gain

    def add(claim, x, what="gain", verdict=above):
        if x:
            text = x.text("" if what == "score" else "+")
            rows.append((claim, verdict(x), f"{what} {text}"))

    for arm, (name, others) in COMPARED.items():
        add(f"{name} beats the base (T. 1)", gain(arm))
        for other, text in others.items():
            add(f"{name} beats {text} (T. 1)", gain(arm, over=other), "difference")
        add(f"{name} handles adversarial QA better (T. 6)", gain(arm, refusals))
    for mode in MODES:
        change = gain("equal", read=field("benchmark", mode))
        add(f"all three modes together do not lower {mode} (T. 2)", change, verdict=NO_LOSS)
    for mode in MODES:
        text = f"all three modes beat {mode} alone in the mean (T. 2)"
        add(text, gain("equal", over=f"only_{mode}"), "difference")
    add("a second family gains, too", gain("videopasta", family="onevision"))
    families = {"qwen": "", "onevision": " in a second family"}
    for (arm, (name, _)), family, kind in product(COMPARED.items(), families, GENERAL):
        change = gain(arm, field("general", kind), family)
        add(f"{name} preserves {kind}{families[family]}", change, "change", NO_LOSS)
    add("pairs with the videos of other pairs give no gain", gain("shuffled"), verdict=NO_GAIN)
    blind = results.score("videopasta", lambda measured: fmean(measured["blind"].values()))
    add("on black frames, the trained model is at chance", blind, "score", AT_CHANCE)
    return rows
