"""pasta/recurrence.py against the recurrence written out, and against transformers' own layer.

    python -m pytest -q tests/test_recurrence.py
"""

from functools import partial
from itertools import accumulate

import pytest
import torch
from rounding import close
from torch.nn.functional import silu, softplus
from transformers import Qwen3_5TextConfig
from transformers.models.qwen3_5 import modeling_qwen3_5 as theirs

from pasta.recurrence import gated_delta

RULES = theirs.torch_chunk_gated_delta_rule, theirs.torch_recurrent_gated_delta_rule
WIDTH = 24


@pytest.fixture(params=[(2, 4), (3, 3)], ids=["heads share keys", "each head its keys"])
def layer(request):
    """transformers' layer with random weights, which forgets slowly."""
    n_keys, n_values = request.param
    torch.manual_seed(0)
    config = Qwen3_5TextConfig(
        hidden_size=WIDTH, num_hidden_layers=1, layer_types=["linear_attention"],
        linear_num_key_heads=n_keys, linear_num_value_heads=n_values, linear_key_head_dim=5,
        linear_value_head_dim=6,
    )  # fmt: skip
    layer = theirs.Qwen3_5GatedDeltaNet(config, 0)
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.4)
    layer.A_log.data -= 3
    return layer


def by_hand(layer, x):
    """(L, width) of one row, token by token, in float64: eq. 10 of arXiv 2412.06464."""
    weights = {name: p.double() for name, p in layer.named_parameters()}
    inputs = x.double() @ weights["in_proj_qkv.weight"].T  # (L, C)
    beta = (x.double() @ weights["in_proj_b.weight"].T).sigmoid()
    steps = softplus(x.double() @ weights["in_proj_a.weight"].T + weights["dt_bias"])
    fade = (-weights["A_log"].exp() * steps).exp()  # (L, N)
    z = (x.double() @ weights["in_proj_z.weight"].T).unflatten(1, (-1, layer.head_v_dim))
    kernel = weights["conv1d.weight"][:, 0]  # (C, K)
    state = torch.zeros(layer.num_v_heads, layer.head_v_dim, layer.head_k_dim).double()
    share, rows = layer.num_v_heads // layer.num_k_heads, []
    for t in range(len(x)):
        seen = [inputs[t - back] if back <= t else 0 * inputs[0] for back in (3, 2, 1, 0)]
        mixed = silu(sum(kernel[:, i] * value for i, value in enumerate(seen)))
        q, k, v = mixed.split([layer.key_dim, layer.key_dim, layer.value_dim])
        q, k = (y.view(-1, layer.head_k_dim).repeat_interleave(share, 0) for y in (q, k))
        q, k = (y / (y.square().sum(1, keepdim=True) + 1e-6).sqrt() for y in (q, k))
        v, found = v.view(-1, layer.head_v_dim), []
        for n in range(layer.num_v_heads):
            old = fade[t, n] * state[n]
            write = beta[t, n] * torch.outer(v[n] - old @ k[n], k[n])
            state[n] = old + write
            found.append(state[n] @ q[n] / layer.head_k_dim**0.5)
        out = torch.stack(found)
        out = out / (out.square().mean(1, keepdim=True) + layer.layer_norm_epsilon).sqrt()
        rows.append((out * weights["norm.weight"] * silu(z[t])).flatten())
    return torch.stack(rows) @ weights["out_proj.weight"].T


@torch.no_grad()
def test_a_row_is_the_recurrence_written_out(layer):
    x = torch.randn(1, 11, WIDTH)
    assert close(gated_delta(layer, RULES, x)[0], by_hand(layer, x[0]).float())


PACKS = [
    [(1, 1)], [(1, 3, 1, 2)], [(7, 2, 5)], [(65, 130, 1, 64)], [(300, 5, 63, 65)],
    [(700, 40, 1)], [(2, 4, 4), (66, 1, 9, 2)],
]  # fmt: skip


def rows_of(x, lengths):
    """The rows that a packed row stands for, each (1, P + n, width), in order of the segments."""
    for pack, after in zip(lengths, accumulate(map(sum, lengths)), strict=True):
        prefix, *segments = x[:, after - sum(pack) : after].split(pack, dim=1)
        yield prefix, [torch.cat([prefix, segment], 1) for segment in segments]


@pytest.mark.parametrize("lengths", PACKS, ids=str)
def test_a_packed_row_and_its_gradients_are_those_of_a_row_per_segment(layer, lengths):
    x = torch.randn(1, sum(map(sum, lengths)), WIDTH, requires_grad=True)
    alone = []
    for prefix, rows in rows_of(x, lengths):
        alone.append(layer(prefix))  # transformers' own forward
        alone += [layer(row)[:, prefix.shape[1] :] for row in rows]
    expected = torch.cat(alone, 1)
    packed = gated_delta(layer, RULES, x, lengths=lengths)
    assert close(packed, expected)
    weights = torch.randn_like(packed)
    both = []
    for out in (packed, expected):
        grads = torch.autograd.grad((out * weights).sum(), [x, *layer.parameters()])
        both.append(torch.cat([grad.flatten() for grad in grads]))
    assert (both[0] - both[1]).norm() < 1e-5 * both[1].norm()


@torch.no_grad()
def test_a_packed_row_read_as_one_sequence_is_wrong(layer):
    x = torch.randn(1, 40, WIDTH)
    naive = gated_delta(layer, RULES, x)
    packed = gated_delta(layer, RULES, x, lengths=[(20, 10, 10)])
    assert close(naive[:, :30], packed[:, :30])  # the prefix and the first segment
    assert (naive[:, 30:] - packed[:, 30:]).abs().max() > 0.01


class Kept:
    """A cache of transformers with one layer."""

    def __init__(self):
        self.layers = [self]
        self.conv_states, self.recurrent_states = {0: None}, {0: None}


@torch.no_grad()
@pytest.mark.parametrize("steps", [(9,), (1, 8), (5, 1, 1, 2), (1,) * 9])
def test_a_row_read_in_steps_over_the_cache_is_the_row_read_at_once(layer, steps):
    x, kept = torch.randn(2, 9, WIDTH), Kept()
    found = [gated_delta(layer, RULES, part, cache_params=kept) for part in x.split(steps, dim=1)]
    assert close(torch.cat(found, 1), layer(x))


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(1, 6), (2, 3, 6), (5, 5)])
def test_padding_at_the_right_changes_no_row_and_nothing_after_it(layer, lengths):
    x, more, kept = torch.randn(len(lengths), 6, WIDTH), torch.randn(len(lengths), 3, WIDTH), Kept()
    real = torch.arange(6) < torch.tensor(lengths)[:, None]
    first = gated_delta(layer, RULES, x, cache_params=kept, real=real)
    after = gated_delta(layer, RULES, more, cache_params=kept)
    for i, n in enumerate(lengths):
        alone = layer(torch.cat([x[i : i + 1, :n], more[i : i + 1]], 1))
        assert close(torch.cat([first[i : i + 1, :n], after[i : i + 1]], 1), alone)


@torch.no_grad()
def test_under_autocast_the_state_stays_in_float32(layer):
    x, states = torch.randn(1, 80, WIDTH), []

    def rule(chunked, *args, **settings):
        out, state = chunked(*args, **settings)
        states.append((torch.is_autocast_enabled("cpu"), state.dtype))
        return out, state

    with torch.autocast("cpu", torch.bfloat16):
        half = gated_delta(layer, [partial(rule, RULES[0])] * 2, x, lengths=[(70, 4, 6)])
    assert states == [(False, torch.float32)] * 2
    exact = gated_delta(layer, RULES, x, lengths=[(70, 4, 6)])
    assert (half - exact).norm() < 0.02 * exact.norm()  # bfloat16 has steps of 1/256
