"""The plots of reports and of the study, with matplotlib (requirements-dev.txt)."""

from io import BytesIO
from itertools import cycle

import matplotlib
import numpy as np

from pasta.pairs import GROUPS

matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402 (after choosing a backend without a window)

PALETTE = ("#4477aa", "#ccbb44", "#228833", "#aa3377", "#66ccee", "#ee8866")
COLOURS = dict(zip(GROUPS, cycle(PALETTE), strict=False)) | {"mean": "#333333"}
DASHES = dict(zip(GROUPS, cycle(("--", "-.", ":")), strict=False))
SIDES = {"chosen": "#228833", "rejected": "#cc3311"}
TITLES = ("loss, nats", "rewards", "margins: chosen reward minus rejected",
          "accuracies: share of margins above 0")  # fmt: skip


def curves(rows, path):
    """Loss, rewards, margins and accuracies over the steps, of all pairs and of each mode.

    rows: of metrics.jsonl. Lines: single updates, and running means. Dots: held-out pairs.
    """
    figure, panels = pyplot.subplots(2, 2, figsize=(10, 6.4), layout="constrained", sharex=True)
    loss, rewards, margins, accuracies = panels.flat
    modes = {f"/{mode}": (mode, COLOURS[mode]) for mode in GROUPS} | {"": ("all", COLOURS["mean"])}
    by_mode = {"loss": loss, "rewards/margins": margins, "rewards/accuracies": accuracies}
    for key, axes in by_mode.items():
        for end, (name, colour) in modes.items():
            line(axes, rows, key + end, name, colour)
    for side, colour in SIDES.items():
        line(rewards, rows, f"rewards/{side}", side, colour)
    window = len(rows) // 20 * 2 + 1  # about a tenth of the updates, and odd, as in `line`
    figure.suptitle(f"thin: each update; thick: mean of {window}; dots: held out", fontsize=9)
    for axes, title in zip(panels.flat, TITLES, strict=True):
        axes.set_title(title, fontsize=10)
    for axes in (rewards, accuracies):
        if any("eval/loss" in row for row in rows):
            axes.plot([], [], "o--", color="#999999", markersize=4, linewidth=0.9, label="held out")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    for axes in panels[1]:
        axes.set_xlabel("step")
    save(figure, path)


def line(axes, rows, key, label, colour):
    """One quantity over the steps. Rows without it are left out: an update may lack a mode."""
    half, (x, y) = len(rows) // 20, series(rows, key)
    dash = DASHES.get(label, "-")  # modes must not differ by colour alone
    axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.7, zorder=1, marker="." * (len(y) == 1))
    if len(y):  # a centred mean: a mean of the last updates would lag the held-out dots
        means = [y[max(0, i - half) : i + half + 1].mean() for i in range(len(y))]
        axes.plot(x, means, dash, color=colour, linewidth=1.8, label=label)
    axes.plot(*series(rows, f"eval/{key}"), "o--", color=colour, markersize=4, linewidth=0.9)


def scatter(panels, path):
    """Up to three panels a row: (title, x label, y label, [(name, points (x, y), style), ...])."""
    n, m = -(-len(panels) // 3), min(3, len(panels))
    how = {"figsize": (4.2 * m + 2, 3.6 * n + 0.6), "layout": "constrained", "squeeze": False}
    figure, grid = pyplot.subplots(n, m, **how)
    for axes, (title, x, y, series) in zip(grid.flat, panels, strict=True):
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.axhline(0, color="#999999", linewidth=0.7)
        for name, points, style in series:
            axes.plot(*zip(*points, strict=True), style, label=name, markersize=5, linewidth=0.9)
            if name and len(points) == 1:  # named beside it
                axes.annotate(name, points[0], (4, 3), textcoords="offset points", fontsize=7)
        if all(len(points) > 1 for _, points, _ in series):
            axes.legend(fontsize=8)
    save(figure, path)


def series(rows, key):
    """(steps, values) of the rows that have the key."""
    return np.array([(row["step"], row[key]) for row in rows if key in row]).reshape(-1, 2).T


def jpeg(picture):
    """Bytes of an (H, W, 3) uint8 picture as JPEG."""
    pyplot.imsave(file := BytesIO(), picture, format="jpeg", pil_kwargs={"quality": 80})
    return file.getvalue()


def save(figure, path):
    """Write a PNG that is the same for the same numbers: without the date and the version."""
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
