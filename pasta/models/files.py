"""Model folders: fetch, digest, write.

A model is a folder as transformers writes it, or a hub id OWNER/NAME, whose folder is in the hub's
cache.
"""

import json
import shutil
from pathlib import Path

from transformers.utils import cached_file

from pasta.models.weights import INDEX, shards
from pasta.run.atomic import atomic_folder, write_json
from pasta.run.rows import digest_files

CONFIG_FILES = """
    config.json video_preprocessor_config.json preprocessor_config.json processor_config.json
    chat_template.jinja chat_template.json tokenizer.json tokenizer_config.json vocab.json
    merges.txt added_tokens.json special_tokens_map.json
""".split()  # what decides token ids and pixels
LAYOUT = 1  # raise it when prompts, positions or packs change


def local_folder(name):
    """The folder that holds a checkpoint's files; a hub id is fetched into the hub's cache."""
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute() or str(name).count("/") != 1:
        raise FileNotFoundError(f"no model folder {name}; give a folder or a hub id OWNER/NAME")
    config = Path(cached_file(str(name), "config.json"))
    for file in CONFIG_FILES:
        cached_file(str(name), file, _raise_exceptions_for_missing_entries=False)
    cached_file(str(name), INDEX, _raise_exceptions_for_missing_entries=False)
    for shard in shards(config.parent):
        cached_file(str(name), shard)
    cached_file(str(name), "generation_config.json", _raise_exceptions_for_missing_entries=False)
    return config.parent


def save_model(folder, model, source, state_dict=None):
    """Write `model` as an ordinary model folder; all files but the weights are those of `source`.

    source: the checkpoint, folder or hub id, that `model` was loaded from.
    state_dict: name -> tensor in place of the model's own, as of a sharded model's gathered ones.
    A folder of that name is replaced, whole. config.json names the type that the weights have.
    """
    source, state_dict = local_folder(source), state_dict or model.state_dict()
    dtype = str(next(iter(state_dict.values())).dtype).removeprefix("torch.")
    with atomic_folder(folder) as part:
        model.save_pretrained(part, state_dict=state_dict)
        for name in (*CONFIG_FILES, "generation_config.json"):
            if (source / name).is_file():
                shutil.copyfile(source / name, part / name)
        config = json.loads((part / "config.json").read_text())
        if retyped(config, dtype) != config:
            write_json(part / "config.json", retyped(config, dtype))


def retyped(config, dtype):
    """config.json's content for weights of another type; its parts name theirs as well."""
    parts = {k: retyped(v, dtype) if isinstance(v, dict) else v for k, v in config.items()}
    return parts | {key: dtype for key in ("dtype", "torch_dtype") if key in config}


def model_setting(name, processor):
    """What answers and log-probabilities owe to the checkpoint `name`, for the keys of caches."""
    return {"weights": weights_digest(name), "processor": processor.digest, "layout": LAYOUT}


def weights_digest(name):
    """sha256 of a checkpoint's weight files: what a cached log-probability depends on."""
    files = sorted(local_folder(name).glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{name} holds no .safetensors files; other formats are not read")
    return digest_files(files)
