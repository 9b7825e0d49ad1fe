"""Saves and loads adapters as PEFT's two files; refuses what is not plain LoRA.

Shapes: R adapter rank; A is (R, in), B is (out, R).
"""

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
SHAPE = {
    "r": int | ABSENT,
    "lora_alpha": NUMBER | ABSENT,
    "base_model_name_or_path": str | None | ABSENT,
}
# Settings that change what an adapter computes, or the base model: not supported here.
REFUSED = (
    "use_dora modules_to_save lora_bias rank_pattern alpha_pattern layer_replication "
    "target_parameters trainable_token_indices alora_invocation_tokens use_qalora use_bdlora "
    "arrow_config kasa_config monteclora_config"
).split()
KEY = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")
BASE_CHANGING_INIT = ("pissa", "olora", "corda", "loftq", "lora_ga")


def save_adapter(folder, model, base_model):
    """Write the adapter as PEFT's two files, atomically; every rank calls it, rank 0 writes.

    base_model: name or folder of the base model, for those who load the adapter
    Raises ValueError without an adapter, FileExistsError when `folder` holds anything else.
    """
    folder = Path(folder)
    if not adapted(model):
        raise ValueError(f"{folder}: the model has no adapter to save; add_lora gives it one")
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
    linears = [name for name, m in model.named_modules() if isinstance(m, nn.Linear | LoRALinear)]
    names, layers = zip(*adapted(model), strict=True)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base_model),
        "r": len(layers[0].lora_A),
        "lora_alpha": layers[0].alpha,
        # a list of kinds ("gate_proj") would match the vision tower's layers as well
        "target_modules": names_pattern(names, linears),
        "bias": "none",
        "modules_to_save": None,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
    }


def names_pattern(names, linears):
    """A regex for exactly `names` among the `linears`: short when whole kinds of layers match."""
    kinds = "|".join(sorted({re.sub(r"\d+", r"\\d+", re.escape(name)) for name in names}))
    if {name for name in linears if re.fullmatch(kinds, name)} == set(names):
        return kinds
    return "|".join(map(re.escape, names))


def load_adapter(model, folder) -> list[str]:
    """Freeze the model and add the adapter of a PEFT folder. Returns the adapted layers' names.

    A failed load leaves the model unchanged. Raises as read_adapter does.
    """
    rank, alpha, parts = read_adapter(Path(folder), plain_linears(model))
    add_lora(model, "|".join(map(re.escape, parts)), rank=rank, alpha=alpha)
    for name, layer in adapted(model):
        with torch.no_grad():
            layer.lora_A.copy_(parts[name]["A"])
            layer.lora_B.copy_(parts[name]["B"])
    return [name for name, _ in adapted(model)]


def read_adapter(folder, linears):
    """(rank, alpha, {layer: {"A": tensor, "B": tensor}}) of a PEFT folder from any tool.

    linears: name -> linear layer of the model, which may be on the meta device. The adapted layers
    are those in the weight file, under the names of any transformers version; target_modules is
    not read.
    Raises FileNotFoundError for a missing file. Raises ValueError for settings other than plain
    LoRA, for a damaged file, for keys that are unknown, missing, doubled or of the wrong shape,
    and for numbers that are not finite.
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
    config = read_json(folder / CONFIG, SHAPE)
    found = [f"{name}={config[name]!r}" for name in REFUSED if config.get(name)]
    found += [f"bias={config['bias']!r}"] if config.get("bias", "none") != "none" else []
    if str(config.get("init_lora_weights")).startswith(BASE_CHANGING_INIT):
        found.append(f"init_lora_weights={config['init_lora_weights']!r}")
    if config.get("peft_type") != "LORA" or found:
        got = f"peft_type={config.get('peft_type')!r} {', '.join(found)}"
        raise ValueError(f"{folder / CONFIG}: {got}; expected LORA with none of these settings")
    rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)  # PEFT's own defaults
    if not (0 < rank < 2**31 and abs(alpha) < 2**31):  # refuses nan, too
        got = f"r={rank!r:.40} lora_alpha={alpha!r:.40}"
        raise ValueError(f"{folder / CONFIG}: {got}; expected a rank of 1 or more, and a number")
    return rank, alpha * math.sqrt(rank) if config.get("use_rslora") else alpha


def misfits(name, part, rank, layer):
    """What is wrong with the two matrices of one layer, as messages."""
    wrong = []
    for letter, shape in (("A", (rank, layer.in_features)), ("B", (layer.out_features, rank))):
        got = tuple(part[letter].shape) if letter in part else "missing"
        if got != shape:
            wrong.append(f"{name}.lora_{letter} is {got}; expected {shape}")
        elif n := int((~part[letter].float().isfinite()).sum()):
            wrong.append(f"{name}.lora_{letter} holds {n} infinite or nan; expected numbers")
    return wrong


def short(name):
    """A layer's name without the wrappers that differ between transformers versions."""
    return re.sub(r"^(model\.|language_model\.)+", "", name)


def base_of(folder):
    """The base model that an adapter's folder names, or None. Raises ValueError."""
    base = read_json(folder / CONFIG, SHAPE).get("base_model_name_or_path") or None
    if base and not is_name(base):
        got = f"base_model_name_or_path is {base!r:.80}"
        raise ValueError(f"{folder / CONFIG}: {got}; expected a model's name")
    return base
