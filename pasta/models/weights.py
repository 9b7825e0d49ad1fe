"""Which files hold the weights of a checkpoint: safetensors beside its config.json, no others."""

import re

from pasta.models.peft import CONFIG
from pasta.run.schema import read_json

INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"[^/\\\0]+\.safetensors")  # a name, no path, and no pickle


def shards(folder):
    """The names of a checkpoint's weight files, which need not be there.

    Raises ValueError when a file of `folder` names others: in another folder, or of another kind;
    and for an adapter beside them, which transformers would add in silence where PEFT is installed.
    """
    if (folder / CONFIG).exists():
        raise ValueError(
            f"{folder} is a model that has an adapter's {CONFIG}, too; expected a model alone: "
            "move the adapter into a folder of its own, for evaluate.py --adapter"
        )
    if read_json(folder / "config.json").get("transformers_weights") is not None:
        raise ValueError(
            f"{folder}/config.json names its weights by transformers_weights; expected "
            f"model.safetensors or {INDEX}: take that line out"
        )
    if not (folder / INDEX).is_file():
        return ["model.safetensors"]
    names = read_json(folder / INDEX, {"weight_map": dict})["weight_map"].values()
    for name in names:
        if not (isinstance(name, str) and SHARD.fullmatch(name)):
            raise ValueError(
                f"{folder / INDEX}: weight_map names {name!r:.80}; expected .safetensors files "
                "beside it: fetch or convert the checkpoint again"
            )
    return sorted(set(names))
