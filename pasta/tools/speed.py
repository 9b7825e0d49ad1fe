"""How much faster is a packed step than the same pairs in plain rows?

    python -m pasta.tools.speed

A step is forward and backward of the DPO loss of one query about one video, with one chosen and k
rejected responses, through a random Qwen2.5-VL with an adapter of rank 16; the reference is known
and the optimizer left out. Three ways to lay it out:

    packed  one row: the video once, then the responses (packs.py)
    rows    1 + k rows, the video in each, padded at the right, with a padding mask
    bare    the same rows without the mask, which padding at the right does not need

Both kinds of rows are better than what ordinary trainers do: the chosen row is not repeated for
each pair, logits exist only where a response is predicted, and the vision tower runs without
gradients. The ways alternate in one process, so that all meet the same machine. A ratio says how
many times as much as `packed` a way takes: of seconds it is the median over rounds. Memory is the
peak of one step above the loaded model, in a process of its own.

Shapes: k rejected responses, L tokens of the longest row, R of the longest response, V vocabulary.
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from pasta.config import knob, parse
from pasta.dpo import dpo_loss
from pasta.families import VideoInputs, family_for
from pasta.lora import adapter_parameters, add_lora
from pasta.packs import Segment, pack
from pasta.policy import Policy, response_logps
from pasta.vlm import ATTENTION, checkpoint_activations, video_features

RESPONSES = (96, 70, 118, 84)  # tokens, the chosen first
TEXT, QUERY = 40, 24  # tokens before the video, and of the query
GRID = (24, 32)  # patches of a frame of 336 x 448 pixels, which is 192 tokens
VIDEO_TOKEN = 1
PREPROCESSOR = {
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "min_pixels": 1,
    "max_pixels": 10**6,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
}
WAYS = ("packed", "rows", "bare")


@dataclass
class SpeedConfig:
    """Measure a packed training step against the same pairs in plain rows."""

    rounds: int = knob("rounds of all ways, after one that does not count", 3)
    k: list[str] = knob("rejected responses per chosen: 1, 2 or 3", ["1", "3"])
    prompt_tokens: int = knob("tokens of system, video and query, about", 1600)
    layers: int = knob("layers of the language model", 4)
    width: int = knob("hidden size of the language model, a multiple of 96", 384)
    vocabulary: int = knob("tokens", 32768)
    memory: bool = knob("measure peak memory, too; on Linux", sys.platform == "linux")
    seed: int = knob("of weights, video and text", 0)


def random_model(config):
    """A Qwen2.5-VL without meaning.

    To see a video token costs 0.38 as much as to read it, the 7B's own ratio: 4 patches through 0.6
    billion weights against one token through 6.5.
    """
    torch.manual_seed(config.seed)
    half_head = config.width // 16  # of 8 heads
    text = {
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.width * 8 // 3,
        "num_hidden_layers": config.layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "initializer_range": 0.05,  # 0.02 gives all tokens nearly the same logits
        "bos_token_id": None,
        "eos_token_id": None,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [half_head - 2 * (half_head // 3), half_head // 3, half_head // 3],
        },
    }
    vision = {
        "depth": 2,
        "hidden_size": config.width // 3,
        "intermediate_size": config.width * 2 // 3,
        "num_heads": 4,
        "out_hidden_size": config.width,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
    }
    settings = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, video_token_id=VIDEO_TOKEN, image_token_id=2
    )
    model = Qwen2_5_VLForConditionalGeneration(settings)
    model.set_attn_implementation(ATTENTION)
    return model


def ways_of(config, k, checkpointing):
    """(policy, {way: function of no arguments that returns (1 + k,) logps}) for all of WAYS."""
    model = random_model(config)
    family = family_for(model.config.to_dict(), PREPROCESSOR)
    add_lora(model, rank=16, alpha=32, seed=config.seed)
    if checkpointing:
        checkpoint_activations(model)
    policy = Policy(SimpleNamespace(model=model, processor=SimpleNamespace(family=family))).train()

    t = max(1, (config.prompt_tokens - TEXT - QUERY) * 4 // (GRID[0] * GRID[1]))
    n_tokens = t * GRID[0] * GRID[1] // 4
    inputs = VideoInputs(torch.randn(n_tokens * 4, 1176), (t, *GRID), 1.0, n_tokens)
    draw = torch.Generator().manual_seed(config.seed)

    def text(n):
        return torch.randint(3, config.vocabulary, (n,), generator=draw).tolist()

    prefix, query = text(TEXT) + [VIDEO_TOKEN] * n_tokens, text(QUERY)
    segments = [Segment((*query, *text(n)), n) for n in RESPONSES[: 1 + k]]
    processor = SimpleNamespace(
        prefix_ids=lambda inputs: prefix,
        positions=lambda ids, inputs: family.positions(torch.tensor(ids), inputs),
    )
    packed = pack(processor, inputs, segments)
    rows = [torch.tensor([*prefix, *segment.ids]) for segment in segments]
    ids = pad_sequence(rows, batch_first=True)  # (1 + k, L)
    columns = torch.arange(ids.shape[1])
    real = columns < torch.tensor([[len(row)] for row in rows])  # (1 + k, L)
    mask = real[:, None, None] & (columns <= columns[:, None])  # (1 + k, 1, L, L)
    plain = partial(rows_logps, policy, inputs, ids, len(prefix) + QUERY, RESPONSES[: 1 + k])
    return policy, {"packed": partial(policy, packed), "rows": partial(plain, mask), "bare": plain}


def rows_logps(policy, inputs, ids, first, lengths, mask=None):
    """The log-probability of each response in a row of its own.

    ids: (1 + k, L), padded at the right. first: where the responses begin, of `lengths` tokens.
    mask: (1 + k, 1, L, L) bool; None is causal. Returns (1 + k,) nats.
    """
    copies = [replace(inputs) for _ in ids]  # each is a video of its own to the vision tower
    logits = policy.model(
        input_ids=ids,
        position_ids=torch.stack([policy.family.positions(row, inputs) for row in ids], dim=1),
        attention_mask=mask,
        mm_encoder_outputs=video_features(policy.model, policy.family, copies),
        logits_to_keep=torch.arange(first - 1, ids.shape[1] - 1),
        use_cache=False,
    ).logits  # (1 + k, R, V)
    kept = torch.cat([row[:n] for row, n in zip(logits, lengths, strict=True)])
    targets = torch.cat([row[first : first + n] for row, n in zip(ids, lengths, strict=True)])
    owner = torch.repeat_interleave(torch.arange(len(ids)), torch.tensor(lengths))
    return response_logps(kept, targets, owner, len(ids))


def step(policy, way):
    """One forward and backward. Returns the (1 + k,) logps."""
    logps = way()
    chosen, rejected = logps[:1].expand(len(logps) - 1), logps[1:]
    dpo_loss(chosen, rejected, chosen.detach(), rejected.detach(), beta=0.1)[0].mean().backward()
    for p in adapter_parameters(policy):
        p.grad = None
    return logps.detach()


def seconds(config, k, checkpointing):
    """({way: seconds of each round}, how far apart the ways' logps are at most, nats)."""
    policy, ways = ways_of(config, k, checkpointing)
    logps = torch.stack([step(policy, way) for way in ways.values()])
    times = {name: [] for name in ways}
    for _ in range(config.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            step(policy, way)
            times[name].append(time.perf_counter() - start)
    return times, (logps - logps[0]).abs().max().item()


def peak_memory(config, k, checkpointing, name):
    """Megabytes that one step takes at most above the loaded model; for a fresh process."""
    policy, ways = ways_of(config, k, checkpointing)
    Path("/proc/self/clear_refs").write_text("5")  # what was held so far no longer counts
    before = resident("VmRSS")
    step(policy, ways[name])
    return resident("VmHWM") - before


def resident(which):
    """Megabytes of memory that this process holds (VmRSS), or has held at most (VmHWM)."""
    # Not getrusage: a child begins with its parent's maximum there.
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = dict(line.split(":", 1) for line in lines)[which].split()[0]
    return int(kilobytes) * 1024 / 1e6  # the file says kB and means 1024 bytes


def main(config):
    print("k  checkpointing  way      seconds   ratio" + "       MB   ratio" * config.memory)
    apart = 0.0
    for k in map(int, config.k):
        for checkpointing in (False, True):
            times, off = seconds(config, k, checkpointing)
            apart = max(apart, off)
            memory = {}
            for way in WAYS:
                ratio = median(a / b for a, b in zip(times[way], times["packed"], strict=True))
                line = f"{k}  {'yes' if checkpointing else 'no':13}  {way:6}  "
                line += f"{median(times[way]):8.3f} {ratio:6.2f}x"
                if config.memory:
                    memory[way] = in_own_process(config, k, checkpointing, way)
                    line += f" {memory[way]:8.0f} {memory[way] / memory['packed']:6.2f}x"
                print(line, flush=True)
    print(f"the log-probabilities of the ways differ by {apart:.0e} nats at most")


def in_own_process(*arguments):
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(peak_memory, *arguments).result()


if __name__ == "__main__":
    main(parse(SpeedConfig))
