"""The verdict on each of the paper's claims: holds, does not hold, or not decided.

A claim of "more" holds if the whole 95 % interval over seeds is on its side. It does not hold if
the whole interval is on the other side. A claim of "no change" holds unless the whole interval
contradicts it.
"""

from statistics import fmean

from pasta.study.estimates import field, mean_of_modes
from pasta.toy.captions import GENERAL
from pasta.toy.world import MODES

CHANCE = 50.0  # percent: two options, each right equally often


def above(estimate, least=0.0):
    """The verdict on "more than `least`" of an Estimate."""
    if estimate.low > least:
        return "holds"
    return "does not hold" if estimate.high < least else "not decided"


def no_loss(estimate):
    return "holds" if estimate.high >= 0 else "does not hold"


def no_gain(estimate):
    return "holds" if estimate.low <= 0 else "does not hold"


def at_chance(estimate):
    return "holds" if estimate.low <= CHANCE <= estimate.high else "does not hold"


def verdicts(results):
    """Rows (claim, verdict, estimate as text) of every claim whose arms have results."""
    rows, ours = [], "videopasta"

    def add(claim, verdict, estimate, what, sign="+"):
        if estimate:
            rows.append((claim, verdict(estimate), f"{what} {estimate.text(sign)}"))

    def mean_gain(arm, over="base", family="qwen"):
        return results.gain(arm, mean_of_modes, family, over)

    add(
        "VideoPASTA beats the base, by 5 points at least (T. 1)",
        lambda x: above(x, 5.0),
        mean_gain(ours),
        "gain",
    )
    add(
        "VideoPASTA beats fine-tuning on the same chosen responses (T. 1)",
        above,
        mean_gain(ours, "sft"),
        "difference",
    )
    add(
        "VideoPASTA beats fine-tuning on the preferred responses (T. 1)",
        above,
        mean_gain(ours, "sft_preferred"),
        "difference",
    )
    add("VideoPASTA beats generic DPO (T. 1)", above, mean_gain(ours, "generic"), "difference")
    for mode in MODES:
        add(f"all three modes together do no harm in {mode} (T. 2)",
            no_loss, results.gain("equal", field("benchmark", mode)), "gain")  # fmt: skip
    for mode in MODES:
        add(f"all three modes beat {mode} alone in the mean (T. 2)",
            above, mean_gain("equal", f"only_{mode}"), "difference")  # fmt: skip
    refusals = results.gain(ours, lambda exam: fmean(exam["adversarial"].values()))
    add("VideoPASTA handles adversarial QA better (T. 6)", above, refusals, "gain")
    add("a second family gains, too", above, mean_gain(ours, family="onevision"), "gain")
    for family, suffix in (("qwen", ""), ("onevision", " in a second family")):
        for kind in GENERAL:
            change = results.gain(ours, field("general", kind), family)
            add(f"other abilities are preserved{suffix}: {kind}", no_loss, change, "change")
    add("pairs with the videos of others teach nothing", no_gain, mean_gain("shuffled"), "gain")
    blind = results.score(ours, lambda exam: fmean(exam["blind"][mode] for mode in MODES))
    add("a blind model is at chance", at_chance, blind, "score", "")
    return rows
