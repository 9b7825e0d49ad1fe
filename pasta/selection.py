"""Candidates to pairs: which responses make a pair, and which pairs are kept after the judge.

    none      every adversarial response that the judge keeps: the paper's filter
    flip      all kept pairs of a query if an answer on a corrupted video contradicts the preferred
              one. Assumes: an answer that does not change does not depend on the video
    contrast  chosen is the response with the log-probability that falls most when the video is
              corrupted, rejected the one that falls least. Keeps the share of each mode with the
              largest difference. Assumes: answers that depend on the video are right more often.
              So chosen need not be the preferred answer; in the paper it always is

Last, `--balance` removes differences that show chosen without the video (length, side), and
`--target` gives each mode the same number of pairs.
"""

import math
from collections import defaultdict
from itertools import zip_longest
from operator import itemgetter

import numpy as np

from pasta.judge import Verdict, alike, flaw
from pasta.pairs import MODES, pair_id

LONGER = 1.25  # ratio of word counts from which a response counts as longer
UNUSABLE = Verdict(False, "fewer than two different usable answers")
query_key = itemgetter("video", "mode", "query")
by_sides = itemgetter("sides")


def make_pairs(candidates, judge, select="none", keep=0.5, balance=True, share=0, seed=0):
    """(pairs, dropped): rows of pairs.jsonl and of dropped.jsonl, in the order of the candidates.

    judge: list of (mode, query, preferred, adversarial) -> list of Verdict.
    keep: share of each mode's pairs that contrast keeps, 0..1. share: pairs of each mode; 0: all.
    balance: even out, within a mode, whether chosen is longer, and the sides that are chosen.
    Each adversarial response makes exactly one row. With contrast, each candidate makes one row.
    """
    rows, rng = proposals(candidates, judge, select), np.random.default_rng(seed)
    # Each step sets the `reason` of the rows that it drops; a row without a reason is a pair.
    if select == "contrast":
        drop_weakest(rows, keep)
    else:
        drop_duplicates(rows)
    if select == "flip":
        drop_unflipped(rows)
    if balance:
        drop_excess(rows, by_length, "length", rng)
        drop_excess(rows, by_sides, "balance", rng)
    if share:
        drop_beyond(rows, share)
    dropped = [row for row in rows if row["reason"]]
    return [{k: v for k, v in row.items() if k != "reason"} for row in remaining(rows)], dropped


def remaining(rows):
    return [row for row in rows if not row["reason"]]


def proposals(candidates, judge, select):
    """All pairs that candidates could make, judged: see `proposal`."""
    if select == "contrast":
        matches = [(c, *by_contrast(c)) for c in candidates]
    else:
        matches = [(c, c["preferred"], answer) for c in candidates for answer in c["adversarial"]]
    cases = [(c["mode"], c["query"], chosen, other) for c, chosen, other in matches if other]
    verdicts = iter(judge(cases))
    return [proposal(*found, next(verdicts) if found[2] else UNUSABLE) for found in matches]


def proposal(candidate, chosen, rejected, verdict):
    """A row of pairs.jsonl if its `reason` is empty, else of dropped.jsonl.

    chosen, rejected: answers; no rejected if none is usable. verdict: the judge's on them.
    blind: log pi(chosen) - log pi(rejected) without the video, nats; None if not scored.
    """
    texts = {name: candidate[name] for name in ("video", "mode", "query")}
    texts |= {"chosen": chosen["response"], "rejected": rejected["response"] if rejected else ""}
    logps = {row["response"]: row["blind"] for row in candidate["logps"]}
    recipe = {k: v for k, v in (rejected or {}).items() if k not in ("response", "finished")}
    one, other = logps.get(texts["chosen"]), logps.get(texts["rejected"])
    return {
        "id": pair_id(**texts),
        **texts,
        "sides": verdict.sides,
        "blind": None if None in (one, other) else one - other,
        "recipe": candidate["recipe"] | {"topic": candidate["topic"]} | recipe,
        "reason": verdict.reason,
    }


def by_contrast(candidate):
    """The usable answers that depend most and least on the video; (preferred, None) without two."""
    query, answers = candidate["query"], [candidate["preferred"], *candidate["adversarial"]]
    usable = {answer["response"] for answer in answers if not flaw(answer, query)}
    unscored = [row for row in candidate["logps"] if {"clean", "broken"} - row.keys()]
    if unscored or not candidate["recipe"]["twins"]:
        about = f"{query!r} about {candidate['video']}: answers were not scored on corrupted videos"
        raise ValueError(f"{about}; choose another --select, or another --out for contrast")
    scored = [row for row in candidate["logps"] if row["response"] in usable]
    falls = {row["response"]: row["clean"] - row["broken"] for row in scored}  # nats
    if len(falls) < 2:
        return candidate["preferred"], None
    best, worst = max(falls, key=falls.get), min(falls, key=falls.get)
    recipe = {"kind": "contrast", "contrast": falls[best] - falls[worst]}  # nats
    chosen, rejected = ({"response": text, "finished": True} for text in (best, worst))
    return chosen, rejected | recipe


def drop_duplicates(rows):
    """Of the near-duplicates among a query's rejected answers, keep the first."""
    unlike = defaultdict(list)
    for row in remaining(rows):
        others = unlike[query_key(row)]
        if any(alike(row["rejected"], other) for other in others):
            row["reason"] = "duplicate"
        else:
            others.append(row["rejected"])


def drop_unflipped(rows):
    """Drop all pairs of a query unless some answer on a corrupted video is a contradiction."""
    contradicting = [row for row in rows if row["reason"] in ("", "duplicate")]
    flipped = {query_key(row) for row in contradicting if row["recipe"]["kind"] == "frames"}
    for row in remaining(rows):
        if query_key(row) not in flipped:
            row["reason"] = "not contradicted on the corrupted video"


def weakness(row):
    return -row["recipe"].get("contrast", 0.0)


def drop_weakest(rows, keep):
    """Of each mode, keep the share `keep` with the largest contrast, rounded up."""
    for mode in MODES:
        group = sorted((row for row in remaining(rows) if row["mode"] == mode), key=weakness)
        for row in group[math.ceil(keep * len(group)) :]:
            row["reason"] = "weak contrast"


def drop_excess(rows, kinds, reason, rng):
    """Within a mode, keep as many pairs of a kind as of its opposite: at random, or the strongest.

    kinds: row -> (kind, its opposite), or None for a row that stays.
    """
    groups = defaultdict(lambda: defaultdict(list))
    for row in remaining(rows):
        if pair := kinds(row):
            groups[row["mode"], tuple(sorted(pair))][pair[0]].append(row)
    for (_, opposite), by_kind in groups.items():
        fewest = min(len(by_kind[kind]) for kind in opposite)
        for group in by_kind.values():
            shuffled = [group[i] for i in rng.permutation(len(group))]
            for row in sorted(shuffled, key=weakness)[fewest:]:
                row["reason"] = reason


def by_length(row):
    """Which response has at least a quarter more words than the other; None if neither."""
    chosen, rejected = len(row["chosen"].split()), len(row["rejected"].split())
    if max(chosen, rejected) < LONGER * min(chosen, rejected):
        return None
    return ("longer", "shorter") if chosen > rejected else ("shorter", "longer")


def drop_beyond(rows, share):
    """Of each mode, keep `share` pairs: alternating the chosen sides, the strongest pairs first."""
    groups = defaultdict(lambda: defaultdict(list))
    for row in remaining(rows):
        groups[row["mode"]][row["sides"] and row["sides"][0]].append(row)
    for by_side in groups.values():
        for group in by_side.values():
            group.sort(key=weakness)
        for row in [row for turn in zip_longest(*by_side.values()) for row in turn if row][share:]:
            row["reason"] = "beyond the target"
