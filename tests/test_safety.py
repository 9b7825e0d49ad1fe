"""Files are data: no code in them runs, and nothing is sent over the network.

python -m pytest -q tests/test_safety.py
"""

import ast
import json
import os
import pickle
import shutil
import textwrap

import pytest
from conftest import ROOT, finish, launch
from jinja2.exceptions import SecurityError
from test_checkpoint import checkpoints, trainee

from pasta.lora import add_lora
from pasta.models.load import bare_model, load_vlm
from pasta.models.peft import load_adapter, save_adapter
from pasta.sampling import uniform
from pasta.toy import files
from pasta.video import list_videos, read_frames

SOURCES = [path for path in ROOT.rglob("*.py") if "tests" not in path.parts]
UNSAFE = {
    *"pickle dill cloudpickle joblib shelve marshal os.system os.popen eval exec".split(),
    *"torch.load torch.hub.load yaml.load".split(),
    *"subprocess.getoutput subprocess.getstatusoutput".split(),
}
ALLOWED = {"pages.py": {"exec"}}  # it runs the code blocks of our own docs


def used(path):
    """The modules that a file imports, and the functions that it calls, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "", *(f"{node.module}.{a.name}" for a in node.names))
        elif isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("code", ["import pickle", "from os import system", "torch.load(x)"])
def test_unsafe_code_is_found(tmp_path, code):
    (tmp_path / "a.py").write_text(code)
    assert UNSAFE & set(used(tmp_path / "a.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_unpickles_evaluates_or_calls_a_shell(path):
    assert UNSAFE & set(used(path)) <= ALLOWED.get(path.name, set())
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    for call in calls:
        for k in call.keywords:
            if k.arg in ("shell", "allow_pickle", "trust_remote_code"):
                assert isinstance(k.value, ast.Constant) and not k.value.value, call.lineno
        if ast.unparse(call.func).startswith("subprocess."):  # a list, which no shell reads
            assert not isinstance(call.args[0], ast.Constant | ast.JoinedStr), call.lineno


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung"))).close()
    assert (tmp_path / "sprung").exists()


@pytest.fixture
def trapped(tmp_path, tiny_folder):
    """A copy of the tiny model's folder, and a file that must not appear."""
    shutil.copytree(tiny_folder, tmp_path / "model")
    yield tmp_path / "model", tmp_path / "sprung"
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_weights_in_a_pickle_are_refused_and_not_opened(trapped, name):
    folder, sprung = trapped
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises((OSError, ValueError), match="safetensors"):
        load_vlm(folder)


def test_a_pickle_next_to_the_weights_or_in_a_checkpoint_is_not_opened(trapped, tmp_path):
    folder, sprung = trapped
    checkpoints(tmp_path).save(1, *trainee())
    for name in ("pytorch_model.bin", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
    for name in ("rank0.pt", "optimizer.bin", "random.pkl"):
        (tmp_path / "checkpoints/step-000001" / name).write_bytes(pickle.dumps(Trap(sprung)))
    load_vlm(folder)
    assert checkpoints(tmp_path).load(*trainee()) == 1


def test_an_adapter_in_a_pickle_is_refused_and_not_opened(trapped, tmp_path, tiny):
    add_lora(tiny.model, rank=2, alpha=4)
    save_adapter(tmp_path / "adapter", tiny.model, "tiny")
    (tmp_path / "adapter/adapter_model.safetensors").unlink()
    (tmp_path / "adapter/adapter_model.bin").write_bytes(pickle.dumps(Trap(trapped[1])))
    with pytest.raises(FileNotFoundError, match="adapter_model.safetensors"):
        load_adapter(load_vlm(trapped[0]).model, tmp_path / "adapter")


@pytest.mark.parametrize("name", ["own.bin", "../outside.safetensors", "/outside.safetensors", [5]])
def test_an_index_may_only_name_safetensors_in_its_folder(trapped, name):
    folder, sprung = trapped
    (folder / "own.bin").write_bytes(pickle.dumps(Trap(sprung)))
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="index.json: weight_map names .*expected .safetensors"):
        load_vlm(folder)


def set_in(path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_a_config_may_not_name_other_weights_and_an_adapter_is_not_added_silently(trapped, tiny):
    folder, sprung = trapped
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Trap(sprung)))
    set_in(folder / "config.json", transformers_weights="adapter_model.bin")
    with pytest.raises(ValueError, match="config.json has transformers_weights; expected"):
        load_vlm(folder)
    add_lora(tiny.model, rank=2, alpha=4)
    save_adapter(folder.parent / "adapter", tiny.model, "owner/base")
    shutil.copytree(folder.parent / "adapter", folder, dirs_exist_ok=True)
    with pytest.raises(ValueError, match="has an adapter's adapter_config.json; expected"):
        load_vlm(folder)


@pytest.mark.parametrize("part", [None, "text_config", "vision_config"])
def test_a_kernel_of_the_hub_that_a_config_names_is_not_fetched(trapped, part):
    named = {"_attn_implementation": "owner/kernel"}  # transformers would fetch and run it
    content = json.loads((trapped[0] / "config.json").read_text())
    set_in(trapped[0] / "config.json", **({part: content[part] | named} if part else named))
    for model in (load_vlm(trapped[0]).model, bare_model(trapped[0])):
        parts = [module for module in model.modules() if hasattr(module, "config")]
        assert "owner" not in str([part.config._attn_implementation for part in parts])


def test_a_chat_template_cannot_leave_its_sandbox(trapped):
    folder, sprung = trapped
    code = "{{ cycler.__init__.__globals__.os.mkdir(" + repr(str(sprung)) + ") }}"
    (folder / "chat_template.jinja").write_text(code)
    with pytest.raises(SecurityError):
        load_vlm(folder).processor.prompt("Is it left?", with_video=True)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_in_a_models_folder_does_not_run(trapped, file):
    folder, sprung = trapped
    (folder / "own.py").write_text(f"open({str(sprung)!r}, 'w')")
    names = ("AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoProcessor")
    auto_map = {name: "own.Own" for name in names} | {"AutoTokenizer": ["own.Own", None]}
    set_in(folder / file, auto_map=auto_map)
    load_vlm(folder)
    set_in(folder / "config.json", model_type="own", auto_map=auto_map)
    with pytest.raises(ValueError, match="model_type is 'own'; expected one of .*qwen2_5_vl"):
        load_vlm(folder)


@pytest.mark.parametrize("name", ["a; touch pwned", "$(touch pwned)", "`touch pwned`", "-i", "| x"])
def test_a_videos_name_is_a_name_and_no_command(tmp_path, monkeypatch, name):
    files.write_videos(tmp_path, 1, seed=0)
    (tmp_path / "00000.avi").rename(tmp_path / f"{name}.avi")
    monkeypatch.chdir(tmp_path)
    (video,) = list_videos(tmp_path)
    frames, _ = read_frames(video, sample=lambda times: uniform(times, n=2))
    assert len(frames) == 2 and os.listdir() == [f"{name}.avi"]


@pytest.mark.parametrize("script", ["make_pairs.py", "train_dpo.py", "evaluate.py"])
def test_a_script_with_local_folders_connects_to_nothing(
    tiny_folder, toy_videos, toy_pairs, tmp_path, monkeypatch, script
):
    watch = f"""
        import socket
        def connect(self, address, *_):
            if self.family != getattr(socket, "AF_UNIX", None):
                open({str(tmp_path / "called")!r}, "a").write(f"{{address}}\\n")
            raise OSError("no network")
        socket.socket.connect = socket.socket.connect_ex = connect
        def look_up(host, *_, **more):
            open({str(tmp_path / "called")!r}, "a").write(f"{{host}}\n")
            raise OSError("no network")
        socket.getaddrinfo = look_up
    """
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(textwrap.dedent(watch))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    (tmp_path / "bench").mkdir()
    files.write_benchmark(tmp_path / "bench", 12, seed=0)
    flags = {
        "evaluate.py": {"model": tiny_folder, "data": tmp_path / "bench"},
        "train_dpo.py": {"model": tiny_folder, "pairs": toy_pairs, "video_root": toy_videos},
        "make_pairs.py": {"responder": tiny_folder, "videos": toy_videos, "max_new_tokens": 8},
    }[script]
    flags |= {"out": tmp_path / "run", "device": "cpu", "dtype": "float32", "max_pixels": 0}
    flags |= {"workers": 0} if script == "train_dpo.py" else {}
    finish(launch(script, 0, flags, cwd=tmp_path, cold=True))
    assert not (tmp_path / "called").exists()
