"""pasta/dpo.py against arithmetic, identities and the vectors of two other libraries' tests.

Case A: torchtune tests/torchtune/rlhf/loss/test_dpo_loss.py. Case B: LLaMA-Factory
tests_v1/trainers/test_dpo_loss_precision.py. Expected values worked out in float64.

    python -m pytest -q tests/test_dpo.py
"""

import math
from types import SimpleNamespace

import pytest
import torch

from pasta.dpo import (
    dpo_loss,
    ipo_loss,
    pair_losses,
    pair_rows,
    pair_weights,
    sft_loss,
)
from pasta.training.loop import check_start, summarise

LN2 = math.log(2)
# policy chosen, policy rejected, reference chosen, reference rejected: (B,) each
CASE_A = ([-0.5, -10, -1], [-0.1, -30, -21], [-0.5, -10.1, -0.1], [-0.1, -20.1, -0.1])
CASE_B = ([-3, -2.5, -4, -1.5], [-5, -3.5, -6, -2.5], [-2.8, -2.3, -3.8, -1.4],
          [-3.2, -2.7, -4.2, -1.8])  # fmt: skip


def tensors(case):
    return [torch.tensor(numbers, dtype=torch.float64) for numbers in case]


def random_logps(seed):
    generator = torch.Generator().manual_seed(seed)
    return list(-50 * torch.rand(4, 7, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize(
    ("case", "label_smoothing", "expected"),
    [
        (CASE_A, 0.0, [0.6931471806, 0.3132616875, 0.1269280110]),
        (CASE_A, 0.1, [0.6931471806, 0.4132616875, 0.3269280110]),
        (CASE_B, 0.0, [0.6163437730, 0.6635971131, 0.6163437730, 0.6635971131]),
        (CASE_B, 0.1, [0.6323437730, 0.6695971131, 0.6323437730, 0.6695971131]),
    ],
)
def test_losses_equal_the_vectors_of_other_libraries(case, label_smoothing, expected):
    losses, *_ = dpo_loss(*tensors(case), beta=0.1, label_smoothing=label_smoothing)
    assert losses.tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("case", "chosen", "rejected"),
    [
        (CASE_A, [0, 0.01, -0.09], [0, -0.99, -2.09]),
        (CASE_B, [-0.02, -0.02, -0.02, -0.01], [-0.18, -0.08, -0.18, -0.07]),
    ],
)
def test_rewards_equal_the_vectors_of_other_libraries(case, chosen, rejected):
    _, chosen_rewards, rejected_rewards = dpo_loss(*tensors(case), beta=0.1)
    assert chosen_rewards.tolist() == pytest.approx(chosen, abs=1e-9)
    assert rejected_rewards.tolist() == pytest.approx(rejected, abs=1e-9)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.5])
def test_untrained_policy_loses_ln2(label_smoothing):
    chosen, rejected = torch.tensor([-3.0, -80.0]), torch.tensor([-9.0, -0.5])
    losses, *_ = dpo_loss(chosen, rejected, chosen, rejected, 0.1, label_smoothing)
    assert losses.tolist() == pytest.approx([LN2, LN2])


def test_margin_of_one_by_hand():
    zero = torch.zeros(1)
    losses, *_ = dpo_loss(zero + 10, zero, zero, zero, beta=0.1)  # margin = 0.1 * 10
    assert losses.item() == pytest.approx(math.log1p(math.exp(-1)))


def test_gradient_at_zero_is_minus_half_beta_for_chosen_and_plus_for_rejected():
    chosen, rejected = (torch.zeros(1, requires_grad=True) for _ in range(2))
    losses, *_ = dpo_loss(chosen, rejected, torch.zeros(1), torch.zeros(1), beta=0.1)
    losses.sum().backward()
    assert (chosen.grad.item(), rejected.grad.item()) == pytest.approx((-0.05, 0.05))


def test_swapping_the_pair_raises_the_loss_by_the_margin():
    chosen, rejected, reference_chosen, reference_rejected = random_logps(0)
    losses, a, b = dpo_loss(chosen, rejected, reference_chosen, reference_rejected, 0.3)
    swapped, *_ = dpo_loss(rejected, chosen, reference_rejected, reference_chosen, 0.3)
    assert (swapped - losses).tolist() == pytest.approx((a - b).tolist())


def test_half_smoothing_cannot_tell_chosen_from_rejected():
    chosen, rejected, reference_chosen, reference_rejected = random_logps(1)
    losses, *_ = dpo_loss(chosen, rejected, reference_chosen, reference_rejected, 0.3, 0.5)
    swapped, *_ = dpo_loss(rejected, chosen, reference_rejected, reference_chosen, 0.3, 0.5)
    assert losses.tolist() == pytest.approx(swapped.tolist())


def test_loss_is_cross_entropy_of_the_two_rewards():
    losses, chosen, rejected = dpo_loss(*random_logps(2), beta=0.1, label_smoothing=0.2)
    # torch spreads its smoothing over both classes, so e there is e / 2 here.
    other = torch.nn.functional.cross_entropy(
        torch.stack([chosen, rejected], dim=1),
        torch.zeros(7, dtype=torch.int64),
        reduction="none",
        label_smoothing=0.4,
    )
    assert losses.tolist() == pytest.approx(other.tolist())


def test_loss_is_finite_for_very_unlikely_responses():
    far = torch.tensor([-1e4, 0.0])
    losses, *_ = dpo_loss(far, far.flip(0), torch.zeros(2), torch.zeros(2), beta=1.0)
    assert losses.tolist() == pytest.approx([1e4, 0.0])


def test_rewards_carry_no_gradient():
    chosen = torch.zeros(1, requires_grad=True)
    losses, *rewards = dpo_loss(chosen, chosen, torch.zeros(1), torch.zeros(1), beta=0.1)
    assert losses.requires_grad and not any(r.requires_grad for r in rewards)


def test_a_column_among_the_rows_is_refused():
    row = torch.zeros(3)
    with pytest.raises(AssertionError, match=r"\(3, 1\)"):
        dpo_loss(row, row, row, row[:, None], beta=0.1)


def test_sft_loss_is_the_mean_per_token():
    losses = sft_loss(torch.tensor([-6.0, -6.0]), torch.tensor([3, 12]))
    assert losses.tolist() == [2.0, 0.5]


@pytest.mark.parametrize(
    ("case", "expected"), [(CASE_A, [25, 25, 225]), (CASE_B, [11.56, 19.36, 11.56, 19.36])]
)
def test_ipo_equals_the_vectors_of_other_libraries_for_responses_of_one_token(case, expected):
    chosen, rejected, reference_chosen, reference_rejected = tensors(case)
    losses = ipo_loss(chosen - reference_chosen, rejected - reference_rejected, beta=0.1)
    assert losses.tolist() == pytest.approx(expected, abs=1e-9)


def losses_of(case, lengths=None, **changes):
    """pair_losses of a case; every response has one token unless `lengths` says otherwise."""
    settings = {"objective": "dpo", "beta": 0.1, "label_smoothing": 0.0, "sft_weight": 0.0}
    chosen, rejected, reference_chosen, reference_rejected = tensors(case)
    logps, reference = (
        torch.cat([chosen, rejected]),
        torch.cat([reference_chosen, reference_rejected]),
    )
    lengths = torch.ones(len(logps), dtype=torch.int64) if lengths is None else lengths
    return pair_losses(SimpleNamespace(**settings | changes), logps, reference, lengths)


def test_ipo_draws_the_means_per_token_and_not_the_sums():
    lengths = torch.tensor([1, 2, 1, 1, 4, 2])  # of three chosen, then three rejected responses
    losses, *_ = losses_of(CASE_A, lengths, objective="ipo")
    # h = (c - c0) / length - (r - r0) / length: 0; 0.1/2 + 9.9/4; -0.9 + 20.9/2
    h = [0.0, 0.05 + 2.475, -0.9 + 10.45]
    assert losses.tolist() == pytest.approx([(x - 5) ** 2 for x in h], abs=1e-9)


def test_the_gradient_of_ipo_is_zero_at_its_goal():
    chosen = torch.tensor([2.5], requires_grad=True)  # 1 / (2 * 0.2) above the rejected
    ipo_loss(chosen, torch.zeros(1), beta=0.2).backward()
    assert chosen.grad.item() == 0


@pytest.mark.parametrize("objective", ["dpo", "ipo"])
def test_the_sft_term_is_added_per_token_of_the_chosen(objective):
    lengths = torch.tensor([1, 5, 2, 1, 1, 1])
    plain, *_ = losses_of(CASE_A, lengths, objective=objective)
    added, *_ = losses_of(CASE_A, lengths, objective=objective, sft_weight=2.0)
    assert (added - plain).tolist() == pytest.approx([2 * 0.5, 2 * 10 / 5, 2 * 1 / 2], abs=1e-9)


@pytest.mark.parametrize("objective", ["dpo", "ipo", "sft"])
def test_rewards_are_those_of_dpo_whatever_the_objective(objective):
    _, chosen_rewards, rejected_rewards = losses_of(CASE_A, objective=objective)
    assert chosen_rewards.tolist() == pytest.approx([0, 0.01, -0.09], abs=1e-9)
    assert rejected_rewards.tolist() == pytest.approx([0, -0.99, -2.09], abs=1e-9)


def test_sft_is_the_likelihood_alone_with_no_term_added():
    losses, *_ = losses_of(CASE_A, objective="sft", sft_weight=3.0)
    assert losses.tolist() == pytest.approx([0.5, 10, 1], abs=1e-9)


def test_weighted_losses_sum_to_the_weighted_means_of_the_modes():
    modes = ["spatial", "temporal", "spatial", "spatial"]
    losses = torch.tensor([3.0, 10.0, 6.0, 9.0])  # means: spatial 6, temporal 10
    mode_weights = {"spatial": 1.0, "temporal": 3.0, "cross_frame": 5.0}
    counts = {"spatial": 3, "temporal": 1, "cross_frame": 0}
    total = (pair_weights(modes, counts, mode_weights) * losses).sum()
    assert total.item() == pytest.approx((1 * 6 + 3 * 10) / (1 + 3))


def test_weights_of_an_update_add_up_to_one_over_its_packs():
    counts, mode_weights = {"spatial": 2, "temporal": 1}, {"spatial": 0.2, "temporal": 7.0}
    packs = [["spatial", "temporal"], ["spatial"]]
    total = sum(pair_weights(pack, counts, mode_weights).sum().item() for pack in packs)
    assert total == pytest.approx(1)


def test_modes_of_weight_zero_leave_an_update_without_loss():
    weights = pair_weights(["spatial"] * 2, {"spatial": 2}, {"spatial": 0.0, "temporal": 1.0})
    assert weights.tolist() == [0.0, 0.0]


def two_rows():
    """Spatial: margin +1.5. Temporal: a tie. Numbers that float32 holds exactly."""
    return pair_rows(
        ["spatial", "temporal"],
        losses=torch.tensor([0.25, 0.75], requires_grad=True),
        chosen_rewards=torch.tensor([1.0, 0.5]),
        rejected_rewards=torch.tensor([-0.5, 0.5]),
        chosen_logps=torch.tensor([-4.0, -6.0]),
        rejected_logps=torch.tensor([-8.0, -2.0]),
    )


def test_metrics_are_means_over_pairs_and_over_each_modes_pairs():
    assert summarise(two_rows()) == {
        "loss": 0.5,
        "rewards/chosen": 0.75,
        "rewards/rejected": 0.0,
        "rewards/margins": 0.75,
        "rewards/accuracies": 0.5,
        "logps/chosen": -5.0,
        "logps/rejected": -5.0,
        "loss/spatial": 0.25,
        "rewards/margins/spatial": 1.5,
        "rewards/accuracies/spatial": 1.0,
        "loss/temporal": 0.75,
        "rewards/margins/temporal": 0.0,
        "rewards/accuracies/temporal": 0.0,
    }


def test_every_pair_counts_once_however_the_packs_are_cut():
    first, second = two_rows()
    assert summarise([first, first, second])["loss"] == pytest.approx((0.25 + 0.25 + 0.75) / 3)


def test_a_mode_without_pairs_has_no_metrics():
    assert not [key for key in summarise(two_rows()) if "cross_frame" in key]


def start_rows(policy, reference, beta, n=20):
    """The rows of one pair whose chosen response has these logps; the rejected agree."""
    agreed = torch.tensor([-50.0])
    chosen, chosen_0 = torch.tensor([policy]), torch.tensor([reference])
    losses, *rewards = dpo_loss(chosen, agreed, chosen_0, agreed, beta)
    more = {"id": "a", "tokens/chosen": n, "tokens/rejected": n}
    return [row | more for row in pair_rows(["spatial"], losses, *rewards, chosen, agreed)]


def test_a_policy_that_is_its_reference_may_start():
    check_start(start_rows(-100.0, -100.0, 0.1), 0.1, "float32")
    check_start(start_rows(-100.0, -100.001, 0.1), 0.1, "float32")  # rounding


@pytest.mark.parametrize("beta", [0.01, 1.0])
def test_a_policy_a_tenth_of_a_nat_off_may_not_start_whatever_beta(beta):
    message = r"chosen response of pair a -100\.1.* the reference -100\.0"
    with pytest.raises(RuntimeError, match=message):
        check_start(start_rows(-100.1, -100.0, beta), beta, "float32")


def test_in_bfloat16_a_policy_may_be_a_nat_off_but_not_ten():
    check_start(start_rows(-101.0, -100.0, 0.1), 0.1, "bfloat16")
    with pytest.raises(RuntimeError, match="ln 2 = 0.6931"):
        check_start(start_rows(-110.0, -100.0, 0.1), 0.1, "bfloat16")


def test_in_bfloat16_a_likely_answer_of_few_tokens_may_round():
    # five tokens, each of them off by 0.06 in a random direction: 0.13; the log-probability is tiny
    check_start(start_rows(-0.2, -0.33, 0.1, n=5), 0.1, "bfloat16")
    with pytest.raises(RuntimeError, match="response of pair a"):
        check_start(start_rows(-0.2, -0.63, 0.1, n=5), 0.1, "bfloat16")


def test_a_policy_that_is_always_a_little_off_may_not_start():
    rows = start_rows(-100.0, -100.5, 0.1) * 50  # each alone may be a rounding, 50 of them not
    check_start(rows[:1], 0.1, "bfloat16")
    other = start_rows(-100.0, -99.5, 0.1) * 50
    check_start(rows + other, 0.1, "bfloat16")
    with pytest.raises(RuntimeError, match=r"\+0\.2500 nats a response .* mean of 100"):
        check_start(rows, 0.1, "bfloat16")


def test_a_policy_that_gives_no_number_may_not_start():
    with pytest.raises(RuntimeError, match="gives no numbers"):
        check_start(start_rows(math.nan, -100.0, 0.1), 0.1, "float32")
