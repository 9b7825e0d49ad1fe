"""One step of training: the learning rate, the optimizer's step, and the log."""

import math

from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from pasta.pairs import MODES
from pasta.run import ranks
from pasta.run.rows import Appender, read_rows, write_rows
from pasta.run.schema import ABSENT, NUMBER

METRICS = {"step": int, "eval/loss": NUMBER | ABSENT}  # the fields that are read back


def learning_rate(step, n_steps, peak, warmup):
    """The learning rate of a step, 1..n_steps: linear warmup to `peak`, then a cosine towards 0.

    warmup: share of the steps in which it rises; at least one step.
    The first and the last rate are above 0, so no step is wasted.
    """
    n_warm = max(1, round(warmup * n_steps))
    if step <= n_warm:
        return peak * step / n_warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - n_warm) / (n_steps - n_warm + 1)))


def gradient_norm(optimizer):
    """Norm of the gradient over all trained weights: () float32, the same on every rank."""
    return ranks.full_tensor(get_total_norm([p.grad for p in trained(optimizer)]))


def clip_and_step(optimizer, norm, lr, max_norm):
    """Clip the gradient of norm `norm`, () float32, to `max_norm`; take one step at rate `lr`."""
    clip_grads_with_norm_(trained(optimizer), max_norm, norm)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()


def trained(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


class Log:
    """Prints one line per update and writes it as a row of metrics.jsonl, on rank 0.

    done: number of updates to keep on resume. Later rows are removed: those updates run again.
    """

    def __init__(self, path, done, n_steps):
        self.n_steps, rows = n_steps, []
        if path.is_file():
            rows = [row for row in read_rows(path, METRICS) if row["step"] <= done]
        ranks.gather([])  # wait until all ranks have read
        if ranks.rank() == 0:
            write_rows(path, rows)
            self.file = Appender(path)
        losses = [row.get("eval/loss", math.inf) for row in rows]
        self.best = min((loss for loss in losses if not math.isnan(loss)), default=math.inf)

    def is_best(self, metrics):
        """Whether the update has a held-out loss, and it is the lowest so far."""
        loss = metrics.get("eval/loss", math.nan)
        if not loss < self.best:  # true for nan
            return False
        self.best = loss
        return True

    def write(self, metrics):
        """Print and record the metrics of one update, a flat dict of numbers."""
        if ranks.rank() == 0:
            print(log_line(metrics, self.n_steps), flush=True)
            self.file.write(metrics)


def log_line(metrics, n_steps):
    """The metrics of one update as an aligned line."""
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
