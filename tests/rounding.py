"""How far apart two float32 results may be that differ by the order of their sums alone.

Another processor, another shape or another number of threads adds the same numbers in another
order. The bounds follow from the format and from the depth of the tests' tiny models. A wrong mask,
position or feature changes a log-probability by more than 0.01 a token.
"""

import torch

EPS = torch.finfo(torch.float32).eps  # the last place of a number between 1 and 2
# Layers, and in each: norms, projections, rotation, attention, residual sums. Each of up to three
# recurrent layers also adds up the roundings of three products over the tokens that it remembers,
# up to 150: their sum grows as the square root.
ROUNDINGS = 4 * 8 + 3 * 3 * 12
TOKEN = ROUNDINGS * 4 * EPS  # nats: each rounding moves a logit between 4 and 8 by its last place


def close(one, other):
    """Whether logits or features are the same up to rounding, which follows the largest of them."""
    return bool((one - other).abs().max() <= ROUNDINGS * EPS * other.abs().max())


def close_sums(one, other, n_tokens):
    """Whether sums of log-probabilities of so many tokens are the same up to rounding."""
    one, other, n_tokens = (torch.as_tensor(x).double() for x in (one, other, n_tokens))
    return bool(((one - other).abs() <= n_tokens * TOKEN).all())


def margin_bound(n_tokens, beta=0.1):
    """How far apart margins of pairs with so long responses may be; losses are not farther."""
    return beta * 4 * n_tokens * TOKEN  # a margin is beta times a sum of four sums


# Rows of metrics.jsonl: gradients and losses are sums over about a thousand tokens, and margins
# and rewards may be near 0.
ROWS = {"rel": 1000 * EPS, "abs": margin_bound(10)}
