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

from collections import Counter, defaultdict
from statistics import fmean

import numpy as np

from pasta.judge import Verdict, flaw
from pasta.pairs import MODES, pair_id


def make_pairs(candidates, judge, select="none", keep=0.5, balance=True, seed=0):
    """Pairs and dropped rows from candidates.

    judge:   (mode, query, preferred, adversarial) -> Verdict
    select:  "none", "flip" or "contrast"
    keep:    share of each mode's pairs that contrast keeps, 0..1
    balance: even out, within a mode, which side of each opposite is chosen
    Returns (pairs, dropped): rows of pairs.jsonl and of dropped.jsonl, in the order of the
    candidates. Every response of every candidate is in exactly one of them, but for contrast,
    which makes one row a candidate.
    """
    propose = by_contrast if select == "contrast" else by_response
    rows = [row for candidate in candidates for row in propose(candidate, judge)]
    if select == "flip":
        drop_unflipped(rows)
    if select == "contrast":
        drop_weakest(rows, keep)
    if balance:
        drop_excess(rows, np.random.default_rng(seed))
    kept = [row for row in rows if not row["reason"]]
    dropped = [row for row in rows if row["reason"]]
    return [{k: v for k, v in row.items() if k != "reason"} for row in kept], dropped


def proposal(candidate, chosen, rejected, verdict, **recipe):
    """A row that is a pair if its `reason` is empty, and a dropped one if not."""
    fields = (candidate["video"], candidate["mode"], candidate["query"], chosen, rejected)
    names = ("video", "mode", "query", "chosen", "rejected")
    return {
        "id": pair_id(*fields),
        **dict(zip(names, fields, strict=True)),
        "sides": verdict.sides,
        "recipe": candidate["recipe"] | recipe,
        "reason": verdict.reason,
    }


def by_response(candidate, judge):
    """The preferred response against each adversarial one; one said twice counts once."""
    rows, seen = [], set()
    good = candidate["preferred"]
    for bad in candidate["adversarial"]:
        verdict = judge(candidate["mode"], candidate["query"], good, bad)
        if verdict.kept and bad["response"] in seen:
            verdict = Verdict(False, "duplicate")
        seen.add(bad["response"])
        how = {k: v for k, v in bad.items() if k not in ("response", "finished")}
        rows.append(proposal(candidate, good["response"], bad["response"], verdict, **how))
    return rows


def by_contrast(candidate, judge):
    """The answer that hangs most on the video against the one that hangs least."""
    finished = {
        answer["response"]: answer["finished"]
        for answer in (candidate["preferred"], *candidate["adversarial"])
    }
    falls = {
        row["response"]: row["clean"] - row["broken"]  # nats
        for row in candidate["logps"]
        if not flaw(row["response"], candidate["query"], finished[row["response"]])
    }
    if len(falls) < 2:
        only = candidate["preferred"]["response"]
        return [proposal(candidate, only, "", Verdict(False, "fewer than two sound answers"))]
    chosen, rejected = max(falls, key=falls.get), min(falls, key=falls.get)
    good, bad = ({"response": text, "finished": True} for text in (chosen, rejected))
    verdict = judge(candidate["mode"], candidate["query"], good, bad)
    difference = falls[chosen] - falls[rejected]
    return [proposal(candidate, chosen, rejected, verdict, kind="contrast", contrast=difference)]


def drop_unflipped(rows):
    """Drop all pairs of a query unless some answer on a broken video was kept by the judge."""
    flipped = {
        (row["video"], row["query"])
        for row in rows
        if not row["reason"] and row["recipe"]["kind"] == "frames"
    }
    for row in rows:
        if not row["reason"] and (row["video"], row["query"]) not in flipped:
            row["reason"] = "answer survives the broken video"


def drop_weakest(rows, keep):
    """Of each mode and side, drop all but the share `keep` with the largest contrast."""
    groups = defaultdict(list)
    for row in rows:
        if not row["reason"]:
            groups[row["mode"]].append(row)
    for group in groups.values():
        group.sort(key=lambda row: -row["recipe"]["contrast"])
        for row in group[round(keep * len(group)) :]:
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
    for (_, opposite), sides in groups.items():
        fewest = min(len(sides[side]) for side in opposite)
        for group in sides.values():
            order = rng.permutation(len(group))
            ranked = sorted(order, key=lambda i: -group[i]["recipe"].get("contrast", 0.0))
            for i in ranked[fewest:]:
                group[i]["reason"] = "balance"


def audit(pairs, dropped, blind):
    """What was kept and dropped, and whether the pairs can be told apart without looking.

    blind: one bool a pair, whether the responder without the video already prefers chosen.
    Returns a dict: per mode kept, dropped by reason, mean words of chosen and rejected, the
    chosen sides, and blind accuracy: 0.5 is good; near 1 the video is not needed to be right.
    """
    report = {}
    for mode in MODES:
        here = [(pair, b) for pair, b in zip(pairs, blind, strict=True) if pair["mode"] == mode]
        reasons = Counter(row["reason"] for row in dropped if row["mode"] == mode)
        report[mode] = {"kept": len(here), "dropped": dict(reasons.most_common())}
        if here:
            report[mode] |= {
                "words/chosen": fmean(len(pair["chosen"].split()) for pair, _ in here),
                "words/rejected": fmean(len(pair["rejected"].split()) for pair, _ in here),
                "chosen sides": dict(
                    Counter(pair["sides"][0] for pair, _ in here if pair["sides"]).most_common()
                ),
                "blind accuracy": fmean(b for _, b in here),
            }
    return report


def audit_table(report):
    """The audit as text."""
    lines = [f"{'mode':<12} {'kept':>6} {'dropped':>8} {'words':>10} {'blind':>6}  chosen sides"]
    for mode, row in report.items():
        sides = ", ".join(f"{side} {n}" for side, n in row.get("chosen sides", {}).items())
        words = f"{row.get('words/chosen', 0):.1f}/{row.get('words/rejected', 0):.1f}"
        blind = f"{row['blind accuracy']:.2f}" if "blind accuracy" in row else "-"
        n = sum(row["dropped"].values())
        lines.append(f"{mode:<12} {row['kept']:>6} {n:>8} {words:>10} {blind:>6}  {sides}")
    for mode, row in report.items():
        lines += [f"  {mode}: {n} dropped: {reason}" for reason, n in row["dropped"].items()]
    return "\n".join(lines)
