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

from pasta.lora import adapted
from pasta.models.files import save_model
from pasta.models.peft import save_adapter
from pasta.pairs import MODES
from pasta.run import ranks
from pasta.run.atomic import sync, write_json
from pasta.run.locks import lock_folder
from pasta.run.rows import digest_files, read_rows
from pasta.run.schema import read_json

STATE = "state.json"
# What may differ when a run goes on: where and how fast it runs, not what it computes.
FREE = {"out", "resume", "dry_run", "max_skipped", "save_every", "keep_checkpoints", "workers"}


class Checkpoints:
    """The checkpoints of one run, in RUN/checkpoints, the newest few of them.

    config: out, keep_checkpoints, shard; to go on, all of it but FREE must be the same.
    data: of updates.fingerprint; it must be the same as well.
    """

    def __init__(self, config, data):
        self.folder, self.keep = config.out / "checkpoints", config.keep_checkpoints
        self.sharded, self.flags, self.data = config.shard, flags(config), data

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
            run = {"step": step, "flags": self.flags, "data": self.data}
            write_json(part / STATE, run | {"files": files})
            for path in (part / STATE, part):
                sync(path)
            shutil.rmtree(final, ignore_errors=True)  # damaged, too
            os.rename(part, final)
            sync(self.folder)
            saved = sorted(self.folder.glob("step-*"))
            later = saved[saved.index(final) + 1 :]  # damaged ones that were not gone on from
            for old in later + saved[: saved.index(final) + 1][: -self.keep]:
                shutil.rmtree(old)

    def stop(self, step, policy, optimizer, reason):
        """Save what was trained until `step`, then raise SystemExit with the reason; all call."""
        self.save(step, policy, optimizer)
        kept = f"The weights before it are in {self.folder}/step-{step:06d}"
        cure = "Look at these pairs; leave them out, or lower --lr, in a run with another --out"
        raise SystemExit(f"update {step + 1}: {reason}; expected numbers. {kept}. {cure}")

    def load(self, policy, optimizer):
        """Put the newest whole checkpoint into both, in place; all call.

        Returns its step, 0 when there is none. Raises SystemExit when it is of another run.
        """
        (found,) = ranks.gather([self.newest()] if ranks.rank() == 0 else [])
        if found is None:
            return 0
        folder, state = found
        check_flags(folder, state["flags"], self.flags)
        if state["data"] != self.data:
            raise SystemExit(
                f"cannot go on from {folder}: the pairs, the videos that can be read, or the model "
                "are not what they were; bring them back, or choose another --out"
            )
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
                state = read_state(folder)
                for name, (size, digest) in state["files"].items():
                    got = (folder / name).stat().st_size
                    if got != size:
                        raise ValueError(f"{name} has {got} bytes; expected {size}")
                    if digest_files([folder / name]) != digest:
                        raise ValueError(f"{name} is not what was written: its sha256 differs")
            except (OSError, ValueError, TypeError) as error:
                print(f"{folder} is damaged ({error}); going back to the one before", flush=True)
                continue
            return folder, state
        print(f"no whole checkpoint in {self.folder}: from the start", flush=True)
        return None


def read_state(folder):
    """What `save` wrote into a checkpoint's state.json. Raises ValueError for anything else."""
    shape = {"step": int, "flags": dict, "data": str, "files": {"rank0.safetensors": list}}
    state = read_json(folder / STATE, shape)
    if folder.name != f"step-{state['step']:06d}":
        raise ValueError(f"{folder / STATE}: step is {state['step']}; expected that of the folder")
    return state


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
            key = f"{kind}/{name.removeprefix('module.')}"  # DDP's prefix
            tensors[key] = ranks.local_shard(tensor)
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    return tensors


def set_random_state(tensors):
    """Go on drawing where the run stopped that `tensors` are of."""
    torch.set_rng_state(tensors["random/cpu"])
    if torch.cuda.is_available() and "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"])


def flags(config):
    """The fields of a config that a run depends on, as plain JSON."""
    same = {key: value for key, value in asdict(config).items() if key not in FREE}
    return json.loads(json.dumps(same, default=str))


def check_flags(folder, before, now):
    """Raise SystemExit with the flags that differ from those of a checkpoint's run."""
    changed = [f"--{k} was {before.get(k)} and is {now[k]}" for k in now if before.get(k) != now[k]]
    if changed:
        told = "; ".join(changed)
        raise SystemExit(f"cannot go on from {folder}: {told}; give what it was, or another --out")


def check_config(config):
    """Refuse, with SystemExit, flags that a run cannot begin with."""
    if not config.pairs.is_file():
        raise SystemExit(f"there is no {config.pairs}; `python make_pairs.py` makes it")
    if len(config.mode_weights) != len(MODES):
        told = f"{len(MODES)} numbers: of {', '.join(MODES)}; got {config.mode_weights}"
        raise SystemExit(f"--mode_weights takes {told}")
    if min(config.mode_weights) < 0 or not sum(config.mode_weights):
        raise SystemExit(f"--mode_weights are {config.mode_weights}; expected some above 0")
    if config.beta <= 0:
        raise SystemExit(f"--beta is {config.beta}; expected a number above 0")
    for name in ("epochs", "batch_pairs", "save_every", "eval_every", "keep_checkpoints"):
        if getattr(config, name) < 1:
            raise SystemExit(f"--{name} is {getattr(config, name)}; expected 1 or more")


def open_run(config):
    """Lock the run folder; refuse, with SystemExit, one of a finished run or of other flags."""
    check_config(config)
    lock_folder(config.out)
    if (config.out / "adapter").exists() or (config.out / "model").exists():
        print(f"{config.out} holds a finished run; choose another --out, or remove it")
        raise SystemExit(0 if config.resume else 1)  # a restarted job has nothing left to do
    if not config.resume and (config.out / "metrics.jsonl").exists():
        steps = len(read_rows(config.out / "metrics.jsonl"))
        raise SystemExit(
            f"{config.out} holds a run that was stopped after {steps} updates; "
            "--resume goes on with it; or choose another --out, or remove it"
        )
    # Now, before anything is computed or written; whether the files are whole is seen on loading.
    saved = sorted((config.out / "checkpoints").glob(f"step-*/{STATE}")) if config.resume else []
    for path in saved[-1:]:
        try:
            before = read_state(path.parent)["flags"]
        except ValueError:
            continue  # damaged
        check_flags(path.parent, before, flags(config))


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
        tensor = ranks.full_tensor(p)  # one at a time: a sharded model may not fit one process
        if ranks.rank() == 0:
            weights[name] = tensor.to("cpu", getattr(torch, dtype))
    if ranks.rank() == 0:
        save_model(folder, model, source, weights)
