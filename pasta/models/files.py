"""Model folders, as transformers writes them, and hub ids OWNER/NAME: fetch, check, digest, write.

Weights are read from safetensors files only.
"""

import re
import shutil
from pathlib import Path

from transformers.utils import cached_file

from pasta.models.peft import CONFIG
from pasta.run.atomic import atomic_folder, write_json
from pasta.run.digest import digest_files
from pasta.run.schema import read_json

CONFIG_FILES = """
    config.json video_preprocessor_config.json preprocessor_config.json processor_config.json
    chat_template.jinja chat_template.json tokenizer.json tokenizer_config.json vocab.json
    merges.txt added_tokens.json special_tokens_map.json generation_config.json
""".split()  # what decides token ids, pixels and where an answer ends
LAYOUT = 1  # raise it when prompts, positions or packs change
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"[^/\\\0]+\.safetensors")  # a plain file name: no path, and no pickle
WEIGHTS = re.compile(  # and pickles and code: files of a model that are not copied
    r"adapter_.*|.*\.index\.json|.*\.(safetensors|bin|pth?|ckpt|pkl|pickle|np[yz]|h5|msgpack|gguf"
    r"|onnx|pyc?|so)"
)


def local_folder(name):
    """The folder with a checkpoint's files; a hub id is fetched into the hub's cache."""
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute() or str(name).count("/") != 1 or "@" in str(name):
        text = f"no model folder {name}; give a folder or a hub id OWNER/NAME, or get a revision by"
        raise FileNotFoundError(f"{text} hf download OWNER/NAME --revision NAME --local-dir FOLDER")
    file = "config.json"
    try:
        folder = Path(cached_file(str(name), file)).parent
        for more in (*CONFIG_FILES, "tokenizer.model", INDEX):
            cached_file(str(name), more, _raise_exceptions_for_missing_entries=False)
        for file in shards(folder):
            cached_file(str(name), file)
    except OSError as error:
        text = f"no folder {name}, and {file} of this hub id is not found: check the name, or run"
        why = str(error).splitlines()[0]
        raise FileNotFoundError(f"{text} `hf download {name}` ({why})") from None
    return folder


def check_files(folder):
    """Raise FileNotFoundError for a folder without a model's files, or with Git LFS's pointers."""
    for names in (["config.json"], ["tokenizer.json", "vocab.*", "*.model"]):
        if not any(path for name in names for path in folder.glob(name)):
            raise FileNotFoundError(f"{folder} has no {names[0]}; copy the checkpoint's own")
    for path in filter(Path.is_file, (*folder.glob("*.json"), *folder.glob("*.safetensors"))):
        with path.open("rb") as file:
            if file.read(23) == b"version https://git-lfs":
                got = f"{path} holds only a pointer of Git LFS"
                raise FileNotFoundError(f"{got}; run `git lfs pull` in its folder")


def shards(folder):
    """The names of a checkpoint's weight files; ValueError for another folder or another kind."""
    if (folder / CONFIG).exists():  # transformers adds it silently where PEFT is installed
        raise ValueError(f"{folder} has an adapter's {CONFIG}; expected a model alone: move it")
    if read_json(folder / "config.json").get("transformers_weights") is not None:
        raise ValueError(f"{folder}/config.json has transformers_weights; expected no such line")
    if not (folder / INDEX).is_file():
        return ["model.safetensors"]
    names = read_json(folder / INDEX, {"weight_map": dict})["weight_map"].values()
    for name in names:
        if not (isinstance(name, str) and SHARD.fullmatch(name)):
            got = f"{folder / INDEX}: weight_map names {name!r:.80}"
            raise ValueError(f"{got}; expected .safetensors files in its folder: convert them")
    return sorted(set(names))


def save_model(folder, model, source, state_dict=None):
    """Write `model` atomically as a folder, with the files of `source`, its folder or hub id.

    config.json gets the weights' dtype. state_dict: name -> tensor; None: the model's own.
    """
    source, state_dict = local_folder(source), state_dict or model.state_dict()
    dtype = str(next(iter(state_dict.values())).dtype).removeprefix("torch.")
    with atomic_folder(folder) as part:
        model.save_pretrained(part, state_dict=state_dict)
        for path in filter(Path.is_file, source.iterdir()):
            if not WEIGHTS.fullmatch(path.name):
                shutil.copyfile(path, part / path.name)
        config = read_json(part / "config.json")
        if retyped(config, dtype) != config:
            write_json(part / "config.json", retyped(config, dtype))


def retyped(config, dtype):
    """config.json's content for weights of another type; its parts have entries of their own."""
    parts = {k: retyped(v, dtype) if isinstance(v, dict) else v for k, v in config.items()}
    return parts | {key: dtype for key in ("dtype", "torch_dtype") if key in config}


def model_setting(name, processor):
    """The part of a cache key that describes the checkpoint `name`."""
    return {"weights": weights_digest(name), "processor": processor.digest, "layout": LAYOUT}


def weights_digest(name):
    files = sorted(local_folder(name).glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{name} holds no .safetensors files; other formats are not read")
    return digest_files(files)
