"""What a model costs: weights, floating-point operations, bytes; from its folder, without weights.

    a token    2 operations for each weight of the language model's linear layers, and 4 N D in each
               layer for every token that it sees
    a patch    2 for each weight of the vision tower and of what joins it to the language model
    a logit    2 for each weight of the head, of the tokens that are scored alone

What is left out is small: norms, the attention inside the vision tower, the adapter's own products.
A backward pass costs as much again for the gradient of the input, and once more for those of the
weights, where they are trained; recomputed activations are one more forward pass.

Shapes: N query heads, D head width.
"""

import math
import time
from dataclasses import dataclass

import torch
from torch import nn

from pasta.lora import adapter_parameters, add_lora
from pasta.models.load import bare_model
from pasta.packs import seen_pairs
from pasta.policy import tune_all
from pasta.tools.speed_hardware import matmul_rate, synchronize

SHARE = 0.4  # of a large matrix product's rate that is reached; docs/speed.md has measured ones
SCRATCH = 2**28  # bytes that are copied to measure the memory's rate


@dataclass(frozen=True)
class Costs:
    """Of one model; all are numbers of weights but the last four.

    total:    all of them. trained: those that are trained
    language: of the linear layers that every token passes. head: of the layer that gives logits
    vision:   that every patch passes; of a merger of several, a patch's share
    patch:    pixel values of a patch. layers, width: of the language model. attention: N D
    """

    total: int
    trained: int
    language: int
    head: int
    vision: int
    patch: int
    layers: int
    width: int
    attention: int

    def forward(self, lengths, patches, scored):
        """Operations of one row: (through the language model, through the vision tower).

        lengths: tokens of prefix and segments, as of a Pack. patches: of its video.
        scored: tokens whose logits are computed.
        """
        linear = 2 * self.language * sum(lengths) + 2 * self.head * scored
        seen = 4 * self.attention * self.layers * seen_pairs(lengths)
        return linear + seen, 2 * self.vision * patches

    def patches(self, inputs):
        """Patches of VideoInputs, 0 of None."""
        return 0 if inputs is None else math.ceil(inputs.pixel_values.numel() / self.patch)


def costs_of(name, lora_rank=0, train=False):
    """The Costs of a model folder or hub id; of a hub id its files are fetched.

    train: whether something is trained, an adapter of lora_rank or, with 0, the language model.
    """
    model = bare_model(name)
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    inside = {id(p) for p in (*decoder.parameters(), *head.parameters())}
    outside = [(name, p) for name, p in model.named_parameters() if id(p) not in inside]
    text = model.config.get_text_config()
    heads = text.num_attention_heads
    merged = getattr(model.config.vision_config, "spatial_merge_size", 1) ** 2
    linears = [m for m in decoder.modules() if isinstance(m, nn.Linear)]
    sizes = {
        "total": sum(p.numel() for p in model.parameters()),
        "language": sum(m.weight.numel() for m in linears),
        "vision": sum(p.numel() // (merged if "merger" in name else 1) for name, p in outside),
        "patch": next((m.weight[0].numel() for m in model.modules() if is_patcher(m)), 1),
    }
    return Costs(
        **sizes,
        trained=n_trained(model, lora_rank) if train else 0,
        head=head.weight.numel(),
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        attention=heads * (getattr(text, "head_dim", None) or text.hidden_size // heads),
    )


def is_patcher(module):
    """Whether a module turns patches of pixels into vectors: the first convolution of a tower."""
    return isinstance(module, nn.Conv2d | nn.Conv3d)


def n_trained(model, lora_rank):
    """How many weights train_dpo.py trains of a model, which is changed."""
    if lora_rank:
        add_lora(model, rank=lora_rank, alpha=1)
        return sum(p.numel() for p in adapter_parameters(model))
    tune_all(model.requires_grad_(False))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def rates(device, dtype):
    """(operations, bytes) a second of a device, as measured now: a matrix product's, a copy's."""
    operations = matmul_rate(device, getattr(torch, dtype))
    source = torch.zeros(SCRATCH, dtype=torch.uint8, device=device)
    target, times = torch.empty_like(source), []
    for _ in range(4):
        synchronize(device)
        start = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        times.append(time.perf_counter() - start)
    return operations, 2 * SCRATCH / min(times[1:])
