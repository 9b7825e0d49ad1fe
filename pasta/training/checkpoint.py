"""Checkpoints of a training run. They are atomic and hold everything that the next step depends on.

    RUN/checkpoints/step-000200/
        rank0.safetensors   trained weights and AdamW's moments; with --shard the slices of rank 0,
                            and one such file for each other rank
        state.json          the step, the flags and data, size and sha256 of every other file

The learning rate and the position in the data are functions of the step and of the plan.
"""

import os
import re
import shutil
from contextlib import nullcontext, suppress

import torch
from safetensors.torch import load_file, save_file

from pasta.lora import adapted
from pasta.models.files import save_model
from pasta.models.peft import LARGEST, save_adapter
from pasta.run import ranks
from pasta.run.atomic import atomic_folder, sync, write_json
from pasta.run.config import changed_settings, settings
from pasta.run.digest import digest_files
from pasta.run.locks import claim_folder
from pasta.run.rows import read_rows
from pasta.run.schema import read_json

STATE = "state.json"
SCHEMA = {"step": int, "flags": dict, "data": str, "files": {"rank0.safetensors": list}}
# Flags that may change on resume: where and how fast a run computes, not what it computes.
FREE = """
    out resume dry_run max_skipped save_every keep_checkpoints workers batch_packs
""".split()


class Checkpoints:
    """The newest checkpoints of a run. data: fingerprint of the Plan; resuming needs the same."""

    def __init__(self, config, data):
        self.folder, self.keep = config.out / "checkpoints", config.keep_checkpoints
        self.sharded, self.flags, self.data = config.shard, settings(config, FREE), data

    def save(self, step, policy, optimizer):
        """Write a checkpoint and remove the oldest ones; all ranks call."""
        if wrong := wrong_weights(policy):
            raise SystemExit(f"after update {step}, {wrong}: lower --lr, with another --out")
        main, final = ranks.rank() == 0, self.folder / f"step-{step:06d}"
        if main and os.path.lexists(final) and not is_ours(final):
            kept = final.with_name(f"{final.name}-{os.getpid()}")
            print(f"{final} holds what no run wrote: renamed to {kept.name}", flush=True)
            os.rename(final, kept)
        with atomic_folder(final) if main else nullcontext() as part:
            (part,) = ranks.gather([part] if main else [])  # waits until the folder exists
            files = []
            if self.sharded or main:
                path = part / f"rank{ranks.rank()}.safetensors"
                save_file(training_state(policy, optimizer), path)
                sync(path)
                files = [(path.name, [path.stat().st_size, digest_files([path])])]
            files = dict(ranks.gather(files))
            if main:
                if (metrics := self.folder.with_name("metrics.jsonl")).exists():
                    sync(metrics)  # first: a checkpoint relies on the rows up to its step
                state = {"step": step, "flags": self.flags, "data": self.data, "files": files}
                write_json(part / STATE, state)
        if main:
            saved = [folder for folder in step_folders(self.folder) if is_ours(folder)]
            n = saved.index(final) + 1  # later ones are damaged: the run did not resume from them
            for old in saved[n:] + saved[:n][: -self.keep]:
                shutil.rmtree(old)

    def stop(self, step, policy, optimizer, reason):
        """Save the weights after update `step`, if finite; raise SystemExit; all ranks call."""
        if wrong := wrong_weights(policy):
            saved = f"Before it, {wrong}; see {self.folder} for earlier ones"
        else:
            self.save(step, policy, optimizer)
            saved = f"The weights before it are in {self.folder}/step-{step:06d}"
        cure = "Leave these pairs out, or lower --lr, in a run with another --out"
        raise SystemExit(f"update {step + 1}: {reason}; expected numbers. {saved}. {cure}")

    def load(self, policy, optimizer):
        """Load the newest undamaged checkpoint in place; all ranks call. Returns its step, or 0."""
        (found,) = ranks.gather([self.newest()] if ranks.rank() == 0 else [])
        if found is None:
            return 0
        folder, state = found
        check_flags(folder, state["flags"], self.flags)
        if state["data"] != self.data:
            text = "the pairs, the videos that can be read, or the model have changed"
            raise SystemExit(f"cannot resume from {folder}: {text}; restore them or change --out")
        if self.sharded and (n := len(state["files"])) != ranks.size():
            raise SystemExit(f"{folder} has slices of {n} processes: use --nproc_per_node {n}")
        saved = load_file(folder / f"rank{ranks.rank() if self.sharded else 0}.safetensors")
        for name, tensor in training_state(policy, optimizer).items():
            tensor.copy_(saved[name])
        ranks.say(f"resuming after update {state['step']}, from {folder}")
        return state["step"]

    def newest(self):
        """(folder, state) of the newest undamaged checkpoint, or None; damaged ones are named."""
        for folder in reversed(step_folders(self.folder)):
            try:
                state = read_state(folder)
                for name, (_, digest) in state["files"].items():
                    if digest_files([folder / name]) != digest:
                        raise ValueError(f"{name} was changed: its sha256 differs")
                return folder, state
            except (OSError, ValueError, TypeError) as error:
                print(f"{folder} is damaged ({error}); trying the one before", flush=True)
        print(f"no usable checkpoint in {self.folder}: starting from the beginning", flush=True)


def step_folders(folder):
    found = {path.name: path for path in folder.glob("step-*") if path.is_dir()}
    numbers = sorted({int(name[5:]) for name in found if name[5:].isdecimal()})
    return [found[name] for n in numbers if (name := f"step-{n:06d}") in found]


def is_ours(folder):
    """Whether a path is a checkpoint and holds nothing else: others are never removed."""
    if folder.is_symlink() or not (folder / STATE).is_file():
        return False
    names = rf"rank\d+\.safetensors|{STATE}"
    return all(re.fullmatch(names, path.name) for path in folder.iterdir())


def wrong_weights(policy, largest=3.4e38) -> str:
    """Names the first trained weight that is nan or above `largest`, or ""; all ranks call."""
    trained = {name: p for name, p in policy.named_parameters() if p.requires_grad}
    wrong = [n for n, p in trained.items() if not (ranks.local_shard(p).abs() <= largest).all()]
    if wrong := ranks.gather(wrong):
        return f"weights are infinite, nan or above {largest:.0e}, first {wrong[0]}: none is saved"
    return ""


def read_state(folder):
    state = read_json(folder / STATE, SCHEMA)
    if folder.name != f"step-{state['step']:06d}":
        raise ValueError(f"{folder / STATE}: step is {state['step']}; expected that of the folder")
    return state


def training_state(policy, optimizer):
    """name -> live tensor of everything that a step changes; with --shard, this rank's slices."""
    tensors = {}
    for name, p in policy.named_parameters():
        if not p.requires_grad:
            continue
        moments = optimizer.state[p]
        if not moments:  # before the first step
            zeros = torch.zeros_like(p.detach())
            moments |= {"step": torch.tensor(0.0), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
        for kind, tensor in {"weight": p, **moments}.items():
            key = f"{kind}/{name.removeprefix('module.')}"  # DDP's prefix
            tensors[key] = ranks.local_shard(tensor)
    return tensors


def check_flags(folder, before, now):
    if text := "; ".join(changed_settings(before, now)):
        raise SystemExit(f"cannot resume from {folder}: {text}; undo this, or change --out")


def open_run(config):
    """Lock the run folder. Raises SystemExit for one of others, a finished run, or other flags."""
    claim_folder(config.out, config, config.model, own=("metrics.jsonl", "checkpoints"))
    if (config.out / "adapter").exists() or (config.out / "model").exists():
        ranks.say(f"{config.out} holds a finished run; choose another --out, or remove it")
        raise SystemExit(0 if config.resume else 1)  # a restarted job has nothing left to do
    if not config.resume and (metrics := config.out / "metrics.jsonl").exists():
        text = f"stopped after {len(read_rows(metrics))} updates; continue it with --resume"
        raise SystemExit(f"{config.out} holds a run that was {text}, or change --out")
    saved = [path for path in step_folders(config.out / "checkpoints") if (path / STATE).is_file()]
    for folder in saved[-1:] if config.resume else ():  # before anything is computed
        with suppress(ValueError):  # damaged: `load`, which checks all files, takes an earlier one
            check_flags(folder, read_state(folder)["flags"], settings(config, FREE))


def save_trained(folder, policy, source, dtype):
    """Write the adapter or, without one, a model of a dtype; atomic; all ranks call."""
    if wrong := wrong_weights(policy, LARGEST):
        raise SystemExit(f"{folder}: {wrong}; lower --lr, with another --out")
    model = getattr(policy, "module", policy).model  # below DDP
    if adapted(model):
        return save_adapter(folder, model, source)
    weights = {}
    for name, p in model.named_parameters():
        tensor = ranks.full_tensor(p)  # one at a time: a sharded model may not fit one process
        if ranks.rank() == 0:
            weights[name] = tensor.to("cpu", getattr(torch, dtype))
    if ranks.rank() == 0:
        save_model(folder, model, source, weights)
