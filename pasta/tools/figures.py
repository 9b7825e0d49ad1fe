"""The plots of reports and of the study, with matplotlib (requirements-dev.txt)."""

from itertools import cycle

import matplotlib
import numpy as np

from pasta.attention import dense_mask
from pasta.pairs import MODES

matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402 (after choosing a backend without a window)

PALETTE = ("#4477aa", "#ccbb44", "#228833", "#aa3377", "#66ccee", "#ee8866")
COLOURS = dict(zip(MODES, cycle(PALETTE), strict=False)) | {"mean": "#333333"}
SIDES = {"chosen": "#228833", "rejected": "#cc3311"}
TITLES = ("loss, nats", "rewards", "margins: chosen reward minus rejected",
          "accuracies: share of margins above 0")  # fmt: skip
CELLS = 48  # of a piece at most: a prefix may have thousands of tokens


def curves(rows, path):
    """Loss, rewards, margins and accuracies over the steps, of all pairs and of each mode.

    rows: of metrics.jsonl. Thin lines: single updates. Thick lines: running means. Dots: held-out
    pairs.
    """
    figure, panels = pyplot.subplots(2, 2, figsize=(10, 6.4), layout="constrained", sharex=True)
    loss, rewards, margins, accuracies = panels.flat
    modes = {f"/{mode}": (mode, COLOURS[mode]) for mode in MODES} | {"": ("all", COLOURS["mean"])}
    by_mode = {"loss": loss, "rewards/margins": margins, "rewards/accuracies": accuracies}
    for key, axes in by_mode.items():
        for end, (name, colour) in modes.items():
            line(axes, rows, key + end, name, colour)
    for side, colour in SIDES.items():
        line(rewards, rows, f"rewards/{side}", side, colour)
    text = f"thin: each update; thick: mean of {window_of(rows)}; dots: held out"
    figure.suptitle(text, fontsize=9)
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
    half, (x, y) = window_of(rows) // 2, series(rows, key)
    axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.7, zorder=1, marker="." * (len(y) == 1))
    if len(y):  # a centred mean: a mean of the last updates would lag the held-out dots
        means = [y[max(0, i - half) : i + half + 1].mean() for i in range(len(y))]
        axes.plot(x, means, color=colour, linewidth=1.8, label=label)
    axes.plot(*series(rows, f"eval/{key}"), "o--", color=colour, markersize=4, linewidth=0.9)


def window_of(rows):
    return len(rows) // 20 * 2 + 1  # about a tenth of the updates, and odd


def series(rows, key):
    """(steps, values) of the rows that have the key."""
    found = [(row["step"], row[key]) for row in rows if key in row]
    return np.array(found).reshape(-1, 2).T


def cells(lengths, keep):
    """The pattern of `dense_mask`, each piece drawn with at most CELLS cells: C cells in all.

    lengths: (P, n_0, n_1, ...). keep: the positions that predict response tokens.
    Returns starts, the first cell of each piece, and C at the end; seen, (C, C) bool; scored,
    (C,) bool, whether a token of the cell predicts.
    """
    counts = np.minimum(lengths, CELLS)
    starts = np.cumsum([0, *counts])
    pieces = zip(lengths, counts, starts, strict=False)
    cell = np.concatenate([start + np.arange(n) * count // n for n, count, start in pieces])
    scored = np.zeros(starts[-1], bool)
    scored[cell[keep]] = True
    return starts, dense_mask(counts.tolist())[0, 0].numpy(), scored


def attention(names, lengths, keep, path):
    """Which tokens of a pack see which: coloured where the row's token sees the column's.

    names: of the pieces, the prefix first, then such as "chosen 1". lengths, keep: as in `cells`.
    """
    starts, seen, scored = cells(lengths, keep)
    inches = min(8, 3 + len(seen) / 22)
    figure, (axes, side) = pyplot.subplots(
        1, 2, figsize=(inches + 3, inches), layout="constrained", width_ratios=[40, 1], sharey=True
    )
    image = np.ones((*seen.shape, 3))
    for name, first, end in zip(names, starts, starts[1:], strict=False):
        colour = matplotlib.colors.to_rgb(SIDES.get(name.split()[0], COLOURS["spatial"]))
        image[first:end] -= seen[first:end, :, None] * (1 - np.array(colour))
    options = {"interpolation": "nearest", "aspect": "auto"}
    axes.imshow(image, **options)
    side.imshow(scored[:, None], cmap="Greys", vmin=0, vmax=1, **options)
    side.set_xticks([0], ["scored"], rotation=90, fontsize=8)
    for edge in starts[1:-1] - 0.5:
        for draw in (axes.axhline, axes.axvline, side.axhline):
            draw(edge, color="#999999", linewidth=0.6)
    middles = (starts[:-1] + starts[1:] - 1) / 2
    labels = [f"{name}\n{n} tokens" for name, n in zip(names, lengths, strict=True)]
    axes.set_yticks(middles, labels, fontsize=8)
    axes.set_xticks(middles, names, fontsize=8, rotation=30, ha="right")
    axes.set_ylabel("attending token")
    axes.set_xlabel("attended token")
    axes.set_title("shared-prefix attention: each segment sees the prefix and itself", fontsize=10)
    save(figure, path)


def save(figure, path):
    """Write a PNG that is the same for the same numbers: without the date and the version."""
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
