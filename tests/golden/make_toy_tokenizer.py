"""Makes the tokenizers of the toy models anew, for example after a change of the world's texts.

    python tests/golden/make_toy_tokenizer.py

Another vocabulary needs another shipped model: python -m pasta.toy.pretrain.
"""

import sys
from pathlib import Path

import numpy as np
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

sys.path[:0] = [str(Path(__file__).parents[2])]

from pasta.prompts import (  # noqa: E402 (after the path to it)
    PREMISES,
    QUERIES,
    misled_prompt,
    query_prompt,
)
from pasta.toy import world  # noqa: E402
from pasta.toy.captions import NO_NOISE, caption_samples, qa_samples  # noqa: E402
from pasta.toy.pretrain import FOLDERS  # noqa: E402

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


def make_tokenizer(kind):
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


if __name__ == "__main__":
    for kind, folder in FOLDERS.items():
        make_tokenizer(kind).save_pretrained(folder)
