"""What the study compares: sets of pairs, and trainings on them.

A set of pairs is made by make_pairs.py from videos (MADE), by its last stage alone from candidates
that are there (JUDGED), or by a function from pairs that are there (EDITED). An arm is a training
on one set. Apart from what its name says, all is as in the arm `videopasta`.
"""

from functools import partial

from pasta.pairs import MODES
from pasta.run.rows import read_rows
from pasta.selection import query_key

N_EQUAL = 300  # pairs of each arm of Table 2

MADE = {  # set -> flags of make_pairs.py
    "videopasta": "",
    # Without adversaries, in the spirit of LLaVA-Hound and TPO: r- is what the model says of the
    # same frames and query, drawn at temperature 1; r+ is its greedy answer, as ever. The same
    # judge drops what does not contradict; nothing else is selected, nothing evened out.
    "generic": "--adversary sample --temperature 1 --select none --no-balance",
    "prompt": "--adversary prompt",
    "frames": "--adversary frames",
    "sparse": "--n_frames 10",  # preferred answers see no more than 1 fps shows
}
JUDGED = {  # set -> (whose candidates, how many of the K, flags of make_pairs.py --stage judge)
    "flip": ("videopasta", 3, "--select flip"),
    "none": ("videopasta", 3, "--select none"),
    "paper": ("videopasta", 3, "--select none --no-balance"),
    "unbalanced": ("videopasta", 3, "--no-balance"),
    "k1": ("videopasta", 1, ""),  # the k-th candidate does not depend on how many there are
    "k2": ("videopasta", 2, ""),
}


def shuffled(folder, rng):
    """Each pair with the video of another one: what it says is true of it by chance alone."""
    pairs = read_rows(folder / "pairs.jsonl")
    order = rng.permutation(len(pairs))
    return [
        pairs[i] | {"video": pairs[j]["video"]}
        for i, j in zip(order, [*order[1:], order[0]], strict=True)
        if pairs[i]["video"] != pairs[j]["video"]
    ]


def idle(folder, rng):
    """Each pair with the rejected response of another one of its mode, which is about other things.

    What is left to learn from is the chosen response.
    """
    pairs = read_rows(folder / "pairs.jsonl")
    found = []
    for mode in MODES:
        rows = [pair for pair in pairs if pair["mode"] == mode]
        for row, other in zip(rows, rng.permutation(len(rows)), strict=True):
            rejected = rows[other]["rejected"]
            if rejected not in (row["rejected"], row["chosen"]):
                found.append(row | {"rejected": rejected})
    return found


def ranked(right, folder, rng):
    """The pairs that the model to be trained ranks rightly already, or those that it does not.

    By its log-probabilities of both responses, given the video and the query.
    """
    logps = {
        (*query_key(row), answer["response"]): answer["clean"]
        for row in read_rows(folder / "candidates.jsonl")
        for answer in row["logps"]
    }

    def known(pair):
        return logps[*query_key(pair), pair["chosen"]] > logps[*query_key(pair), pair["rejected"]]

    return [pair for pair in read_rows(folder / "pairs.jsonl") if known(pair) == right]


def some(n, modes, folder, rng):
    """n of the pairs, drawn by chance, as many of each of `modes`."""
    pairs, found = read_rows(folder / "pairs.jsonl"), []
    for mode in modes:
        rows = [pair for pair in pairs if pair["mode"] == mode]
        found += [rows[i] for i in rng.permutation(len(rows))[: n // len(modes)]]
    return found


def unjudged(folder, rng):
    """The pairs and those that the judge dropped, each once; no answer against itself."""
    told = ("no contradiction", "adversarial", "preferred")
    dropped = [r for r in read_rows(folder / "dropped.jsonl") if r["reason"].startswith(told)]
    rows = dropped + read_rows(folder / "pairs.jsonl")
    return list({r["id"]: r for r in rows if r["chosen"] != r["rejected"]}.values())


EDITED = {  # set -> (in whose folder, function of the folder and a generator)
    "shuffled": ("videopasta", shuffled),
    "idle": ("videopasta", idle),
    "known": ("videopasta", partial(ranked, True)),
    "mistaken": ("videopasta", partial(ranked, False)),
    "unjudged": ("paper", unjudged),
    **{f"only_{mode}": ("videopasta", partial(some, N_EQUAL, [mode])) for mode in MODES},
    **{f"n{n}": ("videopasta", partial(some, n, MODES)) for n in (100, N_EQUAL, 1000)},
}
WEIGHTS = {"spatial": "3 1 1", "temporal": "1 3 1", "cross_frame": "1 1 3"}
ARMS = {  # arm -> (set, flags of train_dpo.py)
    "videopasta": ("videopasta", ""),
    "sft": ("videopasta", "--objective sft"),
    "sft_preferred": ("paper", "--objective sft"),
    "rpo": ("videopasta", "--sft_weight 5"),
    "sft_mistaken": ("mistaken", "--objective sft"),
    **{name: (name, "") for name in (*MADE, *JUDGED, *EDITED) if name != "videopasta"},
    # Seen four times, so that there are as many updates as in `videopasta`.
    "equal": (f"n{N_EQUAL}", "--epochs 4"),
    **{f"only_{mode}": (f"only_{mode}", "--epochs 4") for mode in MODES},
    **{f"beta{beta}": ("videopasta", f"--beta {beta}") for beta in ("0.1", "1", "10")},
    **{f"weight_{mode}": ("videopasta", f"--mode_weights {w}") for mode, w in WEIGHTS.items()},
}
MAIN = ("base", "sft", "generic", "videopasta")
ALL = {"qwen": ("base", *ARMS), "onevision": (*MAIN, "rpo")}  # family -> its arms
TABLE_2 = (*(f"only_{mode}" for mode in MODES), "equal")
QUICK = {"qwen": MAIN}
MOST = {"qwen": (*MAIN, "sft_preferred", "mistaken", "rpo", *TABLE_2, "shuffled")}
WHOLE = (*MAIN, "mistaken", "rpo", "shuffled")  # the arms that sit the whole exam
