"""How much faster is one packed row than one row per response?

    python -m pasta.tools.speed
    python -m pasta.tools.speed --model qwen2.5-vl-7b
    python tests/campaigns/peer_trl.py                   # with TRL's DPOTrainer

A step is forward and backward of the DPO loss. It has one query about one video, with one chosen
and k rejected responses. The model is a random Qwen2.5-VL with an adapter. No optimizer runs. All
methods give the same log-probabilities:

    packed  one row: the video once, then the responses; the reference is cached
    live    packed, but the reference is computed in each step
    rows    1 + k rows, each with the video, padded on the right, with a padding mask
    bare    rows without the mask, which padding on the right does not need

The methods run in turn. A ratio is relative to `packed`; for seconds it is the median over rounds.
Memory is the peak of allocated tensors in one step, without the model's weights.
"""

import gc
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, product
from statistics import median
from typing import Literal

import torch
from torch.profiler import ProfilerActivity, profile

from pasta.run.command import command_line
from pasta.run.config import knob, parse
from pasta.tools.speed_ways import ways_of

REJECTED = (1, 3)  # k


@dataclass
class SpeedConfig:
    """Compare a packed training step with one row per response."""

    model: Literal["qwen2.5-vl-7b"] = knob("the published size, random weights", toy="small")
    rounds: int = knob("rounds of all methods, after a warm-up", 3)
    n_frames: int = knob("frames of 336 x 448 pixels: two are 192 tokens", 32, toy=16)
    lora_rank: int = knob("rank of the adapter", 32, toy=16)
    dtype: Literal["float32", "bfloat16"] = knob("dtype of the base", "bfloat16", toy="float32")
    device: str = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")


def main(config, peer=None):
    machine = f"{config.dtype}, {config.device}, {torch.get_num_threads()} threads"
    print(f"{config.model} model, {machine}, {config.rounds} rounds")
    for k, checkpointing in product(REJECTED, (False, True)):
        report(config, k, checkpointing, peer)


def report(config, k, checkpointing, peer=None):
    """Measure one setting and print its table."""
    gc.collect()  # frees the models of earlier settings; a trainer refers to itself
    task, ways = ways_of(config, k, checkpointing, peer)
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


if __name__ == "__main__":
    with command_line():
        main(parse(SpeedConfig))
