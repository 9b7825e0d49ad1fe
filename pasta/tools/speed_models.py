"""Random models to measure with: a small Qwen2.5-VL, and the sizes of the published ones.

Random weights take as long as trained ones, so nothing is downloaded.
"""

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from pasta.models.load import ATTENTION

VIDEO_TOKEN, IMAGE_TOKEN = 1, 2
VISION = {  # the vision tower of all published sizes, but for the width of what it gives out
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
TEXT_3B = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
}
TEXT_7B = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
PUBLISHED = {  # name -> (language model, vision tower, whether input and output embeddings are one)
    "qwen2.5-vl-3b": (TEXT_3B, VISION, True),
    "qwen2.5-vl-7b": (TEXT_7B, VISION, False),
}


def small_sizes(config):
    """As PUBLISHED, of a model with --layers, --width and --vocabulary.

    To see a video token costs 0.38 as much as to read it, the 7B's own ratio: 4 patches through 0.6
    billion weights against one token through 6.5.
    """
    text = {
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.width * 8 // 3,
        "num_hidden_layers": config.layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
    }
    vision = {
        "depth": 2,
        "hidden_size": config.width // 3,
        "intermediate_size": config.width * 2 // 3,
        "num_heads": 4,
        "fullatt_block_indexes": [1],
    }
    return text, vision, False


def settings_of(config):
    """The Qwen2_5_VLConfig that --model names."""
    published = PUBLISHED.get(config.model)
    text, vision, tied = published or small_sizes(config)
    width = text["hidden_size"]
    half_head = width // text["num_attention_heads"] // 2
    axis = half_head * 3 // 8  # of height and of width; the rest is time's: 16, 24, 24 of 64
    text = text | {
        "initializer_range": width**-0.5,  # logits of about 1, whatever the width
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [half_head - 2 * axis, axis, axis],
        },
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision | {"out_hidden_size": width, "tokens_per_second": 2},
        video_token_id=VIDEO_TOKEN,
        image_token_id=IMAGE_TOKEN,
        tie_word_embeddings=tied,
    )


def random_model(config):
    """A Qwen2.5-VL without meaning, made on the device and in the type that it runs in."""
    torch.manual_seed(config.seed)
    dtype = getattr(torch, config.dtype)
    with torch.device(config.device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(settings_of(config), dtype=dtype)
    model.set_attn_implementation(ATTENTION)
    return model
