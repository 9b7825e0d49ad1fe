"""Which files hold the weights of a checkpoint: safetensors beside its config.json, no others."""

import re

from pasta.shapes import read_json

INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"[^/\\\0]+\.safetensors")  # a name, no path, and no pickle


def shards(folder):
    """The names of a checkpoint's weight files, which need not be there.

    Raises ValueError when a file of `folder` names others: in another folder, or of another kind.
    """
    if "transformers_weights" in read_json(folder / "config.json"):
        raise ValueError(
            f"{folder}/config.json names its weights by transformers_weights; expected "
            f"model.safetensors or {INDEX}: take that line out"
        )
    if not (folder / INDEX).is_file():
        return ["model.safetensors"]
    names = set(read_json(folder / INDEX, {"weight_map": dict})["weight_map"].values())
    for name in names:
        if not (isinstance(name, str) and SHARD.fullmatch(name)):
            raise ValueError(
                f"{folder / INDEX}: weight_map names {name!r:.80}; expected .safetensors files "
                "beside it: fetch or convert the checkpoint again"
            )
    return sorted(names)
