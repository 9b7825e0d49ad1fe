"""What the study compares: arms, which are ways of training, and the sets of pairs that they use.

A set is MADE by make_pairs.py from videos, JUDGED by its judge stage from the edited candidates of
another set, or EDITED from another set's pairs. All other settings are those of `videopasta`.
"""

from functools import cache, partial
from pathlib import Path
from statistics import fmean

import numpy as np

from pasta.pairs import MODES
from pasta.run.rows import read_rows
from pasta.selection import query_key
from pasta.toy import N_VIDEOS, files, world

N_EQUAL = 300  # pairs of each arm of Table 2

MADE = {  # set -> flags of make_pairs.py
    "videopasta": "",
    # Without adversaries, similar to LLaVA-Hound and TPO: r- is the model's answer to the same
    # frames and query at temperature 1. r+ is its greedy answer, as in the other sets.
    "generic": "--adversary sample --temperature 1 --select none --no-balance",
    # The paper's rule: r+ is chosen, and r- is each answer to a false premise that the judge keeps.
    "paper": "--adversary prompt --select none --no-balance",
    "prompt": "--adversary prompt",
    "frames": "--adversary frames",
    "sparse": "--n_frames 10",  # preferred answers get at most 1 frame per second
}


@cache
def truth(seed):
    """{(video's file name, mode): the right answer} to the queries of a seed of the study."""
    return {(name, q.mode): q.answer for name, q in files.queries(N_VIDEOS, 100 + seed)}


def right_answer(row, seed):
    return truth(seed)[Path(row["video"]).name, row["mode"]]


def share_right(rows, field, seed):
    """The share, 0..1, of rows whose `field` is the right answer."""
    return fmean(row[field] == right_answer(row, seed) for row in rows)


def first(k, candidates, seed):
    """The candidates with k adversarial responses; the k-th one does not depend on K."""
    return [row | {"adversarial": row["adversarial"][:k]} for row in candidates]


def corrected(p, candidates, seed):
    """The candidates with each preferred response replaced by the right one with probability p."""
    rng = np.random.default_rng(seed)
    right = [{"response": right_answer(row, seed), "finished": True} for row in candidates]
    both = zip(candidates, right, strict=True)
    return [row | {"preferred": x} if rng.random() < p else row for row, x in both]


RULES = {  # rule of selection -> (the set whose candidates it selects from, flags)
    "paper": ("paper", MADE["paper"]),
    "flip": ("videopasta", "--select flip"),
    "videopasta": ("videopasta", ""),
}
TRUTHS = {  # arm -> (rule, probability that r+ is replaced by the right answer)
    f"{rule}_true{p}": (rule, p) for rule in RULES for p in (0.5, 1.0)
}
JUDGED = {  # set -> (the other set, function of its candidates and the seed, flags)
    "flip": ("videopasta", partial(first, 3), "--select flip"),
    "none": ("videopasta", partial(first, 3), "--select none"),
    "unbalanced": ("videopasta", partial(first, 3), "--no-balance"),
    "k1": ("videopasta", partial(first, 1), ""),
    "k2": ("videopasta", partial(first, 2), ""),
    **{
        arm: (RULES[rule][0], partial(corrected, p), RULES[rule][1])
        for arm, (rule, p) in TRUTHS.items()
    },
}


def shuffled(pairs, folder, rng):
    """Each pair with the video of another pair, so it is true of the video only by chance."""
    rows = [pairs[i] for i in rng.permutation(len(pairs))]
    both = zip(rows, rows[1:] + rows[:1], strict=True)
    return [a | {"video": b["video"]} for a, b in both if a["video"] != b["video"]]


def mistaken(pairs, folder, rng):
    """The pairs in which the untrained policy does not give chosen a higher logp."""
    rows = read_rows(folder / "candidates.jsonl")
    logps = {(*query_key(r), x["response"]): x["clean"] for r in rows for x in r["logps"]}

    def logp(pair, side):
        return logps[*query_key(pair), pair[side]]

    return [pair for pair in pairs if logp(pair, "chosen") <= logp(pair, "rejected")]


def some(n, modes, pairs, folder, rng):
    """n random pairs, equally many of each of `modes`."""
    found = []
    for mode in modes:
        rows = [pair for pair in pairs if pair["mode"] == mode]
        found += [rows[i] for i in rng.permutation(len(rows))[: n // len(modes)]]
    return found


EDITED = {  # set -> (the other set, function of its pairs, its folder and a generator)
    "shuffled": ("videopasta", shuffled),
    "mistaken": ("videopasta", mistaken),
    **{f"only_{mode}": ("videopasta", partial(some, N_EQUAL, [mode])) for mode in world.MODES},
    **{f"n{n}": ("videopasta", partial(some, n, world.MODES)) for n in (N_EQUAL, 1000)},
}
WEIGHTS = {mode: " ".join("31"[other != mode] for other in MODES) for mode in world.MODES}
ARMS = {  # arm -> (set, flags of train_dpo.py)
    "videopasta": ("videopasta", ""),
    "sft": ("videopasta", "--objective sft"),
    "sft_preferred": ("paper", "--objective sft"),
    **{f"rpo{w}": ("videopasta", f"--sft_weight {w}") for w in (1, 5, 20)},
    **{name: (name, "") for name in (*MADE, *JUDGED, *EDITED) if name != "videopasta"},
    # Four epochs: as many updates as in `videopasta`.
    "equal": (f"n{N_EQUAL}", "--epochs 4"),
    **{f"only_{mode}": (f"only_{mode}", "--epochs 4") for mode in world.MODES},
    **{f"beta{beta}": ("videopasta", f"--beta {beta}") for beta in ("0.1", "10")},
    **{f"weight_{mode}": ("videopasta", f"--mode_weights {w}") for mode, w in WEIGHTS.items()},
}
MAIN = ("base", "sft_preferred", "generic", "paper")  # what the paper compares
OURS = ("sft", "videopasta", "rpo1", "rpo5", "rpo20")  # by the weight of SFT, but for `sft`
ALL = ("base", *ARMS)
