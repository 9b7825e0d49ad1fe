"""Refreshes the tables and pictures of docs/miniature.md from results.jsonl. Nothing is trained.

    python -m pasta.study.page

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
POINTS = "percentage points [95 % interval]"
TABLE = re.compile(r"(<!-- table: (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)
NUMBERS = {  # key of the measurements (see measure.py): what it is, digits
    "sight": ("evidence, nats", 2),
    "habit": ("prior, nats", 2),
    "denied": ("probability of denying", 3),
    "presence_sight": ("presence: evidence, nats", 2),
    "presence_habit": ('presence: prior of "yes", nats', 2),
    "words": ("words per answer", 2),
    "kl": ("KL to the base, nats per answer", 2),
    "calibration": ("calibration error (ECE) of choosing between two options", 2),
}


def markdown(head, rows):
    """A Markdown table of texts."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def claims(results):
    return markdown(["claim", "in miniature", POINTS], verdicts(results))


def scores(results, family, picture, *arms):
    """Scores of the base and some arms on the benchmark, mode by mode, and their picture."""
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
    if picture != "-" and set(present) & set(arms):
        text += f"\n![{picture}](miniature/{picture}.png)\n"
    return text


def percent(results, family, group, *arms):
    """A group of measurements, in percent: a line for each name in the group."""
    arms, rows = results.present(arms, family), []
    (row, *_) = results.of(arms[0], family).values()
    for name in row["exam"][group]:
        read = field(group, name)
        cells = [results.score(arm, read, family).text() for arm in arms]
        rows.append([name, *cells, results.gain(arms[-1], read, family, arms[0]).text("+")])
    difference = f"`{arms[-1]}` minus `{arms[0]}`"
    return markdown(["", *(f"`{arm}`" for arm in arms), difference], rows)


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


def table(results, mark):
    kind, *words = mark.split()
    return KINDS[kind](results, *words)


def refreshed(text, results):
    """A page with new text between its marks."""
    return TABLE.sub(lambda match: f"{match[1]}\n{table(results, match[2])}\n{match[3]}", text)


def marks(text):
    """Yield (heading, mark) of each mark of a page."""
    heading = ""
    for title, mark in re.findall(r"^(#+ .*)$|<!-- table: (.*?) -->", text, re.MULTILINE):
        heading = title or heading
        if mark:
            yield heading, mark


def tables_only(text, results):
    """The headings and tables of a page, without tables of arms that have no results."""
    parts = {}  # heading -> its tables
    for heading, mark in marks(text):
        kind, family, *words = f"{mark} ".split(" ")
        compared = {*results.present(words, family)} - {"base", "videopasta"}
        if kind in ("claims", "commands") or compared:
            parts.setdefault(f"{heading}\n", []).append(table(results, mark))
    return "\n".join(text for heading, tables in parts.items() for text in (heading, *tables))


def gains(results, title, folder, family, picture, *arms):
    """Draw the gains over the base with 95 % intervals: the three modes and the mean."""
    from pasta.tools.figures import COLOURS, pyplot, save  # only now: matplotlib may be missing

    arms = results.present(arms, family)
    if picture == "-" or not arms:
        return
    figure, axes = pyplot.subplots(figsize=(7, 0.8 + 0.62 * len(arms)), layout="constrained")
    reads = {mode: field("benchmark", mode) for mode in MODES} | {"mean": mean_of_modes}
    for i, (name, read) in enumerate(reads.items()):
        found = [results.gain(arm, read, family) for arm in arms]
        heights = [at + 0.18 * (i - 1.5) for at in range(len(arms))]
        halves = [x.half if len(x.values) > 1 else 0 for x in found]
        style = {"fmt": "o" if name == "mean" else ".", "color": COLOURS[name], "label": name}
        axes.errorbar([x.mean for x in found], heights, xerr=halves, **style)
    axes.axvline(0, color="#999999", linewidth=0.8)
    axes.set(yticks=range(len(arms)), yticklabels=arms, xlabel="points over the base")
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    save(figure, folder / f"{picture}.png")


def curves(results, path):
    """Draw the rewards and their accuracy over the steps: each seed thin, the mean thick."""
    from pasta.tools.figures import COLOURS, SIDES, pyplot, save

    rows = [row["curve"] for row in results.of("videopasta").values()]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    lines = [(f"rewards/{side}", left, colour) for side, colour in SIDES.items()]
    for name, axes, colour in (*lines, ("rewards/accuracies", right, COLOURS["mean"])):
        for row in rows:
            axes.plot(row["step"], row[name], color=colour, alpha=0.3, linewidth=0.7)
        # zip stops at the shortest: seeds have different numbers of pairs, and so of steps.
        means = [fmean(values) for values in zip(*(row[name] for row in rows), strict=False)]
        axes.plot(rows[0]["step"][: len(means)], means, color=colour, label=name)
        axes.set_xlabel("step")
        axes.legend(fontsize=8)
    save(figure, path)


def write(results_file=RESULTS / "results.jsonl", target=PAGE):
    """Refresh PAGE; other targets get headings and tables with results. Pictures go next to it."""
    results, text = Results(rows_of(results_file)), PAGE.read_text(encoding="utf-8")
    text_of = refreshed if target == PAGE else tables_only
    target.write_text(text_of(text, results), encoding="utf-8")
    print(f"wrote {target}")
    if not find_spec("matplotlib"):
        return print("no pictures drawn; to draw them: pip install -r requirements-dev.txt")
    folder = target.with_suffix("")
    folder.mkdir(exist_ok=True)
    for heading, mark in marks(text):
        kind, *words = mark.split()
        if kind == "scores":
            gains(results, heading.lstrip("# "), folder, *words)
    curves(results, folder / "figure4.png")


if __name__ == "__main__":
    with command_line():
        message = "Refresh the tables and pictures of docs/miniature.md."
        ArgumentParser("python -m pasta.study.page", description=message).parse_args()
        write()
