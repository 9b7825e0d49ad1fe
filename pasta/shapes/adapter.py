"""PEFT's two files: which settings and tensors are understood here, and all that are not.

Shapes: R adapter rank; A is (R, in), B is (out, R).
"""

import math
import re

from safetensors.torch import load_file

from pasta.shapes import ABSENT, NUMBER, is_name, read_by, read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SHAPE = {
    "r": int | ABSENT,
    "lora_alpha": NUMBER | ABSENT,
    "base_model_name_or_path": str | None | ABSENT,
}
# PEFT's settings that change what an adapter computes, or the base below it: not understood here.
REFUSED = (
    "use_dora modules_to_save lora_bias rank_pattern alpha_pattern layer_replication "
    "target_parameters trainable_token_indices alora_invocation_tokens use_qalora use_bdlora "
    "arrow_config kasa_config monteclora_config"
).split()
KEY = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")
BASE_CHANGING_INIT = ("pissa", "olora", "corda", "loftq", "lora_ga")


def read_peft_config(folder):
    """(rank, alpha) of a PEFT folder, alpha such that the scale is alpha / rank.

    Raises FileNotFoundError for a missing file, ValueError for what is not plain LoRA.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}; expected both of PEFT's files")
    config = read_json(folder / CONFIG, SHAPE)
    found = [f"{name}={config[name]!r}" for name in REFUSED if config.get(name)]
    found += [f"bias={config['bias']!r}"] if config.get("bias", "none") != "none" else []
    if str(config.get("init_lora_weights")).startswith(BASE_CHANGING_INIT):
        found.append(f"init_lora_weights={config['init_lora_weights']!r}")
    if config.get("peft_type") != "LORA" or found:
        raise ValueError(
            f"{folder / CONFIG}: peft_type={config.get('peft_type')!r} {', '.join(found)}; "
            "expected LORA with none of these settings"
        )
    rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)  # PEFT's own defaults
    if not (0 < rank < 2**31 and abs(alpha) < 2**31):  # nan is refused, too
        raise ValueError(
            f"{folder / CONFIG}: r={rank!r:.40} lora_alpha={alpha!r:.40}; expected a rank of 1 or "
            "more, and a number"
        )
    return rank, alpha * math.sqrt(rank) if config.get("use_rslora") else alpha


def read_adapter(folder, linears):
    """(rank, alpha, {layer: {"A": tensor, "B": tensor}}) of a PEFT folder, ours or another tool's.

    linears: name -> linear layer of the model, which may be on the meta device. The layers are
    those in the file, under the names of any transformers version; target_modules is not read.
    Raises ValueError for a damaged file, for keys that are unknown, missing, given twice or of the
    wrong shape and for numbers that are none, and as read_peft_config does.
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


def misfits(name, part, rank, layer):
    """What is wrong with the adapter of one layer, each with what it is and what was expected."""
    wrong = []
    for letter, shape in (("A", (rank, layer.in_features)), ("B", (layer.out_features, rank))):
        got = tuple(part[letter].shape) if letter in part else "missing"
        if got != shape:
            wrong.append(f"{name}.lora_{letter} is {got}; expected {shape}")
        elif n := int((~part[letter].float().isfinite()).sum()):
            wrong.append(f"{name}.lora_{letter} holds {n} infinite or nan; expected numbers")
    return wrong


def short(name):
    """A layer's name without the wrappers that came and went between transformers versions."""
    return re.sub(r"^(model\.|language_model\.)+", "", name)


def base_of(folder):
    """The base model that an adapter's folder names, or None. Raises ValueError."""
    base = read_json(folder / CONFIG, SHAPE).get("base_model_name_or_path") or None
    if base and not is_name(base):
        raise ValueError(
            f"{folder / CONFIG}: base_model_name_or_path is {base!r:.80}; expected a model's name"
        )
    return base
