"""How much faster is one packed row than the same pairs in rows of their own?

    python -m pasta.tools.speed --peer trl
    python -m pasta.tools.speed --model qwen2.5-vl-7b

A step is the forward and backward of the DPO loss of one query about one video, with one chosen and
k rejected responses. The model is a random Qwen2.5-VL with an adapter. No optimizer runs. All ways
give the same log-probabilities:

    packed  one row: the video once, then the responses; the reference is known
    live    packed, and the reference is computed in each step
    rows    1 + k rows, each with the video, padded on the right, with a padding mask
    bare    rows without the mask, which padding on the right does not need
    trl     TRL's DPOTrainer: k pairs are 2k rows, the reference is computed in each step

The ways alternate. A ratio is relative to `packed`; for seconds it is the median over rounds.
Memory is the peak of allocated tensors in one step, above those of the model. Utilisation is the
rate of the operations of `packed` (costs.py, recomputation included) divided by the rate of a large
matrix product on the same machine.
"""

import gc
import time
from dataclasses import dataclass
from importlib import import_module
from itertools import accumulate
from statistics import median
from typing import Literal

import torch
from torch.profiler import ProfilerActivity, profile

from pasta.run.config import knob, parse
from pasta.tools.costs import costs_of
from pasta.tools.speed_ways import PUBLISHED, ways_of


@dataclass
class SpeedConfig:
    """Measure a packed training step against the same pairs in rows of their own."""

    model: Literal[tuple(PUBLISHED)] = knob("published sizes, random weights", toy="small")
    peer: Literal["trl"] | None = knob("another trainer to measure as well", None)
    rounds: int = knob("rounds of all ways, after a warm-up", 3)
    k: list[str] = knob("rejected responses per chosen response: 1, 2 or 3", ["1", "3"])
    n_frames: int = knob("frames of 336 x 448 pixels: two are 192 tokens", 32, toy=16)
    layers: int = knob("layers of the small language model", 4)
    width: int = knob("hidden size of the small language model, a multiple of 96", 384)
    vocabulary: int = knob("tokens of the small model", 32768)
    lora_rank: int = knob("rank of the adapter", 32, toy=16)
    dtype: Literal["float32", "bfloat16"] = knob("of the base", "bfloat16", toy="float32")
    device: str = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")
    memory: bool = knob("measure peak memory as well", True)
    operators: int = knob("operators of a packed step to list in torch's own table", 0)
    seed: int = knob("of weights, video and text", 0)


@dataclass
class Measured:
    """One way: seconds of each round, peak memory in bytes (0: not measured), (1 + k,) logps."""

    seconds: list[float]
    memory: int
    logps: torch.Tensor


def main(config):
    if config.peer:
        try:
            import_module(f"pasta.tools.speed_{config.peer}")
        except ImportError as error:
            raise SystemExit(
                f"--peer {config.peer}: {error}; install it: pip install -r requirements-dev.txt"
            ) from error
    rate = matmul_rate(config.device, getattr(torch, config.dtype))
    print(
        f"{config.model} model, {config.dtype}, {config.device}, {torch.get_num_threads()} threads,"
        f" {config.rounds} rounds;\na large matrix product does {rate / 1e12:.3g} TFLOP/s\n"
    )
    head = "k  checkpointing  way      seconds   ratio     of rounds"
    print(head + "       MB   ratio" * config.memory)
    settings = [(int(k), checkpointing) for k in config.k for checkpointing in (False, True)]
    notes = [report(config, *setting, rate) for setting in settings]
    print("", *notes, sep="\n")


def report(config, k, checkpointing, rate):
    """Measure one setting and print its rows of the table. Returns the text below the table.

    rate: floating-point operations per second of a large matrix product.
    """
    gc.collect()  # frees the models of earlier settings; a trainer refers to itself
    task, ways = ways_of(config, k, checkpointing)
    found = measure(config, ways)
    for way in ways:
        setting = f"{k}  {'yes' if checkpointing else 'no':13}  {way:6}"
        print(f"{setting}  {table_row(found, way)}", flush=True)
    if "packed" not in found:
        return ""
    packed, model = found["packed"], task.policy.model
    costs, lengths = costs_of(model), task.pack.lengths
    patches, tokens, seconds = len(task.inputs.pixel_values), sum(lengths), median(packed.seconds)
    language, vision = costs.forward(lengths, patches, len(task.pack.keep))
    used = ((2 + checkpointing) * language + vision) / seconds / rate
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    peak = f", peak {(weights + packed.memory) / 2**30:.2f} GiB with the weights"
    apart = max((way.logps - packed.logps).abs().max().item() for way in found.values())
    text = (
        f"k = {k}, checkpointing {'on' if checkpointing else 'off'}: packed reads {tokens} tokens, "
        f"{tokens / seconds:.0f} per second, utilisation {used:.0%}{peak * config.memory}; "
        f"log-probabilities of {packed.logps.abs().max():.0f} nats differ by {apart:.0e} at most"
    )
    if config.operators:
        with profile() as profiler:
            ways["packed"]()
        table = profiler.key_averages().table("self_cpu_time_total", row_limit=config.operators)
        text += f"\n{table}"
    return text


def measure(config, ways):
    """{way: Measured}. The ways alternate; a way that does not fit in GPU memory is left out."""
    found = {}
    for way, step in ways.items():
        try:
            logps = step()  # warm-up
            memory = peak_memory(step, config.device) if config.memory else 0
            found[way] = Measured([], memory, logps)
        except torch.OutOfMemoryError:
            continue
    for _ in range(config.rounds):
        for way, measured in found.items():
            measured.seconds.append(seconds_of(ways[way], config.device))
    return found


def seconds_of(function, device):
    """Seconds of one call, until the device has finished."""
    synchronize = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    function()
    synchronize()
    return time.perf_counter() - start


def matmul_rate(device, dtype):
    """Floating-point operations per second of a large matrix product: the best of five."""
    n = 8192 if torch.device(device).type == "cuda" else 2048
    a, b = torch.randn(2, n, n, device=device, dtype=dtype)
    times = [seconds_of(lambda: a @ b, device) for _ in range(6)]
    return 2 * n**3 / min(times[1:])


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


def table_row(found, way):
    """The cells of a way in the table."""
    if way not in found:
        return "does not fit"
    this, packed = found[way], found.get("packed", found[way])
    ratios = sorted(a / b for a, b in zip(this.seconds, packed.seconds, strict=True))
    text = f"{median(this.seconds):8.3f} {median(ratios):6.2f}x "
    text += f" {ratios[0]:5.2f}-{ratios[-1]:<5.2f}"
    if this.memory:
        text += f" {this.memory / 1e6:8.0f} {this.memory / packed.memory:6.2f}x"
    return text.rstrip()


if __name__ == "__main__":
    main(parse(SpeedConfig))
