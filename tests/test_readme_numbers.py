"""Every number of the README, and every estimate in docs/training.md, has another source.

    python -m pytest -q tests/test_readme_numbers.py

test_readme.py, test_study.py and test_speed.py read its first result and its other tables.
"""

import re
import weakref
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from campaigns.ways import SIZES
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from make_pairs import PairsConfig
from pasta.models.load import ATTENTION, VLM, bare_model, checkpoint_activations
from pasta.packs import Pack
from pasta.pairs import MODES
from pasta.policy import Policy
from pasta.tools.dry_run import CARDS, USABLE, n_trained

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TRAINING = (ROOT / "docs/training.md").read_text()
PAPER = """
    base         71.7 68.6 75.8 65.2 27.9 68.7 60.7 62.2
    VideoPASTA   72.3 69.4 77.3 66.3 28.3 69.2 61.5 64.1
"""  # arXiv 2504.14096v1, Table 1
VIDEOS, PAIRS = 2340, 7020
(LAPTOP,) = re.findall(r"SmolVLM2-500M.*AdamW: (\S+) GB\.", README)
TOTAL, LAYERS, WIDTH = 8_292_166_656, 28, 3584  # of Qwen2.5-VL-7B: weights, layers, hidden size


def tables(page):
    """{first cell: other cells} of all tables of a page."""
    rows = [line.strip("|").split("|") for line in page.splitlines() if line[:1] == "|"]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_papers_numbers_are_the_papers():
    shown = tables(README)
    for line in PAPER.strip().splitlines():
        name, *numbers = re.split(r"\s{2,}|(?<=\d) ", line.strip())
        assert shown[name] == numbers
    assert set(shown["pasta"]) == {"not run"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the config.json of the 7B, without weights."""
    folder = tmp_path_factory.mktemp("7b")
    settings = Qwen2_5_VLConfig.from_json_file(SIZES / "qwen2.5-vl-7b.json")
    settings.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokens():
    """Tokens of 32 frames at --max_pixels: one per two frames and 28 x 28 pixels."""
    (pixels,) = (f.metadata["default"] for f in fields(PairsConfig) if f.name == "max_pixels")
    return 32 // 2 * pixels // 28**2


def test_the_conditions_of_the_estimates_are_stated(tokens):
    text = " ".join(TRAINING.split())
    assert f"{VIDEOS:,} videos of {tokens:,} tokens" in text and VIDEOS * len(MODES) == PAIRS


def test_memory_and_disk_are_estimated_as_stated(folder, tokens):
    trained = n_trained(bare_model(folder), lora_rank=32)
    resident = 2 * TOTAL + 16 * trained  # bfloat16; float32 weight, gradient, two moments
    stored = 2 * LAYERS * WIDTH * (tokens + 360)  # the input of every layer
    temporary = 2 * 8 * 18944 * (tokens + 360)  # eight of an MLP's inner activations
    parts = (resident, stored, temporary)
    assert row("memory") == "; ".join(f"{n / 1e9:.1f} GB" for n in parts)
    adapter = 4 * trained
    assert row("disk") == f"{adapter / 1e9:.1f} GB; {(adapter + 24 * trained) / 1e9:.1f} GB"


def test_the_memory_on_a_laptop_is_that_of_the_weights_and_adamw(tmp_path):
    text = {"model_type": "llama", "hidden_size": 960, "intermediate_size": 2560}
    text |= {"num_hidden_layers": 32, "num_attention_heads": 15, "num_key_value_heads": 5}
    text |= {"vocab_size": 49280}
    vision = {"hidden_size": 768, "intermediate_size": 3072, "image_size": 512, "patch_size": 16}
    AutoConfig.for_model(  # SmolVLM2-500M-Video-Instruct
        "smolvlm", text_config=text, vision_config=vision, scale_factor=4
    ).save_pretrained(tmp_path)
    model = bare_model(tmp_path)
    total = sum(p.numel() for p in model.parameters())
    assert round(total / 1e6) == 507  # its published size
    # of each layer, the widths into and out of q, o; k, v; gate, up; down
    of_layer = 2 * (960 + 960) + 2 * (960 + 320) + 3 * (960 + 2560)
    trained = 32 * 32 * of_layer
    assert n_trained(model, lora_rank=32) == trained
    assert LAPTOP == f"{(2 * total + 16 * trained) / 1e9:.2f}"


def test_the_cards_that_suffice_are_those_of_the_dry_run():
    resident, *parts = (float(x.removesuffix(" GB")) for x in row("memory").split("; "))
    frames = {card: int(32 * (card * USABLE / 1e9 - resident) / sum(parts)) for card in CARDS}
    few = [card for card, n in frames.items() if n < 32]
    assert {f"fits {card} GB": row(f"fits {card}") for card in few} == {
        f"fits {card} GB": f"with `--n_frames {frames[card]}`" for card in few
    }
    enough = ", ".join(f"{card} GB" for card in CARDS if card not in few)
    assert row(f"fits {enough}") == "with the defaults"


class Peak(TorchDispatchMode):
    """Counts the bytes of the tensors that exist at once; `known` ones are not counted."""

    def __init__(self, known):
        super().__init__()
        self.bytes = {x.untyped_storage()._cdata: 0 for x in known}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            storage = tensor.untyped_storage() if torch.is_tensor(tensor) else None
            if storage is not None and storage._cdata not in self.bytes:
                self.bytes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.free, storage._cdata)
        return out

    def free(self, key):
        self.now -= self.bytes.pop(key)


def test_the_peak_of_a_training_step_on_fake_tensors_is_the_estimated_one(tokens, monkeypatch):
    # A fake tensor cannot be a CausalBias. Without one the same kernel allocates as much.
    monkeypatch.setattr("pasta.attention.causal_lower_right", lambda *sizes: None)
    n_text, n_scored = 60, 30  # of each of six responses, with their queries
    with FakeTensorMode(allow_non_fake_inputs=True):
        settings = Qwen2_5_VLConfig.from_json_file(SIZES / "qwen2.5-vl-7b.json")
        bf16 = {"dtype": torch.bfloat16}
        model = Qwen2_5_VLForConditionalGeneration._from_config(settings, **bf16).train()
        model.set_attn_implementation(ATTENTION)
        trained = n_trained(model, lora_rank=32)
        checkpoint_activations(model)
        ids = torch.zeros(tokens + 6 * n_text, dtype=torch.int64)
        scored = ids[: 6 * n_scored]
        lengths = (tokens, *[n_text] * 6)
        pack = Pack(None, ids, ids.expand(3, -1), lengths, scored, scored, scored)
        processor = SimpleNamespace(family=SimpleNamespace(encoder="video"))
        policy = Policy(VLM(processor, model, "7B"), True)
        with Peak([*model.parameters(), *model.buffers()]) as memory:
            policy(pack).sum().backward()
    _, *parts = (float(x.removesuffix(" GB")) for x in row("memory").split("; "))
    assert (memory.peak - 4 * trained) / 1e9 == pytest.approx(sum(parts), rel=0.05)  # - gradients


def row(start):
    """The estimate in a row of the table for the 7B, which was not run."""
    (cells,) = (v for k, v in tables(TRAINING).items() if k.startswith(start))
    assert cells[1] == "not run"
    return cells[0]


def test_the_prose_has_no_other_number():
    text = re.sub(r"```.*?```", "", README, flags=re.S)
    text = re.sub(r"^\|.*|^\d\. |`[^`]*`|\]\([^)]*\)", "", text, flags=re.M)
    text = re.sub(r"7B|7K|ln 2|Table 1|Step 1|not 0\.|1 fps", "", text)
    found = set(re.findall(r"(?<![\w.\-/])\d[\d,.]*\d|(?<![\w.\-/])\d", text))
    needs = (ROOT / "pyproject.toml").read_text()
    (python,) = re.findall(r'requires-python = ">=([\d.]+)"', needs)
    speed = (ROOT / "docs/speed.md").read_text()
    assert "1,536 tokens" in speed and "4 layers" in speed
    known = {"2504.14096", "2025", "95", python, "1,536", "4"}
    known.add(LAPTOP)
    known |= {str(card) for card in CARDS[:2] if "fits 40" in TRAINING}  # in docs/training.md
    assert found - known == {"3", "2"}  # measured: minutes of the first command, and cores
