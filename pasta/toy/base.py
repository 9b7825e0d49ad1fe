"""A tiny Qwen2.5-VL of the real transformers class, as an ordinary model folder.

config, safetensors, tokenizer, chat template, preprocessor config: all that a checkpoint has.
Here its weights are random; school.py trains it.
"""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from pasta.prompts import PREMISES, QUERIES, misled_prompt, query_prompt
from pasta.toy import world
from pasta.toy.lessons import lessons, looking

WIDTH = 128
PIXELS = {  # preprocessor_config.json, with Qwen2.5-VL's keys
    "do_resize": True,
    "do_normalize": True,
    "do_rescale": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "min_pixels": 56 * 56,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 4,
    "merge_size": 2,
    "num_frames": world.N_FRAMES,
}
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|video_pad|>",
    "<|image_pad|>",
    "<|unknown|>",
)
# Turns have no roles: fewer tokens, faster lessons.
CHAT_TEMPLATE = """{% for message in messages %}<|im_start|>\
{% if message['content'] is string %}{{ message['content'] }}{% else %}\
{% for part in message['content'] %}{% if part['type'] == 'video' %}\
<|vision_start|><|video_pad|><|vision_end|>{% elif part['type'] == 'text' %}{{ part['text'] }}\
{% endif %}{% endfor %}{% endif %}<|im_end|>\
{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"""


def make_tokenizer():
    """A word-level tokenizer, a word with the blank before it, over all that is ever said here.

    Decoding gives back the very text that was encoded, as long as its words are known. "(A)" is one
    word, next to its option's: then which letter belongs to which option is learnt at once.
    """
    split = pre_tokenizers.Split(Regex(r" ?\([A-E]\)| ?[A-Za-z_]+|\n| ?[^\sA-Za-z_]"), "isolated")
    texts = [*"ABCDE", *(f"{blank}({letter})" for letter in "ABCDE" for blank in ("", " "))]
    texts += [query_prompt(mode, kind) for mode, kinds in QUERIES.items() for kind in kinds]
    texts += [misled_prompt(mode, name, "") for mode, names in PREMISES.items() for name in names]
    rng = np.random.default_rng(0)
    for _ in range(400):
        video = world.draw_video(rng)
        taught = [*looking(video, rng, 0.0), *lessons(video, rng, 0.0)]
        texts += [text for lesson in taught for text in lesson]
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text)})
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|unknown|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:-1]),
        chat_template=CHAT_TEMPLATE,
    )


def make_config(tokenizer):
    """The config of a Qwen2.5-VL of about a million parameters."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            # A small base, or the width axis, which gets the slowest frequencies, is blind on a
            # grid of 2 x 2; few frequencies for the height, which is never asked about.
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10.0,
                "mrope_section": [8, 2, 6],
            },
            "initializer_range": 0.06,  # 0.02 does not learn to copy names in time
            "eos_token_id": ids["<|im_end|>"],
            "bos_token_id": None,
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "patch_size": PIXELS["patch_size"],
            "spatial_merge_size": PIXELS["merge_size"],
            "temporal_patch_size": PIXELS["temporal_patch_size"],
            "out_hidden_size": WIDTH,
            "window_size": 112,
            "fullatt_block_indexes": [0],
            "tokens_per_second": 1,
            "initializer_range": 0.06,
        },
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        video_token_id=ids["<|video_pad|>"],
        image_token_id=ids["<|image_pad|>"],
        tie_word_embeddings=True,
    )


def start_smooth(weight):
    """Let the patch embedding begin with blocks of 7 x 7 equal pixels.

    A random weight for every pixel drowns a patch's colours in noise that no short training wears
    off. weight: (out, 3, frames, 14, 14), changed in place.
    """
    blocks = 0.3 * torch.randn(*weight.shape[:3], 2, 2)
    with torch.no_grad():
        weight.copy_(blocks.repeat_interleave(7, -1).repeat_interleave(7, -2) / 49)


def make_folder(folder, seed=0):
    """Write an untrained toy model as an ordinary model folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(make_config(tokenizer))
    start_smooth(model.model.visual.patch_embed.proj.weight)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS, indent=1))
