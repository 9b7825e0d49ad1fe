"""The learning rate over a run, the optimizer's step, and what is written of it."""

import math

from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from pasta.pairs import MODES
from pasta.run import ranks
from pasta.run.rows import Appender, read_rows, write_rows
from pasta.run.schema import ABSENT, NUMBER

METRICS = {"step": int, "eval/loss": NUMBER | ABSENT}  # what is relied on in a row


def learning_rate(step, n_steps, peak, warmup):
    """The rate of one step: a linear rise to `peak`, then half a cosine towards 0.

    step: 1..n_steps. warmup: share of the steps in which it rises, at least one of them.
    The first step is above 0 and so is the last, for a step at rate 0 would be wasted.
    """
    n_warm = max(1, round(warmup * n_steps))
    if step <= n_warm:
        return peak * step / n_warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - n_warm) / (n_steps - n_warm + 1)))


def gradient_norm(optimizer):
    """The norm of the gradient over all weights: () float32, the same in every process."""
    return ranks.full_tensor(get_total_norm([p.grad for p in trained(optimizer)]))


def clip_and_step(optimizer, norm, lr, max_norm):
    """Clip the gradient, whose norm is `norm`, () float32, to `max_norm`; take a step of `lr`."""
    clip_grads_with_norm_(trained(optimizer), max_norm, norm)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()


def trained(optimizer):
    """The weights that it steps, a list."""
    return [p for group in optimizer.param_groups for p in group["params"]]


class Log:
    """An aligned line and a row of metrics.jsonl for every update; the first process writes.

    done: updates of a run that goes on; rows after it were of updates that are made again.
    """

    def __init__(self, path, done, n_steps):
        self.n_steps, rows = n_steps, []
        if path.is_file():
            rows = [row for row in read_rows(path, METRICS) if row["step"] <= done]
        ranks.gather([])  # until all have read
        if ranks.rank() == 0:
            write_rows(path, rows)
            self.file = Appender(path)
        losses = [row.get("eval/loss", math.inf) for row in rows]
        self.best = min((loss for loss in losses if not math.isnan(loss)), default=math.inf)

    def is_best(self, metrics):
        """Whether the mean held-out loss over all pairs is there, and lower than all before it."""
        loss = metrics.get("eval/loss", math.nan)
        if not loss < self.best:  # true for nan
            return False
        self.best = loss
        return True

    def write(self, metrics):
        """Print and keep the metrics of one update, a flat dict of numbers."""
        if ranks.rank():
            return
        print(log_line(metrics, self.n_steps), flush=True)
        self.file.write(metrics)


def log_line(metrics, n_steps):
    """One aligned line of the numbers that are also a row of metrics.jsonl."""
    modes = " ".join(
        f"{mode} {metrics[f'loss/{mode}']:.3f}" if f"loss/{mode}" in metrics else f"{mode}     -"
        for mode in MODES
    )
    held_out = ""
    if "eval/loss" in metrics:
        held_out = f"  held out: loss {metrics['eval/loss']:.4f}"
        held_out += f" acc {metrics['eval/rewards/accuracies']:.2f}"
    minutes = (n_steps - metrics["step"]) * metrics["seconds"] / 60
    return (
        f"step {metrics['step']:>5}/{n_steps}  loss {metrics['loss']:.4f}  "
        f"margin {metrics['rewards/margins']:+7.3f}  acc {metrics['rewards/accuracies']:.2f} | "
        f"{modes} | lr {metrics['lr']:.1e}  {metrics['pairs'] / metrics['seconds']:5.1f} pairs/s  "
        f"wait {metrics['seconds_waiting']:.1f}s  eta {minutes:.0f}m{held_out}"
    )
