"""Ways to compute one DPO step about one video. All give the same log-probabilities.

A way is a function without arguments that returns the log-probability of each response; speed.py
explains the ways. Weights, pixels and tokens are random: as slow as real ones, without downloads.

Shapes: k rejected responses, L tokens of the longest row, R of the longest response, V vocabulary.
"""

import copy
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from pasta.dpo import dpo_loss
from pasta.lora import adapted, adapter_off, adapter_parameters, add_lora
from pasta.models.families import VideoInputs, family_for
from pasta.models.load import ATTENTION, checkpoint_activations, video_features
from pasta.packs import Pack, Segment, pack
from pasta.policy import Policy, response_logps

TEXT = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
TEXT += ("num_attention_heads", "num_key_value_heads")
VISION = ("depth", "hidden_size", "intermediate_size", "num_heads", "fullatt_block_indexes")
PUBLISHED_VISION = (32, 1280, 3420, 16, [7, 15, 23, 31])
PUBLISHED = {  # name -> (sizes of TEXT, whether input and output embeddings are shared)
    "qwen2.5-vl-3b": ((151936, 2048, 11008, 36, 16, 2), True),
    "qwen2.5-vl-7b": ((152064, 3584, 18944, 28, 28, 4), False),
}
PREPROCESSOR = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "merge_size": 2}
PREPROCESSOR |= {"min_pixels": 1, "max_pixels": 10**6, "patch_size": 14, "temporal_patch_size": 2}

RESPONSES = (96, 70, 118, 84)  # tokens; the chosen response is first
N_TEXT, N_QUERY = 40, 24  # tokens before the video, and of the query
GRID = (24, 32)  # patches of a frame of 336 x 448 pixels
END, VIDEO_TOKEN, IMAGE_TOKEN, FIRST_WORD = range(4)  # token ids; words have no meaning


@dataclass(frozen=True)
class Task:
    """A policy and what it scores."""

    policy: Policy
    inputs: VideoInputs
    pack: Pack  # of all responses
    rows: Tensor  # (1 + k, L) int64, one response each, chosen first, padded on the right
    first: int  # index of the first response token of each row
    lengths: tuple[int, ...]  # (1 + k) tokens of the responses
    reference: Tensor  # (1 + k,) nats, computed beforehand
    beta: float = 0.1
    end: int = END  # the token that ends a response and pads rows


def ways_of(config, k, checkpointing):
    """(Task, {way: step}) of a query with one chosen and k rejected responses."""
    model = random_model(config)
    shared = {id(x): x for x in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)  # for the peer: the same tensors, without our adapter
    task = make_task(config, model, k)
    if checkpointing:
        checkpoint_activations(model)
    packed = partial(task.policy, task.pack)
    ways = {
        "packed": partial(dpo_step, task, packed),
        "live": partial(dpo_step, task, packed, live_reference=True),
        "rows": partial(dpo_step, task, partial(rows_logps, task, padding_mask(task))),
        "bare": partial(dpo_step, task, partial(rows_logps, task)),
    }
    if config.peer:
        from pasta.tools.speed_trl import trl_step

        ways["trl"] = trl_step(config, task, twin, checkpointing)
    return task, ways


def settings_of(config):
    """The Qwen2_5_VLConfig of --model: a published size, or a small one.

    In the small model the cost of a video token in the vision tower is 0.38 of its cost in the
    language model, as in the 7B: 4 patches through 0.6 billion weights, a token through 6.5.
    """
    vision = PUBLISHED_VISION
    if config.model in PUBLISHED:
        text, tied = PUBLISHED[config.model]
    else:
        width, tied = config.width, False
        text = (config.vocabulary, width, width * 8 // 3, config.layers, 8, 2)
        vision = (2, width // 3, width * 2 // 3, 4, [1])
    text, vision = dict(zip(TEXT, text, strict=True)), dict(zip(VISION, vision, strict=True))
    width = text["hidden_size"]
    half_head = width // text["num_attention_heads"] // 2
    axis = half_head * 3 // 8  # M-RoPE's height and width; time has the rest: 16, 24, 24 of 64
    sections = [half_head - 2 * axis, axis, axis]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
    text |= {"initializer_range": width**-0.5}  # logits of about 1 for any width
    text |= {"rope_parameters": rope, "bos_token_id": None, "eos_token_id": None}
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision | {"out_hidden_size": width, "tokens_per_second": 2},
        video_token_id=VIDEO_TOKEN,
        image_token_id=IMAGE_TOKEN,
        tie_word_embeddings=tied,
    )


def random_model(config):
    """A random Qwen2.5-VL, created on its device and in its dtype."""
    torch.manual_seed(config.seed)
    dtype = getattr(torch, config.dtype)
    with torch.device(config.device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(settings_of(config), dtype=dtype)
    model.set_attn_implementation(ATTENTION)
    return model


def make_task(config, model, k):
    """The Task of a model, which gets an adapter. config.seed draws video and text."""
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

    prefix, query = text(N_TEXT) + [VIDEO_TOKEN] * n_tokens, text(N_QUERY)
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
    return Task(policy, inputs, packed, rows, len(prefix) + N_QUERY, lengths, reference)


def padding_mask(task):
    """(1 + k, 1, L, L) bool: causal, and padding is not seen."""
    columns = torch.arange(task.rows.shape[1])
    ends = torch.tensor(task.lengths)[:, None] + task.first
    mask = (columns < ends)[:, None, None] & (columns <= columns[:, None])
    return mask.to(task.policy.model.device)


def rows_logps(task, mask=None):
    """The log-probability of each response in a row of its own: (1 + k,) nats.

    mask: (1 + k, 1, L, L) bool; None is causal.
    """
    policy, rows, first = task.policy, task.rows, task.first
    model, family, device = policy.model, policy.family, policy.model.device
    videos = [replace(task.inputs) for _ in rows]  # distinct objects: one vision forward per row
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
    owner = torch.arange(len(rows))[:, None].where(inside, len(rows))  # padding: an extra segment
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
    dpo_loss(*pairs, beta=task.beta)[0].mean().backward()
    for p in adapter_parameters(task.policy):
        p.grad = None
    return logps.detach()
