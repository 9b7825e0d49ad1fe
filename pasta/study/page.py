"""Refreshes the tables and pictures of docs/miniature.md from results.jsonl. Nothing is trained.

KIND(results, *WORDS) makes the text between `<!-- table: KIND WORDS -->` and `<!-- end -->`.
"""

import re
from argparse import ArgumentParser
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import fmean

from pasta.run.command import command_line
from pasta.run.rows import rows_of
from pasta.study.arms import ARMS, MAIN, OURS, RULES
from pasta.study.claims import Results, field, mean_of_modes, refusals, verdicts
from pasta.toy.captions import GENERAL
from pasta.toy.world import MODES

RESULTS, PAGE = Path("docs/miniature"), Path("docs/miniature.md")
TABLE = re.compile(r"(<!-- table: (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)
EFFECTS = {  # what no pair is about
    "false premises": lambda measured: refusals(measured, "question"),
    **{kind: field("general", kind) for kind in GENERAL},
}
DIGITS = {"nats": 2, "presence_nats": 2, "denying": 3}  # of groups that are not percentages


def markdown(head, rows):
    return "".join(f"| {' | '.join(x)} |\n" for x in (head, ["---"] * len(head), *rows))


def claims(results):
    head = ["claim", "in miniature", "percentage points [95 % interval]"]
    return markdown(head, verdicts(results))


def scores(results, family, *arms):
    """Scores of the base and some arms on the benchmark, mode by mode."""
    rows = []
    for arm in ("base", *arms):
        pairs = gain = ""
        if arm != "base":
            pairs = f"{fmean(row['pairs'] for row in results.of(arm, family).values()):,.0f}"
            gain = results.gain(arm, mean_of_modes, family).text("+")
        reads = [*(field("benchmark", mode) for mode in MODES), mean_of_modes]
        cells = [results.score(arm, read, family).text() for read in reads]
        rows.append([f"`{arm}`", pairs, *cells, gain, str(len(results.of(arm, family)))])
    return markdown(["arm", "pairs", *MODES, "mean", "minus base", "seeds"], rows)


def group(results, family, name, base, *arms):
    """A group of measurements, a line for each: those of a base, and differences from it."""
    rows, (row, *_) = [], results.of(base, family).values()
    scale, digits = (1, DIGITS[name]) if name in DIGITS else (100, 1)
    for key in row["measured"][name]:
        read = field(name, key)
        gains = [results.gain(arm, read, family, base, scale).text("+", digits) for arm in arms]
        rows.append([key, results.score(base, read, family, scale).text("", digits), *gains])
    return markdown(["", f"`{base}`", *(f"`{arm}` minus `{base}`" for arm in arms)], rows)


def commands(results, arm):
    """The commands of an arm, of its first seed."""
    (row, *_) = results.of(arm).values()
    return "\n".join(["```", *row["commands"], "```\n"])


KINDS = {f.__name__: f for f in (claims, scores, group, commands)}


def refreshed(text, results):
    def new(match):
        kind, *words = match[2].split()
        return f"{match[1]}\n{KINDS[kind](results, *words)}\n{match[3]}"

    return TABLE.sub(new, text)


def curves(results):
    """The metrics of `videopasta` over the steps, the means over its seeds, for Figure 4."""
    seeds = [row["curve"] for row in results.of("videopasta").values()]
    n = min(len(seed["step"]) for seed in seeds)  # seeds have different numbers of pairs
    rows = [{key: fmean(seed[key][i] for seed in seeds) for key in seeds[0]} for i in range(n)]
    return [x | {"rewards/margins": x["rewards/chosen"] - x["rewards/rejected"]} for x in rows]


def worth(results):
    """A panel: the gain of each rule against the share of right r+, a point for each seed."""
    series = {(rule, how): [] for rule in RULES for how in ("r+ of the model", "more truth")}
    for family, arm in sorted(results.rows):
        rule, truth, p = arm.partition("_true")
        if rule in RULES and family.startswith("qwen"):
            paper = results.of(f"paper{truth}{p}", family)  # its chosen responses are r+
            points = series[rule, "more truth" if truth else "r+ of the model"]
            seeds, gains = results.of(arm, family), results.gain(arm, family=family).values
            found = zip(seeds, gains, strict=True)
            points += [(100 * paper[seed]["right"], gain) for seed, gain in found if seed in paper]
    styles = ("C0o", "C0^", "C3o", "C3^", "C2o", "C2^")
    found = zip(map(", ".join, series), series.values(), styles, strict=True)
    return [("", "right r+, percent", "gain, points", [*found])]


def losses(results):
    """Panels: the gain of fully measured arms against EFFECTS. A line joins OURS: more SFT."""
    panels = []
    for family, (name, read) in product(("qwen", "onevision"), EFFECTS.items()):
        rows = {arm: results.of(arm, family).values() for arm in ("base", *ARMS)}
        arms = [x for x, of in rows.items() if of and all("general" in r["measured"] for r in of)]
        seeds = results.of("rpo1", family) or results.of("rpo5", family)  # with all of the line
        own = [r for of in results.rows.values() for r in of.values() if r["seed"] in seeds]
        of, points = {arm: Results(own) if arm in OURS else results for arm in arms}, {}
        for arm in arms:
            points[arm] = [of[arm].gain(arm, x, family).mean for x in (read, mean_of_modes)]
        series = [(arm, [points[arm]], "C3o") for arm in arms if arm in (*MAIN, *OURS)]
        series += [("", [points[arm]], "k.") for arm in arms if arm not in (*MAIN, *OURS)]
        series.append(("", [points[arm] for arm in OURS if arm in arms], "C0-"))
        panels.append((family, f"{name}: change, points", "gain, points", series))
    return panels


def write():
    """Refresh PAGE and its pictures in RESULTS."""
    results, text = Results(rows_of(RESULTS / "results.jsonl")), PAGE.read_text(encoding="utf-8")
    PAGE.write_text(refreshed(text, results), encoding="utf-8")
    print(f"wrote {PAGE}")
    if not find_spec("matplotlib"):
        return print("no picture drawn; to draw it: pip install -r requirements-dev.txt")
    from pasta.tools import figures  # only now: it needs matplotlib

    figures.curves(curves(results), RESULTS / "figure4.png")
    figures.scatter(worth(results), RESULTS / "worth.png")
    figures.scatter(losses(results), RESULTS / "losses.png")


if __name__ == "__main__":
    with command_line():
        ArgumentParser("python -m pasta.study.page", description=__doc__).parse_args()
        write()
