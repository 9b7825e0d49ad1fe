"""docs/miniature.md and its pictures, from results.jsonl alone: nothing is run.

    python -m pasta.study.page

The page is the same for the same results, byte for byte. The pictures need matplotlib, which is in
requirements-dev.txt; without it the page is written and the pictures stay as they are.
"""

from argparse import ArgumentParser
from pathlib import Path

from pasta.pairs import MODES
from pasta.run.rows import rows_of
from pasta.study.claims import verdicts
from pasta.study.estimates import Results, mean_of_modes, mode_score
from pasta.study.sections import FACTORS, HEAD, NOTES, TABLES
from pasta.toy.captions import GENERAL

FORMS = ("lettered", "free")
EXAMINED = ("base", "sft", "generic", "mistaken", "rpo", "videopasta")  # more than on the benchmark
RESULTS, PAGE = Path("docs/miniature"), Path("docs/miniature.md")


def table(head, rows):
    """Markdown of a table: head and rows of texts."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def scores(results, arms, family="qwen"):
    """The table of some arms on the benchmark: mode by mode, the mean, and the gain."""
    there, rows = results.there(arms, family), []
    for arm in there:
        told = ["", "", ""]
        if arm != "base":
            gain = results.gain(arm, mean_of_modes, family).text("+")
            made = results.mean(arm, "pairs_seconds", family) / 60
            told = [f"{results.mean(arm, 'pairs', family):,.0f}", gain, f"{made:.1f} + "]
        cells = [results.score(arm, mode_score(mode), family).text() for mode in MODES]
        cells.append(results.score(arm, mean_of_modes, family).text())
        minutes = results.mean(arm, "seconds", family) / 60
        seeds = len(results.of(arm, family))
        rows.append([f"`{arm}`", told[0], *cells, told[1], str(seeds), f"{told[2]}{minutes:.1f}"])
    text = table(["arm", "pairs", *MODES, "mean", "minus base", "seeds", "minutes"], rows)
    missing = ", ".join(f"`{arm}`" for arm in arms if arm not in there)
    return text + (f"\nNot run: {missing}.\n" if missing else "")


def by_name(results, arms, group, names, family="qwen"):
    """A table of one group of the exam's numbers, in percent: a line for each name."""
    arms, rows = results.there(arms, family), []
    for name in names:

        def read(exam, name=name):
            return exam[group][name]

        cells = [results.score(arm, read, family).text() for arm in arms]
        rows.append([name, *cells, results.gain(arms[-1], read, family, arms[0]).text("+")])
    return table(["", *(f"`{arm}`" for arm in arms), "last minus first"], rows)


def forms(results, arms, form):
    """One half of the benchmark: asked behind letters, or freely."""
    return by_name(results, ("base", *arms), form, MODES)


def adversarial(results):
    """Table 6: by mode and kind."""
    names = [f"{mode} {kind}" for mode in MODES for kind in ("question", "options")]
    return by_name(results, EXAMINED, "adversarial", names)


def side_effects(results, family):
    """General questions; and length, calibration and KL, which are no percentages."""
    numbers = (("denied", "probability of denying", 3),
               ("presence_sight", "presence: sight, nats", 2),
               ("presence_habit", "presence: habit of \"yes\", nats", 2),
               ("words", "words of an answer", 2), ("kl", "KL, nats an answer", 2),
               ("calibration", "expected calibration error", 2))  # fmt: skip
    text = by_name(results, EXAMINED, "general", GENERAL, family)
    return f"{text}\n{no_percentages(results, numbers, family)}"


def no_percentages(results, numbers, family="qwen"):
    """A table of numbers of the exam as they are.

    numbers: (name in the exam, what it is, digits) each
    """
    arms, rows = results.there(EXAMINED, family), []
    for name, what, digits in numbers:

        def read(exam, name=name):
            return exam[name] / 100

        means = [results.score(arm, read, family) for arm in arms]
        rows.append([what, *(x.text(digits=digits) for x in means)])
    return table(["", *(f"`{arm}`" for arm in arms)], rows)


def controls(results):
    """The arm of shuffled videos, and the benchmark in black."""
    arms = ("base", "shuffled", "videopasta")
    return scores(results, arms) + "\nBlack frames:\n\n" + by_name(results, arms, "blind", MODES)


def commands(results):
    """The commands of the arm `videopasta` of the first seed, and what the others change."""
    row = next(iter(results.of("videopasta").values()))
    return "```\n" + "\n".join(row["commands"]) + "\n```\n"


def page(results):
    """The whole text of docs/miniature.md."""
    parts = [HEAD, table(["claim", "in miniature", "points"], verdicts(results))]
    for title, text, picture, family, arms in TABLES:
        parts += [f"## {title}\n", text, scores(results, ("base", *arms), family)]
        parts += [image(picture)] * bool(results.there(arms, family))
        if picture == "table1":
            parts += [f"The same {form}:\n\n{forms(results, arms, form)}" for form in FORMS]
    parts += ["## Table 6: adversarial QA\n", NOTES["adversarial"], adversarial(results)]
    parts += ["## Figure 4: rewards over the steps\n", NOTES["curve"], image("figure4")]
    parts.append("## What each choice is worth\n\n" + NOTES["factors"])
    for title, text, arms in FACTORS:
        parts += [f"### {title}\n\n{text.rstrip()}\n", scores(results, ("base", *arms))]
        parts.append(image(picture_name(title)))
    causes = (("sight", "sight, nats", 2), ("habit", "habit, nats", 2))
    parts += ["## Sight and habit\n", NOTES["causes"], no_percentages(results, causes)]
    parts += ["## Side effects\n", NOTES["side effects"], side_effects(results, "qwen")]
    if results.there(EXAMINED, "onevision"):
        parts += ["The same of the tiny LLaVA-OneVision:\n", side_effects(results, "onevision")]
    parts += ["## Controls\n", NOTES["controls"], controls(results)]
    parts += ["## Commands\n", NOTES["commands"], commands(results)]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def picture_name(title):
    """The name of the picture of a section about one factor."""
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def image(name):
    return f"![{name}](miniature/{name}.png)\n"


def write(folder=RESULTS, target=PAGE):
    """Write the page and, if matplotlib is there, its pictures."""
    results = Results(rows_of(folder / "results.jsonl"))
    target.write_text(page(results), encoding="utf-8")
    print(f"wrote {target}")
    try:
        from pasta.study import pictures
    except ModuleNotFoundError as error:
        return print(f"no pictures: {error}; first: pip install -r requirements-dev.txt")
    for title, _, name, family, arms in TABLES:
        if results.there(arms, family):
            pictures.gains(results, arms, family, title, folder / f"{name}.png")
    for title, _, arms in FACTORS:
        pictures.gains(results, arms, "qwen", title, folder / f"{picture_name(title)}.png")
    pictures.curves(results, folder / "figure4.png")


if __name__ == "__main__":
    told = "Write docs/miniature.md and its pictures."
    ArgumentParser("python -m pasta.study.page", description=told).parse_args()
    write()
