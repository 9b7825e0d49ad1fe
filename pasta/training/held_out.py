"""Held-out pairs: kept out of training by video, and scored between updates.

If the loss falls on the training pairs and rises on these, the policy is overfitting.
"""

from collections import Counter

import numpy as np
import torch

from pasta.dpo import pack_loss
from pasta.pairs import MODES
from pasta.run import ranks
from pasta.training.loop import not_numbers, summarise


def hold_out(groups, share, seed):
    """(groups to train on, held-out groups). Every video is on one side only.

    share: of the groups, 0..1. Above 0, at least one of two or more groups is held out, never all.
    """
    n = min(max(1, round(share * len(groups))), len(groups) - 1) if share else 0
    held_out = set(np.random.default_rng(seed).permutation(len(groups))[:n].tolist())
    return (
        [group for i, group in enumerate(groups) if i not in held_out],
        [group for i, group in enumerate(groups) if i in held_out],
    )


@torch.no_grad()
def held_out_metrics(config, policy, plan):
    """(means of the held-out pairs, as `summarise`, with eval/ before each name; `not_numbers`)."""
    counts, rows = Counter(MODES), []  # one pair of each mode: the summed loss is not used
    policy.eval()
    for item in plan.loader.rounds(plan.held_out):
        rows += pack_loss(config, item, policy(item.pack)[item.where], plan.reference, counts)[1]
    policy.train()
    rows = ranks.gather(rows)  # empty if no video can be read
    means = summarise(rows) if rows else {}
    return {f"eval/{name}": mean for name, mean in means.items()}, not_numbers(rows)
