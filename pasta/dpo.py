"""Direct preference optimization: the loss, the weights of the failure modes.

pi is the policy, the model in training; pi_ref is the reference, the same model before training.
A pair has a chosen and a rejected response r to a query q about a video. The reward of a response
is how much more likely training has made it. The margin compares the two:

    reward(r) = beta * (log pi(r | video, q) - log pi_ref(r | video, q))
    margin    = reward(chosen) - reward(rejected)
    loss      = -log sigmoid(margin)                               (arXiv 2305.18290, eq. 7)

sigmoid(margin) is the modelled probability that chosen is preferred. The probabilities before
training cancel: then every margin is 0 and every loss ln 2. With a larger beta, a smaller change
from the reference gives the same margin. Log-probabilities are sums over the tokens, in nats.

Shapes: B pairs.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pasta.pairs import MODES, OTHER


def dpo_loss(
    policy_chosen_logps,
    policy_rejected_logps,
    reference_chosen_logps,
    reference_rejected_logps,
    beta,
    label_smoothing=0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """DPO's loss of each pair, and its two rewards.

        loss = -(1 - e) log sigmoid(margin) - e log sigmoid(-margin)

    the four logps: (B,) float32, nats, <= 0.
    beta: > 0, dimensionless; larger keeps the policy closer to the reference.
    label_smoothing: e, probability that the labels are swapped ("conservative" DPO); 0 in eq. 7.
    Returns losses, chosen_rewards, rejected_rewards, each (B,); the rewards are detached.
    """
    policy = (policy_chosen_logps, policy_rejected_logps)
    reference = (reference_chosen_logps, reference_rejected_logps)
    shapes = {tuple(logps.shape) for logps in (*policy, *reference)}
    assert len(shapes) == 1, f"logps of shapes {shapes}; (B,) and (B, 1) would make (B, B) losses"
    chosen_rewards = beta * (policy_chosen_logps - reference_chosen_logps)
    rejected_rewards = beta * (policy_rejected_logps - reference_rejected_logps)
    margins = chosen_rewards - rejected_rewards
    losses = -logsigmoid(margins) * (1 - label_smoothing) - logsigmoid(-margins) * label_smoothing
    return losses, chosen_rewards.detach(), rejected_rewards.detach()


def sft_loss(policy_chosen_logps, chosen_lengths) -> Tensor:
    """Negative log-likelihood per token of each chosen response: the paper's "+ SFT" row.

    policy_chosen_logps: (B,) nats. chosen_lengths: (B,) tokens summed in them, >= 1.
    Returns (B,) nats per token, >= 0: a mean, so long responses do not weigh more.
    """
    return -policy_chosen_logps / chosen_lengths


def ipo_loss(chosen_logratios, rejected_logratios, beta) -> Tensor:
    """Identity preference optimization: the difference of the log-ratios has a finite target.

        loss = (h - 1 / (2 beta))^2,   h = chosen logratio - rejected logratio
                                                                      (arXiv 2310.12036, eq. 17)

    the logratios: (B,) nats per token, log pi - log pi_ref divided by the tokens of the response,
        as IPO's authors recommended to TRL. The original DPO code uses sums: another beta.
    beta: > 0, tokens per nat (the paper's tau): the target of h is 1 / (2 beta).
    Returns (B,), the square of nats per token, >= 0; 1 / (2 beta)^2 before training, not ln 2.
    """
    return (chosen_logratios - rejected_logratios - 1 / (2 * beta)) ** 2


def pair_losses(config, logps, reference, lengths) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of each pair under the objective, and DPO's two rewards for any objective.

    config: objective, beta, label_smoothing, sft_weight. An sft_weight w above 0 adds to a
        preference loss w times the chosen response's sft_loss (RPO, arXiv 2404.19733, eq. 1).
    logps, reference: (2B,) nats, of B chosen, then B rejected. lengths: (2B,) tokens.
    Returns losses, chosen_rewards, rejected_rewards, each (B,), as dpo_loss does.
    """
    n = len(logps) // 2
    losses, chosen_rewards, rejected_rewards = dpo_loss(
        logps[:n], logps[n:], reference[:n], reference[n:], config.beta, config.label_smoothing
    )
    likelihoods = sft_loss(logps[:n], lengths[:n])
    if config.objective == "ipo":
        logratios = (logps - reference) / lengths
        losses = ipo_loss(logratios[:n], logratios[n:], config.beta)
    if config.objective == "sft":
        losses = likelihoods
    elif config.sft_weight:
        losses = losses + config.sft_weight * likelihoods
    return losses, chosen_rewards, rejected_rewards


def pack_loss(config, item, logps, reference, counts):
    """The part of the update's loss that one pack contributes, and the metrics of each pair.

    config: as in pair_losses, and mode_weights in the order of MODES; OTHER has weight 1.
    item: PackedPairs with B pairs. logps: (2B,) nats, of B chosen, then B rejected.
    reference: (video, query, response) -> nats. counts: mode -> pairs of the whole update.
    Returns (scalar, B rows of pair_rows with ids). Without pairs the scalar and its gradient are 0.
    """
    group, modes = item.group, item.modes()
    known = torch.tensor([reference[group.video, *text] for text in group.texts()])
    lengths = item.pack.response_lengths[item.where]
    losses, *rewards = pair_losses(config, logps, known.to(logps), lengths.to(logps.device))
    mode_weights = dict(zip(MODES, config.mode_weights, strict=True)) | {OTHER: 1.0}
    weights = pair_weights(modes, counts, mode_weights)
    rows = pair_rows(modes, losses, *rewards, *logps.chunk(2))
    for row, pair, *n in zip(rows, group.pairs, *lengths.view(2, -1).tolist(), strict=True):
        row |= {"id": pair.id, "tokens/chosen": n[0], "tokens/rejected": n[1]}
    return (weights.to(logps.device) * losses).sum(), rows


def pair_weights(modes, counts, mode_weights) -> Tensor:
    """Weight of each pair, so that the weighted sum over all packs is the loss of the update.

        sum_i weight_i loss_i = sum_mode w_mode mean(losses of that mode) / sum_mode w_mode

    modes: of B pairs, any part of the update. mode_weights: mode -> w_mode, >= 0.
    counts: mode -> number of its pairs in the whole update, over all packs and ranks.
    Returns (B,) float32; all 0 if every mode of the update has weight 0.
    Departs from the paper, which gives no weights: dividing by the weights of the modes present
    keeps the loss of an untrained policy at ln 2 for any mix of modes.
    """
    total = sum(mode_weights[mode] for mode, count in counts.items() if count) or 1.0
    return torch.tensor([mode_weights[mode] / (counts[mode] * total) for mode in modes])


def pair_rows(modes, losses, chosen_rewards, rejected_rewards, chosen_logps, rejected_logps):
    """The metrics of each pair as a dict of plain numbers, for `ranks.gather`.

    Rewards and margins are dimensionless, logps in nats. A tie counts as accuracy 0: before
    training, all pairs are ties.
    """
    columns = {
        "loss": losses,
        "rewards/chosen": chosen_rewards,
        "rewards/rejected": rejected_rewards,
        "rewards/margins": chosen_rewards - rejected_rewards,
        "rewards/accuracies": (chosen_rewards > rejected_rewards).float(),
        "logps/chosen": chosen_logps,
        "logps/rejected": rejected_logps,
    }
    numbers = zip(modes, *(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(["mode", *columns], row, strict=True)) for row in numbers]
