"""A run writes only into folders of its own script, and removes only what a run wrote.

    python -m pytest -q tests/test_claims.py
"""

import os
from pathlib import Path

import pytest
from test_checkpoint import checkpoints, trainee

from evaluate import EvalConfig
from make_pairs import PairsConfig
from pasta.run.config import write_config
from pasta.run.locks import claim_folder
from pasta.tools import report
from pasta.training.checkpoint import open_run
from train_dpo import TrainConfig

CONFIGS = {
    "train_dpo.py": TrainConfig(model="m"),
    "make_pairs.py": PairsConfig(responder="m", videos=Path("v")),
    "evaluate.py": EvalConfig(model="m"),
}


def state(folder):
    """Every file below a folder, hidden ones too, with its content."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in Path(folder).rglob("*")}


FOREIGN = {
    "a model's folder": {"config.json": '{"model_type": "qwen2_5_vl"}', "model.safetensors": ""},
    "pairs without a run": {"pairs.jsonl": '{"video": "a.mp4"}\n'},
    "skipped.jsonl of another script": {"skipped.jsonl": '{"video": "a.mp4"}\n'},
    "videos": {"a.mp4": "x"},
    "a folder with a folder": {"photos/a.jpg": "x"},
    "notes": {"notes.txt": "mine"},
    "a config that is a list": {"config.json": "[]"},
    "an empty config": {"config.json": "", "metrics.jsonl": ""},
    "a config of NULs": {"config.json": "\0" * 9},
    "half a config": {"config.json": '{"script": "make_pai', "queries.jsonl": ""},
    "rows without a config": {"queries.jsonl": "{}\n", "candidates.jsonl": "{}\n"},
    "a name with a newline": {"a\nb": "x"},
}


@pytest.mark.parametrize("script", CONFIGS)
@pytest.mark.parametrize("content", FOREIGN)
def test_a_folder_with_files_of_others_is_refused_before_anything_is_written(
    tmp_path, script, content
):
    for name, text in FOREIGN[content].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = state(tmp_path)
    with pytest.raises((SystemExit, ValueError), match=r"choose another --out$") as error:
        claim_folder(tmp_path, CONFIGS[script], "m")
    assert str(tmp_path) in str(error.value) and state(tmp_path) == before


@pytest.mark.parametrize("theirs", CONFIGS)
@pytest.mark.parametrize("ours", CONFIGS)
def test_only_the_script_that_began_a_folder_continues_in_it(tmp_path, ours, theirs):
    write_config(tmp_path, CONFIGS[theirs])
    (tmp_path / "notes.txt").write_text("mine")  # of the user, in a folder of ours
    before = state(tmp_path)
    if ours == theirs:
        claim_folder(tmp_path, CONFIGS[ours], "m")
        assert state(tmp_path).items() >= before.items()
    else:
        with pytest.raises(SystemExit, match=f"which {ours} did not write; choose another --out"):
            claim_folder(tmp_path, CONFIGS[ours], "m")
        assert state(tmp_path) == before


@pytest.mark.parametrize("names", [[], [".DS_Store", ".git"], ["train.log", "log.txt"]])
def test_a_folder_with_logs_and_hidden_files_alone_is_new(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    claim_folder(tmp_path, CONFIGS["train_dpo.py"], "m")
    assert sorted(os.listdir(tmp_path)) == sorted([*names, ".lock"])


@pytest.mark.parametrize("script", CONFIGS)
@pytest.mark.parametrize("out", [".", "run", "a/run", "../link/run", "../model/../model"])
def test_no_results_in_the_folder_of_the_model(tmp_path, script, out):
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to("model")
    with pytest.raises(SystemExit, match=r"is in the folder of the model .*choose another --out"):
        claim_folder(tmp_path / "model" / out, CONFIGS[script], str(tmp_path / "model"))
    assert os.listdir(tmp_path / "model") == []
    claim_folder(tmp_path / "model2", CONFIGS[script], str(tmp_path / "model"))


def test_a_training_continues_without_its_config(tmp_path):
    checkpoints(tmp_path).save(1, *trainee())
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    open_run(TrainConfig(model="m", out=tmp_path, resume=True, lr=1e-4, keep_checkpoints=2))


# Under the names of checkpoints: what others put there. All of it is still there at the end.
OTHERS = (
    "step-best/w", "step-000004-backup/state.json", "step-notes.txt", "step-000001-keep/x",
    "step-0000003/state.json", "step-99/state.json", "step-00000٣/state.json", "step--00001/x",
    "step-000009.txt", "last/w", "step-000002 copy/state.json", "step-000000/w",
    "step-000001/w", "step-000002", "step-000003/state.json/x",
)  # fmt: skip


@pytest.mark.parametrize("resume", [False, True])
def test_what_is_no_checkpoint_of_ours_is_left_alone(tmp_path, resume, capsys):
    folder = tmp_path / "checkpoints"
    for i, name in enumerate(OTHERS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"precious {i}")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/state.json").write_text("precious")
    (folder / "step-000005").symlink_to(tmp_path / "elsewhere")
    if resume:
        assert checkpoints(tmp_path).load(*trainee()) == 0
    for step in range(1, 9):
        checkpoints(tmp_path).save(step, *trainee())
    texts = [path.read_text() for path in folder.rglob("*") if path.is_file()
             and path.name != "rank0.safetensors"]  # fmt: skip
    assert {f"precious {i}" for i in range(len(OTHERS))} <= set(texts)
    assert (tmp_path / "elsewhere/state.json").read_text() == "precious"
    assert capsys.readouterr().out.count("holds what no run wrote: renamed to step-00000") == 4
    assert checkpoints(tmp_path).load(*trainee()) == 8
    kept = {"step-000007", "step-000008"}
    ours = {p.parent.name for p in folder.glob("*/rank0.safetensors")}
    assert ours == kept


def test_a_checkpoint_with_notes_in_it_is_kept(tmp_path):
    checkpoints(tmp_path).save(1, *trainee())
    (tmp_path / "checkpoints/step-000001/notes.txt").write_text("good")
    for step in (2, 3, 4):
        checkpoints(tmp_path).save(step, *trainee())
    names = ["step-000001", "step-000003", "step-000004"]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == names
    assert (tmp_path / "checkpoints/step-000001/notes.txt").read_text() == "good"


def test_steps_of_seven_digits_are_the_newest(tmp_path):
    for step in (999_998, 999_999, 1_000_000, 1_000_001):
        checkpoints(tmp_path).save(step, *trainee())
    assert checkpoints(tmp_path).load(*trainee()) == 1_000_001
    names = ["step-1000000", "step-1000001"]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == names


def test_a_report_replaces_only_reports(tmp_path):
    train = TrainConfig(model="m", out=tmp_path / "run")
    write_config(tmp_path / "run", train, frames_used=8, processes=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/report.html").write_text("<!doctype html>precious")
    before = state(tmp_path)
    for out in ("mine", "mine/report.html"):
        with pytest.raises(SystemExit, match=r"report.html is no page .*name another --out$"):
            report.main([f"{tmp_path}/run", "--out", f"{tmp_path}/{out}"])
    assert state(tmp_path) == before
    for _ in range(2):
        report.main([f"{tmp_path}/run"])
        report.main([f"{tmp_path}/run", "--out", f"{tmp_path}/mine/other.html"])
    assert {"report.html", "other.html"} == {*os.listdir(tmp_path / "mine")}
