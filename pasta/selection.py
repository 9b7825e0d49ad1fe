"""Candidates to pairs: which responses make a pair, which pairs are kept, and the audit.

Three ways to choose, all behind the judge:

    none      every adversarial response that the judge keeps: the paper's filter.
    flip      only of queries whose answer on a *broken* video contradicts the preferred one. It
              assumes that an answer which survives the breaking was not read off the video.
    contrast  chosen is the answer whose log-probability falls most when the video is broken,
              rejected the one that falls least, whichever was meant to be wrong; of each mode the
              share with the largest difference stays. It assumes that what hangs on the video is
              right more often than what does not, and mends preferred answers that only follow a
              prior. Departs from the paper, where the preferred answer is always chosen.

Every pair that is not kept is a row of dropped.jsonl with its reason.
"""

import math
from collections import Counter, defaultdict
from operator import itemgetter
from statistics import fmean

import numpy as np

from pasta.judge import Verdict, flaw
from pasta.pairs import MODES, pair_id

query_key = itemgetter("video", "mode", "query")


def make_pairs(candidates, judge, select="none", keep=0.5, balance=True, seed=0):
    """Pairs and dropped rows from candidates.

    judge:   (mode, query, preferred, adversarial) -> Verdict
    select:  "none", "flip" or "contrast"
    keep:    share of each mode's pairs that contrast keeps, 0..1
    balance: even out, within a mode, which side of each opposite is chosen
    Returns (pairs, dropped): rows of pairs.jsonl and of dropped.jsonl, in the order of the
    candidates. Each adversarial response of a candidate is in exactly one of them, once; with
    contrast, each candidate is.
    """
    propose = by_contrast if select == "contrast" else by_response
    rows = [row for candidate in candidates for row in propose(candidate, judge)]
    if select == "flip":
        drop_unflipped(rows)
    if select == "contrast":
        drop_weakest(rows, keep)
    if balance:
        drop_excess(rows, np.random.default_rng(seed))
    dropped = [row for row in rows if row["reason"]]
    kept = [row for row in rows if not row["reason"]]
    return [{k: v for k, v in row.items() if k != "reason"} for row in kept], dropped


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
        "recipe": candidate["recipe"] | recipe,
        "reason": verdict.reason,
    }


def by_response(candidate, judge):
    """The preferred response against each adversarial one; one said twice is kept once."""
    rows, kept = [], set()
    good = candidate["preferred"]
    for bad in candidate["adversarial"]:
        verdict = judge(candidate["mode"], candidate["query"], good, bad)
        if verdict.kept and bad["response"] in kept:
            verdict = Verdict(False, "duplicate", verdict.sides)
        elif verdict.kept:
            kept.add(bad["response"])
        how = {k: v for k, v in bad.items() if k not in ("response", "finished")}
        rows.append(proposal(candidate, good["response"], bad["response"], verdict, **how))
    return rows


def by_contrast(candidate, judge):
    """The answer that hangs most on the video against the one that hangs least: one row.

    Raises ValueError for a candidate whose answers were not scored with and without breaking.
    """
    query, answers = candidate["query"], [candidate["preferred"], *candidate["adversarial"]]
    sound = {a["response"] for a in answers if not flaw(a["response"], query, a["finished"])}
    if not candidate["recipe"]["twins"]:
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
    good, bad = ({"response": text, "finished": True} for text in (chosen, rejected))
    verdict = judge(candidate["mode"], query, good, bad)
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


def drop_excess(rows, rng):
    """Within a mode, let each side of an opposite be chosen as often as the other.

    With contrast the weakest of the commoner side go, else random ones. Pairs without known sides
    stay.
    """
    groups = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if not row["reason"] and row["sides"]:
            groups[row["mode"], tuple(sorted(row["sides"]))][row["sides"][0]].append(row)
    for (_, opposite), by_side in groups.items():
        fewest = min(len(by_side[side]) for side in opposite)
        for group in by_side.values():
            order = rng.permutation(len(group))
            ranked = sorted(order, key=lambda i: -group[i]["recipe"].get("contrast", 0.0))
            for i in ranked[fewest:]:
                group[i]["reason"] = "balance"


def audit(pairs, dropped):
    """What was kept and dropped, and whether the pairs can be told apart without looking.

    Returns a dict: per mode kept, dropped by reason, mean words of chosen and rejected, the chosen
    sides, and blind accuracy, the share of pairs in which the responder without the video prefers
    chosen: 0.5 is good; near 1 the video is not needed to be right.
    """
    report = {}
    for mode in MODES:
        here = [pair for pair in pairs if pair["mode"] == mode]
        reasons = Counter(row["reason"] for row in dropped if row["mode"] == mode)
        report[mode] = {"kept": len(here), "dropped": dict(reasons.most_common())}
        if here:
            chosen_sides = Counter(pair["sides"][0] for pair in here if pair["sides"])
            report[mode] |= {
                "words/chosen": fmean(len(pair["chosen"].split()) for pair in here),
                "words/rejected": fmean(len(pair["rejected"].split()) for pair in here),
                "chosen sides": dict(chosen_sides.most_common()),
                "blind accuracy": fmean(pair["blind"] > 0 for pair in here),
            }
    return report


def audit_table(report):
    """The audit as text."""
    lines = [f"{'mode':<12}   kept  dropped  words +/-  blind  chosen sides"]
    for mode, row in report.items():
        sides = ", ".join(f"{side} {n}" for side, n in row.get("chosen sides", {}).items())
        words = f"{row['words/chosen']:.1f}/{row['words/rejected']:.1f}" if row["kept"] else "-"
        blind = f"{row['blind accuracy']:.2f}" if row["kept"] else "-"
        n = sum(row["dropped"].values())
        lines.append(f"{mode:<12} {row['kept']:>6} {n:>8} {words:>10} {blind:>6}  {sides}".rstrip())
    for mode, row in report.items():
        lines += [f"  {mode}: {n} dropped: {reason}" for reason, n in row["dropped"].items()]
    return "\n".join(lines)
