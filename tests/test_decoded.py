"""campaigns/decoded.py counts what arithmetic by hand gives: bytes and operations of a token.

Shapes: B rows, C tokens in the cache, N query heads, G key heads, D head width, V vocabulary.
"""

from pathlib import Path

from campaigns.decoded import PARTS, decode, model_on_meta, total

B, C, N, G, D, V, LAYERS, HIDDEN, WIDE = 4, 256, 8, 2, 8, 512, 2, 64, 96
ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}
SMALL = {"num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "intermediate_size": WIDE,
         "num_attention_heads": N, "num_key_value_heads": G, "vocab_size": V,
         "rope_parameters": ROPE}  # fmt: skip


def test_small_shapes_are_counted_as_by_hand():
    model = model_on_meta(**SMALL)
    before, after = decode(model, False, B, C), decode(model, True, B, C)
    token, all_ = 2 * B * G * D * 2, C + 1  # token: bytes of its K and V in bfloat16
    assert total(before.bytes, ["cache"]) == LAYERS * 2 * all_ * token  # read and written
    assert total(after.bytes, ["cache"]) == LAYERS * 2 * token  # nothing of the C before it
    qkvo = HIDDEN * (HIDDEN * 2 + G * D * 2) + HIDDEN + 2 * G * D  # weights, and biases of q, k, v
    layer = qkvo + 3 * HIDDEN * WIDE + 2 * HIDDEN
    weights = 2 * (LAYERS * layer + HIDDEN + HIDDEN * V)  # the embedding is only looked up
    assert total(before.bytes, ["weights"]) == total(after.bytes, ["weights"]) == weights
    # before: K and V become float32 (2 + 4 bytes), are read so, and written for every query head
    assert before.bytes["attention", "aten::clone"] == LAYERS * 2 * B * (G + N) * all_ * D * 4
    fused = "attention", "aten::_scaled_dot_product_efficient_attention"
    bias, query = B * N // G * all_ * 2, B * N * D * 2
    one = all_ * token + bias + 2 * query + 2 * 8  # and a seed and an offset, which are unused
    assert (after.operations[fused], after.bytes[fused]) == (LAYERS, LAYERS * one)
    assert before.operations["sampling", "aten::multinomial"] == B
    assert after.bytes["sampling", "aten::cumsum"] == 2 * B * V * 8


def test_a_token_of_the_published_shapes_moves_less_than_a_third():
    model = model_on_meta()
    before, after = decode(model, False), decode(model, True)
    assert total(before.bytes) > 3 * total(after.bytes)
    assert total(before.bytes, PARTS[1:]) > 3 * total(after.bytes, PARTS[1:])
    assert total(before.operations) > total(after.operations)
    text = (Path(__file__).parents[1] / "docs/speed.md").read_text()
    for name, parts in ({part: [part] for part in PARTS} | {"all": PARTS}).items():
        counts = [f"{total(x.operations, parts):,}" for x in (before, after)]
        counts += [f"{total(x.bytes, parts) / 1e9:.1f}" for x in (before, after)]
        assert f"| {name} | {' | '.join(counts)} |" in text
