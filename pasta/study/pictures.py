"""The pictures of docs/miniature.md; with matplotlib, which is in requirements-dev.txt."""

from statistics import fmean

from pasta.pairs import MODES
from pasta.study.estimates import mean_of_modes, mode_score
from pasta.tools.figures import COLOURS, pyplot, save


def gains(results, arms, family, title, path):
    """Points over the base with 95 % intervals: of each arm the three modes and their mean."""
    arms = results.there(arms, family)
    figure, axes = pyplot.subplots(figsize=(7, 0.8 + 0.62 * len(arms)), layout="constrained")
    reads = {mode: mode_score(mode) for mode in MODES} | {"mean": mean_of_modes}
    for i, (name, read) in enumerate(reads.items()):
        found = [results.gain(arm, read, family) for arm in arms]
        places = [at + 0.18 * (i - 1.5) for at in range(len(arms))]
        axes.errorbar(
            [x.mean for x in found],
            places,
            xerr=[x.half if len(x.values) > 1 else 0 for x in found],
            fmt="o" if name == "mean" else ".",
            color=COLOURS[name],
            label=name,
        )
    axes.axvline(0, color="#999999", linewidth=0.8)
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    axes.set_xlabel("points over the base")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    save(figure, path)


def curves(results, path):
    """Rewards and their accuracy over the steps, thin for each seed, thick for their mean."""
    rows = [row["curve"] for row in results.of("videopasta").values()]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    lines = (("rewards/chosen", left, "#228833"), ("rewards/rejected", left, "#cc3311"),
             ("rewards/accuracies", right, "#333333"))  # fmt: skip
    for name, axes, colour in lines:
        for row in rows:
            axes.plot(row["step"], row[name], color=colour, alpha=0.3, linewidth=0.7)
        n = min(len(row["step"]) for row in rows)
        means = [fmean(row[name][i] for row in rows) for i in range(n)]
        axes.plot(rows[0]["step"][:n], means, color=colour, label=name)
        axes.set_xlabel("step")
        axes.legend(fontsize=8)
    save(figure, path)
