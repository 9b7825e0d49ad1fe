"""The policy: one module whose forward turns a Pack into response log-probabilities.

All that happens between pixels and log-probabilities is inside `Policy.forward`, so DDP and FSDP2
wrap it as it is. With the adapter off the same module is the reference.

Shapes: L tokens of the row, S segments, R response tokens, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pasta.vlm import video_features


class Policy(nn.Module):
    """log pi(response | video, query) of every segment of a Pack.

        log pi(r | video, q) = sum_t log softmax(logits[t-1])[r_t]    (arXiv 2305.18290, eq. 7)

    forward(pack) returns (S,) float32, nats, <= 0: sums, so longer responses are more negative.
    The vision tower is frozen and runs under no_grad: checkpointing would otherwise make its
    output require gradients, and recompute it.
    `amp`: run in bfloat16 autocast; log-probabilities are float32 either way.
    """

    def __init__(self, vlm, amp=False):
        super().__init__()
        self.model, self.amp = vlm.model, amp
        self.family = vlm.processor.family  # not a module: settings and functions

    def forward(self, pack, mask=None) -> Tensor:
        """`mask`: (1, 1, L, L) bool, the dense form of the pack's pattern; for tests."""
        device = self.model.device
        inputs = [] if pack.inputs is None else [pack.inputs]
        with torch.autocast(device.type, torch.bfloat16, enabled=self.amp):
            logits = self.model(
                input_ids=pack.input_ids[None].to(device),
                position_ids=pack.position_ids[:, None].to(device),  # (3, 1, L)
                attention_mask=mask,
                segments=pack.lengths if mask is None else None,  # for shared_prefix_attention
                mm_encoder_outputs=video_features(self.model, self.family, inputs),
                logits_to_keep=pack.keep.to(device),
                use_cache=False,
            ).logits[0]  # (R, V)
        return response_logps(logits, pack.targets.to(device), pack.owner, pack.n_segments)


def response_logps(logits, targets, owner, n_segments):
    """Sum the token log-probabilities of each segment, in float32.

    logits: (R, V) any float type; targets: (R,) ids; owner: (R,) segment of each, 0..S-1.
    Returns (S,) nats. Float32 because bfloat16 is 0.5 wide at a sum of 100 nats.
    """
    token_logps = -cross_entropy(logits.float(), targets, reduction="none")  # (R,)
    return token_logps.new_zeros(n_segments).index_add(0, owner.to(logits.device), token_logps)
