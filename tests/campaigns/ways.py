"""How much faster is one packed row than one row per response?

    python tests/campaigns/ways.py
    python tests/campaigns/ways.py --shares                # where the time of a packed step goes
    python tests/campaigns/ways.py --model qwen2.5-vl-7b
    python tests/campaigns/ways.py --model hybrid --n_frames 16 --lora_rank 16 --dtype float32
    python tests/campaigns/peer_trl.py                     # with TRL's DPOTrainer

A step is forward and backward of the DPO loss. It has one query about one video, with one chosen
and k rejected responses. The model is a random Qwen2.5-VL with an adapter; `hybrid` is a Qwen3.5,
in which three of four layers are recurrent. No optimizer runs. All methods give the same
log-probabilities:

    packed  one row: the video once, then the responses; the reference is cached
    live    packed, but the reference is computed in each step
    rows    1 + k rows, each with the video, padded on the right, with a padding mask
    bare    rows without the mask, which padding on the right does not need

The methods run in turn. A ratio is relative to `packed`; for seconds it is the median over rounds.
Memory is the peak of allocated tensors in one step, without the model's weights.

Weights, pixels and tokens are random: as slow as real ones, without downloads.
Shapes: k rejected responses, L tokens of the longest row, R of the longest response, V vocabulary.
"""

import copy
import gc
import json
import os
import re
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, product
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForImageTextToText

sys.path[:0] = [str(Path(__file__).parents[2])]

from pasta.dpo import dpo_loss  # noqa: E402 (after the path to it)
from pasta.lora import adapted, adapter_off, add_lora  # noqa: E402
from pasta.models.families import family_for  # noqa: E402
from pasta.models.family import VideoInputs  # noqa: E402
from pasta.models.load import (  # noqa: E402
    ATTENTION,
    VLM,
    checkpoint_activations,
    share_recurrences,
)
from pasta.models.vision import quicken_tower, video_features  # noqa: E402
from pasta.packs import Pack, Segment, pack  # noqa: E402
from pasta.policy import Policy  # noqa: E402
from pasta.run.command import command_line  # noqa: E402
from pasta.run.config import knob, parse  # noqa: E402

REJECTED = (1, 3)  # k

# A config.json of each size. A video token of "small" costs 0.38 times as much in the vision tower
# as in the language model. In the 7B, too: 4 patches through 0.6 billion weights, a token through
# 6.5. initializer_range is hidden_size ** -0.5, so that logits are of about 1.
SIZES = Path(__file__).parent / "sizes"
PREPROCESSOR = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "merge_size": 2}
PREPROCESSOR |= {"size": {"shortest_edge": 1, "longest_edge": 10**9}}
PREPROCESSOR |= {"min_pixels": 1, "max_pixels": 10**6, "patch_size": 14, "temporal_patch_size": 2}

RESPONSES = (96, 70, 118, 84)  # tokens; the chosen response is first
N_TEXT, N_QUERY = 40, 24  # tokens before the video, and of the query
GRID = (24, 32)  # patches of a frame of 336 x 448 pixels
PARTS = {  # of a step: its operations; the first that fits
    "attention, backward": "attention.*backward",
    "attention, forward": "attention",
    "matrix products": "::(add)?b?mm$",
    "softmax of the loss": "log_softmax",
    "other": "",
}
END, VIDEO_TOKEN, FIRST_WORD = 0, 1, 3  # token ids, 2 is an image's; words have no meaning


@dataclass
class SpeedConfig:
    """Compare a packed training step with one row per response."""

    model: Literal["qwen2.5-vl-7b", "hybrid"] = knob("size, with random weights", toy="small")
    rounds: int = knob("rounds of all methods, after a warm-up", 3)
    n_frames: int = knob("frames of 336 x 448 pixels: two are 192 tokens", 32, toy=16)
    lora_rank: int = knob("rank of the adapter", 32, toy=16)
    dtype: Literal["float32", "bfloat16"] = knob("dtype of the base", "bfloat16", toy="float32")
    shares: bool = knob("only print where the time of a packed step goes", False)
    device: str = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")


def main(config, peer=None):
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler says when it starts
    machine = f"{config.dtype}, {config.device}, {torch.get_num_threads()} threads"
    print(f"{config.model} model, {machine}, {config.rounds} rounds")
    for k, checkpointing in product(REJECTED, (False, True)):
        report(config, k, checkpointing, peer)


def report(config, k, checkpointing, peer=None):
    """Measure one setting and print its table."""
    gc.collect()  # frees the models of earlier settings; a trainer refers to itself
    task, ways = ways_of(config, k, checkpointing, peer)
    if config.shares:
        found = shares(ways["packed"], config.rounds)
        text = ", ".join(f"{part} {100 * share:.1f} %" for part, share in found.items())
        return print(f"k = {k}, checkpointing {'on' if checkpointing else 'off'}: {text}")
    seconds, memory, logps = measure(ways, config.rounds, config.device)
    print(f"\nk = {k}, checkpointing {'on' if checkpointing else 'off'}")
    print("method   seconds   ratio     of rounds       MB   ratio")
    for way in ways:
        if "packed" not in seconds or way not in seconds:
            print(f"{way:6}  does not fit")
            continue
        ratios = sorted(a / b for a, b in zip(seconds[way], seconds["packed"], strict=True))
        print(
            f"{way:6}  {median(seconds[way]):8.3f} {median(ratios):6.2f}x "
            f" {ratios[0]:5.2f}-{ratios[-1]:<5.2f}"
            f" {memory[way] / 1e6:8.0f} {memory[way] / memory['packed']:6.2f}x"
        )
    if "packed" not in seconds:
        return
    tokens, packed = sum(task.pack.lengths), logps["packed"]
    weights = sum(p.numel() * p.element_size() for p in task.policy.model.parameters())
    difference = max((other - packed).abs().max().item() for other in logps.values())
    print(
        f"packed reads {tokens} tokens, {tokens / median(seconds['packed']):.0f} per second, "
        f"peak {(weights + memory['packed']) / 2**30:.2f} GiB with the weights;\n"
        f"log-probabilities of {packed.abs().max():.0f} nats differ by at most {difference:.0e}"
    )


def shares(step, rounds):
    """{part of a step, as in PARTS: share of its time}, over some rounds after a warm-up."""
    step()
    with profile() as profiler:
        for _ in range(rounds):
            step()
    times = Counter(dict.fromkeys(PARTS, 0))
    for event in profiler.key_averages():
        part = next(part for part, form in PARTS.items() if re.search(form, event.key))
        times[part] += event.self_device_time_total or event.self_cpu_time_total
    return {part: time / times.total() for part, time in times.items()}


def measure(ways, rounds, device):
    """Run the ways in turn: {way: seconds of rounds}, {way: peak bytes}, {way: (1 + k,) logps}."""
    seconds, memory, logps = {}, {}, {}
    for way, step in ways.items():
        with suppress(torch.OutOfMemoryError):  # the table says so
            logps[way] = step()  # warm-up
            memory[way] = peak_memory(step, device)
            seconds[way] = []
    for _ in range(rounds):
        for way in seconds:
            seconds[way].append(seconds_of(ways[way], device))
    return seconds, memory, logps


def seconds_of(function, device):
    """Seconds of one call, until the device has finished."""
    synchronize = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    function()
    synchronize()
    return time.perf_counter() - start


def peak_memory(step, device):
    """Peak bytes of the tensors that `step` allocates, above those that exist before it."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events))


@dataclass(frozen=True)
class Task:
    """A policy and what it scores: 1 + k responses, chosen first."""

    policy: Policy
    pack: Pack
    rows: Tensor  # (1 + k, L) int64, one response each, padded on the right
    targets: Tensor  # (1 + k, R) int64, the response tokens of each row; padding is -100
    first: int  # index of the first response token of each row
    reference: Tensor  # (1 + k,) nats, computed beforehand
    beta: float = 0.1
    end: int = END  # the token that ends a response and pads rows


def ways_of(config, k, checkpointing, peer=None):
    """(Task, {way: step}); a step returns the (1 + k,) log-probabilities of the responses.

    peer: function (config, Task, model without adapter, checkpointing) -> {way: step}
    """
    model = random_model(config)
    shared = {id(x): x for x in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)  # for a peer: the same tensors, without our adapter
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
    return task, ways | (peer(config, task, twin, checkpointing) if peer else {})


def random_model(config):
    """A random model, created on its device and in its dtype."""
    torch.manual_seed(0)
    settings = AutoConfig.for_model(**json.loads((SIZES / f"{config.model}.json").read_text()))
    dtype = getattr(torch, config.dtype)
    with torch.device(config.device):
        model = AutoModelForImageTextToText.from_config(settings, dtype=dtype)
    model.set_attn_implementation(ATTENTION)
    share_recurrences(model)
    return model


def make_task(config, model, k):
    """The Task of a model, which gets an adapter."""
    family = family_for(model.config.to_dict(), PREPROCESSOR)
    quicken_tower(model, family)
    vlm = VLM(SimpleNamespace(family=family), model, config.model)
    policy = Policy(vlm, amp=config.dtype == "bfloat16").train()
    add_lora(model, rank=config.lora_rank, alpha=2 * config.lora_rank)
    for _, layer in adapted(model):
        layer.lora_B.data.normal_(std=0.02)  # as if trained: an adapter of zeros hides mistakes

    grid = (-(-config.n_frames // 2), *GRID)
    n_tokens = grid[0] * GRID[0] * GRID[1] // 4
    draw = torch.Generator().manual_seed(0)
    inputs = VideoInputs(torch.randn(n_tokens * 4, 1176, generator=draw), grid, 1.0, n_tokens)

    def text(n):
        end = model.config.text_config.vocab_size
        return torch.randint(FIRST_WORD, end, (n,), generator=draw).tolist()

    prefix, query, parts = text(N_TEXT), text(N_QUERY), grid[0] if family.video_text else 1
    for _ in range(parts):  # with its time before each grid, if the family writes it
        prefix += text(2 * (parts > 1)) + [VIDEO_TOKEN] * (n_tokens // parts)
    responses = [(*text(n - 1), END) for n in RESPONSES[: 1 + k]]
    processor = SimpleNamespace(
        prefix_ids=lambda inputs: prefix,
        positions=lambda ids, inputs: family.positions(torch.tensor(ids), inputs),
    )
    packed = pack(processor, inputs, [Segment((*query, *ids), len(ids)) for ids in responses])
    rows = [torch.tensor([*prefix, *query, *ids]) for ids in responses]
    rows = pad_sequence(rows, batch_first=True, padding_value=END)
    targets = pad_sequence(map(torch.tensor, responses), batch_first=True, padding_value=-100)
    with adapter_off(model), torch.no_grad():
        reference = policy(packed)
    return Task(policy, packed, rows, targets, len(prefix) + N_QUERY, reference)


def padding_mask(task):
    """(1 + k, 1, L, L) bool: causal, and padding is not seen."""
    ends = task.first + task.pack.response_lengths
    columns = torch.arange(task.rows.shape[1])
    mask = (columns < ends[:, None, None, None]) & (columns <= columns[:, None])
    return mask.to(task.policy.model.device)


def rows_logps(task, mask=None):
    """(1 + k,) logps, each response in its own row. mask: (1 + k, 1, L, L) bool; None: causal."""
    policy, rows, inputs = task.policy, task.rows, task.pack.inputs
    model, family, device = policy.model, policy.family, policy.model.device
    videos = [replace(inputs) for _ in rows]  # distinct objects: one vision forward per row
    positions = torch.stack([family.positions(row, inputs) for row in rows], dim=1)
    with torch.autocast(device.type, torch.bfloat16, enabled=policy.amp):
        logits = model(
            input_ids=rows.to(device),
            position_ids=positions.to(device),
            attention_mask=mask,
            mm_encoder_outputs=video_features(model, family, videos),
            logits_to_keep=torch.arange(task.first - 1, rows.shape[1] - 1, device=device),
            use_cache=False,
        ).logits  # (1 + k, R, V)
    targets = task.targets.flatten().to(device)
    token_logps = -cross_entropy(logits.flatten(0, 1).float(), targets, reduction="none")
    return token_logps.view(len(rows), -1).sum(1)


def dpo_step(task, logps_of, live_reference=False):
    """One forward and backward; gradients are dropped. Returns the (1 + k,) logps."""
    with adapter_off(task.policy), torch.no_grad():
        reference = logps_of() if live_reference else task.reference
    logps = logps_of()
    pairs = (x.expand(len(logps) - 1) for x in (logps[0], logps[1:], reference[0], reference[1:]))
    dpo_loss(*pairs, beta=task.beta)[0].mean().backward()
    task.policy.zero_grad()
    return logps.detach()


if __name__ == "__main__":
    with command_line():
        main(parse(SpeedConfig))
