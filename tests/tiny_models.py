"""A tiny random model of every family, of the real transformers class, as an ordinary folder.

One row of TINY is one family. Tokenizers, templates and settings: golden/make_families.py.
"""

import json
import shutil

import torch
import transformers
from golden.make_families import FAMILIES, SPECIAL, TEMPLATE, make_tokenizer

from pasta.lora import adapted

TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 4096,
    "initializer_range": 0.2,  # large, so that a wrong position or feature shows
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2,
    "image_size": 56, "patch_size": 14, "initializer_range": 0.2,
}  # fmt: skip
QWEN_VISION = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2,
    "out_hidden_size": TEXT["hidden_size"], "initializer_range": 0.2,
}  # fmt: skip
QWEN2_PIXELS = {"preprocessor_config.json": {
    "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "min_pixels": 56 * 56, "max_pixels": 84 * 84,
    "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
}}  # fmt: skip
QWEN2 = {"template": TEMPLATE, "special": SPECIAL, "token": "<|video_pad|>",
         "token_key": "video_token_id", "files": QWEN2_PIXELS}  # fmt: skip
LANGUAGE_TEMPLATE = """{% for m in messages %}<|im_start|>{{ m['role'] }}
{{ m['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LLAMA_TEMPLATE = """{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] }} [/INST]\
{% endfor %}"""


MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                             "mrope_section": [2, 1, 1]}}  # fmt: skip


DELTA = {
    "num_hidden_layers": 4, "head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 8, "linear_value_head_dim": 6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 0],
                        "mrope_interleaved": True, "partial_rotary_factor": 0.5},
}  # fmt: skip
TINY = {  # name: (row of golden/make_families.py, model class, text, vision, more of the config)
    "Qwen2-VL": (
        QWEN2, "Qwen2VLForConditionalGeneration", MROPE,
        {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2,
         "hidden_size": TEXT["hidden_size"], "initializer_range": 0.2}, {},
    ),
    "Qwen2.5-VL": (
        QWEN2, "Qwen2_5_VLForConditionalGeneration", MROPE,
        QWEN_VISION | {"fullatt_block_indexes": [1], "window_size": 56, "tokens_per_second": 2}, {},
    ),
    "Qwen2.5-VL with windows": (  # which cannot share a prefix
        QWEN2, "Qwen2_5_VLForConditionalGeneration",
        MROPE | {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
        QWEN_VISION | {"fullatt_block_indexes": [1], "window_size": 56, "tokens_per_second": 2}, {},
    ),
    "Qwen3-VL": (
        FAMILIES["Qwen3-VL"], "Qwen3VLForConditionalGeneration", MROPE | {"head_dim": 8},
        QWEN_VISION | {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}, {},
    ),
    "Qwen3.5": (
        FAMILIES["Qwen3.5"], "Qwen3_5ForConditionalGeneration", DELTA,
        QWEN_VISION | {"num_position_embeddings": 16}, {},
    ),
    "Qwen3.5 MoE": (
        FAMILIES["Qwen3.5"], "Qwen3_5MoeForConditionalGeneration",
        DELTA | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                 "shared_expert_intermediate_size": 32},
        QWEN_VISION | {"num_position_embeddings": 16}, {},
    ),
    "LLaVA-OneVision": (
        FAMILIES["LLaVA-OneVision"], "LlavaOnevisionForConditionalGeneration", {},
        VISION | {"model_type": "siglip_vision_model", "vision_use_head": False}, {},
    ),
    "LLaVA-NeXT-Video": (
        FAMILIES["LLaVA-NeXT-Video"], "LlavaNextVideoForConditionalGeneration", {},
        VISION | {"model_type": "clip_vision_model"}, {},
    ),
    "InternVL3": (
        FAMILIES["InternVL3"], "InternVLForConditionalGeneration", {},
        VISION | {"image_size": [56, 56], "patch_size": [14, 14]}, {"image_seq_length": 4},
    ),
    "InternVL3.5": (
        FAMILIES["InternVL3"], "InternVLForConditionalGeneration",
        {"model_type": "qwen3", "head_dim": 8},
        VISION | {"image_size": [56, 56], "patch_size": [14, 14]}, {"image_seq_length": 4},
    ),
    "SmolVLM2": (
        FAMILIES["SmolVLM2"], "SmolVLMForConditionalGeneration", {"model_type": "llama"},
        VISION, {"scale_factor": 2},
    ),
}  # fmt: skip


def small(content):
    """A preprocessor file with small frames in place of the released size."""
    edges = {"height": 56, "width": 56}
    if "merge_size" in content:
        sizes = {"size": {"shortest_edge": 4096, "longest_edge": 4 * 96 * 96}}
    elif "max_image_size" in content:
        sizes = {"max_image_size": {"longest_edge": 56}, "size": {"longest_edge": 80}}
    elif "crop_size" in content:
        sizes = {"size": {"shortest_edge": 56}, "crop_size": edges}
    else:
        sizes = {"size": edges}
    return content | sizes if "size" in content else content


def make_tiny(folder, name, seed=0):
    """Write the tiny model of a family as a model folder. Returns the folder."""
    kind, model_class, text, vision, more = TINY[name]
    files = {file: small(content) for file, content in kind["files"].items()}
    tokenizer = make_tokenizer(kind)
    model_type = getattr(transformers, model_class).config_class.model_type
    reader = {"model_type": "llama" if "<s>" in kind["special"] else "qwen2"}
    reader = {} if model_type.startswith("qwen") else reader
    text = TEXT | ids_of(tokenizer) | reader | text
    marks = {"image_token_id": "<|image_pad|>", "vision_start_token_id": "<|vision_start|>",
             "vision_end_token_id": "<|vision_end|>", "image_token_index": "<image>"}  # fmt: skip
    marks = {key: mark for key, mark in marks.items() if mark in kind["special"]}
    marks[kind["token_key"]] = kind["token"]
    config = transformers.AutoConfig.for_model(
        model_type,
        text_config=text,
        vision_config=vision,
        **{key: tokenizer.convert_tokens_to_ids(mark) for key, mark in marks.items()},
        **more,
    )
    return save(folder, getattr(transformers, model_class), config, tokenizer, files, seed)


def make_language_model(folder, name):
    """Write a tiny Qwen2ForCausalLM or LlamaForCausalLM as a model folder. Returns the folder."""
    special = {"Qwen2": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
               "Llama": ("<pad>", "<s>", "</s>")}[name]  # fmt: skip
    template = {"Qwen2": LANGUAGE_TEMPLATE, "Llama": LLAMA_TEMPLATE}[name]
    tokenizer = make_tokenizer({"special": special, "template": template})
    config = transformers.AutoConfig.for_model(name.lower(), **TEXT | ids_of(tokenizer))
    return save(folder, getattr(transformers, f"{name}ForCausalLM"), config, tokenizer, {}, 0)


def ids_of(tokenizer):
    """The tokenizer's part of a language model's config."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {"vocab_size": len(tokenizer)} | {name: getattr(tokenizer, name) for name in names}


def save(folder, model_class, config, tokenizer, files, seed):
    torch.manual_seed(seed)
    model = model_class(config)
    for name, p in model.named_parameters():
        if not p.any():  # biases, class tokens and position embeddings that start at zero
            torch.nn.init.normal_(p, std=0.2)
        if name.endswith("A_log"):  # a fresh recurrent layer forgets within some tokens
            p.data -= 4
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content))
    return folder


WORDS = "left right before after kept replaced first last same different".split()
MARKS = ["", "?", "?!", "!?", "??", ",", ".", ".,", "!", ";", ":", "?,", "?.", "?;", ",,", ",.",
         ";,"]  # fmt: skip


def write_babbler(folder, tiny_folder):
    """The tiny model with a vocabulary of opposites; a sixth of its words end an answer."""
    shutil.copytree(tiny_folder, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    names = list(tokenizer["model"]["vocab"])
    words = [f" {word}{mark}" for mark in MARKS for word in WORDS]
    vocabulary = [*names[:9], *words][: len(names)]  # the first nine are special tokens
    assert len(vocabulary) == len(names)
    tokenizer["model"]["vocab"] = {word: i for i, word in enumerate(vocabulary)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    generation = json.loads((folder / "generation_config.json").read_text())
    generation["eos_token_id"] = [generation["eos_token_id"], *range(9, len(names), 6)]
    (folder / "generation_config.json").write_text(json.dumps(generation))


def adapter_parameters(model):
    """A and B of every adapted layer: the trained weights."""
    return [p for _, layer in adapted(model) for p in (layer.lora_A, layer.lora_B)]
