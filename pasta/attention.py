"""Shared-prefix attention: each response attends to the video and to itself, to no other response.

A packed row is [prefix | segment 0 | segment 1 | ...]. The prefix attends causally to itself; a
segment attends to the whole prefix and causally to itself. The prefix is one call of
scaled_dot_product_attention, all segments, padded at the right, are another; neither has a mask
tensor. So a GPU can use the flash kernel, and no L x L mask ever exists:

    out[prefix]    = causal(q[prefix], k[prefix], v[prefix])
    out[segment i] = lower-right causal(q[i], [k[prefix], k[i]], [v[prefix], v[i]])

Prefix sharing for preference pairs: arXiv 2410.20305, which uses one block mask. A row may hold
several packs, of several videos, which do not see each other.

Shapes: B rows, N query heads, G key/value heads, L tokens of a row (L' with those cached before),
P of the prefix, n of the longest of S segments, D head width.
"""

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence


def shared_prefix_attention(
    module, query, key, value, attention_mask=None, scaling=None, lengths=None, **_
):
    """Attention in the form that transformers' attention interface calls.

    query: (B, N, L, D); key, value: (B, G, L', D), L' > L when earlier ones are cached.
    lengths: for each pack of the row (B = 1), (P, n_0, n_1, ...) of the prefix and of each segment,
        with sum L; None for ordinary rows, which are causal or follow `attention_mask`,
        (B, 1, L, L') bool.
    Returns ((B, L, N, D), None): the second place is for attention weights, never computed.
    """
    # Under autocast, RoPE returns float32 query and key; attention needs equal dtypes.
    query, key = query.to(value.dtype), key.to(value.dtype)
    share = {"scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    if attention_mask is not None:
        return masked_attention(query, key, value, attention_mask, scaling), None
    if lengths is None:
        new, all_ = query.shape[2], key.shape[2]
        mask = causal_lower_right(new, all_) if 1 < new < all_ else None  # cached ones are visible
        share |= {"attn_mask": mask, "is_causal": 1 < new == all_}
        return scaled_dot_product_attention(query, key, value, **share).transpose(1, 2), None
    if (total := sum(map(sum, lengths))) != query.shape[2]:
        raise ValueError(f"{lengths} add up to {total} tokens; the row has {query.shape[2]}")
    cuts = [n for prefix, *segments in lengths for n in (prefix, sum(segments))]
    parts = zip(*(x.split(cuts, dim=2) for x in (query, key, value)), strict=True)
    found = []
    for (_, *segments), prefix, after in zip(lengths, parts, parts, strict=True):
        found.append(scaled_dot_product_attention(*prefix, is_causal=True, **share)[0])  # (N, P, D)
        # (S, N or G, n, D): keys of the padding come last, so no token sees them
        rows = (x[0].transpose(0, 1).split(segments) for x in after)
        q, *own = (pad_sequence(row, batch_first=True).transpose(1, 2) for row in rows)
        shared = (x.expand(len(segments), -1, -1, -1) for x in prefix[1:])
        k, v = (torch.cat(both, dim=2) for both in zip(shared, own, strict=True))  # (S, G, P+n, D)
        mask = causal_lower_right(q.shape[2], k.shape[2])
        padded = scaled_dot_product_attention(q, k, v, attn_mask=mask, **share)  # (S, N, n, D)
        found += [row[:, :n] for row, n in zip(padded, segments, strict=True)]
    return torch.cat(found, dim=1)[None].transpose(1, 2), None  # (1, L, N, D)


def masked_attention(query, key, value, mask, scaling):
    """The same with a mask, (B, 1, L, L') bool, and with equal heads. Returns (B, L, N, D)."""
    # No fused kernel of torch 2.13 takes a mask and enable_gqa together: it would repeat keys and
    # values in float32. So the r query heads of a key head become r times as many rows.
    rows = query.reshape(len(query), key.shape[1], -1, query.shape[3])  # (B, G, r L, D)
    mask = mask.repeat(1, 1, query.shape[1] // key.shape[1], 1)
    out = scaled_dot_product_attention(rows, key, value, attn_mask=mask, scale=scaling)
    return out.reshape(query.shape).transpose(1, 2)


def dense_mask(lengths) -> Tensor:
    """The same pattern as a mask: (1, 1, L, L) bool, True where row attends to column."""
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))  # (L,)
    causal = torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
    same = owner[:, None] == owner[None, :]
    return (causal & (same | (owner == 0)[None, :]))[None, None]
