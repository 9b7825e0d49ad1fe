"""What is read is data: no code in it runs, and nothing is sent anywhere unasked.

Between the processes of one run torch.distributed and DataLoader send pickles of what they made
themselves; none of it comes from a file.

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

from pasta.lora import add_lora, load_adapter, save_adapter
from pasta.toy import files
from pasta.video import list_videos, read_frames, uniform
from pasta.vlm import load_vlm

SOURCES = [path for path in ROOT.rglob("*.py") if "tests" not in path.parts]
UNSAFE = set(
    """
    pickle dill cloudpickle joblib shelve marshal os.system os.popen eval exec torch.load
    torch.hub.load yaml.load
""".split()
)


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
def test_what_is_looked_for_is_found(tmp_path, code):
    (tmp_path / "a.py").write_text(code)
    assert UNSAFE & set(used(tmp_path / "a.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_unpickles_evaluates_or_calls_a_shell(path):
    assert not UNSAFE & set(used(path))
    given = [k for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.keyword)
             for k in [n] if n.arg in ("shell", "allow_pickle", "trust_remote_code")]  # fmt: skip
    assert all(isinstance(k.value, ast.Constant) and not k.value.value for k in given)


class Trap:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung"))).close()
    assert (tmp_path / "sprung").exists()


@pytest.fixture
def trapped(tmp_path, tiny_folder):
    """A copy of the tiny model's folder, and the file that no code in it may make."""
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


def test_a_pickle_beside_the_weights_is_not_opened(trapped):
    folder, sprung = trapped
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(sprung)))
    (folder / "training_args.bin").write_bytes(pickle.dumps(Trap(sprung)))
    load_vlm(folder)


def test_an_adapter_in_a_pickle_is_refused_and_not_opened(trapped, tmp_path, tiny):
    add_lora(tiny.model, rank=2, alpha=4)
    save_adapter(tmp_path / "adapter", tiny.model, "tiny")
    (tmp_path / "adapter/adapter_model.safetensors").unlink()
    (tmp_path / "adapter/adapter_model.bin").write_bytes(pickle.dumps(Trap(trapped[1])))
    with pytest.raises(FileNotFoundError, match="adapter_model.safetensors"):
        load_adapter(load_vlm(trapped[0]).model, tmp_path / "adapter")


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_in_a_models_folder_does_not_run(trapped, file):
    folder, sprung = trapped
    (folder / "own.py").write_text(f"open({str(sprung)!r}, 'w')")
    names = ("AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoProcessor")
    auto_map = {name: "own.Own" for name in names} | {"AutoTokenizer": ["own.Own", None]}
    content = json.loads((folder / file).read_text()) | {"auto_map": auto_map}
    (folder / file).write_text(json.dumps(content))
    load_vlm(folder)


@pytest.mark.parametrize("name", ["a; touch pwned", "$(touch pwned)", "`touch pwned`", "-i", "| x"])
def test_a_videos_name_is_a_name_and_no_command(tmp_path, monkeypatch, name):
    files.write_videos(tmp_path, 1, seed=0)
    (tmp_path / "00000.avi").rename(tmp_path / f"{name}.avi")
    monkeypatch.chdir(tmp_path)
    (video,) = list_videos(tmp_path)
    frames, _ = read_frames(video, sample=lambda times: uniform(times, n=2))
    assert len(frames) == 2 and os.listdir() == [f"{name}.avi"]


@pytest.mark.parametrize("script", ["make_pairs.py", "train_dpo.py"])
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
    """
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(textwrap.dedent(watch))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    flags = {
        "train_dpo.py": {"model": tiny_folder, "pairs": toy_pairs, "video_root": toy_videos},
        "make_pairs.py": {"responder": tiny_folder, "videos": toy_videos, "max_new_tokens": 8},
    }[script]
    flags |= {"out": tmp_path / "run", "device": "cpu", "dtype": "float32", "max_pixels": 0}
    more = {"train_dpo.py": {"workers": 0}, "make_pairs.py": {}}[script]
    finish(launch(script, 0, flags | more))
    assert not (tmp_path / "called").exists()
