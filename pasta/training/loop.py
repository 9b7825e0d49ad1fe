"""Parts of the training loop: the learning rate, the step, checks of its numbers, the log."""

from collections import Counter
from itertools import product
from math import cos, inf, isfinite, log, nan, pi, sqrt
from statistics import fmean

import torch
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from pasta.dpo import pack_loss
from pasta.packs import pairs_logps
from pasta.pairs import GROUPS, MODES, OTHER
from pasta.run import ranks
from pasta.run.rows import Appender, rows_of, write_rows
from pasta.run.schema import ABSENT, NUMBER

BY_MODE = ("loss", "rewards/margins", "rewards/accuracies")  # also reported for each mode
LINE = "step {step:>5}/{n_steps}  loss {loss:.4f}  margin {rewards/margins:+7.3f}  "
LINE += "acc {rewards/accuracies:.2f} | {modes} | lr {lr:.1e}  {speed:5.1f} pairs/s  "
LINE += "wait {seconds_waiting:.1f}s  eta {minutes:.0f}m"
HELD_OUT = "  held out: loss {eval/loss:.4f} acc {eval/rewards/accuracies:.2f}"
METRICS = {"step": int, "eval/loss": NUMBER | ABSENT}  # the fields that are read back


def learning_rate(step, n_steps, peak, warmup):
    """The rate of step 1..n_steps, above 0: linear warmup, a share of the steps, then a cosine."""
    n_warm = max(1, round(warmup * n_steps))
    if step <= n_warm:
        return peak * step / n_warm
    return peak * 0.5 * (1 + cos(pi * (step - n_warm) / (n_steps - n_warm + 1)))


def packs_loss(config, policy, plan, items, counts):
    """(loss, rows) of some PackedPairs, from one forward pass: see `pack_loss`."""
    total, rows = 0.0, []
    for item, logps in zip(items, pairs_logps(policy, items), strict=True):
        loss, more = pack_loss(config, item, logps, plan.reference, counts)
        total, rows = total + loss, rows + more
    return total, rows


def gradient_norm(optimizer):
    """Norm of the gradient over all trained weights: () float32, the same on every rank."""
    (group,) = optimizer.param_groups
    return ranks.full_tensor(get_total_norm([p.grad for p in group["params"]]))


def clip_and_step(optimizer, norm, lr, max_norm):
    """Clip the gradient of norm `norm`, () float32, to `max_norm`; take one step at rate `lr`."""
    (group,) = optimizer.param_groups
    clip_grads_with_norm_(group["params"], max_norm, norm)
    group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()


def check_start(rows, beta, dtype):
    """Raise RuntimeError unless all rewards of rows of pack_loss are 0, as before any update."""
    # Other packs round differently: a share of the log-probability, and a walk of one step a token.
    share, noise = {"float32": (1e-4, 1e-4), "bfloat16": (2e-2, 0.1)}[dtype]
    cure = "The model has dropout or gives no numbers, or code has changed: delete reference*.jsonl"
    cure += f" next to the pairs. Expected the same (loss ln 2 = {log(2):.4f})"
    errors, sizes, tokens = [], [], []
    for row, which in product(rows, ("chosen", "rejected")):
        logps, error, n = (row[f"{x}/{which}"] for x in ("logps", "rewards", "tokens"))
        for column, value in ((errors, error / beta), (sizes, abs(logps)), (tokens, n)):
            column.append(value)
        if not abs(errors[-1]) <= share * sizes[-1] + noise * sqrt(n):  # true for nan, too
            text = f"before any training the policy gives the {which} response of pair {row['id']}"
            text += f" {logps:.4f} nats and the reference {logps - errors[-1]:.4f}"
            raise RuntimeError(f"{text}. {cure}")
    mean, n = fmean(errors), len(errors)  # roundings cancel, other faults do not
    if abs(mean) > share * fmean(sizes) / sqrt(n) + noise * sqrt(sum(tokens)) / n:
        text = f"before any training the policy is {mean:+.4f} nats a response from the reference"
        raise RuntimeError(f"{text}, in the mean of {n}. {cure}")


def not_numbers(rows, grad_norm=0.0) -> str:
    """A message that names the first non-finite value of an update and its pair, or ""."""
    for row in rows:
        for key, value in row.items():
            if isinstance(value, float) and not isfinite(value):
                return f"{key} of pair {row['id']} is {value}"
    ids = ", ".join(row["id"] for row in rows)
    return "" if isfinite(grad_norm) else f"the gradient's norm is {grad_norm:g}, of pairs {ids}"


def summarise(rows) -> dict:
    """Means over the rows of pack_loss: KEY -> mean, and KEY/MODE -> mean for KEY in BY_MODE."""
    means = {key: fmean(row[key] for row in rows) for key in rows[0] if key not in ("id", "mode")}
    for mode in sorted({row["mode"] for row in rows}):  # a mode without pairs has no keys
        of_mode = [row for row in rows if row["mode"] == mode]
        means |= {f"{key}/{mode}": fmean(row[key] for row in of_mode) for key in BY_MODE}
    return means


@torch.no_grad()
def held_out_metrics(config, policy, plan):
    """(means of the held-out pairs, as `summarise`, with eval/ before each name; `not_numbers`)."""
    counts, rows = Counter(GROUPS), []  # one pair of each mode: the summed loss is not used
    policy.eval()
    for items in plan.loader.rounds(plan.held_out):
        rows += packs_loss(config, policy, plan, items, counts)[1]
    policy.train()
    rows = ranks.gather(rows)  # empty if no video can be read
    means = summarise(rows) if rows else {}
    return {f"eval/{name}": mean for name, mean in means.items()}, not_numbers(rows)


class Log:
    """Prints one line per update and writes it as a row of metrics.jsonl, on rank 0."""

    def __init__(self, path, done, n_steps):
        self.n_steps, self.best = n_steps, inf
        rows = [row for row in rows_of(path, METRICS) if row["step"] <= done]  # later: again
        ranks.gather([])  # wait until all ranks have read
        if ranks.rank() == 0:
            write_rows(path, rows)
            self.file = Appender(path)
        for row in rows:
            self.is_best(row)
        ranks.say(f"training: {n_steps - done} updates, one line each")

    def is_best(self, metrics):
        """Whether the update has a held-out loss, and it is the lowest so far."""
        if best := metrics.get("eval/loss", nan) < self.best:  # False for nan
            self.best = metrics["eval/loss"]
        return best

    def write(self, metrics):
        if ranks.rank() == 0:
            self.file.write(metrics)
            print(log_line(metrics, self.n_steps), flush=True)


def log_line(metrics, n_steps):
    losses = {mode: metrics[f"loss/{mode}"] for mode in GROUPS if f"loss/{mode}" in metrics}
    names = losses if [*losses] == [OTHER] else GROUPS if OTHER in losses else MODES
    modes = [f"{x} {losses[x]:.3f}" if x in losses else f"{x}     -" for x in names]
    more = {"n_steps": n_steps, "modes": " ".join(modes)}
    more["speed"] = metrics["pairs"] / metrics["seconds"]
    more["minutes"] = (n_steps - metrics["step"]) * metrics["seconds"] / 60
    return (LINE + HELD_OUT * ("eval/loss" in metrics)).format_map(metrics | more)
