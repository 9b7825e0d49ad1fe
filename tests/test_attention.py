"""Attention with a mask against a softmax written out in float64, and the calls it makes of torch.

python -m pytest -q tests/test_attention.py
"""

import pytest
import torch
from rounding import close
from torch.nn.attention.bias import CausalBias

import pasta.attention
from pasta.attention import shared_prefix_attention
from pasta.models.generate import Request, ask

KEYS = 12


def written_out(query, key, value, mask, scaling):
    """softmax(q k^T scaling) v in float64, (B, L, N, D), with repeated keys and values."""
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.double().repeat_interleave(repeats, dim=1) for x in (key, value))
    weights = torch.exp(query.double() @ key.transpose(2, 3) * scaling) * mask
    return (weights / weights.sum(-1, keepdim=True) @ value).transpose(1, 2)


def case(ratio, new, padded):
    """[query, key, value] and a mask of three rows, with two key heads."""
    shapes = [(3, 2 * ratio, new, 8), (3, 2, KEYS, 8), (3, 2, KEYS, 8)]
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(3, 1, new, KEYS, dtype=torch.bool).tril(KEYS - new)  # new ones are causal
    for row, n in enumerate((0, 2, 5) if padded else ()):  # n padding tokens before the new ones
        mask[row, ..., KEYS - new - n : KEYS - new] = False
    return [torch.randn(shape, generator=generator) for shape in shapes], mask


# `close` allows 32 roundings of the largest number. A result has fewer: two sums, of 8 and of 12
# products, with exp and a quotient between them.


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("new", [1, 5])
@pytest.mark.parametrize("ratio", [1, 4, 7])
def test_masked_attention_is_the_softmax_written_out(ratio, new, padded):
    tensors, mask = case(ratio, new, padded)
    out, _ = shared_prefix_attention(None, *tensors, mask, 0.3)
    assert close(out, written_out(*tensors, mask, 0.3))


def test_its_gradients_are_those_of_the_softmax_written_out():
    tensors, mask = case(ratio=7, new=5, padded=True)
    tensors = [x.requires_grad_() for x in tensors]
    ours, _ = shared_prefix_attention(None, *tensors, mask, 0.3)
    right = written_out(*tensors, mask, 0.3)
    towards = torch.linspace(-1, 1, ours.numel()).view(ours.shape)
    grads = (torch.autograd.grad((out * towards).sum(), tensors) for out in (ours, right))
    assert all(close(*pair) for pair in zip(*grads, strict=True))


@pytest.fixture
def masked_calls(monkeypatch):
    """The calls with a plain mask tensor: (query heads, key heads, enable_gqa) of each."""
    calls, real = [], pasta.attention.scaled_dot_product_attention

    def note(query, key, value, attn_mask=None, enable_gqa=False, **more):
        if attn_mask is not None and not isinstance(attn_mask, CausalBias):
            calls.append((query.shape[1], key.shape[1], enable_gqa))
        return real(query, key, value, attn_mask=attn_mask, enable_gqa=enable_gqa, **more)

    monkeypatch.setattr(pasta.attention, "scaled_dot_product_attention", note)
    return calls


def test_calls_with_a_mask_have_as_many_key_heads_as_query_heads(tiny, tiny_inputs, masked_calls):
    text = tiny.model.config.get_text_config()
    assert text.num_attention_heads > text.num_key_value_heads
    ask(tiny, [Request(tiny_inputs[0], "Where is the red circle?"), Request(None, "Why?")], 3)
    assert {*masked_calls} == {(text.num_key_value_heads,) * 2 + (False,)}


def test_rows_of_equal_length_have_no_mask(tiny, tiny_inputs, masked_calls):
    ask(tiny, [Request(inputs, "Where is the red circle?") for inputs in tiny_inputs], 3)
    assert not masked_calls


def test_cudnns_attention_is_off():
    assert not torch.backends.cuda.cudnn_sdp_enabled()
