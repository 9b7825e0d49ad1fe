"""What the study compares: arms, which are ways of training, and the sets of pairs that they use.

A set is MADE by make_pairs.py from videos, JUDGED by its judge stage from the edited candidates of
another set, or EDITED from another set's pairs. All other settings are those of `videopasta`.
"""

from functools import cache, partial
from pathlib import Path

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
def right_answers(seed):
    """{(video's file name, mode): the right answer} to the queries of a seed of the study."""
    return {(name, q.mode): q.answer for name, q in files.queries(N_VIDEOS, 100 + seed)}


def right_answer(row, seed):
    return right_answers(seed)[Path(row["video"]).name, row["mode"]]


def first(k, candidates, seed):
    """The candidates with k adversarial responses; the k-th one does not depend on K."""
    return [row | {"adversarial": row["adversarial"][:k]} for row in candidates]


def corrected(p, candidates, seed):
    """The candidates with each preferred response replaced by the right one with probability p."""
    rng = np.random.default_rng(seed)
    right = [{"response": right_answer(row, seed), "finished": True} for row in candidates]
    both = zip(candidates, right, strict=True)
    return [row | {"preferred": x} if rng.random() < p else row for row, x in both]


RULES = {"paper": MADE["paper"], "flip": "--select flip", "videopasta": ""}  # of selection: flags
TRUTHS = {"paper": (0.5, 1.0), "flip": (1.0,), "videopasta": (1.0,)}  # probabilities of the truth
JUDGED = {  # set -> (the other set, function of its candidates and the seed, flags)
    "flip": ("videopasta", partial(first, 3), "--select flip"),
    "none": ("videopasta", partial(first, 3), "--select none"),
    "unbalanced": ("videopasta", partial(first, 3), "--no-balance"),
    "k1": ("videopasta", partial(first, 1), ""),
    "k2": ("videopasta", partial(first, 2), ""),
}
for rule, flags in RULES.items():
    source = "paper" if rule == "paper" else "videopasta"
    for p in TRUTHS[rule]:
        JUDGED[f"{rule}_true{p}"] = (source, partial(corrected, p), flags)


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
OURS = ("videopasta", "rpo1", "rpo5", "rpo20", "sft")  # more and more SFT
MOST = ("base", "sft", "generic", "videopasta", "rpo5", "mistaken", "shuffled", "equal")
MOST += tuple(f"only_{mode}" for mode in world.MODES)
TRUE = tuple(arm for arm in ARMS if "_true" in arm)
ABLATIONS = (*MOST, *(arm for arm in ARMS if arm not in (*MOST, *MAIN, *OURS, *TRUE)))
QUICK = {("qwen", seed): ("base", "paper", "videopasta") for seed in (16, 18)}
FULL = {  # (family, seed) -> arms, the longest first
    **{("qwen", seed): (*MAIN, *OURS, "flip", *TRUE) for seed in (5, 6)},
    ("qwen", 7): (*MAIN, *OURS),
    **{("qwen", seed): ABLATIONS for seed in range(3)},
    **{("qwen", seed): MOST for seed in (3, 4)},
    **{("qwen", seed): ("base", "sft_preferred", "paper") for seed in range(8, 15)},
    # "qwen-noise0.2": bases that are trained further with 0.2 of the label noise
    **{(f"qwen-noise{n}", 20): ("base", *RULES) for n in (0.0, 0.2, 0.4)},
    **{("onevision", seed): ("base", "generic", "sft", "videopasta", "rpo5") for seed in range(3)},
}
