"""How much faster is a packed step than the same pairs in plain rows?

    python -m pasta.tools.speed
    python -m pasta.tools.speed --peer trl
    python -m pasta.tools.speed --model qwen2.5-vl-7b

A step is forward and backward of the DPO loss of one query about one video, with one chosen and k
rejected responses, through a random Qwen2.5-VL with an adapter; the optimizer is left out. The ways
to take it, which all give the same log-probabilities:

    packed  one row: the video once, then the responses (packs.py); the reference is known
    live    the same, and the reference computed in each step
    rows    1 + k rows, the video in each, padded at the right, with a padding mask
    once    the same rows, and the vision tower sees the video once
    bare    `rows` without the mask, which padding at the right does not need
    trl     TRL's DPOTrainer: k pairs are 2k rows, and the reference is computed in each step

All but `trl` are better than what ordinary trainers do: the chosen row is not repeated for each
pair, logits exist only where a response is predicted, and the vision tower runs without gradients.
The ways alternate in one process, so that all meet the same machine. A ratio says how many times as
much as `packed` a way takes: of seconds it is the median over rounds. Memory is the peak of one
step above the loaded model; on a CPU in a process of its own.

The utilisation of `packed` is what its matrix products need, recomputation not counted, in its time
at the rate of a large matrix product on the same machine (speed_hardware.py).
"""

import gc
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing import get_context
from statistics import median
from typing import Literal

import torch

from pasta.run.config import knob, parse
from pasta.tools.speed_hardware import (
    attention_kernels,
    matmul_rate,
    peak_memory,
    step_flops,
    synchronize,
)
from pasta.tools.speed_layouts import ways_of
from pasta.tools.speed_models import PUBLISHED


@dataclass
class SpeedConfig:
    """Measure a packed training step against the same pairs in plain rows."""

    model: Literal[tuple(PUBLISHED)] = knob("published sizes, random weights", toy="small")
    peer: Literal["trl"] | None = knob("another trainer to measure as well", None)
    rounds: int = knob("rounds of all ways, after one that does not count", 3)
    k: list[str] = knob("rejected responses per chosen: 1, 2 or 3", ["1", "3"])
    n_frames: int = knob("frames of 336 x 448 pixels: two are 192 tokens", 32, toy=16)
    layers: int = knob("layers of the small language model", 4)
    width: int = knob("hidden size of the small language model, a multiple of 96", 384)
    vocabulary: int = knob("tokens of the small model", 32768)
    lora_rank: int = knob("rank of the adapter", 32, toy=16)
    dtype: Literal["float32", "bfloat16"] = knob("of the base", "bfloat16", toy="float32")
    device: str = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")
    memory: bool = knob("measure peak memory, too; on Linux or CUDA", sys.platform == "linux")
    seed: int = knob("of weights, video and text", 0)


@dataclass
class Measured:
    """One way: seconds of each round, bytes of peak memory or None, (1 + k,) logps in nats."""

    seconds: list[float]
    memory: int | None
    logps: torch.Tensor


def main(config):
    check_peer(config)
    rate = matmul_rate(config.device, getattr(torch, config.dtype))
    print(
        f"{config.model} model, {config.dtype}, {config.device}, {torch.get_num_threads()} threads,"
        f" {config.rounds} rounds;\na large matrix product does {rate / 1e12:.3g} TFLOP/s\n"
    )
    head = "k  checkpointing  way      seconds   ratio     of rounds"
    print(head + "       MB   ratio" * config.memory)
    settings = [(int(k), checkpointing) for k in config.k for checkpointing in (False, True)]
    notes = [note for setting in settings for note in report(config, *setting, rate)]
    print("", *notes, sep="\n")


def report(config, k, checkpointing, rate):
    """Measure and print the rows of the table for one k. Returns lines for below the table.

    rate: floating-point operations a second of a large matrix product.
    """
    gc.collect()  # models of earlier calls; a trainer refers to itself
    task, ways = ways_of(config, k, checkpointing)
    found = measure(config, k, checkpointing, ways)
    for way in ways:
        setting = f"{k}  {'yes' if checkpointing else 'no':13}  {way:6}"
        print(f"{setting}  {table_row(found, way)}", flush=True)
    if "packed" not in found:
        return []
    throughput = throughput_of(config, task, found["packed"], rate)
    lines = [throughput, difference(found), kernels(ways["packed"], task)]
    setting = f"k = {k}, checkpointing {'on' if checkpointing else 'off'}"
    return [f"{setting}: {line}" for line in lines]


def check_peer(config):
    """Exit with what to install when the peer's packages are missing."""
    if config.peer:
        try:
            import_module(f"pasta.tools.speed_{config.peer}")
        except ImportError as error:
            raise SystemExit(
                f"--peer {config.peer}: {error}; `pip install -r requirements-dev.txt` has it"
            ) from error


def measure(config, k, checkpointing, ways):
    """{way: Measured}, the ways alternated; one that the GPU's memory does not hold is left out."""
    found = {}
    for way, step in ways.items():
        try:
            logps = step()  # a first step does what later ones need not
            memory = memory_of(config, k, checkpointing, way, step) if config.memory else None
            found[way] = Measured([], memory, logps)
        except torch.OutOfMemoryError:
            continue
    for _ in range(config.rounds):
        for way, measured in found.items():
            synchronize(config.device)
            start = time.perf_counter()
            ways[way]()
            synchronize(config.device)
            measured.seconds.append(time.perf_counter() - start)
    return found


def memory_of(config, k, checkpointing, way, step):
    """Bytes that one step takes at most above the loaded model."""
    if torch.device(config.device).type == "cuda":
        return peak_memory(step, config.device)
    if way != config.peer:
        config = replace(config, peer=None)  # nothing of the peer's in that process
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(memory_in_this_process, config, k, checkpointing, way).result()


def memory_in_this_process(config, k, checkpointing, way):
    return peak_memory(ways_of(config, k, checkpointing)[1][way], config.device)


def table_row(found, way):
    """What the table says of a way."""
    if way not in found:
        return "does not fit"
    this, packed = found[way], found.get("packed", found[way])
    ratios = sorted(a / b for a, b in zip(this.seconds, packed.seconds, strict=True))
    text = f"{median(this.seconds):8.3f} {median(ratios):6.2f}x "
    text += f" {ratios[0]:5.2f}-{ratios[-1]:<5.2f}"
    if this.memory is not None:
        text += f" {this.memory / 1e6:8.0f} {this.memory / packed.memory:6.2f}x"
    return text.rstrip()


def throughput_of(config, task, packed, rate):
    """What `packed` gets done in its time."""
    model, tokens, seconds = task.policy.model, sum(task.pack.lengths), median(packed.seconds)
    used = step_flops(model.config, task.pack, config.lora_rank) / seconds / rate
    text = f"packed reads {tokens} tokens, {tokens / seconds:.0f} a second, utilisation {used:.0%}"
    if packed.memory is None:
        return text
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return f"{text}, peak {(weights + packed.memory) / 2**30:.2f} GiB with the weights"


def difference(found):
    """How far the ways are from giving the same log-probabilities."""
    logps = found["packed"].logps
    apart = {way: (other.logps - logps).abs().max().item() for way, other in found.items()}
    ways = ", ".join(f"{nats:.0e} ({way})" for way, nats in apart.items() if way != "packed")
    return f"log-probabilities of {logps.abs().max().item():.0f} nats differ by {ways}"


def kernels(step, task):
    """Which kernels the pieces of a packed step's attention run."""
    pieces = attention_kernels(step, task.pack)
    named = [f"{piece} {n} x {name}" for piece, of in pieces.items() for name, n in of.items()]
    return f"attention of {', '.join(named)}"


if __name__ == "__main__":
    main(parse(SpeedConfig))
