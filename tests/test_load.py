"""Loading a checkpoint: its chat template, its bounds, its files, from a folder and from the hub.

python -m pytest tests/test_load.py
"""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from campaigns.speed import make_sized
from conftest import ROOT, linux
from rounding import close
from safetensors.torch import load_file, save_file
from tiny_models import make_tiny
from transformers import AutoModelForImageTextToText

from pasta.models import load
from pasta.models.files import save_model, weights_digest
from pasta.models.generate import Request, ask
from pasta.models.load import bare_model, load_processor, load_vlm
from pasta.models.vision import quicken_tower
from pasta.run import flags

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
    quicken_tower(conv, SimpleNamespace(windows=False))
    for mine, right in zip(outputs(), expected, strict=True):
        assert close(mine, right)


@pytest.mark.parametrize("change", [{"padding": 1}, {"dilation": 2}, {"groups": 3}])
def test_any_other_convolution_is_unchanged(change):
    conv = torch.nn.Conv3d(3, 6, (2, 4, 4), (2, 4, 4), **change)
    frames = torch.randn(5, 3, 4, 8, 8) if "dilation" in change else torch.randn(5, 3, 2, 4, 4)
    expected = conv(frames)
    quicken_tower(conv, SimpleNamespace(windows=False))
    assert torch.equal(conv(frames), expected) and "forward" not in vars(conv)


def test_a_loaded_model_convolves_no_patches(tiny, tiny_inputs, monkeypatch):
    monkeypatch.setattr(torch.nn.Conv3d, "forward", lambda *_: pytest.fail("a convolution"))
    assert ask(tiny, [Request(tiny_inputs[0], "What is it?")], max_new_tokens=1)[0].ids


def test_a_model_that_cannot_share_a_prefix_is_named_with_its_layers(folder, capsys):
    text = json.loads((folder / "config.json").read_text())["text_config"]
    text |= {"layer_types": ["sliding_attention"] * 4, "sliding_window": 8}
    change(folder / "config.json", text_config=text | {"use_sliding_window": True})
    assert not load_vlm(folder).shares
    assert capsys.readouterr().out.count("uses sliding_attention: its responses cannot share") == 1


def test_the_digest_follows_the_weights_and_not_the_folder(folder, tiny_folder):
    assert weights_digest(folder) == weights_digest(tiny_folder)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert weights_digest(folder) != weights_digest(tiny_folder)


@pytest.fixture
def snapshot(tiny_folder, tmp_path):
    """The files of the hub id some/model in a hub's cache, which is tmp_path."""
    folder = shutil.copytree(tiny_folder, tmp_path / "models--some--model/snapshots/0123")
    (tmp_path / "models--some--model/refs").mkdir()
    (tmp_path / "models--some--model/refs/main").write_text("0123")
    return folder


def test_a_hub_id_is_found_in_the_hubs_cache_and_other_names_are_refused(snapshot, tmp_path):
    with pytest.raises(FileNotFoundError, match="no model folder"):
        load_processor(tmp_path / "typo")
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


# --------------------------------------------------------- folders that are not a whole model

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
WEIGHTS = "model.safetensors"
UNREAD = f"{WEIGHTS}: safetensors cannot read it"
LAYER = "model.language_model.layers.1.mlp.up_proj.weight"


def changed_weights(change):
    def damage(folder):
        tensors = load_file(folder / WEIGHTS)
        name = next(key for key in tensors if key.endswith("layers.1.mlp.up_proj.weight"))
        change(tensors, name)
        save_file(tensors, folder / WEIGHTS, {"format": "pt"})

    return damage


def in_shards(folder):
    """Two files of weights, of which one is missing."""
    tensors = load_file(folder / WEIGHTS)
    names = {key: f"{i % 2}.safetensors" for i, key in enumerate(tensors)}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": names}))
    half = {key: tensors[key] for key, name in names.items() if name == "0.safetensors"}
    save_file(half, folder / "0.safetensors", {"format": "pt"})


def fewer_layers(folder):
    text = json.loads((folder / "config.json").read_text())["text_config"]
    text |= {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}
    change(folder / "config.json", text_config=text)


DAMAGES = {  # what is wrong: (how it is made, what the message holds)
    "pointer": (lambda f: (f / WEIGHTS).write_text(POINTER), rf"{WEIGHTS} .*Git LFS; run `git lfs"),
    "pointer of tokens": (
        lambda f: (f / "tokenizer.json").write_text(POINTER), "tokenizer.json .*run `git lfs pull`"
    ),
    "cut": (lambda f: os.truncate(f / WEIGHTS, 5000), f"{UNREAD}.*download it again"),
    "cut by one": (lambda f: os.truncate(f / WEIGHTS, (f / WEIGHTS).stat().st_size - 1), UNREAD),
    "empty": (lambda f: (f / WEIGHTS).write_bytes(b""), UNREAD),
    "a pickle": (lambda f: torch.save({}, f / WEIGHTS), UNREAD),
    "gone": (lambda f: (f / WEIGHTS).unlink(), f"{WEIGHTS}: safetensors.*download it again"),
    "a shard gone": (in_shards, "1.safetensors: safetensors cannot read it"),
    "renamed": (
        changed_weights(lambda t, name: t.update({"other": t.pop(name)})), f"{LAYER} is missing"
    ),
    "other shape": (
        changed_weights(lambda t, name: t.update({name: t[name][:5].clone()})),
        rf"{LAYER} is \(5, 128\), not \(384, 128\)",
    ),
    "other config": (fewer_layers, r"layers.3.\S+ is of no layer; .*download them again"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json; copy"),
    "no template": (lambda f: (f / "chat_template.jinja").unlink(), "no chat template; expected"),
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json; copy"),
    "no pixels": (lambda f: (f / "preprocessor_config.json").unlink(), "has no preprocessor_conf"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_folder_that_is_not_a_whole_model_is_refused_in_one_sentence(folder, name):
    damage, text = DAMAGES[name]
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=text) as error:
        load_vlm(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_tensors_that_no_layer_has_are_ignored_where_they_are_not_of_layers(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors["v_head.summary.weight"] = torch.zeros(2)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    assert load_vlm(folder).model.get_parameter(LAYER).isfinite().all()


def ended(*command, **env):
    """The last line that a script prints, which ends without a traceback."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | env,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-3000:]
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("script", ["train_dpo.py", "make_pairs.py", "evaluate.py"])
def test_each_script_ends_with_one_sentence(script, folder, tmp_path, toy_videos, toy_pairs):
    data = {
        "train_dpo.py": ("--pairs", toy_pairs, "--video_root", toy_videos, "--model"),
        "make_pairs.py": ("--videos", toy_videos, "--responder"),
        "evaluate.py": ("--data", toy_videos.parent, "--bench", "adversarial", "--model"),
    }
    (toy_videos.parent / "items.jsonl").write_text(
        json.dumps({"id": "a", "video": f"{toy_videos}/00000.avi", "mode": "spatial",
                    "kind": "question", "query": "Why?"})
    )  # fmt: skip
    damage = {"train_dpo.py": "cut", "make_pairs.py": "pointer", "evaluate.py": "no template"}
    make, text = DAMAGES[damage[script]]
    make(folder)
    flags = ("--out", tmp_path / "out", "--device", "cpu", "--dtype", "float32")
    line = ended(script, *data[script], folder, *flags)
    assert str(folder) in line and any(word in line for word in ("download", "git lfs", "expected"))


HUB = {  # a name: what its message holds
    "some/other": "no folder some/other, and config.json of this hub id is not found: check",
    "some/model": f"and {WEIGHTS} of this hub id is not found: .* `hf download some/model`",
    "some/tokens": "tokens/snapshots/0123 has no tokenizer.json; copy",
    "some/model@v1": "no model folder some/model@v1; .* --revision NAME --local-dir FOLDER",
    "some/model@refs/pr/1": "no model folder some/model@refs/pr/1; .* --revision NAME",
    "some/mo del": "no folder some/mo del, and config.json of this hub id",
    "model": "no model folder model; give a folder or a hub id OWNER/NAME",
}


def test_a_hub_id_that_is_not_there_is_named_with_the_next_command(snapshot, tmp_path):
    shutil.copytree(snapshot.parent.parent, tmp_path / "models--some--tokens")
    (tmp_path / "models--some--tokens/snapshots/0123/tokenizer.json").unlink()
    (snapshot / WEIGHTS).unlink()
    code = """
        from pasta.models.load import load_vlm
        for name in NAMES:
            try:
                load_vlm(name)
            except (ValueError, OSError) as error:
                print(error)"""
    code = textwrap.dedent(code).replace("NAMES", repr(list(HUB)))
    env = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True, cwd=ROOT
    )
    for line, text in zip(done.stdout.splitlines(), HUB.values(), strict=True):
        assert re.search(text, line), line


def test_a_saved_model_has_all_files_but_weights_pickles_and_code(folder, tmp_path, tiny):
    kept = ["tokenizer.model", "README.md", "added_tokens.json", "vocab.txt", "my.json", "LICENSE"]
    left = ["pytorch_model.bin", "model.safetensors.index.json", "adapter_config.json", "x.py",
            "adapter_model.safetensors", "training_args.bin", "optimizer.pt", "model.gguf",
            "state.pkl", "a.ckpt", "tf_model.h5"]  # fmt: skip
    for name in kept + left:
        (folder / name).write_text(f"of {name}")
    (folder / "sub").mkdir()
    (folder / "sub/x.json").write_text("{}")
    save_model(tmp_path / "saved", tiny.model, folder)
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {*kept, WEIGHTS, "config.json", "tokenizer.json", "chat_template.jinja"} <= names
    assert not names & {*left, "sub"}
    assert all((tmp_path / "saved" / name).read_text() == f"of {name}" for name in kept)
    (tmp_path / "saved/added_tokens.json").unlink()
    assert load_vlm(tmp_path / "saved").end_ids() == tiny.end_ids()


NO_GPU = [((), "sees no GPU; with an older driver"), ((0,), "--device cpu")]


@pytest.mark.parametrize(("gpus", "said"), NO_GPU)
def test_a_large_model_on_a_cpu_is_said_with_what_to_do(folder, monkeypatch, capsys, gpus, said):
    load_vlm(folder)
    assert "on a CPU" not in capsys.readouterr().out
    monkeypatch.setattr(load, "LARGE", 1000)
    monkeypatch.setattr(flags, "GPUS", gpus)
    load_vlm(folder)
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "on a CPU" in x]
    assert line.startswith(f"{folder} takes hours on a CPU (") and said in line


@linux
def test_weights_of_the_files_dtype_are_pages_of_the_file_and_no_copy(tmp_path):
    """So all ranks of a machine share them while they load."""
    make_sized(tmp_path / "m", "small", 1000, "float32", "cpu")

    def private():
        text = Path("/proc/self/smaps_rollup").read_text()
        return 1024 * int(re.search(r"Private_Dirty: +(\d+)", text)[1])

    size = (tmp_path / "m/model.safetensors").stat().st_size
    before = private()
    vlm = load_vlm(tmp_path / "m")  # noqa: F841 (keeps the weights)
    assert private() - before < size / 4
