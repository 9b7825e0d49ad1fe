"""A tiny untrained Qwen2.5-VL or LLaVA-OneVision of the real transformers class."""

import shutil
from pathlib import Path

import torch
import transformers

from pasta.run.atomic import write_json
from pasta.run.schema import read_json

PREPROCESSOR = "preprocessor_config.json"
HERE = Path(__file__).parent
SIZES = HERE.parent / "tools/sizes"  # a config.json of each published size
# kind of model: the folder with its settings and its tokenizer (tests/golden/make_toy_tokenizer.py)
FOLDERS = {"qwen": HERE / "model", "onevision": HERE / "onevision"}


def make_folder(folder, seed=0, kind="qwen"):
    """Write an untrained toy model, as a model folder with all files. kind: as in FOLDERS."""
    # Two settings of its config.json are unusual. With a larger rope_theta the positions of a small
    # grid, or of a few dozen tokens, would look the same; the width axis of M-RoPE has the lowest
    # frequencies, and height, which needs less, has few. With an initializer_range of 0.02 the
    # model learns to copy names too late.
    config = transformers.AutoConfig.from_pretrained(FOLDERS[kind], trust_remote_code=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDERS[kind], trust_remote_code=False)
    config.text_config.vocab_size = len(tokenizer)
    torch.manual_seed(seed)
    model = transformers.AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    # Blocks of 7 x 7 equal weights in the patch embedding (out, 3, ..., 14, 14): one random weight
    # for each pixel adds noise that a short training does not remove.
    patches = next(p for name, p in model.named_parameters() if "patch_embed" in name)
    blocks = 0.3 * torch.randn(*patches.shape[:-2], 2, 2)
    patches.data = blocks.repeat_interleave(7, -1).repeat_interleave(7, -2) / 49
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    copy_settings(kind, folder)


def copy_settings(kind, folder):
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", PREPROCESSOR):
        shutil.copy(FOLDERS[kind] / name, folder)


def make_sized(folder, size, pixels, dtype, device):
    """Write a Qwen2.5-VL of a size in SIZES with random weights and the toy's tokenizer.

    pixels: the least of a frame; smaller frames are enlarged.
    """
    file = SIZES / f"{size}.json"
    config = transformers.AutoConfig.from_pretrained(file, trust_remote_code=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDERS["qwen"], trust_remote_code=False)
    config.video_token_id = tokenizer.convert_tokens_to_ids("<|video_pad|>")
    with torch.device(device):  # on a GPU, random weights take seconds
        auto = transformers.AutoModelForImageTextToText
        model = auto.from_config(config, dtype=getattr(torch, dtype), trust_remote_code=False)
    model.save_pretrained(folder)
    copy_settings("qwen", folder)
    path = Path(folder, PREPROCESSOR)
    write_json(path, read_json(path) | {"temporal_patch_size": 2, "min_pixels": pixels})
