"""The policy: one module whose forward turns packs into response log-probabilities.

Everything from pixels to log-probabilities is inside `Policy.forward`, so DDP and FSDP2 can wrap it
directly. With the adapter off the same module is the reference.

Shapes: L tokens of the row, S segments, R response tokens, V vocabulary.
"""

from functools import partial
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pasta.lora import add_lora
from pasta.models import load
from pasta.models.generate import in_halves
from pasta.models.vision import video_features
from pasta.packs import PackedPairs, pack_responses, pairs_logps
from pasta.run import ranks


def load_policy(config, device):
    """(VLM, Policy) to train: an adapter or the language model, copied (DDP) or sharded (FSDP2)."""
    if config.shard and not ranks.started():
        raise SystemExit("--shard needs torchrun: start the script with torchrun")
    # Trained weights are float32: AdamW's small updates are lost in bfloat16.
    dtype = config.dtype if config.lora_rank else "float32"
    # A model to shard is loaded on the CPU: it may not fit one GPU.
    vlm = load.load_vlm(config.model, dtype, "cpu" if config.shard else device, config.max_pixels)
    if config.lora_rank:
        add_lora(vlm.model, rank=config.lora_rank, alpha=config.lora_alpha, seed=config.seed)
    else:
        load.tune_all(vlm.model)
    if config.checkpointing:
        load.checkpoint_activations(vlm.model)
    bf16 = config.dtype == "bfloat16"
    return vlm, ranks.parallel(Policy(vlm, bf16), load.shard_units(vlm.model), config.shard, bf16)


@torch.inference_mode()
def text_logps(vlm, groups, batch_size=1) -> list[Tensor]:
    """log pi of the texts of each group: (len(texts),) nats.

    groups: list of (VideoInputs or None, [(query, response), ...]).
    batch_size: texts per forward pass, or all of one group.
    """
    rows = [[]]
    for inputs, texts in groups:
        item = PackedPairs(None, *pack_responses(vlm.processor, inputs, texts))
        if sum(x.pack.n_segments for x in (*rows[-1], item)) > batch_size:
            rows.append([])
        rows[-1].append(item)
    policy = Policy(vlm)
    scored = (in_halves(partial(pairs_logps, policy), row) for row in rows if row)
    return [logps for row in scored for logps in row]


class Policy(nn.Module):
    """log pi(response | video, query) of every segment of some packs, which are one row.

        log pi(r | video, q) = sum_t log softmax(logits[t-1])[r_t]    (arXiv 2305.18290, eq. 7)

    forward(*packs) returns (S,) float32, nats, <= 0: sums, so longer responses are more negative.
    The vision tower is frozen and runs under no_grad. Otherwise activation checkpointing would
    recompute it in backward.
    amp: run in bfloat16 autocast; log-probabilities are float32 either way.
    """

    def __init__(self, vlm, amp=False):
        super().__init__()
        self.model, self.amp, self.shares = vlm.model, amp, vlm.shares
        self.family = vlm.processor.family  # not a module: settings and functions

    def forward(self, *packs, mask=None) -> Tensor:
        """mask: (1, 1, L, L) bool, the dense form of the packs' attention; for tests."""
        features = partial(video_features, self.model, self.family)
        if self.shares:
            return self.score(packs, features([x.inputs for x in packs if x.inputs]), mask)
        found = []  # without a shared prefix: each response in a row of its own
        for pack in packs:
            seen = features([pack.inputs] if pack.inputs else [])
            found += [self.score([row], seen) for row in pack.rows()]
        return torch.cat(found)

    def score(self, packs, features, mask=None):
        """(S,) of the segments of packs in one row. features: of their videos."""
        device, starts = self.model.device, accumulate((len(x.input_ids) for x in packs), initial=0)
        keep = torch.cat([x.keep + start for x, start in zip(packs, starts, strict=False)])
        positions = torch.cat([pack.position_ids for pack in packs], dim=1)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.amp):
            logits = self.model(
                input_ids=torch.cat([pack.input_ids for pack in packs])[None].to(device),
                position_ids=load.as_position_ids(positions[:, None].to(device)),
                attention_mask=mask,
                # for shared_prefix_attention
                lengths=[x.lengths for x in packs] if self.shares and mask is None else None,
                mm_encoder_outputs=features,
                logits_to_keep=keep.to(device),
                use_cache=False,
            ).logits[0]  # (R, V)
        parts = zip(logits.split([len(pack.keep) for pack in packs]), packs, strict=True)
        found = [response_logps(part, x.targets, x.owner, x.n_segments) for part, x in parts]
        return torch.cat(found)


def response_logps(logits, targets, owner, n_segments):
    """Sum the token log-probabilities of each segment, in float32.

    logits: (R, V) any float type; targets: (R,) ids; owner: (R,) segment of each, 0..S-1.
    Returns (S,) nats. Float32 because bfloat16 is 0.5 wide at a sum of 100 nats.
    """
    targets, owner = targets.to(logits.device), owner.to(logits.device)
    token_logps = -cross_entropy(logits.float(), targets, reduction="none")  # (R,)
    return token_logps.new_zeros(n_segments).index_add(0, owner, token_logps)
