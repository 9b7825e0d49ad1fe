"""Damaged adapters, checkpoints, model folders and servers' replies are read or refused by name.

python -m pytest -q tests/test_fuzz_models.py
"""

import json
from functools import partial

import numpy as np
import pytest
from damage import damaged, fuzz, in_silence, survives, typed
from golden.make_families import CHECKPOINTS, FAMILIES, save_checkpoint
from hypothesis import strategies as st
from server import completion
from test_checkpoint import checkpoints, trainee
from torch import nn

from pasta.benchmarks.inputs import find_adapters
from pasta.lora import adapted, add_lora
from pasta.making.server import Server, ServerError
from pasta.models.families import family_of_folder
from pasta.models.generate import Request
from pasta.models.load import load_processor
from pasta.models.peft import CONFIG, WEIGHTS, load_adapter, save_adapter
from pasta.run.config import read_config, write_config
from pasta.run.schema import ABSENT
from pasta.tools.export import stored_dtype
from pasta.training.checkpoint import open_run
from train_dpo import TrainConfig


def model():
    return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_a_damaged_adapter_is_loaded_or_refused_and_the_model_is_as_before(file, tmp_path):
    trained, folder = model(), tmp_path / "adapter"
    add_lora(trained, "0|1", rank=2, alpha=3)
    save_adapter(folder, trained, "base")

    def load():
        fresh = model()
        try:
            typed(find_adapters("base", [folder]), dict)
            load_adapter(fresh, folder)
            assert adapted(fresh)
        except ValueError:
            assert all(type(layer) is nn.Linear for layer in fresh)
            raise

    fuzz(300, lambda data: survives(data, folder / file, load, at=folder))


def test_a_damaged_state_of_a_checkpoint_costs_that_checkpoint_alone(tmp_path):
    for step in (1, 2):
        checkpoints(tmp_path).save(step, *trainee())
    path = tmp_path / "checkpoints/step-000002/state.json"
    whole = path.read_bytes()

    def damage(data):
        path.write_bytes(data.draw(damaged(whole, ".json")))
        try:
            with in_silence():
                assert checkpoints(tmp_path).load(*trainee()) in (1, 2)
        except SystemExit as error:  # of another run, or of other flags
            assert f"{path.parent}: " in str(error), error

    fuzz(300, damage)


def test_a_damaged_state_stops_a_resumed_run_only_for_other_flags(tmp_path):
    (tmp_path / "pairs.jsonl").touch()
    checkpoints(tmp_path / "run", pairs=tmp_path / "pairs.jsonl").save(1, *trainee())
    config = TrainConfig(model="m", out=tmp_path / "run", lr=1e-4, resume=True, device="cpu",
                         keep_checkpoints=2, pairs=tmp_path / "pairs.jsonl")  # fmt: skip
    path = tmp_path / "run/checkpoints/step-000001/state.json"
    whole = path.read_bytes()

    def damage(data):
        path.write_bytes(data.draw(damaged(whole, ".json")))
        try:
            open_run(config)
        except SystemExit as error:
            assert f"{path.parent}: --" in str(error), error

    fuzz(100, damage)


def test_a_damaged_config_of_a_run_is_read_or_refused(tmp_path):
    write_config(tmp_path, TrainConfig(model="m", out=tmp_path), weights={"m": "0a"})

    def read():
        typed(read_config(tmp_path, {"weights": dict | ABSENT}).get("weights", {}), dict)

    fuzz(200, lambda data: survives(data, tmp_path / "config.json", read))


def test_a_damaged_config_of_a_model_to_merge_into_names_a_type_or_is_refused(tmp_path):
    write_config(tmp_path, TrainConfig(model="m", out=tmp_path), torch_dtype="float32")

    def read():
        typed(stored_dtype(str(tmp_path)), str)

    fuzz(200, lambda data: survives(data, tmp_path / "config.json", read, at=tmp_path))


def files_of(folder, name):
    """The JSON files of a checkpoint's folder that a family is made of."""
    save_checkpoint(folder, name)
    return ["config.json", *(path.name for path in sorted(folder.glob("*processor*_config.json")))]


@pytest.mark.parametrize("name", [*CHECKPOINTS, *FAMILIES])
def test_damaged_settings_of_a_family_are_computed_with_or_refused(name, tmp_path):
    files = files_of(tmp_path, name)

    def size():
        config = json.loads((tmp_path / "config.json").read_bytes())
        family, n_frames = family_of_folder(tmp_path, config, 10**6, 8)
        size = family.fit(n_frames, 240, 320)
        assert len(size) == 2 and min(size) > 0 and all(type(side) is int for side in size)
        if max(size) < 1000:
            family.prepare(np.zeros((2, 240, 320, 3), np.uint8), [0.0, 0.5])

    def damage(data):
        file = data.draw(st.sampled_from(files[1:]))
        survives(data, tmp_path / file, size, FileNotFoundError)

    fuzz(150, damage)


@pytest.mark.parametrize("name", ["Qwen2.5-VL", *FAMILIES])
def test_a_damaged_config_of_a_model_folder_is_read_or_refused(name, tmp_path):
    files_of(tmp_path, name)

    read = partial(load_processor, tmp_path)
    fuzz(30, lambda data: survives(data, tmp_path / "config.json", read, at=tmp_path))


class OneReply(Server):
    """A server with a fixed reply."""

    reply = b""

    def exchange(self, method, path, body):
        return 200, {"Location": None}, self.reply


@pytest.mark.parametrize("reply", [completion("<think>x</think>Left."), {"data": [{"id": "tiny"}]}])
def test_a_damaged_reply_of_a_server_is_read_or_refused_with_its_address(reply):
    address, whole = "http://127.0.0.1:1/v1", json.dumps(reply).encode()

    def damage(data):
        server = OneReply(f"{address}#tiny", tries=2, wait=0.0)
        server.reply = data.draw(damaged(whole, ".json"))
        try:
            if "data" in reply:
                server.only_model().encode("utf-8")
            else:
                server.answer(Request(None, "Which?"), 8).text.encode("utf-8")
        except ServerError as error:
            assert address in str(error), error

    fuzz(300, damage)
