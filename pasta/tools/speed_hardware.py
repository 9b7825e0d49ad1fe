"""What a step asks of the machine: memory, floating-point operations, attention kernels.

Shapes: P tokens of the prefix, n of a segment, R response tokens, N query heads, D head width.
"""

import ctypes
import re
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from pasta.packs import seen_pairs

M_MMAP_THRESHOLD = -3  # malloc.h
KERNEL = re.compile(
    r"aten::_(?:scaled_dot_product_(?:attention_math|\w+_attention\w*)|efficient_attention_forward)"
)


def synchronize(device):
    """Wait until the device has done all that it was asked to."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(step, device):
    """Bytes that `step` takes at most above what is held before it.

    On a CPU that is this process's resident memory: on Linux, and right in a fresh process alone.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    # What is freed goes back at once: what glibc would keep of it is not needed, and no two runs
    # keep the same.
    glibc = ctypes.CDLL(None)
    glibc.mallopt(M_MMAP_THRESHOLD, 65536)
    glibc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # what was held so far no longer counts
    before = resident("VmRSS")
    step()
    return resident("VmHWM") - before


def resident(which):
    """Bytes of memory that this process holds (VmRSS), or has held at most (VmHWM)."""
    # Not getrusage: a child begins with its parent's maximum there.
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = dict(line.split(":", 1) for line in lines)[which].split()[0]
    return int(kilobytes) * 1024  # the file says kB and means 1024 bytes


def matmul_rate(device, dtype):
    """Floating-point operations a second of a large matrix product: the best of five."""
    n = 8192 if torch.device(device).type == "cuda" else 2048
    a, b = torch.randn(2, n, n, device=device, dtype=dtype)
    times = []
    for _ in range(6):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * n**3 / min(times[1:])


def step_flops(settings, pack, rank):
    """Floating-point operations in the matrix products of one packed step, reference known.

        linear layers   2 a weight and token, forward, and as much for the input's gradient
        adapter         2 a weight and token, forward, and twice as much for both gradients
        attention       4 N D a pair of tokens that see each other, and twice as much backward
        vision tower    forward alone

    What checkpointing computes again does not count, nor what a causal mask hides.
    settings: the model's Qwen2_5_VLConfig. rank: of the adapter on all linears of the layers.
    """
    text, tokens = settings.text_config, sum(pack.lengths)
    width, inner = text.hidden_size, text.intermediate_size
    narrow = width * text.num_key_value_heads // text.num_attention_heads
    shapes = [(width, width)] * 2 + [(width, narrow)] * 2 + [(width, inner)] * 3  # q o k v mlp
    weights = sum(a * b for a, b in shapes)
    adapter = sum(rank * (a + b) for a, b in shapes)
    layer = 4 * weights * tokens + 6 * adapter * tokens + 12 * width * seen_pairs(pack.lengths)
    head = 4 * width * text.vocab_size * len(pack.keep)
    return text.num_hidden_layers * layer + head + vision_flops(settings.vision_config, pack.inputs)


def vision_flops(vision, inputs):
    """As step_flops, of the tower's forward on VideoInputs whose frames are whole windows."""
    patches, width = len(inputs.pixel_values), vision.hidden_size
    window = (vision.window_size // vision.patch_size) ** 2
    frame = inputs.grid[1] * inputs.grid[2]
    full = len(vision.fullatt_block_indexes)
    block = 4 * width**2 + 3 * width * vision.intermediate_size
    weights = inputs.pixel_values.shape[1] * width + vision.depth * block
    seen = full * frame + (vision.depth - full) * window  # keys of each patch, over all blocks
    merged = vision.spatial_merge_size**2
    merger = (merged * width) ** 2 + merged * width * vision.out_hidden_size
    return 2 * (weights * patches + merger * patches // merged) + 4 * width * seen * patches


def attention_kernels(step, pack):
    """{piece: {kernel: calls}} of one packed step's forward, recomputation included.

    Pieces are prefix, segment, frame (all of its patches) and window (a part of a frame's); they
    are told apart by the numbers of queries and keys. A kernel is named as the operator that torch
    chose for it, on a GPU flash_attention, efficient_attention, cudnn_attention or attention_math.
    """
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        step()
    pieces = {}
    for event in profiler.events():
        nested = event.cpu_parent is not None and KERNEL.fullmatch(event.cpu_parent.name)
        if not KERNEL.fullmatch(event.name) or "backward" in event.name or nested:
            continue
        axis = 1 if "efficient_attention_forward" in event.name else 2  # that of the tokens
        queries, keys = (shape[axis] for shape in event.input_shapes[:2])
        kernels = pieces.setdefault(piece(queries, keys, pack), {})
        name = event.name.removeprefix("aten::_").removeprefix("scaled_dot_product_")
        kernels[name] = kernels.get(name, 0) + 1
    return pieces


def piece(queries, keys, pack):
    """Which part of a packed step has attention from that many tokens to that many."""
    prefix, *segments = pack.lengths
    if queries == keys == prefix:
        return "prefix"
    if queries in segments and keys == prefix + queries:
        return "segment"
    return "frame" if queries == pack.inputs.grid[1] * pack.inputs.grid[2] else "window"
