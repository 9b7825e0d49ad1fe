"""A tiny untrained Qwen2.5-VL or LLaVA-OneVision of the real transformers class."""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from pasta.prompts import PREMISES, QUERIES, misled_prompt, query_prompt
from pasta.toy import world
from pasta.toy.captions import NO_NOISE, caption_samples, qa_samples

WIDTH = 128
HALF = [0.5] * 3
RESCALE = {"do_rescale": True, "do_normalize": True, "image_mean": HALF, "image_std": HALF}
PIXELS = {  # kind of model: its preprocessor_config.json
    "qwen": {
        **RESCALE,
        "do_resize": True,
        "min_pixels": 56 * 56,
        "max_pixels": 12845056,
        "patch_size": 14,
        "temporal_patch_size": 4,
        "merge_size": 2,
        "num_frames": world.N_FRAMES,
    },
    "onevision": {
        **RESCALE,
        "do_resize": True,
        "resample": 3,
        "size": {"height": world.SIDE, "width": world.SIDE},
        "num_frames": world.N_FRAMES // 2,  # each frame has its own tokens
    },
}
SPECIAL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|video_pad|> "
    "<|image_pad|> <video> <|unknown|>"
).split()
MARKS = {  # kind of model: what its chat template writes for a video and for an image
    "qwen": tuple(f"<|vision_start|><|{name}_pad|><|vision_end|>" for name in ("video", "image")),
    "onevision": ("<video>", "<|image_pad|>"),
}
# No role names: fewer tokens, faster training. Images are for servers, which get frames as images.
CHAT_TEMPLATE = """{% for message in messages %}<|im_start|>\
{% if message['content'] is string %}{{ message['content'] }}{% else %}\
{% for part in message['content'] %}{% if part['type'] == 'video' %}\
VIDEO{% elif part['type'] in ('image', 'image_url') %}\
IMAGE{% elif part['type'] == 'text' %}{{ part['text'] }}\
{% endif %}{% endfor %}{% endif %}<|im_end|>\
{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"""


def make_tokenizer(kind="qwen"):
    """A word-level tokenizer of all texts of the toy world; decoding restores them exactly."""
    # With the blank before it. "(A)" is one word: faster to learn which option has which letter.
    split = pre_tokenizers.Split(Regex(r" ?\([A-E]\)| ?[A-Za-z_]+|\n| ?[^\sA-Za-z_]"), "isolated")
    texts = [*"ABCDE", *(f"{blank}({letter})" for letter in "ABCDE" for blank in ("", " "))]
    texts += [query_prompt(mode, kind) for mode, kinds in QUERIES.items() for kind in kinds]
    texts += [misled_prompt(mode, name, "") for mode, names in PREMISES.items() for name in names]
    rng = np.random.default_rng(0)
    for _ in range(400):
        video = world.draw_video(rng)
        for samples in (caption_samples, qa_samples):
            texts += [text for sample in samples(video, rng, NO_NOISE) for text in sample]
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text)})
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    video, image = MARKS[kind]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|unknown|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[1:-1],
        chat_template=CHAT_TEMPLATE.replace("VIDEO", video).replace("IMAGE", image),
    )


def language(tokenizer):
    """The text_config of a language model of a million parameters."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.06,  # with 0.02 it learns to copy names too late
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }


def qwen(tokenizer):
    """An untrained Qwen2.5-VL."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    # The width axis has the lowest frequencies: with a larger base its two positions of a 2 x 2
    # grid would look the same. Height, which needs less, has few frequencies.
    rope = {"rope_type": "default", "rope_theta": 10.0, "mrope_section": [8, 2, 6]}
    config = transformers.Qwen2_5_VLConfig(
        text_config=language(tokenizer) | {"rope_parameters": rope},
        vision_config={  # also patch_size 14 and spatial_merge_size 2, by default, as in PIXELS
            "depth": 1,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "temporal_patch_size": PIXELS["qwen"]["temporal_patch_size"],
            "out_hidden_size": WIDTH,
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
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def onevision(tokenizer):
    """An untrained LLaVA-OneVision: SigLIP, four tokens a frame, a Qwen2 without M-RoPE."""
    # A small base, as above: the few dozen tokens of a video need different positions.
    rope = {"rope_type": "default", "rope_theta": 100.0}
    config = transformers.LlavaOnevisionConfig(
        text_config=language(tokenizer) | {"model_type": "qwen2", "rope_parameters": rope},
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "image_size": world.SIDE,
            "patch_size": 14,
            "vision_use_head": False,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        tie_word_embeddings=True,
    )
    return transformers.LlavaOnevisionForConditionalGeneration(config)


def make_folder(folder, seed=0, kind="qwen"):
    """Write an untrained toy model, as a model folder with all files. kind: as in PIXELS."""
    tokenizer = make_tokenizer(kind)
    torch.manual_seed(seed)
    model = {"qwen": qwen, "onevision": onevision}[kind](tokenizer)
    # Blocks of 7 x 7 equal weights in the patch embedding (out, 3, ..., 14, 14): one random weight
    # for each pixel adds noise that a short training does not remove.
    patches = next(p for name, p in model.named_parameters() if "patch_embed" in name)
    blocks = 0.3 * torch.randn(*patches.shape[:-2], 2, 2)
    patches.data = blocks.repeat_interleave(7, -1).repeat_interleave(7, -2) / 49
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (Path(folder) / "preprocessor_config.json").write_text(json.dumps(PIXELS[kind], indent=1))
