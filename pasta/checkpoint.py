"""Checkpoints of a training run: each whole or absent, and all that the next step depends on.

    RUN/checkpoints/step-000200/
        rank0.safetensors       trained weights, AdamW's moments, the random state
        rank1.safetensors ...   with --shard: each process's own slices of them
        state.json              the step, what was run, size and sha256 of every other file

The schedule and the position in the data are functions of the step and of what is run. A folder is
filled under another name, written through to the disk, and renamed; so a kill at any moment leaves
at most one that nobody looks at. No pickle is written or read.
"""

import json
import os
import shutil
from dataclasses import asdict

import torch
from safetensors.torch import load_file, save_file

from pasta import ranks
from pasta.config import sync, write_json
from pasta.lora import adapted, save_adapter
from pasta.pairs import MODES, read_rows
from pasta.vlm import digest_files, save_model

STATE = "state.json"
# What may differ when a run goes on: where and how fast it runs, not what it computes.
FREE = {"out", "resume", "max_skipped", "save_every", "keep_checkpoints", "workers", "device"}


class Checkpoints:
    """The checkpoints of one run, in RUN/checkpoints, the newest few of them.

    config: out, keep_checkpoints, shard; to go on, all of it but FREE must be the same.
    plan: of updates.fingerprint; it must be the same as well.
    """

    def __init__(self, config, plan):
        self.folder, self.keep = config.out / "checkpoints", config.keep_checkpoints
        self.sharded = config.shard
        same = {key: value for key, value in asdict(config).items() if key not in FREE}
        self.run = json.loads(json.dumps(same | {"plan": plan}, default=str))

    def save(self, step, policy, optimizer):
        """Write a checkpoint, atomically, and remove what is older than the newest; all call."""
        part, final = self.folder / f".step-{step:06d}.part", self.folder / f"step-{step:06d}"
        if ranks.rank() == 0:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        ranks.gather([])  # until the folder is there
        files = {}
        if self.sharded or ranks.rank() == 0:
            path = part / f"rank{ranks.rank()}.safetensors"
            save_file(training_state(policy, optimizer), path)
            sync(path)
            files = {path.name: [path.stat().st_size, digest_files([path])]}
        files = dict(ranks.gather(list(files.items())))
        if ranks.rank() == 0:
            metrics = self.folder.with_name("metrics.jsonl")
            if metrics.exists():
                sync(metrics)  # first: a checkpoint counts on the rows before it
            write_json(part / STATE, {"step": step, "run": self.run, "files": files})
            for path in (part / STATE, part):
                sync(path)
            shutil.rmtree(final, ignore_errors=True)  # a damaged one that was not gone on from
            os.rename(part, final)
            sync(self.folder)
            for old in sorted(self.folder.glob("step-*"))[: -self.keep]:
                shutil.rmtree(old)

    def load(self, policy, optimizer):
        """Put the newest whole checkpoint into both, in place; all call.

        Returns its step, 0 when there is none. Raises SystemExit when it is of another run.
        """
        (found,) = ranks.gather([self.newest()] if ranks.rank() == 0 else [])
        if found is None:
            return 0
        folder, state = found
        changed = [
            f"{key} was {state['run'].get(key)!r} and is {self.run.get(key)!r}"
            for key in sorted(state["run"].keys() | self.run.keys())
            if state["run"].get(key) != self.run.get(key)
        ]
        if changed:
            raise SystemExit(f"cannot go on from {folder}: {'; '.join(changed)}; or change --out")
        if self.sharded and len(state["files"]) != ranks.size():
            raise SystemExit(
                f"{folder} holds the slices of {len(state['files'])} processes and there are "
                f"{ranks.size()}; start torchrun with --nproc_per_node {len(state['files'])}"
            )
        saved = load_file(folder / f"rank{ranks.rank() if self.sharded else 0}.safetensors")
        for name, tensor in training_state(policy, optimizer).items():
            if not name.startswith("random/"):
                tensor.copy_(saved[name])
        set_random_state(saved)
        if ranks.rank() == 0:
            print(f"going on after update {state['step']}, from {folder}")
        return state["step"]

    def newest(self):
        """(folder, its state) of the newest whole checkpoint, or None; damaged ones are named."""
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                state = json.loads((folder / STATE).read_text())
                for name, (size, digest) in state["files"].items():
                    got = (folder / name).stat().st_size
                    if got != size:
                        raise ValueError(f"{name} has {got} bytes; expected {size}")
                    if digest_files([folder / name]) != digest:
                        raise ValueError(f"{name} is not what was written: its sha256 differs")
            except (OSError, ValueError, KeyError) as error:
                print(f"{folder} is damaged ({error}); going back to the one before", flush=True)
                continue
            return folder, state
        return None


def training_state(policy, optimizer):
    """name -> tensor of all that a step changes; of a sharded policy this process's slices.

    All but the random state are the live tensors; AdamW's are made where it has none yet.
    """
    tensors = {}
    for name, p in policy.named_parameters():
        if not p.requires_grad:
            continue
        moments = optimizer.state[p]
        if not moments:
            zeros = {key: torch.zeros_like(p.detach()) for key in ("exp_avg", "exp_avg_sq")}
            moments |= {"step": torch.tensor(0.0), **zeros}
        for kind, tensor in {"weight": p, **moments}.items():
            tensors[f"{kind}/{name.removeprefix('module.')}"] = ranks.local(tensor)  # DDP's prefix
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    return tensors


def set_random_state(tensors):
    """Go on drawing where the run stopped that `tensors` are of."""
    torch.set_rng_state(tensors["random/cpu"])
    if torch.cuda.is_available() and "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"])


def open_run(config, result):
    """Refuse, with SystemExit, what a run cannot begin with, and to overwrite another run.

    result: RUN/adapter or RUN/model, which a finished run has.
    """
    if not config.pairs.is_file():
        raise SystemExit(f"there is no {config.pairs}; `python make_pairs.py` makes it")
    for name in ("epochs", "batch_pairs", "save_every", "eval_every", "keep_checkpoints"):
        if getattr(config, name) < 1:
            raise SystemExit(f"--{name} is {getattr(config, name)}; expected 1 or more")
    if len(config.mode_weights) != len(MODES):
        raise SystemExit(f"--mode_weights takes {len(MODES)} numbers: of {', '.join(MODES)}")
    if result.exists():
        raise SystemExit(f"{config.out} holds a finished run; choose another --out, or remove it")
    if (config.out / "metrics.jsonl").exists() and not config.resume:
        steps = len(read_rows(config.out / "metrics.jsonl"))
        raise SystemExit(
            f"{config.out} holds a run that was stopped after {steps} updates; "
            "--resume goes on with it; or choose another --out, or remove it"
        )


def save_trained(folder, policy, source, dtype):
    """Write the adapter in PEFT's format or, without one, a whole model folder; all call.

    folder: appears, or is replaced, whole. source: the checkpoint that was loaded.
    dtype: "float32" or "bfloat16", of a whole model's weights on disk.
    """
    model = getattr(policy, "module", policy).model  # below DDP
    if adapted(model):
        return save_adapter(folder, model, source)
    weights = {}
    for name, p in model.named_parameters():
        tensor = ranks.whole(p)  # one at a time, for a sharded model is larger than one process
        if ranks.rank() == 0:
            weights[name] = tensor.to("cpu", getattr(torch, dtype))
    if ranks.rank() == 0:
        save_model(folder, model, source, weights)
