"""The vision tower, which stays frozen: the features of videos, and a faster tower.

Shapes: N heads, L patches of a row, D head width; W windows of n patches.
"""

from collections import defaultdict
from functools import partial
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

# In transformers only a name with "flash" gets all windows in one call, and not one call for each.
WINDOWS = "flash_windows"


def video_features(model, family, inputs):
    """The frozen vision tower's output for a list of VideoInputs, under no_grad.

    Returns the `mm_encoder_outputs` of transformers' forward, in order; None for an empty list.
    """
    if not inputs:
        return None
    groups = defaultdict(list)  # distinct videos of one shape are computed in one batch
    for x in {id(x): x for x in inputs}.values():
        groups[tuple(tensor.shape[1:] for tensor in family.feature_kwargs(x).values())].append(x)
    seen = {}  # id of a VideoInputs -> its levels
    for group in groups.values():
        output = encode(model, family, group)
        seen |= zip(map(id, group), levels(output, [x.n_tokens for x in group]), strict=True)
    together = torch.is_tensor(output.pooler_output)
    rows = zip(*(seen[id(x)] for x in inputs), strict=True)  # a level at a time
    # in the model's own form: one tensor, or a tuple of one per video
    tokens, *added = (torch.cat(row)[None] if together else row for row in rows)
    return {family.encoder: SimpleNamespace(pooler_output=tokens, deepstack_features=added)}


def encode(model, family, videos, grad=False):
    """The model's own output for videos of one shape."""
    rows = [family.feature_kwargs(x) for x in videos]
    columns = {k: [row[k] for row in rows] for k in rows[0]}
    one = {k: torch.cat(x) if len(x) > 1 else x[0] for k, x in columns.items()}
    tensors = {k: x.to(model.device) for k, x in one.items()}
    with torch.set_grad_enabled(grad):
        # of the base model: some outer classes have the method for images alone
        features = getattr(model.base_model, f"get_{family.encoder}_features")
        return features(**tensors, return_dict=True)


def levels(output, lengths):
    """For each video, (n_tokens, width) of each level: its tokens, then Qwen3-VL's deepstack."""
    found = [output.pooler_output, *getattr(output, "deepstack_features", [])]
    flat = [x.flatten(0, 1) if torch.is_tensor(x) else torch.cat(x) for x in found]
    return zip(*(x.split(lengths) for x in flat), strict=True)


def quicken_tower(model, family):
    """Let a model of a family compute its vision tower in few calls, with the same results."""
    if family.windows:
        model.set_attn_implementation({"vision_config": WINDOWS})
    # Convolutions over separate patches are matrix products, which some GPUs do far faster.
    # huggingface/transformers#45750; its `fusion_config` would rename the saved weights.
    for conv in model.modules():
        if isinstance(conv, nn.Conv3d) and conv.stride == conv.kernel_size:
            if (conv.padding, conv.dilation, conv.groups) == ((0, 0, 0), (1, 1, 1), 1):
                conv.forward = partial(product, conv)


def product(conv, patches):
    """conv(patches): (N, width, 1, 1, 1) of N patches, (N, channels, *kernel size)."""
    return linear(patches.flatten(1), conv.weight.flatten(1), conv.bias)[..., None, None, None]


def attend_in_windows(
    module, query, key, value, attention_mask=None, scaling=None, cu_seq_lens_q=None, **_
):
    """Attention inside windows of a row, those of one length in one call; (1, N, L, D) each.

    cu_seq_lens_q: (windows + 1,) int32, where each window starts, and the end of the last one.
    """
    starts, lengths = cu_seq_lens_q[:-1].long(), cu_seq_lens_q.diff()
    out = torch.empty_like(value)
    for n in lengths.unique().tolist():
        at = starts[lengths == n, None] + torch.arange(n, device=starts.device)  # (W, n)
        rows = (x[0, :, at].transpose(0, 1) for x in (query, key, value))  # (W, N, n, D)
        out[0, :, at] = scaled_dot_product_attention(*rows, scale=scaling).transpose(0, 1)
    return out.transpose(1, 2), None
