"""Shared-prefix attention: each response attends to the video and to itself, to no other response.

A packed row is [prefix | segment 0 | segment 1 | ...]. The prefix attends causally to itself; a
segment attends to the whole prefix and causally to itself. Each piece is one call of
scaled_dot_product_attention without a mask tensor. So a GPU can use the flash kernel, and no L x L
mask ever exists:

    out[prefix]    = causal(q[prefix], k[prefix], v[prefix])
    out[segment i] = lower-right causal(q[i], [k[prefix], k[i]], [v[prefix], v[i]])

Prefix sharing for preference pairs: arXiv 2410.20305, which uses one block mask.

Shapes: B rows, N query heads, G key/value heads, L tokens of a row (L' with those cached before),
P of the prefix, n of a segment, D head width.
"""

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention


def shared_prefix_attention(
    module, query, key, value, attention_mask=None, scaling=None, lengths=None, **_
):
    """Attention in the form that transformers' attention interface calls.

    query: (B, N, L, D); key, value: (B, G, L', D), L' > L when earlier ones are cached.
    lengths: (P, n_0, n_1, ...) of the prefix and of each segment, with sum L; None
        for ordinary rows, which are causal or follow `attention_mask`, (B, 1, L, L') bool.
    Returns ((B, L, N, D), None): the second place is for attention weights, never computed.
    """
    # Under autocast, RoPE returns float32 query and key; attention needs equal dtypes.
    query, key = query.to(value.dtype), key.to(value.dtype)
    share = {"scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    if lengths is None:
        new, all_ = query.shape[2], key.shape[2]
        causal = attention_mask is None and new > 1
        if causal and new < all_:  # all cached tokens are visible
            causal, attention_mask = False, causal_lower_right(new, all_)
        share |= {"attn_mask": attention_mask, "is_causal": causal}
        return scaled_dot_product_attention(query, key, value, **share).transpose(1, 2), None
    if sum(lengths) != query.shape[2]:
        raise ValueError(f"{lengths} add up to {sum(lengths)} tokens; the row has {query.shape[2]}")
    queries, keys, values = (x.split(list(lengths), dim=2) for x in (query, key, value))
    pieces = [scaled_dot_product_attention(queries[0], keys[0], values[0], is_causal=True, **share)]
    for q, k, v in zip(queries[1:], keys[1:], values[1:], strict=True):
        k, v = torch.cat([keys[0], k], dim=2), torch.cat([values[0], v], dim=2)  # (B, G, P+n, D)
        mask = causal_lower_right(q.shape[2], k.shape[2])
        pieces.append(scaled_dot_product_attention(q, k, v, attn_mask=mask, **share))
    return torch.cat(pieces, dim=2).transpose(1, 2), None  # (B, L, N, D)


def dense_mask(lengths) -> Tensor:
    """The same pattern as a mask: (1, 1, L, L) bool, True where row attends to column."""
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))  # (L,)
    causal = torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
    same = owner[:, None] == owner[None, :]
    return (causal & (same | (owner == 0)[None, :]))[None, None]
