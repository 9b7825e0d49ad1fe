"""The audit: what was kept and dropped, and whether pairs can be told apart without looking.

    python -m pasta.making.audit out/pairs

A pair teaches to look only if nothing else tells chosen from rejected: not the length, not a word
that is mostly chosen, not what the model would prefer without the video.
"""

import sys
from collections import Counter
from pathlib import Path
from statistics import fmean

from pasta.making.made import DROPPED, PAIR, QUERY
from pasta.pairs import MODES
from pasta.run.rows import rows_of


def audit(pairs, dropped, queries=()):
    """The audit of rows of pairs.jsonl, dropped.jsonl and queries.jsonl.

    Returns a dict: per mode kept, dropped by reason, mean words of chosen and rejected, the share
    of pairs in which chosen has more words (half of those with as many count), the chosen sides,
    the kinds of query, and blind accuracy, the share in which the responder without the video
    prefers chosen: 0.5 is good; near 1 the video is not needed to be right.
    """
    report = {}
    for mode in MODES:
        here = [pair for pair in pairs if pair["mode"] == mode]
        reasons = [row["reason"] for row in dropped if row["mode"] == mode]
        reasons += [f"query {q['flaw']}" for q in queries if q["mode"] == mode and "flaw" in q]
        report[mode] = {"kept": len(here), "dropped": counted(reasons)}
        if here:
            words = [(len(p["chosen"].split()), len(p["rejected"].split())) for p in here]
            blind = [pair["blind"] > 0 for pair in here if pair["blind"] is not None]
            report[mode] |= {
                "words/chosen": fmean(chosen for chosen, _ in words),
                "words/rejected": fmean(rejected for _, rejected in words),
                "chosen longer": fmean(((a > b) + (a >= b)) / 2 for a, b in words),
                "chosen sides": counted(str(p["sides"][0]) for p in here if p["sides"]),
                "topics": counted(pair["recipe"].get("topic") or "own" for pair in here),
                "blind accuracy": fmean(blind) if blind else None,
            }
    return report


def counted(names):
    """Name -> how often it occurs, the commonest first, and of equals the first in the alphabet."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def audit_table(report):
    """The audit as text."""
    lines = [f"{'mode':<12}   kept  dropped  words +/-  longer  blind  chosen sides; topics"]
    for mode, row in report.items():
        n, told = sum(row["dropped"].values()), f"{'-':>9} {'-':>7} {'-':>6}"
        if row["kept"]:
            words = f"{row['words/chosen']:.1f}/{row['words/rejected']:.1f}"
            blind = "-" if row["blind accuracy"] is None else f"{row['blind accuracy']:.2f}"
            lists = (row["chosen sides"].items(), row["topics"].items())
            sides, topics = (", ".join(f"{name} {n}" for name, n in names) for names in lists)
            told = f"{words:>9} {row['chosen longer']:>7.2f} {blind:>6}  {sides}; {topics}"
        lines.append(f"{mode:<12} {row['kept']:>6} {n:>8}  {told}")
    for mode, row in report.items():
        lines += [f"  {mode}: {n} dropped: {reason}" for reason, n in row["dropped"].items()]
    return "\n".join(lines)


def audit_of(folder):
    """The audit of a folder that make_pairs.py wrote. Raises ValueError for a damaged row."""
    shapes = {"pairs": PAIR, "dropped": DROPPED, "queries": QUERY}
    return audit(*(rows_of(Path(folder) / f"{name}.jsonl", of) for name, of in shapes.items()))


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1], "pairs.jsonl").is_file():
        found = " ".join(sys.argv[1:]) or "no folder"
        told = "expected one with the pairs.jsonl of make_pairs.py, such as out/pairs"
        raise SystemExit(f"python -m pasta.making.audit FOLDER: got {found}; {told}")
    print(audit_table(audit_of(sys.argv[1])))
