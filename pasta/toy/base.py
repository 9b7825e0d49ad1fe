"""A tiny Qwen2.5-VL, of the real transformers class, that learns the toy world from scratch.

It is saved as an ordinary model folder: config, safetensors, tokenizer, chat template, video
preprocessor config. Its world is skewed, so that like real Video-LLMs it leans on what is usual.

Shapes: B videos of a batch, L tokens of the longest row.
"""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from pasta.adversaries import ADVERSARIES
from pasta.attention import dense_mask
from pasta.packs import pack_responses
from pasta.toy import world
from pasta.toy.lessons import STAGES
from pasta.vlm import load_vlm

STEPS, BATCH, LR = 800, 16, 1e-3
LOOKING = 0.5  # share of the steps that only teach to look
USUAL = 0.8  # share of usual answers in the world of the rest
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
CHAT_TEMPLATE = """{% for message in messages %}{% if loop.first and message['role'] != 'system' %}\
<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}\
{% for part in message['content'] %}{% if part['type'] == 'video' %}\
<|vision_start|><|video_pad|><|vision_end|>{% elif part['type'] == 'text' %}{{ part['text'] }}\
{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def make_tokenizer():
    """A word-level tokenizer, a word with the blank before it, over all that is ever said here.

    Decoding gives back the very text that was encoded, as long as its words are known.
    """
    split = pre_tokenizers.Split(Regex(r" ?[A-Za-z_]+|\n| ?[^\sA-Za-z_]"), "isolated")
    texts = ["system\nYou are a helpful assistant.", "user", "assistant", *"ABCDE"]
    for adversary in ADVERSARIES.values():
        texts += [*adversary.queries, *adversary.misleading]
    rng = np.random.default_rng(0)
    for _ in range(400):
        video = world.draw_video(rng)
        texts += [t for teach in STAGES for lesson in teach(video, rng, 0.5) for t in lesson]
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
            # a small base: with the usual one the width axis hardly turns on a grid of 2 x 2
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 20.0,
                "mrope_section": [6, 5, 5],
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
            "tokens_per_second": 2,
            "initializer_range": 0.06,
        },
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        video_token_id=ids["<|video_pad|>"],
        image_token_id=ids["<|image_pad|>"],
        tie_word_embeddings=True,
    )


def make_folder(folder, seed=0):
    """Write an untrained toy model as an ordinary model folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(make_config(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS, indent=1))


def train_base(folder, steps=STEPS, seed=0):
    """Train a toy model from scratch and save it in `folder`.

    A balanced world first, where nothing but looking helps, then a skewed one with all lessons.
    """
    make_folder(folder, seed)
    vlm = load_vlm(folder)
    model = vlm.model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.01)
    rng = np.random.default_rng(seed)
    progress = tqdm(range(1, steps + 1), "toy model, made once", unit="step")
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, step / 50, 0.05 + (1 - step / steps) / 0.3)
        packs = [lesson_pack(vlm.processor, rng, step, steps) for _ in range(BATCH)]
        loss = batch_loss(model, vlm.processor.family, packs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.set_postfix(loss=f"{loss.item():.3f}")
    model.save_pretrained(folder)


def lesson_pack(processor, rng, step, steps):
    """One video with its lessons as a Pack; every fourth step at 1 fps, as adversaries see it."""
    late = step > LOOKING * steps
    usual = USUAL if late else 0.5
    video = world.draw_video(rng, usual)
    stride = 2 if step % 4 == 0 else 1
    frames = world.render(video)[::stride]
    timestamps = np.arange(0, world.N_FRAMES, stride) / world.FPS
    texts = STAGES[late](video, rng, usual)
    return pack_responses(processor, processor.prepare(frames, timestamps), texts)[0]


def batch_loss(model, family, packs):
    """Mean cross-entropy of all response tokens of several packs, as one padded batch.

    Small rows are fastest side by side, so the packs' pattern is a dense mask here.
    """
    longest = max(len(pack.input_ids) for pack in packs)
    ids = torch.zeros(len(packs), longest, dtype=torch.int64)  # (B, L)
    positions = torch.zeros(3, len(packs), longest, dtype=torch.int64)
    mask = torch.eye(longest, dtype=torch.bool).repeat(len(packs), 1, 1, 1)  # (B, 1, L, L)
    for i, pack in enumerate(packs):
        n = len(pack.input_ids)
        ids[i, :n], positions[:, i, :n] = pack.input_ids, pack.position_ids
        mask[i, :, :n, :n] = dense_mask(pack.lengths)[0]
    tensors = [family.feature_kwargs(pack.inputs) for pack in packs]
    features = model.get_video_features(
        **{name: torch.cat([row[name] for row in tensors]) for name in tensors[0]},
        return_dict=True,
    )
    hidden = model.model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=mask,
        mm_encoder_outputs={"video": features},
        use_cache=False,
    ).last_hidden_state
    scored = torch.cat([hidden[i, pack.keep] for i, pack in enumerate(packs)])
    return cross_entropy(model.lm_head(scored), torch.cat([pack.targets for pack in packs]))
