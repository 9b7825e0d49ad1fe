"""What the study says of each of the paper's claims: holds, does not, or not decided.

A claim of more holds when the whole 95 % interval over seeds is on its side, and does not when all
of it is on the other. One of no loss, of nothing learnt or of chance holds unless the whole
interval speaks against it.
"""

from statistics import fmean

from pasta.pairs import MODES
from pasta.study.estimates import mean_of_modes, mode_score
from pasta.toy.captions import GENERAL

CHANCE = 50.0  # percent: two options, each equally often right


def above(estimate, least=0.0):
    """The verdict on "more than `least`" of an Estimate."""
    if estimate.low > least:
        return "holds"
    return "does not hold" if estimate.high < least else "not decided"


def nothing(estimate, at=0.0):
    """The verdict on "no other than `at`"."""
    return "holds" if estimate.low <= at <= estimate.high else "does not hold"


def gained_nothing(estimate):
    """The verdict on "no more than 0"."""
    return "holds" if estimate.low <= 0 else "does not hold"


def lost_nothing(estimate):
    """The verdict on "no less than 0"."""
    return "holds" if estimate.high >= 0 else "does not hold"


def in_general(kind):
    """What reads the share of right answers to a kind of question that no adversary is about."""
    return lambda exam: exam["general"][kind]


def adversarial(exam):
    """The mean over the six tasks of adversarial QA."""
    return fmean(exam["adversarial"].values())


def blind(exam):
    return fmean(exam["blind"][mode] for mode in MODES)


def verdicts(results):
    """Rows of (claim, verdict, what it rests on) for every claim whose arms were run."""
    rows = []

    def add(claim, verdict, estimate, what, sign="+"):
        if estimate:
            rows.append((claim, verdict(estimate), f"{what} {estimate.text(sign)}"))

    def mean_gain(arm, over="base", family="qwen"):
        return results.gain(arm, mean_of_modes, family, over)

    ours = "videopasta"
    add("VideoPASTA beats the base, by 5 points at least (T. 1)",
        lambda x: above(x, 5.0), mean_gain(ours), "gain")
    add("VideoPASTA beats fine-tuning on the same chosen responses (T. 1)",
        above, mean_gain(ours, "sft"), "difference")
    add("VideoPASTA beats fine-tuning on the preferred responses (T. 1)",
        above, mean_gain(ours, "sft_preferred"), "difference")
    add("VideoPASTA beats generic DPO (T. 1)", above, mean_gain(ours, "generic"), "difference")
    for mode in MODES:
        add(f"all three modes together do no harm in {mode} (T. 2)",
            lost_nothing, results.gain("equal", mode_score(mode)), "gain")  # fmt: skip
    for mode in MODES:
        add(f"all three modes beat {mode} alone in the mean (T. 2)",
            above, mean_gain("equal", f"only_{mode}"), "difference")  # fmt: skip
    add("VideoPASTA handles adversarial QA better (T. 6)",
        above, results.gain(ours, adversarial), "gain")
    add("a second family gains, too", above, mean_gain(ours, family="onevision"), "gain")
    for family, whose in (("qwen", ""), ("onevision", " in a second family")):
        for kind in GENERAL:
            change = results.gain(ours, in_general(kind), family)
            add(f"other abilities are preserved{whose}: {kind}", lost_nothing, change, "change")
    add("pairs with the videos of others teach nothing",
        gained_nothing, mean_gain("shuffled"), "gain")
    add("a blind model is at chance",
        lambda x: nothing(x, CHANCE), results.score(ours, blind), "score", "")
    return rows
