"""Saves and loads plain LoRA adapters as PEFT's two files. A is (rank, in), B is (out, rank)."""

import json
import math
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pasta.lora import LoRALinear, adapted, add_lora, plain_linears
from pasta.run import ranks
from pasta.run.atomic import atomic_folder
from pasta.run.schema import ABSENT, NUMBER, is_name, read_by, read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LARGEST = 1e6  # of the numbers of an adapter: trained ones are below 100
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Settings that are read here, or do not change what an adapter computes; others may not be set.
KNOWN = (
    "r lora_alpha bias use_rslora peft_type init_lora_weights task_type auto_mapping peft_version "
    "base_model_name_or_path revision inference_mode target_modules exclude_modules lora_dropout "
    "layers_to_transform layers_pattern megatron_config megatron_core loftq_config eva_config "
    "corda_config lora_ga_config qalora_group_size runtime_config"
).split()
BASE_CHANGING_INIT = ("pissa", "olora", "corda", "loftq", "lora_ga")
KEY = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")


def save_adapter(folder, model, base_model):
    """Write the adapter as PEFT's two files, atomically; every rank calls it, rank 0 writes."""
    folder = Path(folder)
    tensors = {
        f"base_model.model.{name}.{matrix}.weight": ranks.full_tensor(getattr(layer, matrix)).cpu()
        for name, layer in adapted(model)
        for matrix in ("lora_A", "lora_B")
    }
    if ranks.rank():
        return  # after full_tensor, which needs every rank
    if folder.exists() and not {p.name for p in folder.iterdir()} <= {CONFIG, WEIGHTS}:
        raise FileExistsError(f"{folder} holds other files; expected a new folder or an adapter's")
    with atomic_folder(folder) as part:
        (part / CONFIG).write_text(json.dumps(peft_config(model, base_model), indent=2) + "\n")
        save_file(tensors, part / WEIGHTS, metadata={"format": "pt"})


def peft_config(model, base_model):
    """The content of adapter_config.json; layer names are those that PEFT finds in the model."""
    names, layers = zip(*adapted(model), strict=True)
    # A regex: a list of kinds ("gate_proj") would match the vision tower's layers as well.
    pattern = "|".join(sorted({re.sub(r"\d+", r"\\d+", re.escape(name)) for name in names}))
    linears = [name for name, m in model.named_modules() if isinstance(m, nn.Linear | LoRALinear)]
    if {name for name in linears if re.fullmatch(pattern, name)} != set(names):
        pattern = "|".join(map(re.escape, names))  # only some layers of a kind are adapted
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base_model),
        "r": len(layers[0].lora_A),
        "lora_alpha": layers[0].alpha,
        "target_modules": pattern,
        "bias": "none",
        "modules_to_save": None,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
    }


def load_adapter(model, folder):
    """Freeze the model and add a PEFT folder's adapter, or raise as `read_adapter` does."""
    rank, alpha, parts = read_adapter(Path(folder), plain_linears(model))
    add_lora(model, "|".join(map(re.escape, parts)), rank=rank, alpha=alpha)
    for name, layer in adapted(model):
        with torch.no_grad():
            layer.lora_A.copy_(parts[name]["A"])
            layer.lora_B.copy_(parts[name]["B"])


def read_adapter(folder, linears):
    """(rank, alpha, {layer: {"A": tensor, "B": tensor}}) of a PEFT folder from any tool.

    linears: name -> linear layer, maybe on the meta device. The weight file, not target_modules,
    decides which layers are adapted.
    Raises FileNotFoundError, and ValueError for anything but plain LoRA that fits the layers.
    """
    rank, alpha = read_peft_config(folder)
    with read_by("safetensors", folder / WEIGHTS):
        tensors = load_file(folder / WEIGHTS)
    full_names = {short(name): name for name in linears}
    parts, wrong = {}, []
    for key, tensor in tensors.items():
        match = KEY.fullmatch(key)
        name = match and full_names.get(short(match[1]))
        if name is None:
            wrong.append(f"{key}: no such layer in this model")
        elif match[2] in parts.setdefault(name, {}):
            wrong.append(f"{key}: {name}.lora_{match[2]} is there twice; expected once")
        else:
            parts[name][match[2]] = tensor
    for name, part in parts.items():
        wrong += misfits(name, part, rank, linears[name])
    if wrong or not parts:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(f"{folder / WEIGHTS}: {'; '.join(wrong[:5]) or 'holds nothing'}{more}")
    return rank, alpha, parts


def read_peft_config(folder):
    """(rank, alpha) of a PEFT folder, with alpha such that the scale is alpha / rank."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}; expected both of PEFT's files")
    config = {"r": 8, "lora_alpha": 8, "bias": "none"}  # PEFT's own defaults
    config |= read_json(folder / CONFIG, {"r": int | ABSENT, "lora_alpha": NUMBER | ABSENT})
    rank, alpha, init = config["r"], config["lora_alpha"], str(config.get("init_lora_weights"))
    plain = {name: name in KNOWN or not config[name] for name in config} | {
        "peft_type": config.get("peft_type") == "LORA",
        "bias": config["bias"] == "none",
        "init_lora_weights": not init.startswith(BASE_CHANGING_INIT),
        "r": 0 < rank < 2**31,
        "lora_alpha": 0 < alpha <= LARGEST,  # false for nan
    }
    if found := [f"{name}={config.get(name)!r:.40}" for name, fits in plain.items() if not fits]:
        raise ValueError(f"{folder / CONFIG}: {', '.join(found)}; expected plain LoRA of rank >= 1")
    return rank, alpha * math.sqrt(rank) if config.get("use_rslora") else alpha


def misfits(name, part, rank, layer):
    """What is wrong with the two matrices of one layer, as messages."""
    wrong = []
    for letter, shape in (("A", (rank, layer.in_features)), ("B", (layer.out_features, rank))):
        got = tuple(part[letter].shape) if letter in part else "missing"
        if got != shape:
            wrong.append(f"{name}.lora_{letter} is {got}; expected {shape}")
        elif part[letter].dtype not in FLOATS:
            wrong.append(f"{name}.lora_{letter} is {part[letter].dtype}; expected float32")
        elif n := int((~(part[letter].float().abs() <= LARGEST)).sum()):
            got = f"{name}.lora_{letter} holds {n} infinite or nan or above {LARGEST:g}"
            wrong.append(f"{got}; expected trained weights")
    return wrong


def short(name):
    """A layer's name without the wrappers that differ between transformers versions."""
    return re.sub(r"^(model\.|language_model\.)+", "", name)


def base_of(folder):
    """The base model that an adapter's folder names, or None. Raises ValueError."""
    key = "base_model_name_or_path"
    base = read_json(folder / CONFIG, {key: str | None | ABSENT}).get(key) or None
    if base and not is_name(base):
        raise ValueError(f"{folder / CONFIG}: {key} is {base!r:.80}; expected a model's name")
    return base
