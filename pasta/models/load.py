"""Loads a Video-LLM, or a language model for a judge, and computes the features of videos."""

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.functional import linear
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    DynamicCache,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pasta.attention import shared_prefix_attention
from pasta.models.families import FAMILIES, family_of_folder, text_family
from pasta.models.files import CONFIG_FILES, local_folder, shards
from pasta.models.processor import Processor
from pasta.run.rows import digest_files
from pasta.run.schema import read_by, read_json

DEFAULT_FRAMES = 32  # the paper's, for checkpoints that name no number of their own
# "" is the whole model: its config.json may name a kernel of the hub, which is code; not fetched.
ATTENTION = {"": "sdpa", "text_config": "shared_prefix", "vision_config": "sdpa"}

ALL_ATTENTION_FUNCTIONS.register("shared_prefix", shared_prefix_attention)


@dataclass(frozen=True)
class VLM:
    """A Processor and its model; `name` is the folder or hub id of both."""

    processor: Processor
    model: torch.nn.Module
    name: str

    def end_ids(self):
        """The set of token ids that end an answer: the checkpoint's and the tokenizer's."""
        ids = self.model.generation_config.eos_token_id or []
        return {*([ids] if isinstance(ids, int) else ids), self.processor.tokenizer.eos_token_id}

    def new_cache(self):
        return DynamicCache(config=self.model.config.get_text_config())


def as_position_ids(positions):
    """Positions (axes, B, L) as models take them: without M-RoPE there is one axis, and (B, L)."""
    return positions if len(positions) > 1 else positions[0]


def video_features(model, family, inputs):
    """The frozen vision tower's output for a list of VideoInputs, under no_grad.

    Returns what transformers' forward takes as `mm_encoder_outputs`: {"video" or "image": output},
    in the order of `inputs`; None for an empty list. An object that is in the list twice is
    computed once, and videos of one shape are computed in one batch.
    """
    if not inputs:
        return None
    seen, together = {}, False  # id of a VideoInputs -> its levels
    for group in of_one_shape(family, inputs):
        output = encode(model, family, group)
        found = levels(output, [x.n_tokens for x in group])
        seen |= {id(x): of_x for x, of_x in zip(group, found, strict=True)}
        together = torch.is_tensor(output.pooler_output)
    rows = zip(*(seen[id(x)] for x in inputs), strict=True)  # a level at a time
    # in the model's own form: one tensor, or a tuple of one per video
    tokens, *added = (torch.cat(row)[None] if together else row for row in rows)
    return {family.encoder: SimpleNamespace(pooler_output=tokens, deepstack_features=added)}


def of_one_shape(family, inputs):
    """Lists of the distinct VideoInputs whose tensors differ in the first dimension only."""
    groups = defaultdict(list)
    for x in {id(x): x for x in inputs}.values():
        groups[tuple(tensor.shape[1:] for tensor in family.feature_kwargs(x).values())].append(x)
    return groups.values()


def encode(model, family, videos, grad=False):
    """The model's own output for videos of one shape."""
    rows = [family.feature_kwargs(x) for x in videos]
    tensors = {k: torch.cat([row[k] for row in rows]).to(model.device) for k in rows[0]}
    with torch.set_grad_enabled(grad):
        # of the base model: some outer classes have the method for images alone
        features = getattr(model.base_model, f"get_{family.encoder}_features")
        return features(**tensors, return_dict=True)


def levels(output, lengths):
    """For each video of an output, (n_tokens, width) of every level that the language model reads.

    The first level is the tokens. In Qwen3-VL the others are added to the first layers' outputs.
    lengths: n_tokens of each video.
    """
    found = [output.pooler_output, *getattr(output, "deepstack_features", [])]
    flat = [x.flatten(0, 1) if torch.is_tensor(x) else torch.cat(x) for x in found]
    return zip(*(x.split(lengths) for x in flat), strict=True)


def load_processor(name, max_pixels=0):
    """The Processor of a model folder or hub id, also of a language model.

    max_pixels: as in `families.family_for`.
    Raises ValueError for an unknown family and for damaged files.
    """
    folder = local_folder(name)
    config = read_json(folder / "config.json", {"model_type": str})
    if reads_text_only(config):
        family, n_frames = text_family(config["model_type"]), 0
    else:
        family, n_frames = family_of_folder(folder, config, max_pixels, DEFAULT_FRAMES)
    with read_by("transformers", folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    legacy = folder / "chat_template.json"
    if legacy.is_file():  # AutoTokenizer ignores it and has a template for texts only (Qwen2.5-VL)
        tokenizer.chat_template = read_json(legacy, {"chat_template": str})["chat_template"]
    if tokenizer.chat_template is None:
        places = "tokenizer_config.json, chat_template.jinja or chat_template.json"
        raise ValueError(f"{name} has no chat template; expected one in {places}")
    mark = family.placeholder
    if mark and len(tokenizer(mark, add_special_tokens=False)["input_ids"]) != 1:
        raise ValueError(f"{name}: {mark} is not one token; is the tokenizer this checkpoint's?")
    files = [folder / f for f in CONFIG_FILES if (folder / f).is_file()]
    digest = f"{digest_files(files)} max_pixels={family.max_pixels}"
    return Processor(tokenizer, family, n_frames, digest)


def reads_text_only(config):
    """Whether a config.json describes a causal language model without a vision tower."""
    kind = config.get("model_type")
    known = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in FAMILIES
    return known and "vision_config" not in config


def load_vlm(name, dtype="float32", device="cpu", max_pixels=0):
    """A VLM from a model folder or hub id, frozen, in evaluation mode. Remote code never runs.

    dtype: the weights' type, "float32" or "bfloat16". max_pixels: as in `families.family_for`.
    Raises ValueError for attention that shared-prefix attention cannot replace.
    """
    folder = local_folder(name)
    processor = load_processor(name, max_pixels)
    shards(folder)  # refuses what use_safetensors lets pass
    auto, config = class_of(name, folder)
    model = auto.from_pretrained(
        folder,
        config=config,  # already read: otherwise its own _attn_implementation would win
        trust_remote_code=False,
        use_safetensors=True,  # otherwise pytorch_model.bin, a pickle, would do
        dtype=getattr(torch, dtype),
        attn_implementation=ATTENTION if processor.family.placeholder else ATTENTION["text_config"],
    )
    multiply_patches(model)
    return VLM(processor, model.requires_grad_(False).eval().to(device), str(name))


def bare_model(name):
    """The model of a folder or hub id without its weights: the names and shapes of its layers."""
    auto, config = class_of(name, local_folder(name))
    with torch.device("meta"):
        return auto.from_config(config, attn_implementation="eager", trust_remote_code=False)


def class_of(name, folder):
    """(auto class, config) of a checkpoint. Raises ValueError as load_vlm does."""
    text_only = reads_text_only(read_json(folder / "config.json", {"model_type": str}))
    auto = AutoModelForCausalLM if text_only else AutoModelForImageTextToText
    with read_by("transformers", folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    if kinds is None and getattr(text, "sliding_window", None):
        kinds = ["sliding_attention"]
    if other := sorted({*(kinds or ())} - {"full_attention"}):
        raise ValueError(f"{name} uses {', '.join(other)}; packed rows need full_attention")
    if not auto._model_mapping[type(config)]._supports_attention_backend:
        fixed = f"transformers cannot replace the attention of a {config.model_type}"
        raise ValueError(f"{name}: {fixed}; expected a family of pasta/models")
    return auto, config


def multiply_patches(model):
    """Replace convolutions over patches that do not overlap, as in Qwen, by matrix products.

    That is faster, on some GPUs by far (huggingface/transformers#45750). transformers'
    `fusion_config` does the same, but renames the weights and stays in the saved config.
    """
    for conv in model.modules():
        if isinstance(conv, nn.Conv3d):
            apart = conv.stride == conv.kernel_size and conv.dilation == (1, 1, 1)
            if apart and conv.padding == (0, 0, 0) and conv.groups == 1:
                conv.forward = partial(product, conv)


def product(conv, patches):
    """conv(patches): (N, width, 1, 1, 1) of N patches, (N, channels, *kernel size)."""
    if patches.shape[2:] != conv.kernel_size:
        return type(conv).forward(conv, patches)
    return linear(patches.flatten(1), conv.weight.flatten(1), conv.bias)[..., None, None, None]


def tune_all(model):
    """Unfreeze the language model; the vision tower and the projector stay frozen.

    The reference is the model before training: only its log-probabilities are kept, no second copy.
    """
    for part in (model.get_decoder(), model.get_output_embeddings()):
        part.requires_grad_(True)


def shard_units(model):
    """The layers of both towers, a list of modules: FSDP2 gathers the weights of one at a time."""
    kinds = model._no_split_modules  # transformers' own list of class names
    return [module for module in model.modules() if type(module).__name__ in kinds]


def checkpoint_activations(model):
    """Recompute each layer's activations in backward, without reentrant checkpointing.

    transformers also makes every part's input require gradients. We undo that: the frozen vision
    tower would be recomputed for nothing.
    """
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.disable_input_require_grads()
