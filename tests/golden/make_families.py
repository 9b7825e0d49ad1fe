"""Makes families.json: what transformers' own video processors answer, for test_families.py.

They need torchvision, which does not go with the CPU build of torch and breaks transformers where
it is half there, so this runs in an environment of its own:

    python -m venv .golden && . .golden/bin/activate
    pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    pip install transformers==5.23.0 numpy pillow
    pip install --no-deps torchvision==0.29.1
    python tests/golden/make_families.py

Every checkpoint folder (config, tokenizer, chat template, preprocessor config; no weights) and
every clip is made here from a formula, by functions that the test calls too. For each folder and
clip the file holds the sha256 of the float32 pixel_values_videos, video_grid_thw, Qwen2.5-VL's
second_per_grid_ts, and the input_ids of MESSAGES as [id, count] runs.
"""

import hashlib
import importlib.util
import json
import re
import tempfile
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

FILE = Path(__file__).with_name("families.json")
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711]}  # fmt: skip
PATCHES = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
RELEASED = {  # the entries of Qwen's own preprocessor_config.json files
    "min_pixels": 3136,
    "max_pixels": 12845056,
    **PATCHES,
    **CLIP,
    "image_processor_type": "Qwen2VLImageProcessor",
}
RESAVED = {  # as transformers 5 writes it, with the pixel bounds it has for videos
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "do_sample_frames": False,
    **PATCHES,
    **CLIP,
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"longest_edge": 602112, "shortest_edge": 100352},
    "video_processor_type": "Qwen2VLVideoProcessor",
}
CHECKPOINTS = {  # name: (model_type, file, its content)
    "Qwen2-VL": (
        "qwen2_vl", "preprocessor_config.json", RELEASED | {"processor_class": "Qwen2VLProcessor"}
    ),
    "Qwen2.5-VL": (
        "qwen2_5_vl", "preprocessor_config.json",
        RELEASED | {"processor_class": "Qwen2_5_VLProcessor"},
    ),
    "Qwen2.5-VL resaved": ("qwen2_5_vl", "processor_config.json", {
        "image_processor": RELEASED, "video_processor": RESAVED,
        "processor_class": "Qwen2_5_VLProcessor",
    }),
}  # fmt: skip
CLIPS = {  # name: (frames, height, width, frames per second)
    "landscape": (8, 360, 640, 2.0),
    "odd number of frames": (5, 240, 427, 1.5),
    "needs no resize": (4, 336, 336, 2.0),
    "full HD": (2, 1080, 1920, 30000 / 1001),
    "tiny": (3, 40, 60, 8.0),
    "portrait": (6, 480, 270, 0.4),
    "one frame": (1, 112, 200, 2.0),
}
PROMPT = "what happens first ?"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip
WORDS = ("system", "user", "assistant", "you", "are", "helpful", *PROMPT.split())
TEMPLATE = """{% for message in messages %}<|im_start|> {{ message['role'] }}
{% for part in message['content'] %}{% if part['type'] == 'video' %}\
<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}\
<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|> assistant
{% endif %}"""
MESSAGES = [
    {"role": "system", "content": [{"type": "text", "text": "you are helpful"}]},
    {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": PROMPT}]},
]


def make_clip(n_frames, height, width):
    """(F, H, W, 3) uint8: slopes that move and wrap around, with hard edges where they do."""
    f, y, x, c = np.ogrid[:n_frames, :height, :width, :3]
    return ((x * (3 + c) + y * 5 + f * 17 + (x ^ y)) % 256).astype(np.uint8)


def save_checkpoint(folder, name):
    """A checkpoint's folder without weights."""
    from transformers import PreTrainedTokenizerFast

    model_type, file, content = CHECKPOINTS[name]
    vocabulary = {text: i for i, text in enumerate((*SPECIAL, "<|unknown|>", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|unknown|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    config = {"model_type": model_type, "video_token_id": vocabulary["<|video_pad|>"]}
    if model_type == "qwen2_5_vl":
        config["vision_config"] = {"tokens_per_second": 2}
    Path(folder, "config.json").write_text(json.dumps(config))
    Path(folder, file).write_text(json.dumps(content))


def sha256(tensor):
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def runs(ids):
    """[1, 5, 5, 5] as [[1, 1], [5, 3]]"""
    return [[key, len(list(group))] for key, group in groupby(ids)]


def import_torchvision():
    """Import it without its compiled half: the schemas of its operators must exist first.

    Resizing is torch's own `interpolate`. Returns what must outlive the use of torchvision.
    """
    root = Path(importlib.util.find_spec("torchvision").origin).parent
    pattern = r'register_(?:fake|autograd)\(\s*"torchvision::(\w+)"'
    names = {n for file in root.glob("*.py") for n in re.findall(pattern, file.read_text())}
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in sorted(names):
        library.define(name + "(Tensor x) -> Tensor")
    import torchvision  # noqa: F401

    return library


def answer(processor, n_frames, height, width, fps):
    """What the processor makes of MESSAGES and a clip."""
    from transformers.video_utils import VideoMetadata

    text = processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    metadata = VideoMetadata(n_frames, fps=fps, frames_indices=list(range(n_frames)))
    clip = make_clip(n_frames, height, width)
    out = processor(text=[text], videos=[clip], video_metadata=[metadata], return_tensors="pt")
    return {
        "pixels": sha256(out["pixel_values_videos"]),
        "grid": out["video_grid_thw"][0].tolist(),
        "seconds_per_grid": [float(s) for s in out.get("second_per_grid_ts", [])],
        "input_ids": runs(out["input_ids"][0].tolist()),
    }


def main():
    library = import_torchvision()
    import torchvision
    import transformers

    golden = {
        "made with": {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "transformers": transformers.__version__,
            "cpu": torch.backends.cpu.get_cpu_capability(),
        }
    }
    for name, (model_type, *_) in CHECKPOINTS.items():
        kind = "Qwen2VLProcessor" if model_type == "qwen2_vl" else "Qwen2_5_VLProcessor"
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(folder, name)
            processor = getattr(transformers, kind).from_pretrained(folder)
        print(name, type(processor.video_processor).__name__, processor.video_processor.size)
        for clip, shape in CLIPS.items():
            golden[f"{name}, {clip}"] = answer(processor, *shape)
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    FILE.write_text("{" + ",\n ".join(lines) + "}\n")
    del library


if __name__ == "__main__":
    main()
