"""Every command that the scripts print can be pasted, and does what the line says.

Each is run in this process, in an empty folder, as a shell would: in a small toy world, and with a
tiny named model whose answers make a few pairs.
    python -m pytest tests/test_scripts.py
"""

import json
import re
import runpy
import shlex
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT
from tiny_models import write_babbler

from pasta.run.command import to_paste
from pasta.toy import SHIPPED, files

MAKE = "make_pairs.py --n_queries 3 --max_new_tokens 16 --seed 5 --select contrast --keep 1"
REPORT = "python -m pasta.tools.report"


@pytest.fixture
def paste(tmp_path, monkeypatch, capsys):
    """A function that runs a command, which may fail if `fails`, and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    for script in ROOT.glob("*.py"):
        Path(script.name).symlink_to(script)
    for name, write in (("videos", files.write_videos), ("queries", files.write_queries)):
        Path("data/toy", name).mkdir(parents=True)
        write(Path("data/toy", name), 12, seed=1)
    for name in ("data/toy/mvbench", "data/mvbench"):
        Path(name).mkdir()
        files.write_benchmark(Path(name), 4, seed=2)

    def run(line, fails=False):
        python, *argv = shlex.split(line)
        assert python == "python"
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) if fails else nullcontext() as error:
            if argv[0] == "-m":
                import_module(argv[1]).main(argv[2:])
            else:
                runpy.run_path(argv[0], run_name="__main__")
        return "".join(capsys.readouterr()) + (str(error.value) if fails else "")

    return run


def test_own_videos_without_a_model_are_refused(paste):
    said = paste("python make_pairs.py --videos data/toy/videos --out out/own", fails=True)
    assert "--videos needs --responder" in said and not Path("out/own").exists()


@pytest.fixture
def model(tiny_folder, tmp_path):
    """The folder of a model of which some answers make pairs."""
    write_babbler(tmp_path / "a model", tiny_folder)
    return "a model"


def follow(paste, first):
    """Run a command, then every one that it or a later one prints. Returns all of them."""
    todo = [first]
    for line in todo:
        todo += re.findall("next: ((?:python|torchrun) .*)", paste(line))
    return todo


def facts(folder):
    return json.loads(Path(folder, "config.json").read_text())


def test_the_toys_commands_train_score_and_draw_the_toy(paste):
    made, *lines, draw = follow(paste, "python make_pairs.py")
    train, score = "python train_dpo.py", "python evaluate.py --adapter out/dpo/adapter"
    assert lines == [f"{REPORT} out/pairs", train, score]
    assert facts("out/dpo")["model"] == str(SHIPPED) and facts("out/dpo")["lr"] == 5e-4
    assert draw == f"{REPORT} out/dpo"
    (scores,) = (json.loads(path.read_text()) for path in Path("out/eval").rglob("scores.json"))
    assert list(scores["runs"]) == ["model", "+dpo"]
    assert len([*Path("out/dpo").rglob("report.html")]) == 1


def test_a_named_models_commands_train_score_and_draw_it(paste, model):
    first = f"python {MAKE} --model '{model}' --videos data/toy/videos --limit 2 --no-balance "
    rest = "--max_pixels 0 --dtype float32 --device cpu"
    lines = follow(paste, f'{first}--out "out/pairs-it\'s" --stage queries {rest}')
    scripts = "make_pairs.py make_pairs.py make_pairs.py -m train_dpo.py evaluate.py -m"
    assert [shlex.split(line)[1] for line in lines] == scripts.split()
    run = facts("out/dpo-it's")
    assert run["model"] == model and run["pairs"] == "out/pairs-it's/pairs.jsonl"
    assert (run["lr"], run["dtype"], run["max_pixels"]) == (5e-6, "float32", 0)
    assert facts(f"out/eval/{model}/toy/mvbench")["model"] == model
    scores = Path("out/eval", model, "toy/mvbench")
    assert list(json.loads((scores / "scores.json").read_text())["runs"])[1] == "+dpo-it's"
    assert lines[-1] == f"{REPORT} 'out/dpo-it'\"'\"'s'"
    assert [*Path("out/dpo-it's").rglob("report.html")]

    # Pairs of a named model, without --model: not trained on, and the right command is printed.
    refused = paste(
        'python train_dpo.py --pairs "out/pairs-it\'s/pairs.jsonl" --beta 0.2', fails=True
    )
    assert f"are answers of {model}; without --model the toy is trained" in refused
    assert not Path("out/dpo").exists()
    paste(re.search("next: (python .*)", refused)[1])
    assert (facts("out/dpo")["model"], facts("out/dpo")["beta"]) == (model, 0.2)


def test_pairs_of_another_named_model_are_off_policy_and_may_be_trained_on(paste, model):
    pairs = Path("pairs.jsonl")
    row = {"video": "data/toy/videos/00000.avi", "mode": "spatial", "query": "Where?"}
    row |= {"chosen": "Left.", "rejected": "Right.", "recipe": {"responder": "org/other"}}
    pairs.write_text(json.dumps(row))
    printed = paste(f"python train_dpo.py --model '{model}' --pairs pairs.jsonl")
    assert f"are answers of org/other; {model} is trained on them, off-policy\n" in printed
    assert Path("out/dpo/adapter").is_dir()


def test_no_pairs_is_an_error_with_the_commonest_reason_and_its_flag(paste, model):
    own = "--queries data/toy/queries/queries.jsonl --max_new_tokens 1 --dtype float32"
    command = f"python {MAKE} --model '{model}' --videos data/toy/videos --limit 2 {own}"
    *_, last = paste(f"{command} --device cpu", fails=True).splitlines()
    reason = r"no pairs: left out are .* commonest reason, of \d+ pairs: fewer than two different "
    cut = r"\d+ of 24 replies were cut off at --max_new_tokens 1: raise it if texts fail"
    assert re.match(f"{reason}.*; {cut}", last)


def test_the_next_command_starts_as_many_processes_as_this_one(monkeypatch):
    assert to_paste("a.py", model=None) == "python a.py"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    command = to_paste("a.py", "--x", out="b c")
    assert command == "torchrun --nproc_per_node 8 a.py --x --out 'b c'"
