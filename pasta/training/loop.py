"""Parts of the training loop: the learning rate, the step, checks of its numbers, the log."""

from math import cos, inf, isfinite, isnan, log, nan, pi
from statistics import fmean

from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from pasta.pairs import MODES
from pasta.run import ranks
from pasta.run.rows import Appender, read_rows, write_rows
from pasta.run.schema import ABSENT, NUMBER

BY_MODE = ("loss", "rewards/margins", "rewards/accuracies")  # also reported for each mode
METRICS = {"step": int, "eval/loss": NUMBER | ABSENT}  # the fields that are read back


def learning_rate(step, n_steps, peak, warmup):
    """The learning rate of a step, 1..n_steps: linear warmup to `peak`, then a cosine towards 0.

    warmup: share of the steps in which it rises; at least one step.
    The first and the last rate are above 0, so no step is wasted.
    """
    n_warm = max(1, round(warmup * n_steps))
    if step <= n_warm:
        return peak * step / n_warm
    return peak * 0.5 * (1 + cos(pi * (step - n_warm) / (n_steps - n_warm + 1)))


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


def check_start(rows, beta, dtype):
    """Raise RuntimeError unless the untrained policy equals its reference: all rewards 0.

    rows: of pack_loss, before the first update. dtype: "float32" or "bfloat16": it sets how far the
    two may differ, as a share of the log-probability, because other packs round differently.
    """
    tolerance = {"float32": 1e-4, "bfloat16": 2e-2}[dtype]
    for row in rows:
        for which in ("chosen", "rejected"):
            logps, reward = row[f"logps/{which}"], row[f"rewards/{which}"]
            if not abs(reward / beta) <= tolerance * max(1.0, abs(logps)):  # true for nan, too
                raise RuntimeError(
                    f"before any training the policy gives the {which} response of pair "
                    f"{row['id']} {logps:.4f} nats and the reference {logps - reward / beta:.4f}; "
                    f"expected the same, hence margin 0 (DPO's loss: ln 2 = {log(2):.4f}). The "
                    "model has dropout or gives no numbers, or pasta or a package has changed: "
                    "delete reference*.jsonl next to the pairs and run again"
                )


def not_numbers(rows, grad_norm=0.0) -> str:
    """A message that names the first non-finite value of an update and its pair, or "".

    rows: of pack_loss. grad_norm: a float or a () tensor.
    """
    for row in rows:
        for key, value in row.items():
            if isinstance(value, float) and not isfinite(value):
                return f"{key} of pair {row['id']} is {value}"
    ids = ", ".join(row["id"] for row in rows)
    return "" if isfinite(grad_norm) else f"the gradient's norm is {grad_norm:g}, of pairs {ids}"


def summarise(rows) -> dict:
    """Means over the pairs of an update: KEY -> mean, and KEY/MODE -> mean for KEY in BY_MODE.

    rows: of pack_loss, at least one. A mode without pairs has no keys.
    """
    means = {key: fmean(row[key] for row in rows) for key in rows[0] if key not in ("id", "mode")}
    for mode in sorted({row["mode"] for row in rows}):
        of_mode = [row for row in rows if row["mode"] == mode]
        for key in BY_MODE:
            if key in means:
                means[f"{key}/{mode}"] = fmean(row[key] for row in of_mode)
    return means


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
        losses = [row.get("eval/loss", inf) for row in rows]
        self.best = min((loss for loss in losses if not isnan(loss)), default=inf)

    def is_best(self, metrics):
        """Whether the update has a held-out loss, and it is the lowest so far."""
        loss = metrics.get("eval/loss", nan)
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
