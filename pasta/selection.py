"""Candidates to pairs: which responses make a pair, and which pairs are kept.

Three ways to choose, all behind the judge:

    none      every adversarial response that the judge keeps: the paper's filter.
    flip      only of queries whose answer on a *broken* video contradicts the preferred one. It
              assumes that an answer which survives the breaking was not read off the video.
    contrast  chosen is the answer whose log-probability falls most when the video is broken,
              rejected the one that falls least, whichever was meant to be wrong; of each mode the
              share with the largest difference stays. It assumes that what hangs on the video is
              right more often than what does not, and mends preferred answers that only follow a
              prior. Departs from the paper, where the preferred answer is always chosen.

Every pair that is not kept is a row of dropped.jsonl with its reason. `--balance` and `--target`
come last: what could tell chosen from rejected without the video is evened out, and each mode gets
the same number of pairs.
"""

import math
from collections import defaultdict
from itertools import zip_longest
from operator import itemgetter

import numpy as np

from pasta.judge import Verdict, alike, flaw
from pasta.pairs import pair_id

LONGER = 1.25  # how many times as many words make a response the longer one
query_key = itemgetter("video", "mode", "query")


def make_pairs(candidates, judge, select="none", keep=0.5, balance=True, share=0, seed=0):
    """Pairs and dropped rows from candidates.

    judge:   (mode, query, preferred, adversarial) -> Verdict
    select:  "none", "flip" or "contrast"
    keep:    share of each mode's pairs that contrast keeps, 0..1
    balance: even out, within a mode, whether chosen is the longer one, and which side of each
             opposite is chosen
    share:   pairs of each mode at most; 0 is no bound
    Returns (pairs, dropped): rows of pairs.jsonl and of dropped.jsonl, in the order of the
    candidates. Each adversarial response of a candidate is in exactly one of them, once; with
    contrast, each candidate is.
    """
    rows, rng = proposals(candidates, judge, select), np.random.default_rng(seed)
    if select == "flip":
        drop_unflipped(rows)
    if select == "contrast":
        drop_weakest(rows, keep)
    if balance:
        drop_excess(rows, by_length, "length", rng)
        drop_excess(rows, by_sides, "balance", rng)
    if share:
        drop_beyond(rows, share)
    dropped = [row for row in rows if row["reason"]]
    kept = [row for row in rows if not row["reason"]]
    return [{k: v for k, v in row.items() if k != "reason"} for row in kept], dropped


def proposals(candidates, judge, select):
    """All pairs that candidates could make, as `proposal` rows, judged."""
    propose = by_contrast if select == "contrast" else by_response
    return [row for candidate in candidates for row in propose(candidate, judge)]


def proposal(candidate, chosen, rejected, verdict, **recipe):
    """A row that is a pair if its `reason` is empty, and a dropped one if not.

    candidate: a row of candidates.jsonl. chosen, rejected: texts. verdict: the judge's on them.
    recipe: what is added to the candidate's own.
    blind: log pi(chosen) - log pi(rejected) without the video, nats; None if they were not scored.
    """
    said = {name: candidate[name] for name in ("video", "mode", "query")}
    said |= {"chosen": chosen, "rejected": rejected}
    logps = {row["response"]: row["blind"] for row in candidate["logps"]}
    known = chosen in logps and rejected in logps
    return {
        "id": pair_id(**said),
        **said,
        "sides": verdict.sides,
        "blind": logps[chosen] - logps[rejected] if known else None,
        "recipe": candidate["recipe"] | {"topic": candidate["topic"]} | recipe,
        "reason": verdict.reason,
    }


def by_response(candidate, judge):
    """The preferred response against each adversarial one; one said twice is kept once.

    Near-duplicates count as said twice.
    """
    rows, kept = [], []
    mode, query, preferred = (candidate[name] for name in ("mode", "query", "preferred"))
    for answer in candidate["adversarial"]:
        verdict, rejected = judge(mode, query, preferred, answer), answer["response"]
        if verdict.kept and any(alike(rejected, other) for other in kept):
            verdict = Verdict(False, "duplicate", verdict.sides)
        elif verdict.kept:
            kept.append(rejected)
        how = {k: v for k, v in answer.items() if k not in ("response", "finished")}
        rows.append(proposal(candidate, preferred["response"], rejected, verdict, **how))
    return rows


def by_contrast(candidate, judge):
    """The answer that hangs most on the video against the one that hangs least: one row.

    Raises ValueError for a candidate whose answers were not scored with and without breaking.
    """
    query, answers = candidate["query"], [candidate["preferred"], *candidate["adversarial"]]
    sound = {answer["response"] for answer in answers if not flaw(answer, query)}
    unscored = [row for row in candidate["logps"] if {"clean", "broken"} - row.keys()]
    if unscored or not candidate["recipe"]["twins"]:
        raise ValueError(
            f"answers to {query!r} about {candidate['video']} were not scored on broken videos; "
            "choose another --select, or another --out for contrast"
        )
    falls = {
        row["response"]: row["clean"] - row["broken"]  # nats
        for row in candidate["logps"]
        if row["response"] in sound
    }
    if len(falls) < 2:
        only = candidate["preferred"]["response"]
        return [proposal(candidate, only, "", Verdict(False, "fewer than two sound answers"))]
    chosen, rejected = max(falls, key=falls.get), min(falls, key=falls.get)
    both = ({"response": text, "finished": True} for text in (chosen, rejected))
    verdict = judge(candidate["mode"], query, *both)
    difference = falls[chosen] - falls[rejected]
    return [proposal(candidate, chosen, rejected, verdict, kind="contrast", contrast=difference)]


def drop_unflipped(rows):
    """Drop all pairs of a query unless some answer on a broken video is a contradiction."""
    flipped = {
        query_key(row)
        for row in rows
        if row["recipe"]["kind"] == "frames" and row["reason"] in ("", "duplicate")
    }
    for row in rows:
        if not row["reason"] and query_key(row) not in flipped:
            row["reason"] = "answer survives the broken video"


def drop_weakest(rows, keep):
    """Of each mode, drop all but the share `keep` with the largest contrast, rounded up."""
    groups = defaultdict(list)
    for row in rows:
        if not row["reason"]:
            groups[row["mode"]].append(row)
    for group in groups.values():
        group.sort(key=lambda row: -row["recipe"]["contrast"])
        for row in group[math.ceil(keep * len(group)) :]:
            row["reason"] = "weak contrast"


def drop_excess(rows, kinds, reason, rng):
    """Within a mode, let each of two opposite kinds of pair be as common as the other.

    kinds: row -> (kind, its opposite), or None for a row that stays.
    With contrast the weakest of the commoner kind go, else random ones.
    """
    groups = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if not row["reason"] and (pair := kinds(row)):
            groups[row["mode"], tuple(sorted(pair))][pair[0]].append(row)
    for (_, opposite), by_kind in groups.items():
        fewest = min(len(by_kind[kind]) for kind in opposite)
        for group in by_kind.values():
            order = rng.permutation(len(group))
            ranked = sorted(order, key=lambda i: -group[i]["recipe"].get("contrast", 0.0))
            for i in ranked[fewest:]:
                group[i]["reason"] = reason


def by_sides(row):
    """The sides of the opposite that a pair turns on, chosen's first."""
    return row["sides"]


def by_length(row):
    """Which response is longer by a quarter and more, in words; None if neither is."""
    chosen, rejected = len(row["chosen"].split()), len(row["rejected"].split())
    if max(chosen, rejected) < LONGER * min(chosen, rejected):
        return None
    return ("longer", "shorter") if chosen > rejected else ("shorter", "longer")


def drop_beyond(rows, share):
    """Of each mode keep `share` pairs: of each chosen side in turn, the strongest first."""
    groups = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if not row["reason"]:
            groups[row["mode"]][row["sides"] and row["sides"][0]].append(row)
    for by_side in groups.values():
        for group in by_side.values():
            group.sort(key=lambda row: -row["recipe"].get("contrast", 0.0))
        turns = [row for turn in zip_longest(*by_side.values()) for row in turn if row]
        for row in turns[share:]:
            row["reason"] = "beyond the target"
