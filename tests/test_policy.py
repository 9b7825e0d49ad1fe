"""Packs, shared-prefix attention and the policy, against one ordinary row per response.

Oracles: the same responses in plain causal rows (another path through the same model), the dense
mask, positions and ids written out by hand.
    python -m pytest tests/test_policy.py
"""

import pytest
import torch
from rounding import EPS, close_sums
from tiny_models import adapter_parameters
from torch.nn.functional import log_softmax

from pasta.attention import dense_mask, shared_prefix_attention
from pasta.lora import adapter_off, add_lora
from pasta.models.load import checkpoint_activations
from pasta.models.vision import video_features
from pasta.packs import Segment, pack, pack_responses, segment_of
from pasta.policy import Policy, response_logps

TEXTS = [
    ("Is the red circle left or right?", "The red circle is left."),
    ("Is the red circle left or right?", "The red circle is right."),
    ("Is the blue square kept or replaced?", "The blue square is kept."),
    ("Describe it.", "The red circle is top left and kept. The blue square is bottom right."),
]


def plain_logps(vlm, inputs, query, response):
    """The log-probability of one response in a row of its own, logits everywhere, no kwargs."""
    processor = vlm.processor
    with_video = inputs is not None
    head = processor.prefix_ids(inputs) + processor.query_ids(query, with_video)
    tail = processor.response_ids(response)
    ids = torch.tensor(head + tail)
    features = video_features(vlm.model, processor.family, [inputs] if with_video else [])
    logits = vlm.model(
        input_ids=ids[None],
        position_ids=processor.positions(head + tail, inputs)[:, None],
        mm_encoder_outputs=features,
    ).logits[0]
    logps = log_softmax(logits.float(), -1)
    return sum(logps[len(head) - 1 + i, token] for i, token in enumerate(tail))


def add_random_lora(vlm):
    add_lora(vlm.model, rank=4, alpha=8)
    generator = torch.Generator().manual_seed(0)
    for p in adapter_parameters(vlm.model):
        p.data = 0.1 * torch.randn(p.shape, generator=generator)


def gradients(vlm, loss):
    loss.backward()
    grads = [p.grad.clone() for p in adapter_parameters(vlm.model)]
    for p in adapter_parameters(vlm.model):
        p.grad = None
    return grads


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_equals_one_row_per_response(tiny, tiny_inputs, checkpointing):
    add_random_lora(tiny)
    if checkpointing:
        checkpoint_activations(tiny.model)
        tiny.model.train()
    packed, where = pack_responses(tiny.processor, tiny_inputs[0], TEXTS)
    logps = Policy(tiny)(packed)[where]
    rows = torch.stack([plain_logps(tiny, tiny_inputs[0], *text) for text in TEXTS])
    assert close_sums(logps, rows, packed.response_lengths[where])
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    ours, theirs = gradients(tiny, (logps * weights).sum()), gradients(tiny, (rows * weights).sum())
    largest = max(g.abs().max() for g in theirs)
    assert largest > 0.01  # or the comparison below would say nothing
    assert max((a - b).abs().max() for a, b in zip(ours, theirs, strict=True)) < 1e-4 * largest


def test_without_video_packed_equals_rows(tiny):
    packed, where = pack_responses(tiny.processor, None, TEXTS)
    rows = torch.stack([plain_logps(tiny, None, *text) for text in TEXTS])
    assert close_sums(Policy(tiny)(packed)[where], rows, packed.response_lengths[where])


def test_dense_mask_gives_the_same(tiny, tiny_inputs):
    packed, _ = pack_responses(tiny.processor, tiny_inputs[0], TEXTS)
    policy = Policy(tiny)
    dense = policy(packed, mask=dense_mask(packed.lengths))
    assert close_sums(policy(packed), dense, packed.response_lengths)


def test_dense_mask_by_hand():
    seen = dense_mask((2, 1, 2))[0, 0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0],  # prefix
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],  # segment 0: the prefix and itself
        [1, 1, 0, 1, 0],  # segment 1: not segment 0
        [1, 1, 0, 1, 1],
    ]


def test_one_response_does_not_change_another(tiny, tiny_inputs):
    policy = Policy(tiny)
    alone, _ = pack_responses(tiny.processor, tiny_inputs[0], TEXTS[3:])
    among, where = pack_responses(tiny.processor, tiny_inputs[0], TEXTS)
    assert close_sums(policy(alone)[0], policy(among)[where[3]], alone.response_lengths[0])


def test_packs_in_one_row_score_and_train_as_alone(tiny, tiny_inputs):
    add_random_lora(tiny)
    policy, videos = Policy(tiny), (tiny_inputs[0], None, tiny_inputs[1])
    texts = (TEXTS, TEXTS[2:], TEXTS[:1])
    packs = [pack_responses(tiny.processor, *both)[0] for both in zip(videos, texts, strict=True)]
    alone, together = torch.cat([policy(one) for one in packs]), policy(*packs)
    lengths = torch.cat([one.response_lengths for one in packs])
    assert close_sums(together, alone, lengths)
    weights = torch.arange(len(alone)) - 2.0
    pairs = zip(*(gradients(tiny, (weights * x).sum()) for x in (alone, together)), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4 * a.abs().max()) for a, b in pairs)


def test_a_video_in_a_row_is_not_seen_by_other_packs(tiny, tiny_inputs):
    policy = Policy(tiny)
    one, two = (pack_responses(tiny.processor, x, TEXTS)[0] for x in tiny_inputs)
    n = one.n_segments
    assert torch.equal(policy(one, two)[:n], policy(one, one)[:n])
    assert not torch.equal(policy(one, two)[n:], policy(one, one)[n:])


def test_another_video_changes_the_score(tiny, tiny_inputs):
    policy = Policy(tiny)
    one, two = (policy(pack_responses(tiny.processor, x, TEXTS)[0]) for x in tiny_inputs)
    assert (one - two).abs().max() > 1e-3


def test_scored_tokens_decode_to_the_response(tiny, tiny_inputs):
    packed, where = pack_responses(tiny.processor, tiny_inputs[0], TEXTS)
    tokenizer = tiny.processor.tokenizer
    for (_, response), segment in zip(TEXTS, where, strict=True):
        ids = packed.targets[packed.owner == segment]
        assert tokenizer.decode(ids) == response + "<|im_end|>"


def test_each_response_token_is_predicted_from_the_one_before(tiny, tiny_inputs):
    packed, _ = pack_responses(tiny.processor, tiny_inputs[0], TEXTS)
    assert (packed.input_ids[packed.keep + 1] == packed.targets).all()


def test_positions_of_every_segment_start_after_the_prefix(tiny, tiny_inputs):
    packed, _ = pack_responses(tiny.processor, tiny_inputs[0], TEXTS)
    parts = packed.position_ids.split(list(packed.lengths), dim=1)
    after = int(parts[0].max()) + 1
    for part in parts[1:]:
        assert part.tolist() == [list(range(after, after + part.shape[1]))] * 3


def test_equal_texts_share_a_segment(tiny, tiny_inputs):
    packed, where = pack_responses(tiny.processor, tiny_inputs[0], [TEXTS[0], TEXTS[1], TEXTS[0]])
    assert packed.n_segments == 2
    assert where == [0, 1, 0]


def test_segment_without_response_is_refused(tiny, tiny_inputs):
    good = segment_of(tiny.processor, *TEXTS[0])
    with pytest.raises(ValueError, match="segment 1 has 0 response tokens"):
        pack(tiny.processor, tiny_inputs[0], [good, Segment(good.ids, 0)])


def test_wrong_lengths_are_refused():
    x = torch.zeros(1, 2, 5, 4)
    with pytest.raises(ValueError, match="add up to 6 tokens; the row has 5"):
        shared_prefix_attention(None, x, x, x, lengths=[(3, 3)])


def test_uniform_logits_give_minus_n_ln_v():
    logps = response_logps(
        torch.zeros(3, 8), torch.tensor([1, 2, 3]), torch.tensor([0, 0, 0]), n_segments=1
    )
    assert logps.item() == pytest.approx(-6.238325)


def test_minus_infinity_on_another_token_stays_finite():
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    logps = response_logps(logits, torch.tensor([0]), torch.tensor([0]), n_segments=1)
    assert logps.item() == pytest.approx(-0.693147)


def test_half_precision_logits_are_summed_in_float32():
    logits = torch.zeros(300, 8, dtype=torch.bfloat16)
    zeros = torch.zeros(300, dtype=torch.int64)
    # 300 additions, each off by half a unit in the last place of the sum at most
    found = response_logps(logits, zeros, zeros, 1).item()
    assert found == pytest.approx(-623.8325, rel=300 * EPS / 2)


def test_adapter_off_restores_the_reference_bit_for_bit(tiny, tiny_inputs):
    packed, _ = pack_responses(tiny.processor, tiny_inputs[0], TEXTS)
    policy = Policy(tiny)
    before = policy(packed)
    add_random_lora(tiny)
    assert not torch.equal(policy(packed), before)
    with adapter_off(tiny.model):
        assert torch.equal(policy(packed), before)


def test_checkpointing_leaves_the_vision_tower_alone(tiny, tiny_inputs):
    add_random_lora(tiny)
    checkpoint_activations(tiny.model)
    tiny.model.train()
    packed, _ = pack_responses(tiny.processor, tiny_inputs[0], TEXTS)
    features = video_features(tiny.model, tiny.processor.family, [packed.inputs])
    assert not features["video"].pooler_output[0].requires_grad
    Policy(tiny)(packed).sum().backward()
    assert all(p.grad is None for p in tiny.model.model.visual.parameters())
