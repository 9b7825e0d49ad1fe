"""The processes that torchrun starts: who am I, how work is dealt, how the policy is shared.

Every process takes its part of an update's packs. DDP gives each of them the whole model, FSDP2 a
slice of it; both average gradients over processes and both meet at every backward. So a process
with fewer packs than another makes up the number with a filler of weight 0, and each loss, which is
already a share of the whole update's, is multiplied by size(): one process or several then give the
same gradient, whatever the packs' sizes.
"""

import os
import signal
import sys
from contextlib import contextmanager
from datetime import timedelta
from threading import Event

import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

# Not the usual minutes: processes meet after each one's share of the reference, however slow.
PATIENCE = timedelta(hours=12)


def start(device):
    """Join the processes of torchrun; alone, do nothing. Returns the device of this process."""
    if "WORLD_SIZE" not in os.environ:
        return device
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    return device


def stop():
    """End this process, if torchrun started it; nothing may hold a `parallel` policy any more.

    A thread of gloo may still wait for the interpreter's lock, to free a tensor. DDP holds the
    group as well: gone last, it would wait for that thread while it keeps the lock. And a thread
    that wants the lock when the interpreter is ending aborts the process (pytorch/pytorch#190489).
    """
    if started():
        dist.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # all files are written, and the interpreter does not end before its threads


def started():
    """Whether torchrun started this process, alone or with others."""
    return dist.is_initialized()


def rank():
    """The number of this process, 0 when there is only one."""
    return dist.get_rank() if started() else 0


def size():
    """How many processes there are."""
    return dist.get_world_size() if started() else 1


def share(items):
    """Every size()-th item, beginning with this process's number."""
    return items[rank() :: size()]


def balance(items, costs):
    """This process's part of `items`, dealt by cost like cards: there and back, the dearest first.

    costs: number of each item. The parts differ by one item at most; items of one round cost about
    the same, so that nobody waits long where processes meet, and the sums are near each other.
    """
    order = sorted(range(len(items)), key=lambda i: costs[i], reverse=True)
    rounds = [order[i : i + 2 * size()] for i in range(0, len(order), 2 * size())]
    seats = (rank(), 2 * size() - 1 - rank())
    return [items[both[seat]] for both in rounds for seat in seats if seat < len(both)]


def pad(items, filler):
    """`items` with as many `filler` behind them as the process with the most items has more."""
    return items + [filler] * (max(gather([len(items)])) - len(items))


def rank_path(path):
    """`path` with a name of this process's own: a.jsonl, a.rank1.jsonl, a.rank2.jsonl, ..."""
    return path.with_name(f"{path.stem}.rank{rank()}{path.suffix}") if rank() else path


def rank_paths(path):
    """`path` and the files that `named` gave other processes, of any run; those that are there."""
    others = sorted(path.parent.glob(f"{path.stem}.rank*{path.suffix}"))
    return [file for file in (path, *others) if file.is_file()]


def gather(rows):
    """The rows of all processes, in order of rank; every process gets all of them."""
    if size() == 1:
        return rows
    parts = [None] * size()
    dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part]


def progress(items=None, name=None, total=None, unit="it", **more):
    """tqdm on rank 0 of a terminal; silent on other ranks, without a terminal or without a name."""
    quiet = True if rank() or not name else None  # None: tqdm looks whether there is a terminal
    return tqdm(items, name, total, unit=unit, disable=quiet, **more)


def parallel(policy, units, shard, half):
    """The policy as all processes train it together; alone and whole, as it is.

    units: modules whose weights are gathered one unit at a time, in their order.
    shard: give every process a slice of all weights (FSDP2) in place of a copy (DDP).
    half: gather, and compute with, bfloat16 copies of sharded weights; gradients stay float32.
    """
    if shard:
        device = "cuda" if torch.cuda.is_available() and dist.get_backend() == "nccl" else "cpu"
        mesh = dist.init_device_mesh(device, (size(),))
        kind = torch.bfloat16 if half else None
        mixed = MixedPrecisionPolicy(param_dtype=kind, reduce_dtype=torch.float32)
        for unit in (*units, policy):
            # The outermost unit would stay gathered; after a forward without gradients, as the
            # reference's, its weights would then get none in the next backward.
            fully_shard(unit, mesh=mesh, mp_policy=mixed, reshard_after_forward=True)
        return policy
    if size() == 1:
        return policy
    # All processes load the same weights and nothing changes a buffer: nothing to send at first.
    return DistributedDataParallel(policy, broadcast_buffers=False, init_sync=False)


def full_tensor(tensor):
    """A tensor without its graph, all slices of it; every process must call."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_shard(tensor):
    """This process's slice of a tensor, without its graph; of an ordinary one, all of it."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@contextmanager
def sigterm():
    """Within this context SIGTERM does not end the process; it sets the Event that is yielded."""
    told = Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
