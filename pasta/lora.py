"""A low-rank adapter on the linear layers of a frozen model (LoRA, arXiv 2106.09685).

Each adapted layer computes

    y = W x + b + (alpha / R) B A x          (eq. 3, with the scale of section 4.1)

with W and b frozen, A random and B zero, so a fresh adapter changes nothing. With the adapter off
the model is its own reference, and no second copy is needed.

Shapes: R adapter rank; A is (R, in), B is (out, R).
"""

import math
import re
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.functional import linear

# Layers of the language model in transformers 5 (model.language_model.layers.0. ...) and before
# (model.layers.0. ...). A q_proj or gate_proj of a vision tower has another prefix.
LANGUAGE_LINEARS = (
    r"(model\.|language_model\.|text_model\.)*layers\.\d+\."
    r"(self_attn\.(q|k|v|o)_proj|mlp\.(shared_expert\.)?(gate|up|down)_proj"
    r"|linear_attn\.(in_proj_qkv|in_proj_z|out_proj))"  # not a and b, of one output per head
)


class LoRALinear(nn.Module):
    """A frozen linear layer plus its adapter; `enabled = False` turns the adapter off.

    A and B are always float32, because bfloat16 weights lose updates of the size of the learning
    rate. The product is computed in the type of the input.
    """

    def __init__(self, base, rank, alpha, generator):
        super().__init__()
        self.base, self.alpha, self.scale, self.enabled = base, alpha, alpha / rank, True
        start = torch.empty(rank, base.in_features)  # on the CPU: the same numbers on every device
        nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
        self.lora_A = nn.Parameter(start.to(base.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))

    def forward(self, x):
        y = self.base(x)
        if not self.enabled:
            return y
        # Scaled at rank R and added in place: both save passes over the output, and its gradient.
        more = self.scale * linear(x, self.lora_A.to(x.dtype))
        return y.add_(linear(more, self.lora_B.to(x.dtype)))


def adapted(model):
    """List of (name, LoRALinear) of all layers with an adapter, in the model's order."""
    return [(name, m) for name, m in model.named_modules() if isinstance(m, LoRALinear)]


def plain_linears(model):
    """Name -> linear layer. Raises ValueError if the model has an adapter."""
    if adapted(model):
        raise ValueError("the model already has an adapter; expected a model without one")
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}


def add_lora(model, targets=LANGUAGE_LINEARS, *, rank, alpha, seed=0) -> list[str]:
    """Freeze the model and add an adapter to some linear layers; returns their names.

    targets: regex for the full name, as in model.named_modules() and in PEFT's target_modules.
    rank: R. alpha: as in y above. seed: of A; the global random state is not used.
    """
    linears = plain_linears(model)
    names = [name for name in linears if re.fullmatch(targets, name)]
    if rank < 1:
        raise ValueError(f"the rank of the adapter is {rank}; expected 1 or more")
    if not names:
        some = ", ".join(list(linears)[:: max(1, len(linears) // 5)][:6])
        raise ValueError(f"no linear layer is named like {targets!r}; expected one such as {some}")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        model.set_submodule(name, LoRALinear(linears[name], rank, alpha, generator))
    return names


@contextmanager
def adapter_off(model):
    """Inside this context the model is the base model, bit for bit."""
    before = {layer: layer.enabled for _, layer in adapted(model)}  # contexts may be nested
    try:
        for layer in before:
            layer.enabled = False
        yield
    finally:
        for layer, enabled in before.items():
            layer.enabled = enabled
