"""What one decoded token costs: operations that the host dispatches, and bytes that they move.

    python tests/campaigns/decoded.py

The shapes are those of Qwen2.5-VL-7B in bfloat16. Rows have unequal lengths, so there is a mask,
and all are sampled. Tensors are on "meta", without values. Counted is every operation of aten that
is not a view, and the bytes of the tensors it reads and writes, each once: passes inside an
operation are free.

    before  the cache is copied at every token; attention repeats keys and values in float32; all
            log-probabilities go to the host, which draws row by row
    after   pasta's own functions: the cache is written in place, attention is a fused kernel, all
            rows are drawn on the device

Shapes: B rows, C tokens in the cache, G key heads, r query heads per key head, D head width, V
vocabulary.
"""

import json
import sys
from collections import Counter
from functools import partial
from math import inf, prod
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import DynamicCache, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

sys.path[:0] = [str(Path(__file__).parents[2])]

from pasta import attention  # noqa: E402 (after the path to it)
from pasta.models.generate import choose, forward  # noqa: E402
from pasta.models.load import ATTENTION, InPlace  # noqa: E402

SIZE = Path(__file__).parent / "sizes/qwen2.5-vl-7b.json"
B, C = 8, 12_288
PARTS = ("weights", "cache", "attention", "sampling", "other")

aten = torch.ops.aten
LOOKUPS = (aten.embedding.default, aten.index.Tensor, aten.gather.default, aten.searchsorted.Tensor)


class Count(TorchDispatchMode):
    """Operations, and bytes, by (part, name of the operation). Weights are a part of the bytes."""

    def __init__(self, model):
        super().__init__()
        self.weights = {storage(x) for x in model.parameters()}
        self.part, self.operations, self.bytes = "other", Counter(), Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        read = [x for x in tree_leaves((args, kwargs)) if torch.is_tensor(x)]
        if operation is aten._to_copy.default and read[0].is_meta:
            kwargs["device"] = "meta"  # copies to the host have no values either
        number = operation is aten._local_scalar_dense.default  # .item(): any number will do
        result = 0 if number else operation(*args, **kwargs)
        written = [x for x in tree_leaves(result) if torch.is_tensor(x)]
        shared = {storage(x) for x in read} & {storage(x) for x in written}
        if shared and not operation._schema.is_mutable:
            return result  # a view
        if operation in LOOKUPS:
            read[0] = result  # of the table, what is returned
        if operation is aten.copy_.default:
            del read[0]  # the target
        self.operations[self.part, operation._schema.name] += 1
        for x in read + written:
            part = "weights" if storage(x) in self.weights else self.part
            self.bytes[part, operation._schema.name] += n_bytes(x)
        return result

    def within(self, part, function):
        """The function, whose operations count as those of a part."""

        def counted(*args, **kwargs):
            self.part = part
            result = function(*args, **kwargs)
            self.part = "other"
            return result

        return counted


def storage(x):
    return x.untyped_storage()._cdata


def n_bytes(x):
    """Bytes of a tensor without the repetitions of an expanded one."""
    sizes = zip(x.shape, x.stride(), strict=True)
    return x.element_size() * prod(n for n, stride in sizes if stride)


def model_on_meta(**changes):
    """The 7B model, with changes of its text_config; its vision tower is not used."""
    settings = json.loads(SIZE.read_text())
    settings["text_config"] |= changes
    config = Qwen2_5_VLConfig(**settings)
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
    model.set_attn_implementation(ATTENTION)
    return model


def repeated(query, key, value, mask, scaling):
    """Attention before: no fused kernel takes this, so torch decomposes it. On "meta", too."""
    share = {"attn_mask": mask, "scale": scaling, "enable_gqa": True}
    return scaled_dot_product_attention(query, key, value, **share).transpose(1, 2)


def fused(query, key, value, attn_mask, scale):
    """What scaled_dot_product_attention dispatches on a GPU if heads are equal.

    On "meta" torch would decompose this as well. So the kernel is called by its name: it is one
    operation that reads q, k, v and the mask, and writes the output. Before it, as in torch, the
    mask becomes a bias whose rows are aligned to 8 elements.
    """
    like, n = {"dtype": query.dtype, "device": query.device}, attn_mask.shape[-1]
    bias = torch.where(attn_mask, *(torch.scalar_tensor(x, **like) for x in (0.0, -inf)))
    bias = pad(bias, (0, -n % 8))[..., :n].expand(*query.shape[:3], n)  # (B, G, r, C + 1)
    kernel = aten._scaled_dot_product_efficient_attention
    return kernel(query, key, value, bias, compute_log_sumexp=False, scale=scale)[0]


def draw_on_host(logits, generators):
    """Sampling before. logits: (B, V)."""
    logps, tokens = logits.float().log_softmax(-1).cpu(), []
    for row, draw in zip(logps, generators, strict=True):
        tokens.append(torch.multinomial((row / 1.0).softmax(-1), 1, generator=draw).item())
        row[tokens[-1]].item()  # its log-probability
    torch.tensor(tokens).to(logits.device)


def draw_on_device(heat, logits, generators):
    """Sampling after, as in `ask`. heat: (B,), temperatures. logits: (B, V)."""
    logps = logits.float().log_softmax(-1)
    tokens = choose(logps, heat, generators, range(len(logits)))
    for x in (logps.gather(1, tokens[:, None])[:, 0], tokens):
        x.cpu()  # .tolist() in `ask`


@torch.no_grad()
def decode(model, after, n_rows=B, n_cached=C):
    """The Count of one token."""
    text, count = model.config.get_text_config(), Count(model)
    width = text.hidden_size // text.num_attention_heads
    cache, draws = DynamicCache(config=text), [torch.Generator() for _ in range(n_rows)]
    with torch.device("meta"):
        new = torch.empty(n_rows, text.num_key_value_heads, n_cached, width, dtype=torch.bfloat16)
        real = torch.empty(n_rows, n_cached, dtype=torch.bool)
        ids, last = torch.ones(n_rows, 1).long(), torch.ones(3, n_rows, 1).long()
        draw = partial(draw_on_device, torch.ones(n_rows)) if after else draw_on_host
        for layer in cache.layers:
            layer.update(new, new)
        if after:  # with room for this token
            cache.layers = [InPlace([x], torch.arange(n_rows), n_new=1) for x in cache.layers]
    for layer in cache.layers:
        layer.update = count.within("cache", layer.update)
    attend = count.within("attention", attention.masked_attention if after else repeated)
    sample = count.within("sampling", draw)
    kernel = patch.object(attention, "scaled_dot_product_attention", fused)
    with kernel, patch.object(attention, "masked_attention", attend), count:
        mask = pad(real, (0, 1), value=True)[:, None, None]  # (B, 1, 1, C + 1)
        sample(forward(SimpleNamespace(model=model), cache, ids, last + 1, mask)[:, -1], draws)
    return count


def total(counter, parts=PARTS):
    return sum(n for (part, _), n in counter.items() if part in parts)


def main():
    model = model_on_meta()
    before, after = (decode(model, after) for after in (False, True))
    print(f"One token of {B} rows with {C:,} tokens in the cache")
    print("                     operations             GB moved")
    print("                   before   after      before    after      ratio")
    rows = {part: [part] for part in PARTS}
    for name, parts in (rows | {"all": PARTS, "all but weights": PARTS[1:]}).items():
        n = [total(x.operations, parts) for x in (before, after)]
        gb = [total(x.bytes, parts) / 1e9 for x in (before, after)]
        ratio = gb[0] / gb[1]
        print(f"{name:17}{n[0]:8,}{n[1]:8,}{gb[0]:12.3f}{gb[1]:9.3f}{ratio:11,.1f}")


if __name__ == "__main__":
    main()
