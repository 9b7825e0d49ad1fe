"""Recurrent layers with a shared prefix: each response starts from the state after the video.

A gated delta layer (Qwen3.5; arXiv 2412.06464, eq. 10) remembers one matrix S per head:

    S_t = exp(g_t) S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T,    out_t = S_t q_t

q, k and v are a causal convolution over the last K inputs. So all that a segment needs of the
prefix is the state after it and its last K - 1 inputs of the convolution:

    out[prefix], memory = scan(prefix)
    out[segment i]      = scan(segment i, from memory)     for all i in one batch

The gradients of all segments add up in the memory. Compare attention.py, where a segment needs the
keys and values of the whole prefix.

Shapes: B rows, L tokens of a row, C channels of the convolution, N heads, D their width, P tokens
of the prefix, n of the longest of S segments.
"""

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence


def gated_delta(
    layer, rules, hidden_states, cache_params=None, lengths=None, real=None, **_
) -> torch.Tensor:
    """The forward of transformers' gated delta layers: (B, L, width) -> (B, L, width).

    rules: its functions for the recurrence, (many tokens at once, token by token).
    cache_params: a cache of transformers; its memory is continued and replaced.
    lengths: as in `shared_prefix_attention`. real: (B, L) bool, False for padding at the right.
    """
    inputs = layer.in_proj_qkv(hidden_states)  # (B, L, C)
    g = functional.softplus(layer.in_proj_a(hidden_states).float() + layer.dt_bias)
    g = -layer.A_log.float().exp() * g  # (B, L, N)
    beta = layer.in_proj_b(hidden_states).sigmoid()
    if lengths is None:
        kept = cache_params and cache_params.layers[layer.layer_idx]
        start = (kept.conv_states[0], kept.recurrent_states[0]) if kept else (None, None)
        out, memory = scan(layer, rules, inputs, g, beta, start, real)
        if kept:
            kept.conv_states[0], kept.recurrent_states[0] = memory
    else:
        cuts, found = [n for P, *each in lengths for n in (P, sum(each))], []
        parts = zip(*(x.split(cuts, dim=1) for x in (inputs, g, beta)), strict=True)
        for (_, *each), prefix, after in zip(lengths, parts, parts, strict=True):
            out, memory = scan(layer, rules, *prefix)  # (1, P, N, D)
            rows = (pad_sequence(x[0].split(each), batch_first=True) for x in after)  # (S, n, ...)
            start = [x.expand(len(each), *x.shape[1:]) for x in memory]
            padded, _ = scan(layer, rules, *rows, start)  # nothing follows the padding
            found += [out[0], *(row[:n] for row, n in zip(padded, each, strict=True))]
        out = torch.cat(found)[None]
    z = layer.in_proj_z(hidden_states).reshape(-1, layer.head_v_dim)
    normed = layer.norm(out.reshape(z.shape), z)
    return layer.out_proj(normed.reshape(*hidden_states.shape[:2], -1))


def scan(layer, rules, inputs, g, beta, start=(None, None), real=None):
    """The recurrence over (B, L, C) inputs. Returns (B, L, N, D) and the memory at the rows' ends.

    g, beta: (B, L, N), the log of the decay, <= 0, and the writing strength in (0, 1).
    memory: the last K - 1 inputs, (B, K - 1, C), and the state, (B, N, D of keys, D), in float32.
    start: the memory before the first token; None: zeros.
    """
    (tail, state), n_tail = start, layer.conv_kernel_size - 1
    if tail is None:
        tail = inputs.new_zeros(len(inputs), n_tail, inputs.shape[2])
    joined = torch.cat([tail, inputs], dim=1)
    weight = layer.conv1d.weight.to(joined.dtype)
    mixed = functional.conv1d(joined.transpose(1, 2), weight, groups=len(weight)).transpose(1, 2)
    mixed = getattr(functional, layer.activation)(mixed)
    widths = [layer.key_dim, layer.key_dim, layer.value_dim]
    heads = [layer.head_k_dim, layer.head_k_dim, layer.head_v_dim]
    parts = zip(mixed.split(widths, dim=2), heads, strict=True)
    q, k, v = (x.unflatten(2, (-1, width)) for x, width in parts)
    n = inputs.new_full((len(inputs),), inputs.shape[1], dtype=torch.long)
    if real is not None:  # padding neither fades the state nor writes to it
        g, beta, n = g * real[..., None], beta * real[..., None], real.sum(1)
    with torch.autocast(inputs.device.type, enabled=False):  # sums over a row need float32
        out, state = rules[inputs.shape[1] == 1](
            q, k, v, g=g, beta=beta, initial_state=state, output_final_state=True,
            use_qk_l2norm_in_kernel=True)  # fmt: skip
    ends = n[:, None] + torch.arange(n_tail, device=n.device)  # (B, K - 1), places in `joined`
    return out, (joined.gather(1, ends[..., None].expand(-1, -1, joined.shape[2])), state)
