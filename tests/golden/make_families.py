"""Makes families.json: what transformers' own video processors answer, for test_families.py.

They need torchvision, which breaks transformers next to the CPU build of torch, so this runs in an
environment of its own:

    python -m venv .golden && . .golden/bin/activate
    pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    pip install transformers==5.23.0 numpy pillow
    pip install --no-deps torchvision==0.29.1
    python tests/golden/make_families.py

Every checkpoint folder (without weights) and every clip is made here, by functions that the test
calls too. For each folder and clip: the sha256 and shape of the float32 pixel values, for the Qwens
video_grid_thw and second_per_grid_ts, and the input_ids of MESSAGES as [id, count] runs.
"""

import hashlib
import importlib.util
import json
import re
import string
import tempfile
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

FILE = Path(__file__).with_name("families.json")
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711]}  # fmt: skip
DONE = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
        "resample": 3, "rescale_factor": 0.00392156862745098}  # fmt: skip
PATCHES = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
RELEASED = PATCHES | CLIP | {  # the entries of Qwen's own preprocessor_config.json files
    "min_pixels": 3136, "max_pixels": 12845056, "image_processor_type": "Qwen2VLImageProcessor",
}  # fmt: skip
RESAVED = DONE | PATCHES | CLIP | {  # as transformers 5 writes it, with its bounds for videos
    "do_sample_frames": False, "size": {"longest_edge": 602112, "shortest_edge": 100352},
    "video_processor_type": "Qwen2VLVideoProcessor",
}  # fmt: skip
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


HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CROPPED = {"do_center_crop": True, "crop_size": {"height": 336, "width": 336},
           "size": {"shortest_edge": 336}}  # fmt: skip
QWEN3_TEMPLATE = """{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' }}\
{%- if message.content is string %}{{- message.content }}{%- else %}\
{%- for content in message.content %}\
{%- if content.type == 'video' or 'video' in content %}\
{{- '<|vision_start|><|video_pad|><|vision_end|>' }}\
{%- elif 'text' in content %}{{- content.text }}{%- endif %}{%- endfor %}{%- endif %}\
{{- '<|im_end|>\n' }}{%- endfor %}\
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""
ONEVISION_TEMPLATE = """{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}\
{# Render all images first #}{% for content in message['content'] \
| selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}\
{# Render all video then #}{% for content in message['content'] \
| selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}\
{# Render all text next #}{% if message['role'] != 'assistant' %}\
{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}\
{{ '\n' + content['text'] }}{% endfor %}{% else %}\
{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}\
{% generation %}{{ '\n' + content['text'] }}{% endgeneration %}{% endfor %}{% endif %}\
{{'<|im_end|>'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}\
{% endif %}"""
NEXT_VIDEO_TEMPLATE = """{% for message in messages %}{% if message['role'] == 'system' %}\
{{ message['content'][0]['text'] }}{% else %}{{ message['role'].upper() + ': '}}{% endif %}\
{# Render all images first #}{% for content in message['content'] \
| selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}\
{# Render all video then #}{% for content in message['content'] \
| selectattr('type', 'equalto', 'video') %}{{ '<video>\n' }}{% endfor %}\
{# Render all text next #}{% for content in message['content'] \
| selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}{% endfor %}{% endfor %}\
{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""
INTERNVL_TEMPLATE = """{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}\
{% if message['content'] is string %}{{ message['content'] }}{% else %}\
{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<image>\n' }}\
{% elif content['type'] == 'video' %}{{ '<video>\n' }}\
{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}\
{{'<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}\
{{'<|im_start|>assistant\n' }}{% endif %}"""
SMOLVLM_TEMPLATE = "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}\
{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}\
{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}\
{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n\
{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN3 = {"template": QWEN3_TEMPLATE, "special": SPECIAL, "token": "<|video_pad|>",
         "token_key": "video_token_id", "config": {"model_type": "qwen3_vl"}}  # fmt: skip
# Qwen3.5 thinks first: its template opens a thought, and writes an empty one in a dialogue.
QWEN3_5_TEMPLATE = QWEN3_TEMPLATE.replace("assistant\n'", "assistant\n<think>\n'").replace(
    "message.role + '\n' }}",
    "message.role + ('\n<think>\n\n</think>\n\n' if message.role == 'assistant' else '\n') }}",
)
QWEN3_5 = QWEN3 | {"template": QWEN3_5_TEMPLATE, "config": {"model_type": "qwen3_5"}}
QWEN3_PATCHES = PATCHES | {"patch_size": 16} | HALF


def sized(side):
    return {"size": {"height": side, "width": side}}


def edges(longest, shortest):
    return {"size": {"longest_edge": longest, "shortest_edge": shortest}}


def vision(model_type, image_size):
    return {"model_type": model_type, "image_size": image_size, "patch_size": 14}


def files_of(kind, video, image, **own):
    """The files of a checkpoint whose classes in transformers begin with `kind`."""
    mine = {"processor_class": f"{kind}Processor"}
    files = {
        "preprocessor_config.json": video | image | mine,
        "video_preprocessor_config.json": video
        | mine
        | {"video_processor_type": f"{kind}VideoProcessor"},
    }
    return files | ({"processor_config.json": own | mine} if own else {})


FAMILIES = {  # name: what the released checkpoints have, as far as it matters here
    "Qwen3-VL": QWEN3 | {"files": files_of(
        "Qwen3VL", edges(25165824, 4096) | QWEN3_PATCHES,
        edges(16777216, 65536) | {"image_processor_type": "Qwen2VLImageProcessorFast"},
    )},
    "Qwen3.5": QWEN3_5 | {"files": files_of(
        "Qwen3VL", edges(25165824, 4096) | QWEN3_PATCHES,
        edges(16777216, 65536) | {"image_processor_type": "Qwen2VLImageProcessorFast"},
    )},
    # as transformers 5 writes it, and bounds that short clips reach
    "Qwen3-VL, small videos": QWEN3 | {"files": {"processor_config.json": {
        "processor_class": "Qwen3VLProcessor",
        "image_processor": {"image_processor_type": "Qwen2VLImageProcessor"},
        "video_processor": DONE | QWEN3_PATCHES | edges(500000, 100000) | {
            "video_processor_type": "Qwen3VLVideoProcessor"
        },
    }}},
    "LLaVA-OneVision": {
        "template": ONEVISION_TEMPLATE,
        "special": (*CHATML, "<image>", "<video>"),
        "token": "<video>",
        "token_key": "video_token_index",
        "config": {
            "model_type": "llava_onevision", "vision_config": vision("siglip_vision_model", 384)
        },
        "files": files_of(
            "LlavaOnevision", DONE | HALF | sized(384),
            {"do_pad": True, "image_grid_pinpoints": [[384, 384], [384, 768]],
             "image_processor_type": "LlavaOnevisionImageProcessor"},
            num_image_tokens=729, vision_feature_select_strategy="full", image_token="<image>",
            video_token="<video>",
        ),
    },
    "LLaVA-NeXT-Video": {
        "template": NEXT_VIDEO_TEMPLATE,
        "special": ("<pad>", "<s>", "</s>", "<video>", "<image>"),
        "token": "<video>",
        "token_key": "video_token_index",
        "config": {
            "model_type": "llava_next_video", "spatial_pool_stride": 2,
            "vision_config": vision("clip_vision_model", 336),
        },
        "files": files_of(
            "LlavaNextVideo", DONE | CLIP | CROPPED,
            {"do_pad": True, "image_grid_pinpoints": [[336, 672], [672, 336]],
             "image_processor_type": "LlavaNextImageProcessor"},
            patch_size=14, num_additional_image_tokens=1, image_token="<image>",
            vision_feature_select_strategy="default", video_token="<video>",
        ),
    },
    "SmolVLM2": {
        "template": SMOLVLM_TEMPLATE,
        "special": ("<|endoftext|>", "<|im_start|>", "<end_of_utterance>", "<image>",
                    "<fake_token_around_image>", "<global-img>"),
        "eos": "<end_of_utterance>",
        "blank": " ",  # a token may begin with it
        "token": "<image>",
        "token_key": "image_token_id",
        "config": {
            "model_type": "smolvlm", "scale_factor": 4,
            "vision_config": vision("smolvlm_vision", 512) | {"patch_size": 16},
        },
        "files": {
            "preprocessor_config.json": DONE | HALF | {
                "do_image_splitting": True, "do_pad": True, "resample": 1,
                "image_processor_type": "SmolVLMImageProcessor",
                "max_image_size": {"longest_edge": 512}, "size": {"longest_edge": 2048},
                "video_sampling": {
                    "fps": 1, "max_frames": 64, "video_size": {"longest_edge": 512}
                },
                "processor_class": "SmolVLMProcessor",
            },
            "processor_config.json": {"image_seq_len": 64, "processor_class": "SmolVLMProcessor"},
        },
    },
    "InternVL3": {
        "template": INTERNVL_TEMPLATE,
        "special": (*CHATML, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        "tokenizer": {"extra_special_tokens": {
            "start_image_token": "<img>", "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>",
        }},
        "token": "<IMG_CONTEXT>",
        "token_key": "image_token_id",
        "config": {"model_type": "internvl", "image_seq_length": 256},
        "files": files_of(
            "InternVL", DONE | IMAGENET | sized(448),
            {"crop_to_patches": False, "max_patches": 12, "min_patches": 1,
             "image_processor_type": "GotOcr2ImageProcessorFast"},
            image_seq_length=256,
        ),
    },
}  # fmt: skip


def make_clip(n_frames, height, width):
    """(F, H, W, 3) uint8: slopes that move and wrap around, with hard edges where they do."""
    f, y, x, c = np.ogrid[:n_frames, :height, :width, :3]
    return ((x * (3 + c) + y * 5 + f * 17 + (x ^ y)) % 256).astype(np.uint8)


def save_checkpoint(folder, name):
    """A checkpoint's folder without weights. Returns the name of transformers' processor class."""
    folder = Path(folder)
    if name in FAMILIES:
        kind = FAMILIES[name]
        tokenizer = make_tokenizer(kind)
        config, files = dict(kind["config"]), kind["files"]
        config[kind["token_key"]] = tokenizer.convert_tokens_to_ids(kind["token"])
    else:
        model_type, file, content = CHECKPOINTS[name]
        tokenizer, files = word_tokenizer(), {file: content}
        config = {"model_type": model_type}
        config["video_token_id"] = tokenizer.convert_tokens_to_ids("<|video_pad|>")
        if model_type == "qwen2_5_vl":
            config["vision_config"] = {"tokens_per_second": 2}
    tokenizer.save_pretrained(folder)
    for file, content in ({"config.json": config} | files).items():
        (folder / file).write_text(json.dumps(content))
    return next(content["processor_class"] for content in files.values())


def word_tokenizer():
    """Words between blanks, and the special tokens of Qwen2-VL."""
    vocabulary = {text: i for i, text in enumerate((*SPECIAL, "<|unknown|>", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return wrapped(tokenizer, "<|unknown|>", {"special": SPECIAL, "template": TEMPLATE})


def make_tokenizer(kind):
    """Every character is a token, so that the ids give the whole prompt.

    A Llama's puts a blank before the first character that it sees and <s> before a prompt.
    """
    special, like_llama = kind["special"], "<s>" in kind["special"]
    blank = "▁" if like_llama else kind.get("blank", "")
    blanks = sorted({"", blank})
    characters = [f"{blank}{c}" for c in ("▁\n" + string.printable[:95]) for blank in blanks]
    vocabulary = {text: i for i, text in enumerate((*special, "<unk>", *characters))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    steps = [pre_tokenizers.Split(Regex(rf"{blank or '▁'}?(.|\n)"), "isolated")]
    tokenizer.decoder = decoders.Fuse()
    if like_llama:
        steps.insert(0, pre_tokenizers.Metaspace(prepend_scheme="first", split=False))
        first = ("<s>", vocabulary["<s>"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[first]
        )
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return wrapped(tokenizer, "<unk>", kind)


def wrapped(tokenizer, unknown, kind):
    from transformers import PreTrainedTokenizerFast

    special, like_llama = kind["special"], "<s>" in kind["special"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=unknown,
        bos_token="<s>" if like_llama else None,
        eos_token=kind.get("eos", "</s>" if like_llama else "<|im_end|>"),
        pad_token=special[0],
        additional_special_tokens=list(special),
        chat_template=kind["template"],
        **kind.get("tokenizer", {}),
    )


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


def answer(processor, messages, n_frames, height, width, fps):
    from transformers.video_utils import VideoMetadata

    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    metadata = VideoMetadata(n_frames, fps=fps, frames_indices=list(range(n_frames)))
    more = {"video_metadata": [metadata], "return_tensors": "pt", "do_sample_frames": False}
    out = processor(text=[text], videos=[make_clip(n_frames, height, width)], **more)
    pixels = out["pixel_values_videos" if "pixel_values_videos" in out else "pixel_values"]
    row = {"pixels": sha256(pixels), "shape": list(pixels.shape)}
    if "video_grid_thw" in out:
        row["grid"] = out["video_grid_thw"][0].tolist()
        row["seconds_per_grid"] = [float(s) for s in out.get("second_per_grid_ts", [])]
    return row | {"input_ids": runs(out["input_ids"][0].tolist())}


def main():
    library = import_torchvision()
    import torchvision
    import transformers

    made_with = {lib.__name__: lib.__version__ for lib in (torch, torchvision, transformers)}
    golden = {"made with": made_with | {"cpu": torch.backends.cpu.get_cpu_capability()}}
    for name in (*CHECKPOINTS, *FAMILIES):
        with tempfile.TemporaryDirectory() as folder:
            kind = save_checkpoint(folder, name)
            processor = getattr(transformers, kind).from_pretrained(folder)
        print(name, type(processor.video_processor).__name__, processor.video_processor.size)
        messages = MESSAGES[1:] if name in FAMILIES else MESSAGES
        for clip, shape in CLIPS.items():
            if not (name.startswith("Qwen3") and clip == "one frame"):  # its processor refuses it
                golden[f"{name}, {clip}"] = answer(processor, messages, *shape)
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    FILE.write_text("{" + ",\n ".join(lines) + "}\n")
    del library


if __name__ == "__main__":
    main()
