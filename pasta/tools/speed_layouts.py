"""The responses of one query about one video, laid out in several ways that give the same result.

A way is a function of no arguments that does one training step, forward and backward of the DPO
loss, and returns the log-probability of each response. What the ways are is told in speed.py.

Shapes: k rejected responses, L tokens of the longest row, R of the longest response, V vocabulary.
"""

import copy
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pasta.dpo import dpo_loss
from pasta.lora import adapted, adapter_off, adapter_parameters, add_lora
from pasta.models.families import VideoInputs, family_for
from pasta.models.load import checkpoint_activations, video_features
from pasta.packs import Pack, Segment, pack
from pasta.policy import Policy, response_logps
from pasta.tools.speed_models import VIDEO_TOKEN, random_model

RESPONSES = (96, 70, 118, 84)  # tokens, the chosen first
TEXT, QUERY = 40, 24  # tokens before the video, and of the query
GRID = (24, 32)  # patches of a frame of 336 x 448 pixels
END, FIRST_WORD = 0, 3  # token ids: what closes a response, and the first that means nothing
BETA = 0.1
PREPROCESSOR = {
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "min_pixels": 1,
    "max_pixels": 10**6,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
}


@dataclass(frozen=True)
class Task:
    """A policy, and what it is to score.

    inputs:    the video's VideoInputs
    pack:      the responses as one Pack
    rows:      (1 + k, L) int64, each in a row of its own, the chosen first, padded at the right
    first:     where in its row each response begins
    lengths:   (1 + k) tokens of the responses
    reference: (1 + k,) nats, known beforehand
    """

    policy: Policy
    inputs: VideoInputs
    pack: Pack
    rows: Tensor
    first: int
    lengths: tuple[int, ...]
    reference: Tensor


def ways_of(config, k, checkpointing):
    """(Task, {way: step}) of a query with one chosen and k rejected responses."""
    model = random_model(config)
    twin = same_weights(model) if config.peer else None
    task = make_task(config, model, k)
    if checkpointing:
        checkpoint_activations(model)

    rows = partial(rows_logps, task)
    packed, mask = partial(task.policy, task.pack), padding_mask(task)
    ways = {
        "packed": partial(dpo_step, task, packed),
        "live": partial(dpo_step, task, packed, live_reference=True),
        "rows": partial(dpo_step, task, partial(rows, mask)),
        "once": partial(dpo_step, task, partial(rows, mask, one_video=True)),
        "bare": partial(dpo_step, task, rows),
    }
    if config.peer:
        from pasta.tools.speed_trl import trl_step

        ways["trl"] = trl_step(config, task, twin, checkpointing)
    return task, ways


def same_weights(model):
    """Another model on the very tensors of this one."""
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(x): x for x in tensors})


def make_task(config, model, k):
    """The Task of a model, which gets an adapter; video and text are drawn by config.seed."""
    family = family_for(model.config.to_dict(), PREPROCESSOR)
    vlm = SimpleNamespace(model=model, processor=SimpleNamespace(family=family))
    policy = Policy(vlm, amp=config.dtype == "bfloat16").train()
    add_lora(model, rank=config.lora_rank, alpha=2 * config.lora_rank, seed=config.seed)
    for _, layer in adapted(model):
        layer.lora_B.data.normal_(std=0.02)  # as if trained: an adapter of zeros hides mistakes

    t = -(-config.n_frames // 2)
    n_tokens = t * GRID[0] * GRID[1] // 4
    draw = torch.Generator().manual_seed(config.seed)
    pixels = torch.randn(n_tokens * 4, 1176, generator=draw)
    inputs = VideoInputs(pixels, (t, *GRID), 1.0, n_tokens)

    def text(n):
        vocabulary = model.config.text_config.vocab_size
        return torch.randint(FIRST_WORD, vocabulary, (n,), generator=draw).tolist()

    prefix, query = text(TEXT) + [VIDEO_TOKEN] * n_tokens, text(QUERY)
    lengths = RESPONSES[: 1 + k]
    segments = [Segment((*query, *text(n - 1), END), n) for n in lengths]
    processor = SimpleNamespace(
        prefix_ids=lambda inputs: prefix,
        positions=lambda ids, inputs: family.positions(torch.tensor(ids), inputs),
    )
    packed = pack(processor, inputs, segments)
    rows = [torch.tensor([*prefix, *segment.ids]) for segment in segments]
    rows = pad_sequence(rows, batch_first=True, padding_value=END)
    with adapter_off(model), torch.no_grad():
        reference = policy(packed)
    return Task(policy, inputs, packed, rows, len(prefix) + QUERY, lengths, reference)


def padding_mask(task):
    """(1 + k, 1, L, L) bool: causal, and no row sees its padding."""
    columns = torch.arange(task.rows.shape[1])
    ends = torch.tensor(task.lengths)[:, None] + task.first
    mask = (columns < ends)[:, None, None] & (columns <= columns[:, None])
    return mask.to(task.policy.model.device)


def rows_logps(task, mask=None, one_video=False):
    """The log-probability of each response in a row of its own.

    mask: (1 + k, 1, L, L) bool; None is causal. one_video: the vision tower sees the video once
        for all rows, and not once for each.
    Returns (1 + k,) nats.
    """
    policy, rows, first = task.policy, task.rows, task.first
    model, family, device = policy.model, policy.family, policy.model.device
    videos = [task.inputs if one_video else replace(task.inputs) for _ in rows]
    positions = torch.stack([family.positions(row, task.inputs) for row in rows], dim=1)
    with torch.autocast(device.type, torch.bfloat16, enabled=policy.amp):
        logits = model(
            input_ids=rows.to(device),
            position_ids=positions.to(device),
            attention_mask=mask,
            mm_encoder_outputs=video_features(model, family, videos),
            logits_to_keep=torch.arange(first - 1, rows.shape[1] - 1, device=device),
            use_cache=False,
        ).logits  # (1 + k, R, V)
    inside = torch.arange(logits.shape[1]) < torch.tensor(task.lengths)[:, None]  # (1 + k, R)
    owner = torch.arange(len(rows))[:, None].where(inside, len(rows))  # padding is one more segment
    targets = rows[:, first:].to(device)
    scored = (logits.flatten(0, 1), targets.flatten(), owner.flatten())
    return response_logps(*scored, len(rows) + 1)[:-1]


def dpo_step(task, logps_of, live_reference=False):
    """One forward and backward; gradients are dropped. Returns the (1 + k,) logps."""
    reference = task.reference
    if live_reference:
        with adapter_off(task.policy), torch.no_grad():
            reference = logps_of()
    logps = logps_of()
    pairs = (x.expand(len(logps) - 1) for x in (logps[0], logps[1:], reference[0], reference[1:]))
    dpo_loss(*pairs, beta=BETA)[0].mean().backward()
    for p in adapter_parameters(task.policy):
        p.grad = None
    return logps.detach()
