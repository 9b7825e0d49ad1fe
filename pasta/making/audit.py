"""The audit: what was kept and dropped, and whether chosen can be recognised without the video.

A pair trains the use of the video only if nothing else separates chosen from rejected: not their
length, not a word that is mostly chosen, not what the model prefers without the video.
"""

from collections import Counter
from functools import partial
from pathlib import Path
from statistics import fmean

from pasta.making.adversarial_items import adversarial_rows
from pasta.making.stages import AWAY, CANDIDATE, CHANGED, QUERY, candidates_in_order, usable_queries
from pasta.pairs import MODES
from pasta.run.atomic import write_json
from pasta.run.rows import rows_of, write_rows
from pasta.run.schema import ABSENT, NUMBER, printable

PAIR = {"mode": MODES, "chosen": str, "rejected": str, "blind": NUMBER | None}
PAIR |= {"sides": list | None, "recipe": {"topic": str | None | ABSENT}}
DROPPED = {"mode": MODES, "reason": str}


def audit(pairs, dropped, queries=()):
    """Mode -> statistics of rows of pairs.jsonl, dropped.jsonl and queries.jsonl.

    "chosen longer" is a share of the pairs, ties count half. "blind accuracy" is the share in which
    the responder prefers chosen without the video: 0.5 is good; near 1 the video is not needed.
    """
    report = {}
    for mode in MODES:
        own = [pair for pair in pairs if pair["mode"] == mode]
        reasons = [row["reason"] for row in dropped if row["mode"] == mode]
        reasons += [f"query {q['flaw']}" for q in queries if q["mode"] == mode and "flaw" in q]
        report[mode] = {"kept": len(own), "dropped": counted(reasons)}
        if own:
            words = [(len(p["chosen"].split()), len(p["rejected"].split())) for p in own]
            blind = [pair["blind"] > 0 for pair in own if pair["blind"] is not None]
            report[mode] |= {
                "words/chosen": fmean(chosen for chosen, _ in words),
                "words/rejected": fmean(rejected for _, rejected in words),
                "chosen longer": fmean(((a > b) + (a >= b)) / 2 for a, b in words),
                "chosen sides": counted(str(p["sides"][0]) for p in own if p["sides"]),
                "topics": counted(pair["recipe"].get("topic") or "own" for pair in own),
                "blind accuracy": fmean(blind) if blind else None,
            }
    return report


def counted(names):
    """Name -> how often it occurs, the most frequent first, ties in alphabetical order."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def audit_table(report):
    """The audit as text."""
    lines = [f"{'mode':<12}   kept  dropped  words +/-  longer  blind  chosen sides; topics"]
    for mode, row in report.items():
        n, columns = sum(row["dropped"].values()), f"{'-':>9} {'-':>7} {'-':>6}"
        if row["kept"]:
            words = f"{row['words/chosen']:.1f}/{row['words/rejected']:.1f}"
            blind = "-" if row["blind accuracy"] is None else f"{row['blind accuracy']:.2f}"
            lists = (row["chosen sides"].items(), row["topics"].items())
            sides, topics = (", ".join(f"{name} {n}" for name, n in names) for names in lists)
            columns = f"{words:>9} {row['chosen longer']:>7.2f} {blind:>6}  {sides}; {topics}"
        lines.append(f"{mode:<12} {row['kept']:>6} {n:>8}  {columns}")
    for mode, row in report.items():
        for reason, n in row["dropped"].items():
            unit = "queries" if reason.startswith("query ") else "pairs"
            lines.append(f"  {mode}: {n} {unit} dropped: {reason}")
    return "\n".join(map(printable, lines))


def audit_of(folder):
    """The audit of a folder that make_pairs.py wrote. Raises ValueError for a damaged row."""
    schemas = {"pairs": PAIR, "dropped": DROPPED, "queries": QUERY}
    return audit(*(rows_of(Path(folder) / f"{name}.jsonl", of) for name, of in schemas.items()))


def write_report(config, roles, videos, n, failed):
    """Name the videos left out, audit the pairs of the first n videos, print the counts.

    Raises SystemExit, with the most frequent reason, if the stage has made nothing.
    """
    path = config.out / "skipped.jsonl"
    if config.stage in ("candidates", "judge"):  # the stages before may have skipped others
        earlier = {r["video"]: r["reason"] for r in rows_of(path, {"video": str, "reason": str})}
        failed = {v: why for v, why in earlier.items() if why not in (AWAY, CHANGED)} | failed
    write_rows(path, [{"video": video, "reason": failed[video]} for video in sorted(failed)])
    for video in sorted(failed):
        print(printable(f"skipped {video}: {failed[video]}"))
    name = config.stage if config.stage in ("queries", "candidates") else "pairs"
    path, dropped = config.out / f"{name}.jsonl", []
    if name == "pairs":
        report, dropped = audit_of(config.out), rows_of(config.out / "dropped.jsonl", DROPPED)
        write_json(config.out / "audit.json", report)
        print(audit_table(report))
        kept = f"wrote {sum(row['kept'] for row in report.values())} pairs to {path}"
        print(f"{kept}, and {len(dropped)} dropped pairs to dropped.jsonl{roles.unreadable}")
    made = {row["video"] for row in rows_of(path, {"video": str}) if "flaw" not in row}
    first, asked = set(videos[:n]), {row["video"] for row in usable_queries(config)}
    used = first - failed.keys()
    counts = f"{n} videos" if n == len(videos) else f"{n} of {len(videos)} videos"
    counts += f", {len(first - used)} of them skipped, {len(used - asked)} without a query"
    counts += f", {len(used & asked - made)} without {name}, {len(used & made)} with {name}"
    if not made & first:
        print(counts)
        raise SystemExit(f"no {name}: {commonest(config, failed, dropped)}{roles.unreadable}")
    if config.adversarial_qa and name == "pairs":
        rows = candidates_in_order(config, videos[:n], dict.fromkeys(MODES, n))
        asker, n = config.asker or config.responder, config.max_new_tokens
        ask = partial(roles.ask_once, asker, max_new_tokens=n)
        rows = [row for row in rows if failed.get(row["video"]) != CHANGED]
        items = adversarial_rows(rows, roles.judge, ask)
        write_rows(config.out / "items.jsonl", items)
        print(f"wrote {len(items)} items")
    print(counts)


def commonest(config, failed, dropped):
    """The most frequent reason why something was left out, an example, and where to look."""
    flawed = [row for row in rows_of(config.out / "queries.jsonl", QUERY) if "flaw" in row]
    found = [(reason, "videos", video) for video, reason in failed.items()]
    found += [(f"query {row['flaw']}", "queries", row["query"]) for row in flawed]
    found += [(row["reason"], "pairs", f"{row['chosen']} | {row['rejected']}") for row in dropped]
    if not found:
        text = "name other --videos, or other --queries about them"
        return printable(f"{config.queries} has no query about these videos; {text}")
    [(reason, n)] = Counter(reason for reason, *_ in found).most_common(1)
    unit, example = next(of for other, *of in found if other == reason)
    more = "..." * (len(example) > 200)
    text = f"left out are {len(failed)} videos, {len(flawed)} queries, {len(dropped)} pairs; "
    text += f"the commonest reason, of {n} {unit}: {reason}, such as {example[:200] + more!r}"
    made = rows_of(config.out / "candidates.jsonl", CANDIDATE)
    answers = [answer for row in made for answer in (row["preferred"], *row["adversarial"])]
    replies = rows_of(config.out / "queries.jsonl", QUERY) if unit == "queries" else answers
    if cut := sum(not reply.get("finished", True) for reply in replies):
        limit = f"--max_new_tokens {config.max_new_tokens}"
        text += f"; {cut} of {len(replies)} replies were cut off at {limit}: raise it if texts fail"
    return printable(f"{text}; docs/pairs.md, 'Read the audit', names the flag for each reason")
