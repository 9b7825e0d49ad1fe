"""What the study compares: arms, which are ways of training, and the sets of pairs that they use.

A set is MADE by make_pairs.py from videos, JUDGED by its judge stage from the candidates of another
set, or EDITED by a function of another set. All other settings are those of `videopasta`.
"""

from functools import partial

from pasta.pairs import MODES
from pasta.run.rows import read_rows
from pasta.selection import query_key
from pasta.toy import world

N_EQUAL = 300  # pairs of each arm of Table 2

MADE = {  # set -> flags of make_pairs.py
    "videopasta": "",
    # Without adversaries, similar to LLaVA-Hound and TPO: r- is the model's answer to the same
    # frames and query at temperature 1. r+ is its greedy answer, as in the other sets.
    "generic": "--adversary sample --temperature 1 --select none --no-balance",
    "prompt": "--adversary prompt",
    "frames": "--adversary frames",
    "sparse": "--n_frames 10",  # preferred answers get at most 1 frame per second
}
JUDGED = {  # set -> (how many of the K candidates of "videopasta", flags of make_pairs.py)
    "flip": (3, "--select flip"),
    "none": (3, "--select none"),
    "paper": (3, "--select none --no-balance"),
    "unbalanced": (3, "--no-balance"),
    "k1": (1, ""),  # the k-th candidate does not depend on K
    "k2": (2, ""),
}


def shuffled(pairs, folder, rng):
    """Each pair with the video of another pair, so it is true of the video only by chance."""
    rows = [pairs[i] for i in rng.permutation(len(pairs))]
    both = zip(rows, rows[1:] + rows[:1], strict=True)
    return [a | {"video": b["video"]} for a, b in both if a["video"] != b["video"]]


def ranked(correctly, pairs, folder, rng):
    """The pairs in which the untrained policy gives chosen a higher logp, or all the others."""
    rows = read_rows(folder / "candidates.jsonl")
    logps = {(*query_key(r), x["response"]): x["clean"] for r in rows for x in r["logps"]}

    def is_correct(pair):
        return logps[*query_key(pair), pair["chosen"]] > logps[*query_key(pair), pair["rejected"]]

    return [pair for pair in pairs if is_correct(pair) == correctly]


def some(n, modes, pairs, folder, rng):
    """n random pairs, equally many of each of `modes`."""
    found = []
    for mode in modes:
        rows = [pair for pair in pairs if pair["mode"] == mode]
        found += [rows[i] for i in rng.permutation(len(rows))[: n // len(modes)]]
    return found


EDITED = {  # set -> (the other set, function of its pairs, its folder and a generator)
    "shuffled": ("videopasta", shuffled),
    "known": ("videopasta", partial(ranked, True)),
    "mistaken": ("videopasta", partial(ranked, False)),
    **{f"only_{mode}": ("videopasta", partial(some, N_EQUAL, [mode])) for mode in world.MODES},
    **{f"n{n}": ("videopasta", partial(some, n, world.MODES)) for n in (100, N_EQUAL, 1000)},
}
WEIGHTS = {mode: " ".join("31"[other != mode] for other in MODES) for mode in world.MODES}
ARMS = {  # arm -> (set, flags of train_dpo.py)
    "videopasta": ("videopasta", ""),
    "sft": ("videopasta", "--objective sft"),
    "sft_preferred": ("paper", "--objective sft"),
    "rpo": ("videopasta", "--sft_weight 5"),
    "sft_mistaken": ("mistaken", "--objective sft"),
    **{name: (name, "") for name in (*MADE, *JUDGED, *EDITED) if name != "videopasta"},
    # Four epochs: as many updates as in `videopasta`.
    "equal": (f"n{N_EQUAL}", "--epochs 4"),
    **{f"only_{mode}": (f"only_{mode}", "--epochs 4") for mode in world.MODES},
    **{f"beta{beta}": ("videopasta", f"--beta {beta}") for beta in ("0.1", "1", "10")},
    **{f"weight_{mode}": ("videopasta", f"--mode_weights {w}") for mode, w in WEIGHTS.items()},
}
MAIN = ("base", "sft", "generic", "videopasta")
ALL = {"qwen": ("base", *ARMS), "onevision": (*MAIN, "rpo")}  # family -> its arms
TABLE_2 = (*(f"only_{mode}" for mode in world.MODES), "equal")
MOST = (*MAIN, "sft_preferred", "mistaken", "rpo", *TABLE_2, "shuffled")  # with five seeds
FULLY_MEASURED = (*MAIN, "mistaken", "rpo", "shuffled")  # not only on the benchmark
