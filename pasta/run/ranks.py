"""torch.distributed helpers: rank, load balancing, DDP and FSDP2.

DDP and FSDP2 average gradients over the ranks, and need all ranks in every backward pass. So ranks
with fewer packs run empty dummy packs, and each loss, a share of that of the whole update, is
multiplied by size(). The gradient is then the same for any number of ranks.
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

from pasta.run.schema import printable


def start(device):
    """Join torchrun's process group, if torchrun started us. Returns the device of this rank."""
    if "WORLD_SIZE" in os.environ:
        if device[:5] == "cuda:" and os.environ["WORLD_SIZE"] != "1":
            raise SystemExit(f"--device {device} is one GPU for all processes; use --device cuda")
        if device == "cuda":
            device = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(device)
        backend = "nccl" if device.startswith("cuda") else "gloo"
        # The default is minutes; the slowest share of the reference may take hours.
        dist.init_process_group(backend, timeout=timedelta(hours=12))
    return device


def stop():
    """End this process, if torchrun started it. No `parallel` policy may exist any more."""
    # DDP, if it is freed now, waits for a thread of gloo that waits for Python's lock. And a thread
    # that wants the lock while the interpreter ends aborts the process (pytorch/pytorch#190489).
    if started():
        dist.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # all files are written; the interpreter does not end before its threads


def started():
    return dist.is_initialized()


def rank():
    return dist.get_rank() if started() else 0


def size():
    return dist.get_world_size() if started() else 1


def share(items):
    return items[rank() :: size()]


def balance(items, costs):
    """This rank's part of `items`, most expensive first, in snake order: ranks wait little."""
    order = sorted(range(len(items)), key=lambda i: costs[i], reverse=True)
    ours = (rank(), 2 * size() - 1 - rank())  # places in each round, there and back over the ranks
    return [items[i] for place, i in enumerate(order) if place % (2 * size()) in ours]


def pad(items, filler):
    """`items`, padded with `filler` to the length of the longest rank's; all ranks call."""
    return items + [filler] * (max(gather([len(items)])) - len(items))


def rank_path(path):
    """`path` on rank 0; a file of its own on the others: a.rank1.jsonl, a.rank2.jsonl, ..."""
    return path.with_name(f"{path.stem}.rank{rank()}{path.suffix}") if rank() else path


def rank_paths(path):
    """The existing files that `rank_path` names, of all ranks and all runs."""
    others = sorted(path.parent.glob(f"{path.stem}.rank*{path.suffix}"))
    return [file for file in (path, *others) if file.is_file()]


def gather(rows):
    """The rows of all ranks, in order of rank, on every rank; all ranks call."""
    parts = [rows] * size()
    if size() > 1:
        dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part]


def say(text, file=None):
    """Print a line at once, on rank 0 only, also before `start`."""
    if os.environ.get("RANK", "0") == "0":
        print(printable(text), file=file, flush=True)


def is_first(text):
    """Whether no other rank has asked this about `text`: an error of all ranks is printed once."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":  # torchrun did not start us
        return True
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    return store.add(f"{os.environ['TORCHELASTIC_RESTART_COUNT']} {text}", 1) == 1


def progress(items=None, name=None, total=None, unit="items"):
    """A bar of rank 0's work, in a log once a minute; nothing on other ranks or without name."""
    how = {"leave": False}
    if not (sys.stderr and sys.stderr.isatty()):
        how = {"mininterval": 60, "miniters": 1, "delay": 60}
    part = f" (rank 0 of {size()})" * (size() > 1)
    quiet = bool(rank() or not name or items == [])
    return tqdm(items, f"{name}{part}", total, unit=unit, smoothing=0, disable=quiet, **how)


def parallel(policy, units, shard, half):
    """The policy as all ranks train it together: DDP, FSDP2 (shard), or unchanged on one rank.

    units: modules in the order in which FSDP2 gathers their weights, one at a time.
    half: gather and compute with bfloat16 copies of sharded weights; gradients stay float32.
    """
    if shard:
        mesh = dist.init_device_mesh("cuda" if dist.get_backend() == "nccl" else "cpu", (size(),))
        kind = torch.bfloat16 if half else None
        mixed = MixedPrecisionPolicy(param_dtype=kind, reduce_dtype=torch.float32)
        for unit in (*units, policy):
            # By default the outermost unit stays gathered. After a forward pass without gradients,
            # like the reference's, its weights would get none in the next backward pass.
            fully_shard(unit, mesh=mesh, mp_policy=mixed, reshard_after_forward=True)
    elif size() > 1:
        # All ranks load the same weights and no buffer changes: there is nothing to send.
        return DistributedDataParallel(policy, forward_sync_buffers=False, init_sync=False)
    return policy


def full_tensor(tensor):
    """The whole tensor, gathered if it is sharded, without its graph; all ranks call."""
    return tensor.detach().full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def local_shard(tensor):
    """This rank's slice of a tensor, without its graph; all of it if it is not sharded."""
    return tensor.detach().to_local() if isinstance(tensor, DTensor) else tensor.detach()


@contextmanager
def sigterm():
    """Inside this context SIGTERM does not end the process; it sets the Event that is yielded."""
    event = Event()
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
