"""Loading a checkpoint: its chat template, its bounds, its files, from a folder and from the hub.

python -m pytest tests/test_load.py
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from rounding import close
from tiny_models import make_tiny
from transformers import AutoModelForImageTextToText

from pasta.models.files import save_model, weights_digest
from pasta.models.generate import Request, ask
from pasta.models.load import bare_model, load_processor, load_vlm, multiply_patches

# For one user turn: Qwen2.5-VL's chat_template.json, and the template of its tokenizer.
FOR_VIDEOS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
)
FOR_TEXTS = "{% for m in messages %}{{ '<|im_start|>' + m.content }}{% endfor %}"


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A checkpoint that may be changed."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def set_template(folder, text):
    """Give the tokenizer another template; None takes its own away."""
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"chat_template": text} if text else settings))


def change(path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize("of_tokenizer", [None, FOR_TEXTS])
def test_the_template_for_videos_wins_over_the_tokenizers(folder, of_tokenizer):
    set_template(folder, of_tokenizer)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": FOR_VIDEOS}))
    head, tail = load_processor(folder).split("Why?")
    assert head == "<|im_start|>user\n<|vision_start|>"
    assert tail == "<|vision_end|>Why?<|im_end|>\n"


def test_a_checkpoint_without_template_or_placeholder_is_refused(folder):
    for path in (folder / "tokenizer.json", folder / "tokenizer_config.json"):
        path.write_text(path.read_text().replace("<|video_pad|>", "<|other|>"))
    with pytest.raises(ValueError, match=r"<\|video_pad\|> is not one token"):
        load_processor(folder)
    set_template(folder, None)
    with pytest.raises(ValueError, match="no chat template"):
        load_processor(folder)


def test_max_pixels_can_only_lower_the_checkpoints_bound(folder):
    change(folder / "preprocessor_config.json", max_pixels=4 * 56 * 56)
    for bound, side in ((0, 112), (56 * 56, 56), (10**9, 112)):
        assert load_processor(folder, bound).family.fit(16, 500, 500) == (side, side)


def test_a_convolution_over_separate_patches_is_a_product():
    conv = torch.nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4))
    patches = torch.randn(5, 3, 2, 4, 4)

    def outputs():
        y = conv(patches)
        return y, *torch.autograd.grad(y.sin().sum(), conv.parameters())

    expected = outputs()
    multiply_patches(conv)
    for mine, right in zip(outputs(), expected, strict=True):
        assert close(mine, right)


@pytest.mark.parametrize("change", [{"padding": 1}, {"dilation": 2}, {"groups": 3}])
def test_any_other_convolution_is_unchanged(change):
    conv = torch.nn.Conv3d(3, 6, (2, 4, 4), (2, 4, 4), **change)
    frames = torch.randn(5, 3, 4, 8, 8) if "dilation" in change else torch.randn(5, 3, 2, 4, 4)
    expected = conv(frames)
    multiply_patches(conv)
    assert torch.equal(conv(frames), expected) and "forward" not in vars(conv)


def test_a_loaded_model_convolves_no_patches(tiny, tiny_inputs, monkeypatch):
    monkeypatch.setattr(torch.nn.Conv3d, "forward", lambda *_: pytest.fail("a convolution"))
    assert ask(tiny, [Request(tiny_inputs[0], "What is it?")], max_new_tokens=1)[0].ids


def test_sliding_windows_are_refused(folder):
    text = json.loads((folder / "config.json").read_text())["text_config"]
    text |= {"layer_types": ["sliding_attention"] * 4, "sliding_window": 8}
    change(folder / "config.json", text_config=text | {"use_sliding_window": True})
    with pytest.raises(ValueError, match="uses sliding_attention; packed rows"):
        load_vlm(folder)


def test_the_digest_follows_the_weights_and_not_the_folder(folder, tiny_folder):
    assert weights_digest(folder) == weights_digest(tiny_folder)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert weights_digest(folder) != weights_digest(tiny_folder)


def test_a_hub_id_is_found_in_the_hubs_cache_and_other_names_are_refused(tiny_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no model folder"):
        load_processor(tmp_path / "typo")
    snapshot = tmp_path / "models--some--model/snapshots/0123"
    shutil.copytree(tiny_folder, snapshot)
    (tmp_path / "models--some--model/refs").mkdir()
    (tmp_path / "models--some--model/refs/main").write_text("0123")
    code = "from pasta.models.load import load_vlm; print(len(load_vlm('some/model').end_ids()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "1", done.stderr[-2000:]


@pytest.mark.parametrize("name", ["Qwen2.5-VL", "LLaVA-OneVision", "InternVL3"])
def test_a_bare_model_has_the_layers_of_the_real_one_and_no_weights(tmp_path, name):
    make_tiny(tmp_path / "model", name)
    real, bare = load_vlm(tmp_path / "model").model, bare_model(tmp_path / "model")

    def shapes(model):
        return {key: p.shape for key, p in model.named_parameters()}

    assert shapes(bare) == shapes(real)
    assert {p.device.type for p in bare.parameters()} == {"meta"}


def test_a_saved_models_config_names_the_type_of_its_weights(tiny, tmp_path):
    save_model(tmp_path / "half", tiny.model.bfloat16(), tiny.name)
    save_model(tmp_path / "full", tiny.model.float(), tmp_path / "half")
    for name, dtype in {"half": torch.bfloat16, "full": torch.float32}.items():
        model = AutoModelForImageTextToText.from_pretrained(tmp_path / name, dtype="auto")
        assert model.dtype == dtype
