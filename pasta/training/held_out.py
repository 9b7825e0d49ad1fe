"""Pairs that are not trained on: kept aside by video, scored between updates.

A loss that falls on the pairs of the updates and rises on these says that the policy learns the
pairs by heart.
"""

from collections import Counter

import numpy as np
import torch

from pasta.dpo import not_numbers, pack_loss, summarise
from pasta.pairs import MODES
from pasta.run import ranks


def hold_out(groups, share, seed):
    """(groups to train on, groups held out): by video, so that none is on both sides.

    share: of the groups, 0..1; above 0, of two or more at least one is held out, never all.
    """
    n = min(max(1, round(share * len(groups))), len(groups) - 1) if share else 0
    held_out = set(np.random.default_rng(seed).permutation(len(groups))[:n].tolist())
    return (
        [group for i, group in enumerate(groups) if i not in held_out],
        [group for i, group in enumerate(groups) if i in held_out],
    )


@torch.no_grad()
def held_out_metrics(config, policy, groups, reference, loader):
    """What `summarise` makes of the held-out pairs, each name with eval/ before it; {} without any.

    Returns that and what of it is infinite or not a number, as `not_numbers`.
    """
    counts, rows = Counter(MODES), []  # one of each: no loss is summed here
    policy.eval()
    for item in loader.rounds(groups):
        rows += pack_loss(config, item, policy(item.pack)[item.where], reference, counts)[1]
    policy.train()
    rows = ranks.gather(rows)  # none when no video could be read
    means = summarise(rows) if rows else {}
    return {f"eval/{name}": mean for name, mean in means.items()}, not_numbers(rows)
