"""Refreshes the tables and the picture of docs/miniature.md from results.jsonl. Nothing is trained.

KIND(results, *WORDS) makes the text between `<!-- table: KIND WORDS -->` and `<!-- end -->`.
"""

import re
from argparse import ArgumentParser
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

from pasta.run.command import command_line
from pasta.run.rows import rows_of
from pasta.study.claims import Results, field, mean_of_modes, verdicts
from pasta.toy.world import MODES

RESULTS, PAGE = Path("docs/miniature"), Path("docs/miniature.md")
TABLE = re.compile(r"(<!-- table: (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)
NUMBERS = {  # key of the measurements (see measure.py): what it is, digits
    "sight": ("evidence, nats", 2),
    "habit": ("prior, nats", 2),
    "denied": ("probability of denying", 3),
    "presence_sight": ("presence: evidence, nats", 2),
    "presence_habit": ('presence: prior of "yes", nats', 2),
}


def markdown(head, rows):
    return "".join(f"| {' | '.join(x)} |\n" for x in (head, ["---"] * len(head), *rows))


def claims(results):
    head = ["claim", "in miniature", "percentage points [95 % interval]"]
    return markdown(head, verdicts(results))


def scores(results, family, *arms):
    """Scores of the base and some arms on the benchmark, mode by mode."""
    present, rows = results.present(("base", *arms), family), []
    reads = [*(field("benchmark", mode) for mode in MODES), mean_of_modes]
    for arm in present:
        pairs = gain = minutes = ""
        if arm != "base":
            pairs = f"{results.mean(arm, 'pairs', family):,.0f}"
            gain = results.gain(arm, mean_of_modes, family).text("+")
            minutes = f"{results.mean(arm, 'pairs_seconds', family) / 60:.1f} + "
        cells = [results.score(arm, read, family).text() for read in reads]
        minutes += f"{results.mean(arm, 'seconds', family) / 60:.1f}"
        rows.append([f"`{arm}`", pairs, *cells, gain, str(len(results.of(arm, family))), minutes])
    text = markdown(["arm", "pairs", *MODES, "mean", "minus base", "seeds", "minutes"], rows)
    if missing := [f"`{arm}`" for arm in arms if arm not in present]:
        text += f"\nNot run: {', '.join(missing)}.\n"
    return text


def percent(results, family, group, *arms):
    """A group of measurements, in percent: a line for each name in the group."""
    arms, rows = results.present(arms, family), []
    (row, *_) = results.of(arms[0], family).values()
    for name in row["exam"][group]:
        read = field(group, name)
        cells = [results.score(arm, read, family).text() for arm in arms]
        rows.append([name, *cells, results.gain(arms[-1], read, family, arms[0]).text("+")])
    return markdown(["", *(f"`{arm}`" for arm in arms), f"`{arms[-1]}` minus `{arms[0]}`"], rows)


def numbers(results, family, names, *arms):
    """Measurements that are not percentages. names: keys of NUMBERS, joined by commas."""
    arms, rows = results.present(arms, family), []
    for name in names.split(","):
        text, digits = NUMBERS[name]
        found = [results.score(arm, field(name), family, scale=1) for arm in arms]
        rows.append([text, *(x.text(digits=digits) for x in found)])
    return markdown(["", *(f"`{arm}`" for arm in arms)], rows)


def commands(results, arm):
    """The commands of an arm, of its first seed."""
    (row, *_) = results.of(arm).values()
    return "\n".join(["```", *row["commands"], "```\n"])


KINDS = {f.__name__: f for f in (claims, scores, percent, numbers, commands)}


def refreshed(text, results):
    def new(match):
        kind, *words = match[2].split()
        return f"{match[1]}\n{KINDS[kind](results, *words)}\n{match[3]}"

    return TABLE.sub(new, text)


def curves(results, path):
    """Draw the metrics of `videopasta` over the steps, the means over its seeds."""
    from pasta.tools import figures  # only now: matplotlib may be missing

    seeds = [row["curve"] for row in results.of("videopasta").values()]
    n = min(len(seed["step"]) for seed in seeds)  # seeds have different numbers of pairs
    rows = [{key: fmean(seed[key][i] for seed in seeds) for key in seeds[0]} for i in range(n)]
    figures.curves(rows, path)


def write():
    """Refresh PAGE and its picture in RESULTS."""
    results, text = Results(rows_of(RESULTS / "results.jsonl")), PAGE.read_text(encoding="utf-8")
    PAGE.write_text(refreshed(text, results), encoding="utf-8")
    print(f"wrote {PAGE}")
    if not find_spec("matplotlib"):
        return print("no picture drawn; to draw it: pip install -r requirements-dev.txt")
    curves(results, RESULTS / "figure4.png")


if __name__ == "__main__":
    with command_line():
        ArgumentParser("python -m pasta.study.page", description=__doc__).parse_args()
        write()
