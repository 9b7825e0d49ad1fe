"""The learning rate over a run, and the line that a training step prints."""

import math

from pasta.pairs import MODES


def learning_rate(step, n_steps, peak, warmup):
    """The rate of one step: a linear rise to `peak`, then half a cosine towards 0.

    step: 1..n_steps. warmup: share of the steps in which it rises, at least one of them.
    The first step is above 0 and so is the last, for a step at rate 0 would be wasted.
    """
    n_warm = max(1, round(warmup * n_steps))
    if step <= n_warm:
        return peak * step / n_warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - n_warm) / (n_steps - n_warm + 1)))


def log_line(metrics, n_steps):
    """One aligned line of the numbers that are also a row of metrics.jsonl."""
    modes = " ".join(
        f"{mode} {metrics[f'loss/{mode}']:.3f}" if f"loss/{mode}" in metrics else f"{mode}     -"
        for mode in MODES
    )
    minutes = (n_steps - metrics["step"]) * metrics["seconds"] / 60
    return (
        f"step {metrics['step']:>5}/{n_steps}  loss {metrics['loss']:.4f}  "
        f"margin {metrics['rewards/margins']:+7.3f}  acc {metrics['rewards/accuracies']:.2f} | "
        f"{modes} | lr {metrics['lr']:.1e}  {metrics['pairs'] / metrics['seconds']:5.1f} pairs/s  "
        f"wait {metrics['seconds_waiting']:.1f}s  eta {minutes:.0f}m"
    )
