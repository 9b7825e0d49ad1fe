"""A tiny untrained Qwen2.5-VL or LLaVA-OneVision of the real transformers class."""

import shutil
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from pasta.prompts import PREMISES, QUERIES, misled_prompt, query_prompt
from pasta.toy import world
from pasta.toy.captions import NO_NOISE, caption_samples, qa_samples

HERE = Path(__file__).parent
# kind of model: the folder with its config.json and preprocessor_config.json
FOLDERS = {"qwen": HERE / "model", "onevision": HERE / "onevision"}
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


def make_folder(folder, seed=0, kind="qwen"):
    """Write an untrained toy model, as a model folder with all files. kind: as in FOLDERS."""
    # Two settings of its config.json are unusual. With a larger rope_theta the positions of a small
    # grid, or of a few dozen tokens, would look the same; the width axis of M-RoPE has the lowest
    # frequencies, and height, which needs less, has few. With an initializer_range of 0.02 the
    # model learns to copy names too late.
    config = transformers.AutoConfig.from_pretrained(FOLDERS[kind], trust_remote_code=False)
    tokenizer = make_tokenizer(kind)
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
    tokenizer.save_pretrained(folder)
    shutil.copy(FOLDERS[kind] / "preprocessor_config.json", folder)
