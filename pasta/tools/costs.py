"""What a model costs: weights and floating-point operations, counted from its layers alone.

    a token    2 operations per weight of the language model's linear layers, and 4 N D per layer
               for every token that it attends to
    a patch    2 per weight of the vision tower and of what connects it to the language model
    a logit    2 per weight of the LM head; only scored tokens have logits

Not counted, because they are small: norms, attention inside the vision tower, the adapter's own
products. A backward pass costs as much again for the gradients of the inputs, and once more for
those of trained weights. Recomputed activations are one more forward pass.

Shapes: N query heads, D head width.
"""

from dataclasses import dataclass

from torch import nn

from pasta.lora import add_lora
from pasta.models.load import tune_all

SHARE = 0.4  # assumed utilisation: operations per second / those of a large matrix product


@dataclass(frozen=True)
class Costs:
    """Sizes of one model; the first four are numbers of weights."""

    total: int
    language: int  # in the linear layers that every token passes
    head: int  # in the layer that gives the logits
    vision: int  # that every patch passes; of a merger of several, a patch's share
    layers: int
    width: int  # of the language model
    attention: int  # N D

    def forward(self, lengths, patches, scored):
        """Operations of one packed row: (in the language model, in the vision tower).

        lengths: tokens of the prefix and of each segment. patches: of its video.
        scored: number of tokens with logits.
        """
        linear = 2 * self.language * sum(lengths) + 2 * self.head * scored
        seen = 4 * self.attention * self.layers * seen_pairs(lengths)
        return linear + seen, 2 * self.vision * patches


def seen_pairs(lengths):
    """(query, key) pairs of a packed row: causal in each piece, and the prefix for segments."""
    prefix, *segments = lengths
    return sum(n * (n + 1) // 2 for n in lengths) + prefix * sum(segments)


def costs_of(model) -> Costs:
    """The Costs of a transformers model. It needs no weights: see pasta.models.load.bare_model."""
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    inside = {id(p) for p in (*decoder.parameters(), *head.parameters())}
    outside = [(name, p) for name, p in model.named_parameters() if id(p) not in inside]
    text = model.config.get_text_config()
    heads = text.num_attention_heads
    merged = getattr(model.config.vision_config, "spatial_merge_size", 1) ** 2
    linears = [m for m in decoder.modules() if isinstance(m, nn.Linear)]
    return Costs(
        total=sum(p.numel() for p in model.parameters()),
        language=sum(m.weight.numel() for m in linears),
        head=head.weight.numel(),
        vision=sum(p.numel() // (merged if "merger" in name else 1) for name, p in outside),
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        attention=heads * (getattr(text, "head_dim", None) or text.hidden_size // heads),
    )


def n_trained(model, lora_rank):
    """How many weights train_dpo.py trains. It prepares the model for training, so count last.

    lora_rank: of the adapter; 0: the language model is trained.
    """
    if lora_rank:
        add_lora(model, rank=lora_rank, alpha=1)
    else:
        tune_all(model.requires_grad_(False))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
