"""PEFT's adapter_config.json: the settings that are understood here, and all that are not."""

import math

from pasta.shapes import ABSENT, NUMBER, is_name, read_json

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


def base_of(folder):
    """The base model that an adapter's folder names, or None. Raises ValueError."""
    base = read_json(folder / CONFIG, SHAPE).get("base_model_name_or_path") or None
    if base and not is_name(base):
        raise ValueError(
            f"{folder / CONFIG}: base_model_name_or_path is {base!r:.80}; expected a model's name"
        )
    return base
