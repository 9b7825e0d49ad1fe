"""Loads a Video-LLM, or a language model for a judge, and computes the features of videos."""

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import torch
import transformers
from safetensors import safe_open
from torch import nn
from torch.nn.functional import linear
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pasta.attention import shared_prefix_attention
from pasta.models.families import FAMILIES, family_of_folder, text_family
from pasta.models.files import CONFIG_FILES, check_files, local_folder, shards
from pasta.models.processor import Processor
from pasta.run import ranks
from pasta.run.digest import digest_files
from pasta.run.schema import read_by, read_json

DEFAULT_FRAMES = 32  # the paper's, for checkpoints that name no number
# "" is the whole model: its config.json may name a kernel of the hub, which is code; not fetched.
ATTENTION = {"": "sdpa", "text_config": "shared_prefix", "vision_config": "sdpa"}

ALL_ATTENTION_FUNCTIONS.register("shared_prefix", shared_prefix_attention)
# No bars of transformers, for loading and writing; those of downloads stay.
transformers.utils.logging.set_tqdm_hook(lambda bar, x, more: bar(*x, **more | {"disable": True}))


@dataclass(frozen=True)
class VLM:
    """A Processor and its model; `name` is the folder or hub id of both."""

    processor: Processor
    model: torch.nn.Module
    name: str

    def end_ids(self):
        """The token ids that end an answer: the checkpoint's, the tokenizer's, the template's."""
        ids, processor = self.model.generation_config.eos_token_id or [], self.processor
        ids = [ids] if isinstance(ids, int) else ids
        return {*ids, processor.tokenizer.eos_token_id, processor.turn[1]}

    def new_cache(self):
        return transformers.DynamicCache(config=self.model.config.get_text_config())


def as_position_ids(positions):
    """Positions (axes, B, L) as models take them: without M-RoPE there is one axis, and (B, L)."""
    return positions if len(positions) > 1 else positions[0]


def video_features(model, family, inputs):
    """The frozen vision tower's output for a list of VideoInputs, under no_grad.

    Returns the `mm_encoder_outputs` of transformers' forward, in order; None for an empty list.
    """
    if not inputs:
        return None
    groups = defaultdict(list)  # distinct videos of one shape are computed in one batch
    for x in {id(x): x for x in inputs}.values():
        groups[tuple(tensor.shape[1:] for tensor in family.feature_kwargs(x).values())].append(x)
    seen = {}  # id of a VideoInputs -> its levels
    for group in groups.values():
        output = encode(model, family, group)
        seen |= zip(map(id, group), levels(output, [x.n_tokens for x in group]), strict=True)
    together = torch.is_tensor(output.pooler_output)
    rows = zip(*(seen[id(x)] for x in inputs), strict=True)  # a level at a time
    # in the model's own form: one tensor, or a tuple of one per video
    tokens, *added = (torch.cat(row)[None] if together else row for row in rows)
    return {family.encoder: SimpleNamespace(pooler_output=tokens, deepstack_features=added)}


def encode(model, family, videos, grad=False):
    """The model's own output for videos of one shape."""
    rows = [family.feature_kwargs(x) for x in videos]
    tensors = {k: torch.cat([row[k] for row in rows]).to(model.device) for k in rows[0]}
    with torch.set_grad_enabled(grad):
        # of the base model: some outer classes have the method for images alone
        features = getattr(model.base_model, f"get_{family.encoder}_features")
        return features(**tensors, return_dict=True)


def levels(output, lengths):
    """For each video, (n_tokens, width) of each level: its tokens, then Qwen3-VL's deepstack."""
    found = [output.pooler_output, *getattr(output, "deepstack_features", [])]
    flat = [x.flatten(0, 1) if torch.is_tensor(x) else torch.cat(x) for x in found]
    return zip(*(x.split(lengths) for x in flat), strict=True)


def load_processor(name, max_pixels=0):
    """The Processor of a folder or hub id, also of a text model. max_pixels: see `family_for`."""
    folder = local_folder(name)
    check_files(folder)
    config = read_json(folder / "config.json", {"model_type": str})
    if reads_text_only(config):
        family, n_frames = text_family(config["model_type"]), 0
    else:
        family, n_frames = family_of_folder(folder, config, max_pixels, DEFAULT_FRAMES)
    with read_by("transformers", folder):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    legacy = folder / "chat_template.json"
    if legacy.is_file():  # AutoTokenizer ignores it and has a template for texts only (Qwen2.5-VL)
        tokenizer.chat_template = read_json(legacy, {"chat_template": str})["chat_template"]
    if tokenizer.chat_template is None:
        raise ValueError(f"{name} has no chat template; expected a chat_template.jinja")
    mark = family.placeholder
    if mark and len(tokenizer(mark, add_special_tokens=False)["input_ids"]) != 1:
        raise ValueError(f"{name}: {mark} is not one token; is the tokenizer this checkpoint's?")
    files = [folder / f for f in CONFIG_FILES if (folder / f).is_file()]
    digest = f"{digest_files(files)} max_pixels={family.max_pixels}"
    processor = Processor(tokenizer, family, n_frames, digest)
    if processor.turn != ("", tokenizer.eos_token_id, ""):  # otherwise caches of before are valid
        processor = replace(processor, digest=f"{digest} {processor.turn}")
    return processor


def reads_text_only(config):
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() - FAMILIES.keys()
    return config["model_type"] in known and "vision_config" not in config


def load_vlm(name, dtype="float32", device="cpu", max_pixels=0):
    """A frozen VLM from a folder or hub id, of "float32" or "bfloat16". Remote code never runs."""
    folder = local_folder(name)
    processor = load_processor(name, max_pixels)
    if (opening := processor.turn[0]) and ranks.rank() == 0:
        print(f"{name}: as in dialogues of its chat template, answers begin after {opening!r}")
    for shard in shards(folder):  # refuses what use_safetensors lets pass
        with read_by("safetensors", folder / shard), safe_open(folder / shard, "pt"):
            pass  # only its header is read
    auto, config = class_of(name, folder)
    model, keys = auto.from_pretrained(
        folder,
        config=config,  # already read: otherwise its own _attn_implementation would win
        trust_remote_code=False,
        use_safetensors=True,  # otherwise pytorch_model.bin, a pickle, would do
        dtype=getattr(torch, dtype),
        attn_implementation=ATTENTION if processor.family.placeholder else ATTENTION["text_config"],
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # otherwise an error that names no tensor
    )
    wrong = [f"{key} is {(*got,)}, not {(*size,)}" for key, got, size in keys["mismatched_keys"]]
    wrong += [f"{key} is missing" for key in keys["missing_keys"]]  # and would be random
    unused = [key for key in keys["unexpected_keys"] if re.search(r"\.\d+\.", key)]  # of layers
    if wrong := sorted(wrong + [f"{key} is of no layer" for key in unused]):
        got = f"{folder}: {len(wrong)} weights do not fit config.json: {'; '.join(wrong[:3])}"
        raise ValueError(f"{got}; expected the files of one checkpoint: download them again")
    multiply_patches(model)
    return VLM(processor, model.requires_grad_(False).eval().to(device), str(name))


def bare_model(name):
    """The model of a folder or hub id without its weights: the names and shapes of its layers."""
    auto, config = class_of(name, local_folder(name))
    with torch.device("meta"):
        return auto.from_config(config, attn_implementation="eager", trust_remote_code=False)


def class_of(name, folder):
    """(auto class, config) of a checkpoint with attention that `shared_prefix` can replace."""
    auto = transformers.AutoModelForImageTextToText
    if reads_text_only(read_json(folder / "config.json", {"model_type": str})):
        auto = transformers.AutoModelForCausalLM
    with read_by("transformers", folder):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    text = config.get_text_config()
    sliding = ["sliding_attention"] if getattr(text, "sliding_window", None) else []
    kinds = getattr(text, "layer_types", None) or sliding
    if other := sorted({*kinds} - {"full_attention"}):
        raise ValueError(f"{name} uses {', '.join(other)}; packed rows need full_attention")
    if not auto._model_mapping[type(config)]._supports_attention_backend:
        got = f"{name}: transformers cannot replace the attention of a {config.model_type}"
        raise ValueError(f"{got}; expected a family of pasta/models")
    return auto, config


def multiply_patches(model):
    """Replace convolutions over separate patches by matrix products, on some GPUs far faster."""
    # huggingface/transformers#45750; its `fusion_config` would rename the saved weights.
    for conv in model.modules():
        if isinstance(conv, nn.Conv3d) and conv.stride == conv.kernel_size:
            if (conv.padding, conv.dilation, conv.groups) == ((0, 0, 0), (1, 1, 1), 1):
                conv.forward = partial(product, conv)


def product(conv, patches):
    """conv(patches): (N, width, 1, 1, 1) of N patches, (N, channels, *kernel size)."""
    return linear(patches.flatten(1), conv.weight.flatten(1), conv.bias)[..., None, None, None]


def tune_all(model):
    """Unfreeze the language model; the vision tower and the projector stay frozen."""
    model.get_decoder().requires_grad_(True)
    model.get_output_embeddings().requires_grad_(True)


def shard_units(model):
    """The layers of both towers, a list of modules: FSDP2 gathers the weights of one at a time."""
    return [m for m in model.modules() if type(m).__name__ in model._no_split_modules]


def checkpoint_activations(model):
    """Recompute each layer's activations in backward, without reentrant checkpointing."""
    model.activation_checkpointing_enable({"use_reentrant": False})
    # transformers made every input require gradients: the frozen vision tower would be recomputed
    model.disable_input_require_grads()
