"""A Video-LLM: load it and prompt it.                    (the only file that knows transformers)

A `Processor` turns a video and a query into token ids and positions and needs no weights; a `VLM`
adds the model. Positions are ours everywhere (see families.py).

Shapes: L tokens of a prompt, F frames, H, W pixels.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer, DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import cached_file

from pasta.attention import shared_prefix_attention
from pasta.config import whole_folder, write_json
from pasta.families import Family, family_for, read_preprocessor

DEFAULT_FRAMES = 32  # the paper's, for checkpoints that name no number of their own
ATTENTION = {"text_config": "shared_prefix", "vision_config": "sdpa"}
CONFIG_FILES = """
    config.json video_preprocessor_config.json preprocessor_config.json processor_config.json
    chat_template.jinja chat_template.json tokenizer.json tokenizer_config.json vocab.json
    merges.txt added_tokens.json special_tokens_map.json
""".split()  # what decides token ids and pixels
LAYOUT = 1  # raise it when prompts, positions or packs change
INDEX = "model.safetensors.index.json"

ALL_ATTENTION_FUNCTIONS.register("shared_prefix", shared_prefix_attention)


@dataclass(frozen=True)
class Processor:
    """Tokenizer, family and prompt layout of a checkpoint; no weights."""

    tokenizer: object
    family: Family
    n_frames: int  # the checkpoint's own number of frames
    digest: str  # sha256 of the files that decide which ids and pixels come out

    def prepare(self, frames, timestamps):
        """(F, H, W, 3) uint8 frames and their (F,) seconds to VideoInputs."""
        return self.family.prepare(frames, timestamps)

    def fit(self, n_frames, height, width):
        """The (height, width) at which the model sees frames."""
        return self.family.fit(n_frames, height, width)

    def prefix_ids(self, inputs):
        """The prompt up to the video's last token; without video, up to where the query starts.

        inputs: VideoInputs or None. Returns a list of P ids.
        """
        head = self.split("", inputs is not None)[0]
        return self.ids(head if inputs is None else self.family.expand(head, inputs))

    def query_ids(self, query, with_video=True):
        """The prompt between the prefix and the response. Returns a list of ids."""
        return self.ids(self.split(query, with_video)[1])

    def response_ids(self, response):
        """A response and the end token that closes it. Returns a list of ids; all are scored."""
        return [*self.ids(response), self.tokenizer.eos_token_id]

    def positions(self, ids, inputs):
        """(3, L) int64 M-RoPE positions of a list of L ids."""
        return self.family.positions(torch.tensor(ids), inputs)

    def ids(self, text):
        """The token ids of a text, nothing added."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def split(self, query, with_video):
        """The text of one user turn in the checkpoint's chat template, cut behind the video.

        The placeholder is a special token, so the two halves have the token ids of the whole.
        Raises ValueError for a query that holds the placeholder itself.
        """
        content = [{"type": "video"}, {"type": "text", "text": query}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        mark = self.family.placeholder
        if text.count(mark) != 1:
            raise ValueError(
                f"the prompt of query {query[:60]!r} holds {text.count(mark)} of {mark}; expected "
                "one: a query may not contain the model's own video tokens"
            )
        head, tail = text.split(mark)
        if with_video:
            return head + mark, tail
        before, after = self.family.wrap
        return head.removesuffix(before), tail.removeprefix(after)


@dataclass(frozen=True)
class VLM:
    """A Processor and the model that goes with it; `name` is where both came from."""

    processor: Processor
    model: torch.nn.Module
    name: str

    def end_ids(self):
        """The set of token ids that end an answer: the checkpoint's and the tokenizer's."""
        ids = self.model.generation_config.eos_token_id or []
        return {*([ids] if isinstance(ids, int) else ids), self.processor.tokenizer.eos_token_id}

    def new_cache(self):
        """An empty key/value cache for one batch."""
        return DynamicCache(config=self.model.config.get_text_config())


def video_features(model, family, inputs):
    """The frozen vision tower's output for a list of VideoInputs, under no_grad.

    Returns what transformers' forward takes as `mm_encoder_outputs`: {"video": output}, whose
    `pooler_output` is one (tokens, width) tensor per entry of `inputs`; None for an empty list.
    The same object twice in the list is computed once.
    """
    if not inputs:
        return None
    distinct = list({id(x): x for x in inputs}.values())
    rows = [family.feature_kwargs(x) for x in distinct]
    tensors = {k: torch.cat([row[k] for row in rows]).to(model.device) for k in rows[0]}
    with torch.no_grad():
        output = model.get_video_features(**tensors, return_dict=True)
    of = {id(x): out for x, out in zip(distinct, output.pooler_output, strict=True)}
    output.pooler_output = tuple(of[id(x)] for x in inputs)
    return {"video": output}


def load_processor(name, max_pixels=0):
    """The Processor of a model folder or hub id.

    max_pixels: of a frame as the model sees it; 0 leaves the checkpoint's own bound.
    Raises ValueError for an unknown family.
    """
    folder = local_folder(name)
    config = json.loads((folder / "config.json").read_text())
    preprocessor = read_preprocessor(folder)
    if max_pixels:
        own = preprocessor.get("max_pixels") or preprocessor.get("size", {}).get("longest_edge")
        preprocessor |= {"max_pixels": min(max_pixels, own or max_pixels)}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    legacy = folder / "chat_template.json"
    if legacy.is_file():  # AutoTokenizer does not read it, and has one for texts alone (Qwen2.5-VL)
        tokenizer.chat_template = json.loads(legacy.read_text())["chat_template"]
    if tokenizer.chat_template is None:
        raise ValueError(f"{name} has no chat template; expected one in tokenizer_config.json, "
                         "chat_template.jinja or chat_template.json")
    files = [folder / f for f in CONFIG_FILES if (folder / f).is_file()]
    n_frames = preprocessor.get("num_frames") or DEFAULT_FRAMES
    digest = f"{digest_files(files)} max_pixels={max_pixels}"
    return Processor(tokenizer, family_for(config, preprocessor), n_frames, digest)


def load_vlm(name, dtype="float32", device="cpu", max_pixels=0):
    """A VLM from a model folder or hub id, frozen, in evaluation mode.

    dtype: the weights' type, "float32" or "bfloat16". Remote code is never run.
    max_pixels: as in load_processor.
    Raises ValueError for sliding-window attention, which shared-prefix attention does not do.
    """
    folder = local_folder(name)
    processor = load_processor(name, max_pixels)
    config = AutoConfig.from_pretrained(folder)
    if "sliding_attention" in (getattr(config.get_text_config(), "layer_types", None) or []):
        raise ValueError(f"{name} uses sliding-window attention; pasta's packed rows do not")
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation=ATTENTION
    )
    return VLM(processor, model.requires_grad_(False).eval().to(device), str(name))


def local_folder(name):
    """The folder that holds a checkpoint's files; a hub id is fetched into the hub's cache."""
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute() or str(name).count("/") != 1:
        raise FileNotFoundError(f"no model folder {name}; give a folder or a hub id OWNER/NAME")
    config = Path(cached_file(str(name), "config.json"))
    for file in CONFIG_FILES:
        cached_file(str(name), file, _raise_exceptions_for_missing_entries=False)
    index = cached_file(str(name), INDEX, _raise_exceptions_for_missing_entries=False)
    shards = ["model.safetensors"]
    if index is not None:
        shards = sorted(set(json.loads(Path(index).read_text())["weight_map"].values()))
    for shard in shards:
        cached_file(str(name), shard)
    cached_file(str(name), "generation_config.json", _raise_exceptions_for_missing_entries=False)
    return config.parent


def save_model(folder, model, source, state_dict=None):
    """Write `model` as an ordinary model folder; all files but the weights are those of `source`.

    source: the checkpoint, folder or hub id, that `model` was loaded from.
    state_dict: name -> tensor in place of the model's own, as of a sharded model's gathered ones.
    A folder of that name is replaced, whole. config.json names the type that the weights have.
    """
    source, state_dict = local_folder(source), state_dict or model.state_dict()
    dtype = str(next(iter(state_dict.values())).dtype).removeprefix("torch.")
    with whole_folder(folder) as part:
        model.save_pretrained(part, state_dict=state_dict)
        for name in (*CONFIG_FILES, "generation_config.json"):
            if (source / name).is_file():
                shutil.copyfile(source / name, part / name)
        config = json.loads((part / "config.json").read_text())
        if retyped(config, dtype) != config:
            write_json(part / "config.json", retyped(config, dtype))


def retyped(config, dtype):
    """config.json's content for weights of another type; its parts name theirs as well."""
    parts = {k: retyped(v, dtype) if isinstance(v, dict) else v for k, v in config.items()}
    return parts | {key: dtype for key in ("dtype", "torch_dtype") if key in config}


def checkpoint_activations(model):
    """Recompute each layer's activations in backward, without the reentrant kind's traps.

    transformers also makes every part's input require gradients, the frozen vision tower's too,
    which would then be recomputed for nothing; that is undone.
    """
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.disable_input_require_grads()


def model_setting(name, processor):
    """What answers and log-probabilities owe to the checkpoint `name`, for the keys of caches."""
    return {"weights": weights_digest(name), "processor": processor.digest, "layout": LAYOUT}


def weights_digest(name):
    """sha256 of a checkpoint's weight files: what a cached log-probability depends on."""
    files = sorted(local_folder(name).glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{name} holds no .safetensors files; other formats are not read")
    return digest_files(files)


def digest_files(files):
    """sha256 hex over the names and bytes of files."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
