"""The drawn pictures of a report; with matplotlib, which is in requirements-dev.txt."""

import matplotlib
import numpy as np

from pasta.pairs import MODES
from pasta.tools.report_page import COLOURS

matplotlib.use("agg")
matplotlib.rcParams["text.parse_math"] = False  # a dollar in a name is a dollar
from matplotlib import pyplot  # noqa: E402 (after the choice of a backend without a window)

SIDES = {"chosen": "#228833", "rejected": "#cc3311"}
OUTSIDE = {"fontsize": 8, "loc": "upper left", "bbox_to_anchor": (1.01, 1)}
REASONS = [pyplot.get_cmap("tab20").colors[i] for i in (*range(1, 20, 2), *range(0, 20, 2))]


def audit(report, path):
    """Bars of each mode: the pairs kept, then those dropped, by reason.

    report: of audit.py. The three wordings of "no contradiction about ..." are one reason.
    """
    dropped = {mode: {} for mode in report}
    for mode, row in report.items():
        for reason, n in row["dropped"].items():
            short = reason.partition(" about ")[0]
            dropped[mode][short] = dropped[mode].get(short, 0) + n
    totals = {}
    for of_mode in dropped.values():
        for reason, n in of_mode.items():
            totals[reason] = totals.get(reason, 0) + n
    reasons = sorted(totals, key=lambda reason: -totals[reason])
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.6 * len(report)), layout="constrained")
    kept = np.array([row["kept"] for row in report.values()])
    names = [f"{mode}\n{n} kept" for mode, n in zip(report, kept, strict=True)]
    axes.barh(names, kept, color=[COLOURS[mode] for mode in report], height=0.7)
    left = kept
    for i, reason in enumerate(reasons):
        n = np.array([dropped[mode].get(reason, 0) for mode in report])
        colour, label = REASONS[i % len(REASONS)], f"{reason}: {n.sum()}"
        axes.barh(names, n, left=left, height=0.7, color=colour, label=label)
        left = left + n
    axes.invert_yaxis()
    axes.set_xlim(0, max(1, *left))
    axes.set_xlabel("candidate pairs")
    axes.set_title("pairs of each mode: kept, and dropped by reason", fontsize=10)
    if reasons:
        axes.legend(title="dropped, all modes together", title_fontsize=8, **OUTSIDE)
    save(figure, path)


def curves(rows, path):
    """Loss, rewards, margins and accuracies over the steps, in all and of each mode.

    rows: of metrics.jsonl. Thin lines are single updates, thick ones running means, and dots the
    held-out pairs.
    """
    figure, panels = pyplot.subplots(2, 2, figsize=(10, 6.4), layout="constrained", sharex=True)
    loss, rewards, margins, accuracies = panels.flat
    modes = {f"/{mode}": (mode, COLOURS[mode]) for mode in MODES} | {"": ("all", COLOURS["mean"])}
    for axes, key in (
        (loss, "loss"), (margins, "rewards/margins"), (accuracies, "rewards/accuracies")
    ):  # fmt: skip
        for end, (name, colour) in modes.items():
            line(axes, rows, key + end, name, colour)
    for side, colour in SIDES.items():
        line(rewards, rows, f"rewards/{side}", side, colour)
    told = f"thin: each update; thick: mean of {window_of(rows)}; dots: held out"
    figure.suptitle(told, fontsize=9)
    loss.set_title("loss, nats", fontsize=10)
    rewards.set_title("rewards", fontsize=10)
    margins.set_title("margins: chosen reward minus rejected", fontsize=10)
    accuracies.set_title("accuracies: share of margins above 0", fontsize=10)
    for axes in (rewards, accuracies):
        if any("eval/loss" in row for row in rows):
            axes.plot([], [], "o--", color="#999999", markersize=4, linewidth=0.9, label="held out")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(**OUTSIDE)
    for axes in panels[1]:
        axes.set_xlabel("step")
    save(figure, path)


def line(axes, rows, key, label, colour):
    """One quantity over the steps; rows without it are left out, for an update may lack a mode."""
    half, (x, y) = window_of(rows) // 2, series(rows, key)
    axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.7, zorder=1, marker="." * (len(y) == 1))
    if len(y):  # around each update, for a mean of the last ones would lag behind the held-out
        means = [y[max(0, i - half) : i + half + 1].mean() for i in range(len(y))]
        axes.plot(x, means, color=colour, linewidth=1.8, label=label)
    x, y = series(rows, f"eval/{key}")
    axes.plot(x, y, "o--", color=colour, markersize=4, linewidth=0.9)


def window_of(rows):
    """How many updates a running mean is over: about a tenth of them, and odd."""
    return len(rows) // 20 * 2 + 1


def series(rows, key):
    """(steps, values) of the rows that have the key."""
    found = [(row["step"], row[key]) for row in rows if key in row]
    return np.array(found).reshape(-1, 2).T


def attention(names, lengths, starts, seen, scored, path):
    """The pattern of a pack: dark where the row's token sees the column's.

    names, lengths: of each piece, the prefix first. starts, seen, scored: of report_attention.
    """
    inches = min(8, 3 + len(seen) / 22)
    figure, (axes, side) = pyplot.subplots(
        1, 2, figsize=(inches + 3, inches), layout="constrained", width_ratios=[40, 1], sharey=True
    )
    image = np.ones((*seen.shape, 3))
    for name, first, end in zip(names, starts, starts[1:], strict=False):
        hue = [colour for word, colour in SIDES.items() if word in name] or ["#4477aa"]
        colour = np.array(matplotlib.colors.to_rgb(hue[0] if len(hue) == 1 else "#aa3377"))
        image[first:end] -= seen[first:end, :, None] * (1 - colour)
    plain = {"interpolation": "nearest", "aspect": "auto"}
    axes.imshow(image, **plain)
    side.imshow(scored[:, None], cmap="Greys", vmin=0, vmax=1, **plain)
    side.set_xticks([0], ["scored"], rotation=90, fontsize=8)
    for edge in starts[1:-1]:
        axes.axhline(edge - 0.5, color="#999999", linewidth=0.6)
        axes.axvline(edge - 0.5, color="#999999", linewidth=0.6)
        side.axhline(edge - 0.5, color="#999999", linewidth=0.6)
    middles = [(a + b - 1) / 2 for a, b in zip(starts, starts[1:], strict=False)]
    cells = np.diff(starts)
    steps = [-(-n // int(c)) for n, c in zip(lengths, cells, strict=True)]
    told = [f"{n} tokens" + f", {k} a cell" * (k > 1) for n, k in zip(lengths, steps, strict=True)]
    labels = [f"{name}\n{n}" for name, n in zip(names, told, strict=True)]
    axes.set_yticks(middles, labels, fontsize=8)
    axes.set_xticks(middles, names, fontsize=8, rotation=30, ha="right")
    axes.set_ylabel("the token that looks")
    axes.set_xlabel("the token that is seen")
    axes.set_title("shared-prefix attention: each segment sees the prefix and itself", fontsize=10)
    save(figure, path)


def scores(runs, differences, path):
    """Left the scores of each run, right what it is better by than the base, both by task.

    runs: {name: summary}, the base first. differences: {name: comparison}.
    """
    base, *others = runs
    tasks = [*runs[base]["groups"], *["mean"] * bool(runs[base]["mean"])]
    size = (10, 1.4 + 0.35 * len(tasks) + 0.12 * len(tasks) * len(others))
    figure, panels = pyplot.subplots(
        1, 1 + bool(differences), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    left, right = panels[0, 0], panels[0, -1]
    colours = ["#999999", "#aa3377", "#4477aa", "#228833", "#cc3311"]
    for i, (name, run) in enumerate(runs.items()):
        places = np.arange(len(tasks)) + 0.2 * (i - (len(runs) - 1) / 2)
        colour = colours[min(i, 4)]
        intervals(left, run, tasks, places, colour, name)
        if name in differences:
            intervals(right, differences[name], tasks, places, colour, name)
    left.set_yticks(range(len(tasks)), tasks)
    left.set_ylim(len(tasks) - 0.4, -0.6)
    left.set_title("score", fontsize=10)
    left.set_xlabel("percent")
    if differences:
        right.axvline(0, color="#999999", linewidth=0.8)
        right.set_title("minus the base, paired", fontsize=10)
        right.set_xlabel("points")
    handles, labels = left.get_legend_handles_labels()
    right.legend(handles, labels, **OUTSIDE)
    save(figure, path)


def intervals(axes, numbers, tasks, places, colour, label):
    """A dot with its 95 % interval for each task."""
    found = numbers["groups"] | {"mean": numbers["mean"]}
    rows = np.array([[found[task][key] for key in ("value", "low", "high")] for task in tasks])
    value, low, high = rows.T
    spread = [np.maximum(value - low, 0), np.maximum(high - value, 0)]
    axes.errorbar(value, places, xerr=spread, fmt="o", markersize=4, color=colour, label=label)


def save(figure, path):
    """Write a picture that is the same for the same numbers: without the date and the version."""
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
