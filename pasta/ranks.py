"""The processes that torchrun starts: who am I, and two ways to agree.

Data parallel by hand: every process has the whole model, takes its share of an update's packs, and
the gradients are summed. A sum and not DDP's mean, because each pair's loss is already divided by
the counts of the whole update; so one process or several give the same gradient, whatever the
packs' sizes, and a process with no pack in an update simply adds nothing.
"""

import os
from datetime import timedelta

import torch
import torch.distributed as dist

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
    """Leave the group of processes, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank():
    """The number of this process, 0 when there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def size():
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(items):
    """Every size()-th item, beginning with this process's number."""
    return items[rank() :: size()]


def named(path):
    """`path` with a name of this process's own: a.jsonl, a.rank1.jsonl, a.rank2.jsonl, ..."""
    return path.with_name(f"{path.stem}.rank{rank()}{path.suffix}") if rank() else path


def gather(rows):
    """The rows of all processes, in order of rank; every process gets all of them."""
    if size() == 1:
        return rows
    parts = [None] * size()
    dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part]


def sum_gradients(parameters):
    """Add up the gradients of all processes, in place, as one flat tensor.

    parameters: list of the same tensors in every process; one without gradient counts as 0.
    """
    if size() == 1:
        return
    for p in parameters:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    for p, grad in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad.copy_(grad.view_as(p))
