"""Loads a Video-LLM, or a language model for a judge."""

import re
import sys
from dataclasses import dataclass, replace
from functools import partial

import torch
import transformers
from safetensors import safe_open
from torch.nn.functional import pad
from transformers.cache_utils import DynamicLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pasta.attention import shared_prefix_attention
from pasta.models.families import FAMILIES, family_of_folder, text_family
from pasta.models.files import CONFIG_FILES, check_files, local_folder, shards
from pasta.models.processor import Processor
from pasta.models.vision import WINDOWS, attend_in_windows, quicken_tower
from pasta.recurrence import gated_delta
from pasta.run import flags, ranks
from pasta.run.digest import digest_files
from pasta.run.schema import read_by, read_json

RECURRENT = re.compile("qwen3_5(_moe)?(_text)?")  # with gated delta layers: recurrence.py
LARGE = 2 * 10**9  # bytes of weights: more is too slow on a CPU
DEFAULT_FRAMES = 32  # the paper's, for checkpoints that name no number
# "" is the whole model: its config.json may name a kernel of the hub, which is code; not fetched.
ATTENTION = {"": "sdpa", "text_config": "shared_prefix", "vision_config": "sdpa"}

ALL_ATTENTION_FUNCTIONS.register("shared_prefix", shared_prefix_attention)
ALL_ATTENTION_FUNCTIONS.register(WINDOWS, attend_in_windows)
# cuDNN would be torch's first choice on an H100. It plans each new shape for about 30 ms, and every
# decoded token is a new shape.
torch.backends.cuda.enable_cudnn_sdp(False)
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

    @property
    def shares(self):
        """Whether the responses to a video can be segments of one row."""
        return self.model.config.get_text_config()._attn_implementation == "shared_prefix"

    def new_cache(self):
        return transformers.DynamicCache(config=self.model.config.get_text_config())


def branched(layers, which, n_new):
    """A layer of a cache with the prefix which[b] in row b, with room for n_new tokens.

    layers: this layer of the caches of all prefixes, the longest first. which: (B,) int64.
    """
    if not hasattr(layers[0], "recurrent_states"):
        return InPlace(layers, which, n_new)
    for name in ("conv_states", "recurrent_states"):  # as left by recurrence.py
        getattr(layers[0], name)[0] = torch.cat([getattr(x, name)[0] for x in layers])[which]
    return layers[0]


class InPlace(DynamicLayer):  # which copies all of them at every token
    """Keys and values, (B, G, C, D), of prefix which[b] in row b, with room for n_new tokens."""

    def __init__(self, layers, which, n_new):
        super().__init__()
        self.lazy_initialization(layers[0].keys, layers[0].values)
        n, self.room = layers[0].get_seq_length(), []
        for prefixes in zip(*((x.keys, x.values) for x in layers), strict=True):
            same = [pad(x, (0, 0, 0, n + n_new - x.shape[2])) for x in prefixes]
            self.room.append(torch.cat(same)[which])
        self.keys, self.values = (x[:, :, :n] for x in self.room)

    def update(self, keys, values, *_, **__):
        start = self.get_seq_length()
        end = start + keys.shape[2]
        for room, new in zip(self.room, (keys, values), strict=True):
            room[:, :, start:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self.room)
        return self.keys, self.values


def as_position_ids(positions):
    """Positions (axes, B, L) as models take them: without M-RoPE there is one axis, and (B, L)."""
    return positions if len(positions) > 1 else positions[0]


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
    tokenizer.chat_template = family.template or tokenizer.chat_template
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
    if device == "cpu" and sum(x.stat().st_size for x in folder.glob("*.safetensors")) > LARGE:
        old = "with an older driver: pip install torch --index-url https://download.pytorch.org/whl"
        none = f"torch {torch.__version__} sees no GPU; {old}/cu126"
        ranks.say(f"{name} takes hours on a CPU ({'--device cpu' if flags.GPUS else none})")
    for shard in shards(folder):  # refuses what use_safetensors lets pass
        with read_by("safetensors", folder / shard), safe_open(folder / shard, "pt"):
            pass  # only its header is read
    auto, config, other = class_of(name, folder)
    if other:
        cannot = f"{name} uses {', '.join(other)}: its responses cannot share the video's row"
        ranks.say(f"{cannot}; each has a row of its own, and prompts are answered singly: slower")
    attention = dict.fromkeys(ATTENTION, "sdpa") if other else ATTENTION
    model, keys = auto.from_pretrained(
        folder,
        config=config,  # already read: otherwise its own _attn_implementation would win
        trust_remote_code=False,
        use_safetensors=True,  # otherwise pytorch_model.bin, a pickle, would do
        dtype=getattr(torch, dtype),
        attn_implementation=attention if processor.family.placeholder else attention["text_config"],
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # otherwise an error that names no tensor
    )
    wrong = [f"{key} is {(*got,)}, not {(*size,)}" for key, got, size in keys["mismatched_keys"]]
    wrong += [f"{key} is missing" for key in keys["missing_keys"]]  # and would be random
    unused = [key for key in keys["unexpected_keys"] if re.search(r"\.\d+\.", key)]  # of layers
    if wrong := sorted(wrong + [f"{key} is of no layer" for key in unused]):
        got = f"{folder}: {len(wrong)} weights do not fit config.json: {'; '.join(wrong[:3])}"
        raise ValueError(f"{got}; expected the files of one checkpoint: download them again")
    quicken_tower(model, processor.family)
    share_recurrences(model)
    return VLM(processor, model.requires_grad_(False).eval().to(device), str(name))


def share_recurrences(model):
    for layer in model.modules():
        if re.fullmatch("Qwen3_5(Moe)?GatedDeltaNet", type(layer).__name__):
            code = sys.modules[type(layer).__module__]  # uses flash-linear-attention if installed
            rules = code.torch_chunk_gated_delta_rule, code.torch_recurrent_gated_delta_rule
            layer.forward = partial(gated_delta, layer, rules)


def bare_model(name):
    """The model of a folder or hub id without its weights: the names and shapes of its layers."""
    auto, config, _ = class_of(name, local_folder(name))
    with torch.device("meta"):
        return auto.from_config(config, attn_implementation="eager", trust_remote_code=False)


def class_of(name, folder):
    """(auto class, config, the kinds of layers that cannot share a prefix) of a checkpoint."""
    auto = transformers.AutoModelForImageTextToText
    if reads_text_only(read_json(folder / "config.json", {"model_type": str})):
        auto = transformers.AutoModelForCausalLM
    with read_by("transformers", folder):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    text = config.get_text_config()
    sliding = ["sliding_attention"] if getattr(text, "sliding_window", None) else []
    kinds = getattr(text, "layer_types", None) or sliding
    recurrent = bool(RECURRENT.fullmatch(config.model_type))
    other = sorted({*kinds} - {"full_attention", "linear_attention" * recurrent})
    if not auto._model_mapping[type(config)]._supports_attention_backend and not recurrent:
        got = f"{name}: transformers cannot replace the attention of a {config.model_type}"
        raise ValueError(f"{got}; expected a family of pasta/models")
    return auto, config, other


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
