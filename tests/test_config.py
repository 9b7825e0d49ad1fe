"""pasta/run/config.py against a small config class with one knob of every kind.

    python -m pytest -q tests/test_config.py
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from conftest import ROOT

import evaluate
import make_pairs
import train_dpo
from pasta.run import config as config_module
from pasta.run.atomic import write_json
from pasta.run.config import knob, parse, read_config, write_config

calls = []


def make_model():
    calls.append("model")
    return "toy-model"


@dataclass
class Config:
    model: str = knob("model folder", toy=make_model)
    READ: ClassVar = "what is read"
    pairs: Path = knob("pairs.jsonl", default=Path("pairs.jsonl"), toy=Path("toy.jsonl"))
    HOW: ClassVar = "how"
    steps: int = knob("updates", default=100, toy=7)
    beta: float = knob("temperature", default=0.1)
    shuffle: bool = knob("new order every epoch", default=True)
    scoring: Literal["generate", "letter"] = knob("how to score", default="generate")
    names: list[str] = knob("benchmarks", default=["mvbench"])
    rates: list[float] = knob("rates", default=[])
    limit: int | None = knob("at most this many; 100% otherwise", default=None)
    out: Path = knob("where to write", default=Path("o"), toy=make_model)


@dataclass
class Required:
    pairs: Path = knob("pairs.jsonl")


@dataclass
class Toy:
    model: str = knob("model folder", toy="toy-model")
    pairs: Path = knob("pairs.jsonl", toy=Path("toy.jsonl"))


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def printed(capsys, cls, *argv):
    """What parse prints before it exits: (help, error)."""
    with pytest.raises(SystemExit):
        parse(cls, list(argv))
    return capsys.readouterr()


def test_flags_of_every_kind_arrive_typed():
    argv = "--model m --pairs p --steps 3 --beta 1e-2 --no-shuffle --scoring letter"
    argv += " --names a b --rates 1 2.5 --limit 4 --out o"
    expected = {"model": "m", "pairs": Path("p"), "steps": 3, "beta": 0.01, "shuffle": False}
    expected |= {"scoring": "letter", "names": ["a", "b"], "rates": [1.0, 2.5], "limit": 4}
    assert vars(parse(Config, argv.split())) == expected | {"out": Path("o")}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("", ("toy-model", Path("toy.jsonl"), 7)),
        ("--steps 5", ("toy-model", Path("toy.jsonl"), 5)),
        ("--model m", ("m", Path("pairs.jsonl"), 100)),
        ("--model m --steps 5", ("m", Path("pairs.jsonl"), 5)),
    ],
)
def test_a_flag_beats_the_defaults_and_without_model_the_toys_come_first(argv, expected, capsys):
    config = parse(Config, argv.split())
    assert (config.model, config.pairs, config.steps) == expected
    text = "" if "--model" in argv else "no --model given: using the built-in toy model and its "
    assert capsys.readouterr().err == text + "defaults\n" * bool(text)


def test_a_function_is_called_only_when_its_value_is_needed(capsys):
    parse(Config, ["--model", "m", "--out", "o"])
    printed(capsys, Config, "--scoring", "guess")
    assert calls == []


def test_help_shows_the_files_docstring_headings_meanings_and_defaults(capsys):
    whole = printed(capsys, Config, "--help").out
    text = " ".join(whole.split())
    assert calls == []
    assert "    python -m pytest -q tests/test_config.py\n" in whole
    assert "updates (default: 100)" in text and "model folder (default: the toy model)" in text
    assert "at most this many; 100% otherwise --out" in text  # no default to show
    assert "--shuffle new order every epoch (default: on, unless --no-" in text
    toy = "toy defaults, when no model is named:\n--pairs toy.jsonl  --steps 7\n"
    assert whole.endswith(toy)
    options = whole.partition("\noptions:")[2]
    marks = ["  --model", "\nwhat is read:", "  --pairs", "\nhow:", "  --steps"]
    assert sorted(map(options.index, marks)) == list(map(options.index, marks))


@pytest.mark.parametrize("script", [make_pairs, train_dpo, evaluate], ids=lambda s: s.__name__)
def test_every_flag_of_a_script_has_a_heading(script, capsys):
    (cls,) = (x for name, x in vars(script).items() if name.endswith("Config"))
    head, _, options = printed(capsys, cls, "--help").out.partition("\noptions:")
    assert script.__doc__.splitlines()[0] in head
    assert re.findall(r"^  --(\w+)", options.partition("\n\n")[0], re.M) == []


@pytest.mark.parametrize(
    ("cls", "argv", "text"),
    [
        (Required, "", "--pairs"),
        (Toy, "--model m", "--pairs is required when --model is given"),
        (Config, "--bet 0.3", "--bet"),  # no abbreviations
        (Config, "--epochs 3", "unrecognized arguments: --epochs 3"),
        (Config, "--steps 1.5", "--steps"),
        (Config, "--scoring guess", "--scoring"),
        (Config, "--shuffle False", "False"),
    ],
)
def test_missing_unknown_and_ill_typed_flags_are_refused(capsys, cls, argv, text):
    assert text in printed(capsys, cls, *argv.split()).err


def test_two_configs_share_no_list():
    parse(Config, ["--model", "m"]).names.append("mlvu")
    assert parse(Config, ["--model", "m"]).names == ["mvbench"]


def test_config_json_reloads_into_the_same_config_with_versions_and_commit(tmp_path):
    config = parse(Config, ["--model", "m", "--names", "ü"])
    write_config(tmp_path / "run", config, pairs_read=12)
    row = read_config(tmp_path / "run")
    assert row["pairs_read"] == 12
    fields = {name: row[name] for name in vars(config)}
    paths = {"pairs": Path(row["pairs"]), "out": Path(row["out"])}
    assert Config(**fields | paths) == config
    assert row["versions"]["torch"] == torch.__version__ and "commit" in row


def test_commit_is_this_repositorys_and_says_when_files_differ(tmp_path, monkeypatch):
    def git(*command):
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        return subprocess.check_output(["git", "-C", tmp_path, *identity, *command], text=True)

    monkeypatch.setattr(config_module, "ROOT", tmp_path)
    assert config_module.git_commit() is None
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    assert config_module.git_commit() == git("rev-parse", "HEAD").strip()
    (tmp_path / "a").write_text("2")
    assert config_module.git_commit() == git("rev-parse", "HEAD").strip() + "-dirty"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_json(tmp_path / "config.json", {"steps": 1})
    with pytest.raises(TypeError, match="set"):
        write_json(tmp_path / "config.json", {"steps": {1}})
    assert os.listdir(tmp_path) == ["config.json"]
    assert json.loads((tmp_path / "config.json").read_text()) == {"steps": 1}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"weights": []}'])
def test_a_damaged_config_is_refused_by_name(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json.*expected"):
        read_config(tmp_path, {"weights": dict})


CLASSES = (train_dpo.TrainConfig, make_pairs.PairsConfig, evaluate.EvalConfig)
# Every flag that is a number: its lowest and highest value, written down a second time.
RANGES = {
    "holdout label_smoothing warmup keep": (0, 1),
    "beta lr max_grad_norm": (1e-12, 1e38),
    "sft_weight mode_weights": (0, 1e38),
    "temperature": (0, 100),
    "timeout": (0.01, 10**6),
    "epochs": (1, 10**4),
    "lora_rank": (0, 10**4),
    "workers": (0, 1000),
    "seed": (0, 2**32 - 1),
    "max_skipped n_frames max_pixels limit target sparse_frames": (0, 10**9),
    "max_length batch_pairs lora_alpha save_every keep_checkpoints eval_every n_queries candidates "
    "max_new_tokens judge_tokens batch_videos batch_size batch_packs in_flight": (1, 10**6),
}
BOUNDS = {name: bounds for names, bounds in RANGES.items() for name in names.split()}
NUMBERS = [
    (cls, f) for cls in CLASSES for f in fields(cls) if re.search(r"\b(int|float)\b", str(f.type))
]


def test_the_table_has_every_flag_that_is_a_number():
    assert {f.name for _, f in NUMBERS} == BOUNDS.keys()
    assert {f.name for cls in CLASSES for f in fields(cls) if not isinstance(f.default, bool)
            and isinstance(f.default, int | float)} <= BOUNDS.keys()  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "field"), NUMBERS, ids=lambda x: x.__name__[:5] if isinstance(x, type) else x.name
)
def test_a_number_outside_its_range_is_refused_with_flag_value_and_range(cls, field, capsys):
    low, high = BOUNDS[field.name]
    model = ["--responder" if cls is make_pairs.PairsConfig else "--model", "m"]
    model += ["--videos", "v"] * (cls is make_pairs.PairsConfig)
    whole = "float" not in str(field.type)
    outside = [low - 1, high + 1, 10**30, 1.5, "nan"]
    if not whole:
        outside = [low - 1e-13, -1, high * 1.01, "inf", "nan"]
    for value in outside:
        with pytest.raises(SystemExit) as stopped:
            parse(cls, [*model, f"--{field.name}={value}"])
        assert stopped.value.code == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        if whole and not isinstance(value, int):
            assert f"--{field.name}: invalid int value: '{value}'" in error
            continue
        assert f"--{field.name} is {value if whole else float(value)}" in error
        assert f"expected {low} or more, at most {high}" in error
    for value in (low, high, field.metadata["default"], field.metadata["toy"]):
        value = value[0] if isinstance(value, list) else value
        if isinstance(value, int | float):
            parse(cls, [*model, f"--{field.name}={value}"])
    text = " ".join(printed(capsys, cls, "--help").out.split())
    assert f"({low} to {high}, default: " in text or high > 100


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cpux", "meta"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_device_that_is_not_there_is_refused(device, capsys):
    error = printed(capsys, train_dpo.TrainConfig, "--model", "m", "--device", device).err
    assert f"--device: invalid choice: '{device}' (choose from" in error


def test_make_pairs_takes_the_responder_as_model(capsys):
    named = parse(make_pairs.PairsConfig, ["--responder", "m", "--videos", "v"])
    assert parse(make_pairs.PairsConfig, ["--model", "m", "--videos", "v"]) == named
    assert named.responder == "m" and "model" not in vars(named)


PROGRAMS = [path for path in [*ROOT.glob("*.py"), *(ROOT / "pasta").rglob("*.py")]
            if "\nif __name__ ==" in path.read_text()]  # fmt: skip


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_every_program_has_help_without_code_or_empty_defaults(path, tmp_path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    done = subprocess.run(
        [sys.executable, "-m", name, "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) >= 5, done.stderr
    leaks = r"None|True|False|\(\)|default: ?\)|<function|toy: |--no-\w+,"
    assert not re.search(leaks, done.stdout)
    for bounds in ("1000000", "1e+38"):  # no range that says nothing
        assert f"to {bounds}" not in done.stdout
    assert not [*tmp_path.iterdir()]
