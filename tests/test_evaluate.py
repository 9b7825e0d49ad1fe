"""evaluate.py from data folder to scores.json, with a model whose answers are known beforehand.

python -m pytest -q tests/test_evaluate.py
"""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from server import FakeServer, from_number
from tiny_models import make_language_model

import evaluate
from evaluate import EvalConfig, main
from pasta import toy
from pasta.benchmarks import NAMES, SUITES, answers, benchmark, inputs, mvbench, scoring
from pasta.benchmarks.answers import with_inputs
from pasta.benchmarks.inputs import find_adapters
from pasta.lora import add_lora
from pasta.models.families import FAMILIES
from pasta.models.generate import Answer
from pasta.models.peft import save_adapter
from pasta.run.command import command_line
from pasta.run.config import parse
from pasta.run.rows import read_rows, write_rows
from pasta.toy import files
from pasta.video import VideoError

TRUTH = {"spatial": "ABA", "temporal": "BB"}  # the right letters of the questions of each task


class FakeWorld:
    """Fake models and videos that record what was asked of them.

    says: {(adapter, prompt): text}; what is not in it is answered "(A)". adapter is a folder name.
    """

    def __init__(self):
        self.says, self.asked, self.loaded, self.read, self.damaged = {}, [], [], [], set()
        self.dies_after, self.too_wide, self.model_type = None, set(), "qwen2_5_vl"

    def load_vlm(self, name, dtype, device, max_pixels):
        self.loaded.append(name)
        processor = self.processor(name, max_pixels)
        return SimpleNamespace(processor=processor, model=SimpleNamespace(adapter=None))

    def processor(self, name, max_pixels):
        return SimpleNamespace(
            family=SimpleNamespace(fit=None, model_type=self.model_type),
            n_frames=8,
            digest=f"preprocessor of {max_pixels} pixels",
            prepare=lambda frames, times: len(frames),
        )

    def load_adapter(self, model, folder):
        model.adapter = folder.parent.name

    def read_frames(self, path, sample, fit=None):
        if path.name in self.damaged:
            raise VideoError(path, "damaged or cut short")
        if path.name in self.too_wide:
            raise ValueError("frames are 10 x 9000")
        self.read.append(path.name)
        times = np.arange(100.0)
        return np.zeros((len(sample(times)), 2, 2, 3), np.uint8), times

    def ask(self, vlm, requests, max_new_tokens):
        assert max_new_tokens in (16, 64)
        texts = []
        for request in requests:
            if len(self.asked) == self.dies_after:
                raise KeyboardInterrupt
            self.asked.append(request.prompt)
            texts.append(self.says.get((vlm.model.adapter, request.prompt), "(A)"))
        return [Answer(text, (), 0.0, True) for text in texts]


@pytest.fixture
def world(monkeypatch, tmp_path):
    fake = FakeWorld()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "check_adapters", lambda model, folders: None)
    for name in ("load_vlm", "load_adapter"):
        monkeypatch.setattr(evaluate, name, getattr(fake, name))
    monkeypatch.setattr(scoring, "DRAWS", 50)  # the intervals have tests of their own
    monkeypatch.setattr(evaluate, "load_processor", fake.processor)
    monkeypatch.setattr(evaluate, "model_setting", lambda name, p: {"setting": [name, p.digest]})
    for name in ("read_frames", "ask"):
        monkeypatch.setattr(answers, name, getattr(fake, name))
    monkeypatch.setattr(inputs, "read_frames", fake.read_frames)
    for task, letters in TRUTH.items():
        write_task(tmp_path / "bench", task, letters)
    return fake


def write_task(data, task, letters):
    """A task of two-option questions with the given right letters, in MVBench's layout."""
    rows = []
    for number, letter in enumerate(letters):
        video = data / "video" / task / f"{number}.mp4"
        video.parent.mkdir(parents=True, exist_ok=True)
        video.touch()
        options = ["yes", "no"]
        rows.append({"video": video.name, "question": f"{task} {number}?", "candidates": options,
                     "answer": options["AB".index(letter)]})  # fmt: skip
    (data / "json").mkdir(exist_ok=True)
    (data / "json" / f"{task}.json").write_text(json.dumps(rows))


def write_adapter(folder, base="base/model", weights="trained"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_text(weights)
    return str(folder)


def config(tmp_path, **changes):
    return EvalConfig(
        **{"model": "base/model", "data": tmp_path / "bench", "batch_size": 2}
        | {"out": Path("out/eval")}
        | changes
    )


def prompt(task, number):
    return f"Question:{task} {number}?\nOption:\n(A) yes\n(B) no\nOnly give the best option.\n"


def all_right(world, adapter):
    """Make the model with this adapter right everywhere."""
    for task, letters in TRUTH.items():
        for number, letter in enumerate(letters):
            world.says[adapter, prompt(task, number)] = f"({letter})"


def saved(name="model"):
    path = evaluate.Path("out/eval/mvbench") / name / "answers.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def scores():
    return json.loads(evaluate.Path("out/eval/mvbench/scores.json").read_text())


def test_known_letters_give_known_scores(world, tmp_path, capsys):
    main(config(tmp_path))
    run = scores()["runs"]["model"]  # "(A)" everywhere: 2 of 3 and 0 of 2
    assert run["groups"]["spatial"]["value"] == pytest.approx(200 / 3)
    assert run["groups"]["temporal"]["value"] == 0
    assert run["mean"]["value"] == pytest.approx(100 / 3)
    assert "mean of 2 tasks" in capsys.readouterr().out


def test_an_adapter_is_next_to_the_base_with_the_difference(world, tmp_path, capsys):
    all_right(world, "dpo")
    main(config(tmp_path, adapter=[write_adapter(tmp_path / "runs/dpo/adapter")]))
    assert scores()["runs"]["+dpo"]["mean"]["value"] == 100
    difference = scores()["differences"]["+dpo"]
    assert difference["groups"]["temporal"] == {"value": 100, "low": 100, "high": 100}
    assert difference["mean"]["value"] == pytest.approx(200 / 3)
    assert "+dpo" in capsys.readouterr().out
    assert len(saved("model")) == len(saved("model+dpo")) == 5


def test_a_row_holds_what_was_asked_and_answered(world, tmp_path):
    world.says[None, prompt("spatial", 1)] = "The answer is B"
    main(config(tmp_path))
    row = saved()[1]
    assert row.pop("seconds") >= 0 and len(row.pop("fingerprint")) == 16
    assert row == {
        "id": "spatial/1",
        "task": "spatial",
        "video": "video/spatial/1.mp4",
        "prompt": prompt("spatial", 1),
        "answer": "B",
        "response": "The answer is B",
        "predicted": "B",
        "correct": True,
    }


def test_answers_of_a_killed_run_are_not_asked_again(world, tmp_path):
    world.dies_after = 4  # the first two batches are answered, the third is never
    with pytest.raises(KeyboardInterrupt):
        main(config(tmp_path))
    assert len(saved()) == 4
    world.dies_after, world.asked = None, []
    main(config(tmp_path))
    assert world.asked == [prompt("temporal", 1)]
    assert [row["id"] for row in saved()] == [
        "spatial/0", "spatial/1", "spatial/2", "temporal/0", "temporal/1"
    ]  # fmt: skip


def test_a_torn_line_is_asked_again(world, tmp_path):
    main(config(tmp_path))
    path = evaluate.Path("out/eval/mvbench/model/answers.jsonl")
    path.write_bytes(path.read_bytes()[:-30])
    world.asked = []
    with pytest.warns(UserWarning, match="cut short"):
        main(config(tmp_path))
    assert world.asked == [prompt("temporal", 1)]
    assert len(saved()) == 5


def test_a_finished_run_loads_no_model(world, tmp_path):
    main(config(tmp_path))
    before = scores()
    world.loaded = []
    main(config(tmp_path))
    assert world.loaded == [] and scores() == before


@pytest.mark.parametrize(
    "change", [{"n_frames": 4}, {"max_pixels": 784}, {"dtype": "float32"}, {"model": "two/model"}]
)
def test_another_setting_is_asked_anew(world, tmp_path, change):
    main(config(tmp_path))
    main(config(tmp_path, **change))
    assert len(world.asked) == 10


def test_a_retrained_adapter_is_asked_anew_and_the_base_is_not(world, tmp_path):
    adapter = write_adapter(tmp_path / "runs/dpo/adapter")
    main(config(tmp_path, adapter=[adapter]))
    world.asked = []
    write_adapter(tmp_path / "runs/dpo/adapter", weights="trained longer")
    main(config(tmp_path, adapter=[adapter]))
    assert len(world.asked) == 5
    assert len(saved("model+dpo")) == 10


def overwrite(path, data):
    """Replace the bytes of a file in place, so that inode, size and times stay."""
    before = path.stat()
    assert len(data) == before.st_size
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swap_two_files(folder):
    a, b = folder / "0.mp4", folder / "1.mp4"
    a.rename(folder / "x"), b.rename(a), (folder / "x").rename(b)
    return [0, 1]


def overwrite_one_file(folder):
    overwrite(folder / "2.mp4", b"video X")
    return [2]


def overwrite_one_frame(folder):
    overwrite(folder / "2.mp4/2.jpg", b"frame X")
    return [2]


def swap_two_frames(folder):
    a, b = folder / "2.mp4/1.jpg", folder / "2.mp4/2.jpg"
    first, second = a.read_bytes(), b.read_bytes()
    overwrite(a, second), overwrite(b, first)
    return [2]


def add_a_frame(folder):
    (folder / "2.mp4/3.jpg").write_bytes(b"frame 3")
    return [2]


def touch_and_copy(folder):
    """The same bytes with another inode and other times."""
    (folder / "1.mp4").rename(folder / "x")
    (folder / "1.mp4").write_bytes((folder / "x").read_bytes())
    os.utime(folder / "0.mp4", (1, 1))
    return []


@pytest.mark.parametrize(
    ("change", "frames"),
    [
        (swap_two_files, False),
        (overwrite_one_file, False),
        (overwrite_one_frame, True),
        (swap_two_frames, True),
        (add_a_frame, True),
        (touch_and_copy, False),
    ],
)
def test_an_answer_belongs_to_the_bytes_of_its_video(world, tmp_path, capsys, change, frames):
    folder = tmp_path / "bench/video/spatial"
    for i in range(3):
        (folder / f"{i}.mp4").write_bytes(b"video %d" % i)
    if frames:
        (folder / "2.mp4").unlink()
        (folder / "2.mp4").mkdir()
        for i in (1, 2):
            (folder / f"2.mp4/{i}.jpg").write_bytes(b"frame %d" % i)
    main(config(tmp_path))
    changed = change(folder)
    world.asked = []
    capsys.readouterr()
    main(config(tmp_path))
    assert world.asked == [prompt("spatial", number) for number in changed]
    named = f"model/answers.jsonl: {len(changed)} answers are not reused but asked anew: the video"
    assert (named in capsys.readouterr().out) == bool(changed)
    world.asked = []
    main(config(tmp_path))  # the new answers are kept
    assert world.asked == []


def test_answers_of_a_version_that_compared_sizes_are_asked_anew_and_counted(
    world, tmp_path, capsys
):
    main(config(tmp_path))
    path = evaluate.Path("out/eval/mvbench/model/answers.jsonl")
    rows = [row | {"fingerprint": f"{i:016x}"} for i, row in enumerate(saved())]
    write_rows(path, rows)
    world.asked = []
    main(config(tmp_path))
    assert len(world.asked) == 5
    printed = capsys.readouterr().out
    assert "5 answers are not reused but asked anew" in printed and "an older version" in printed
    main(config(tmp_path))  # the file also holds the old rows
    assert len(world.asked) == 5 and "not reused" not in capsys.readouterr().out


def test_a_video_that_does_not_decode_is_named_wrong_and_never_asked(world, tmp_path, capsys):
    all_right(world, None)
    world.damaged = {"2.mp4"}
    main(config(tmp_path))
    assert prompt("spatial", 2) not in world.asked
    (row,) = [row for row in saved() if "error" in row]
    assert row["correct"] is False and "2.mp4: damaged" in row["error"]
    numbers = scores()["runs"]["model"]
    assert numbers["groups"]["spatial"]["value"] == pytest.approx(200 / 3)
    assert numbers["counts"]["video not decoded: wrong"] == 1
    printed = capsys.readouterr().out
    assert "spatial/2 counts as wrong" in printed and "video not decoded: wrong" in printed


def test_a_video_that_failed_is_tried_again_also_one_that_the_model_cannot_take(world, tmp_path):
    all_right(world, None)
    world.too_wide = {"2.mp4"}
    main(config(tmp_path))
    (row,) = [row for row in saved() if "error" in row]
    assert row["id"] == "spatial/2" and row["error"].endswith("2.mp4: frames are 10 x 9000")
    assert len(world.asked) == 4
    world.too_wide, world.asked = set(), []
    main(config(tmp_path))
    assert world.asked == [prompt("spatial", 2)]
    assert scores()["runs"]["model"]["mean"]["value"] == 100


def test_empty_and_unreadable_answers_are_counted(world, tmp_path):
    world.says = {(None, prompt("spatial", 0)): "", (None, prompt("temporal", 0)): "who knows"}
    main(config(tmp_path))
    run = scores()["runs"]["model"]
    assert list(run["counts"].values()) == [1, 1, 0]
    assert run["groups"]["spatial"]["value"] == 50  # one of two: the empty one is not counted


def test_the_printed_n_is_without_empty_answers_that_do_not_count(world, tmp_path, capsys):
    world.says = {(None, prompt("spatial", 0)): ""}
    main(config(tmp_path))
    printed = capsys.readouterr().out
    sizes = {task: len(letters) for task, letters in TRUTH.items()}
    assert re.search(rf"\nspatial +{sizes['spatial'] - 1} ", printed)
    assert re.search(rf"\ntemporal +{sizes['temporal']} ", printed)
    assert re.search(r"\nempty: not counted +1\n", printed)


def test_a_second_model_keeps_the_scores_of_the_first(world, tmp_path):
    for model in ("base/model", "other/second"):
        main(config(tmp_path, model=model, out=None))
    for name in ("model", "second"):
        saved = json.loads(Path("out/eval", name, "mvbench/scores.json").read_text())
        assert [*saved["runs"]] == [name]


def test_the_scores_of_the_toy_model_are_not_in_a_folder_with_its_name(world, tmp_path):
    main(config(tmp_path, model="toy", out=None))
    assert Path("out/eval/mvbench/scores.json").is_file()


def test_letters_are_scored_without_generating(world, tmp_path, monkeypatch):
    monkeypatch.setattr(
        answers, "letter_logps", lambda vlm, requests, letters: [[-3.0, -0.1] for _ in requests]
    )
    main(config(tmp_path, scoring="letter"))
    assert world.asked == []
    assert {(row["response"], *row["letter_logps"]) for row in saved()} == {("B", -3.0, -0.1)}
    assert scores()["runs"]["model"]["groups"]["temporal"]["value"] == 100


def test_the_limit_is_per_task(world, tmp_path):
    main(config(tmp_path, limit=1))
    assert world.asked == [prompt("spatial", 0), prompt("temporal", 0)]


@pytest.mark.parametrize(
    ("model", "data"), [("toy", None), ("base/model", "toy"), ("base/model", "bench")]
)
def test_a_score_on_the_toy_benchmark_says_toy_wherever_it_is(
    world, tmp_path, capsys, monkeypatch, model, data
):
    monkeypatch.setattr(toy, "ROOT", tmp_path)
    monkeypatch.setattr(toy, "benchmark_folder", lambda: print("rendering") or tmp_path / "bench")
    main(config(tmp_path, model=model, data=data and Path(data)))
    first, *_ = capsys.readouterr().out.splitlines()
    end = "--revision video --local-dir data/mvbench"
    assert first.startswith("TOY") and first.endswith(end) or data == "bench"
    folder = Path("out/eval/toy/mvbench")
    assert (folder / "scores.md").read_text().startswith("```\nTOY benchmark")
    assert json.loads((folder / "scores.json").read_text())["toy"] is True
    assert os.listdir("out/eval") == ["toy"]


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_named_model_without_data_is_told_the_command_and_its_size(world, tmp_path, name, check):
    with pytest.raises(SystemExit) as error, command_line():
        main(config(tmp_path, bench=name, data=None, check=check))
    bench, text = benchmark(name), str(error.value)
    assert f"{bench.fetch} {tmp_path}/data/{name}" in text and bench.size in text
    assert "\n" not in text and not Path("out").exists() and not Path("data").exists()


def test_data_in_its_usual_place_is_used(world, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "bench").rename(tmp_path / "data/mvbench")
    main(config(tmp_path, data=None))
    assert capsys.readouterr().out.splitlines()[0] == "mvbench from data/mvbench"


@pytest.mark.parametrize(
    ("base", "given", "names", "message"),
    [
        ("base/model", False, ["model", "+dpo"], ""),  # the adapter of the last training
        ("other", False, ["model"], "out/dpo/adapter is left out: it was trained on other, this"),
        ("other", True, ["model", "+dpo"], "loaded anyway: it was trained on other, this"),
    ],
)
def test_an_adapter_of_another_model_is_used_only_if_it_is_given(
    world, tmp_path, capsys, base, given, names, message
):
    folder = write_adapter(tmp_path / "out/dpo/adapter", base)
    assert list(find_adapters("base/model", [folder] * given)) == names
    printed = capsys.readouterr().out
    assert message in printed and bool(message) == bool(printed)


def test_adapter_none_is_the_base_alone_and_an_empty_adapter_an_error(world, tmp_path, capsys):
    write_adapter(tmp_path / "out/dpo/adapter")
    main(config(tmp_path, adapter=["none"]))
    assert list(scores()["runs"]) == ["model"]
    with pytest.raises(SystemExit):
        parse(EvalConfig, ["--adapter"])
    assert "argument --adapter: expected at least one argument" in capsys.readouterr().err


def test_a_missing_adapter_is_refused_before_anything_is_asked(world, tmp_path):
    with pytest.raises(FileNotFoundError, match="runs/typo/adapter_config.json"):
        main(config(tmp_path, adapter=["runs/typo"]))
    assert world.asked == []


def test_adapters_of_the_same_name_get_longer_names(world, tmp_path):
    folders = [write_adapter(tmp_path / f"runs/{seed}/dpo/adapter") for seed in (0, 1)]
    names = list(find_adapters("base/model", [*folders, folders[0]]))
    assert names == ["model", "+0-dpo", "+1-dpo"]


def test_an_adapter_inside_another_keeps_its_own_name(world, tmp_path):
    folders = [write_adapter(tmp_path / "runs/dpo"), write_adapter(tmp_path / "runs/dpo/adapter")]
    assert list(find_adapters("base/model", folders)) == ["model", "+dpo", "+adapter"]


def test_the_folder_of_a_run_stands_for_its_adapter(world, tmp_path):
    folder = write_adapter(tmp_path / "runs/dpo/adapter")
    assert find_adapters("base/model", [tmp_path / "runs/dpo"])["+dpo"] == Path(folder).resolve()


def about(name, clip=None):
    return SimpleNamespace(video=name, clip=clip)


def test_few_videos_are_loaded_ahead():
    seen = []
    items = [about(x) for x in "abcdefgh"]
    pairs = with_inputs(lambda item: seen.append(item.video) or item.video.upper(), items, 1)
    assert next(pairs) == (items[0], "A")
    assert "d" not in seen
    assert [x for _, x in pairs] == list("BCDEFGH") and sorted(seen) == list("abcdefgh")


def test_items_of_a_video_follow_each_other_and_share_what_is_loaded_once():
    pairs = list(with_inputs(lambda item: object(), [about(x) for x in "abac"], 2))
    assert [item.video for item, _ in pairs] == list("aabc")
    assert pairs[0][1] is pairs[1][1] and len({id(x) for _, x in pairs}) == 3


def test_items_of_a_video_with_different_clips_share_nothing():
    items = [about("a", clip) for clip in ((0, 1), None, (0, 1), (1, 2))]
    pairs = list(with_inputs(lambda item: item.clip, items, 2))
    assert [clip for _, clip in pairs] == [(0, 1), (0, 1), None, (1, 2)]


@pytest.mark.parametrize(
    ("clip", "times"),
    [
        (None, [0, 33, 66, 99]),
        ((10, 40), [10, 20, 30, 40]),
        ((9.5, 12), [10, 12]),
        ((98, 200), [98, 99]),
        ((50, 50), [50, 50]),
    ],
)
@pytest.mark.parametrize("first", [0.0, 1.4])
def test_frames_are_spread_over_the_clip_of_an_item(world, monkeypatch, clip, times, first):
    all_times = np.arange(100.0) + first
    monkeypatch.setattr(answers, "read_frames", lambda _, sample, fit: (None, sample(all_times)))
    processor = SimpleNamespace(prepare=lambda frames, shown: shown, family=SimpleNamespace(fit=0))
    found = answers.video_inputs(about("a", clip), processor, 4)
    assert found.tolist() == times


@pytest.mark.parametrize("clip", [(100, 120), (5, 4), (3.2, 3.8), (float("nan"), 5)])
def test_a_clip_without_frames_counts_as_a_video_that_cannot_be_read(world, clip):
    processor = SimpleNamespace(prepare=None, family=SimpleNamespace(fit=None))
    item = about(Path("a.mp4"), clip)
    found = answers.video_inputs(item, processor, 4)
    assert isinstance(found, VideoError) and "no frame from" in str(found)


def test_questions_about_one_video_are_asked_together(world, tmp_path):
    path = tmp_path / "bench/json/spatial.json"
    rows = json.loads(path.read_text())
    rows[2]["video"] = rows[0]["video"]
    path.write_text(json.dumps(rows))
    main(config(tmp_path))
    assert [row["id"] for row in saved()][:3] == ["spatial/0", "spatial/2", "spatial/1"]
    assert world.read.count("0.mp4") == 2  # of spatial and of temporal


def write_answers(folder, right):
    """scored.jsonl of one task, with whether each item is right."""
    rows = [
        {"id": f"t/{i}", "task": "t", "response": "A", "predicted": "A", "correct": bool(x)}
        for i, x in enumerate(right)
    ]
    write_rows(folder / "scored.jsonl", rows)
    return str(folder)


def test_compare_gives_the_paired_difference_worked_out_by_hand(tmp_path, capsys):
    """B gains 7 of 10 and loses 1: +60 points."""
    a = write_answers(tmp_path / "a", [0] * 7 + [1] + [1, 0])
    b = write_answers(tmp_path / "b", [1] * 7 + [0] + [1, 0] + [1])  # only B answered the last one
    main(EvalConfig(model="toy", compare=[a, b]))
    printed = capsys.readouterr().out
    assert "10 items answered by both" in printed
    line = next(line for line in printed.splitlines() if line.startswith("t "))
    numbers = [float(x) for x in re.findall(r"[-+]?\d+\.\d+", line)]
    assert numbers[0] == 20.0 and numbers[3] == 80.0 and numbers[6] == 60.0
    # The bootstrap's interval, drawn here again another way: multinomial counts of (+1, -1, 0).
    draws = np.random.default_rng(1).multinomial(10, [0.7, 0.1, 0.2], 20000)
    expected = np.percentile((draws[:, 0] - draws[:, 1]) * 10.0, [2.5, 97.5])
    assert numbers[7:9] == pytest.approx(expected, abs=10.0)  # one item is 10 points


def test_compare_takes_the_rows_that_the_scores_are_of_and_no_older_ones(world, tmp_path, capsys):
    main(config(tmp_path, scoring="generate"))
    folder = "out/eval/mvbench/model"
    old = [row | {"correct": False, "predicted": None} for row in saved()]
    write_rows(evaluate.Path(folder) / "answers.rank1.jsonl", old)
    main(EvalConfig(model="toy", compare=[folder, folder]))
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("spatial"))
    assert "66.7" in line


def test_fully_tuned_models_are_named_as_their_runs(tmp_path):
    for run in ("a", "b"):
        (tmp_path / run / "model").mkdir(parents=True)
        (tmp_path / run / "metrics.jsonl").touch()
    (tmp_path / "plain/model").mkdir(parents=True)
    names = {"a/model": "a", "b/model": "b", "b/model-best": "b-best", "plain/model": "model"}
    for path, name in names.items():
        assert [*find_adapters(tmp_path / path, ["none"])] == [name]


def compare_runs(tmp_path, change_a, change_b=None, bench="mvbench"):
    """--compare of two runs of two items, after changes of their rows."""
    folders = []
    for name, change in (("a", change_a), ("b", change_b or (lambda rows: rows))):
        rows = [
            {"id": f"t/{i}", "task": "t", "response": "A", "answer": "A", "correct": True}
            for i in range(2)
        ]
        write_rows(tmp_path / name / "scored.jsonl", change(rows))
        folders.append(str(tmp_path / name))
    main(EvalConfig(model="toy", compare=folders, bench=bench))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [rows[0], rows[1] | {"task": "u"}], "1 of 2 ids, such as t/1, are of other"),
        (lambda rows: [x | {"answer": "B"} for x in rows], "2 of 2 ids, such as t/0, are of other"),
        (lambda rows: [x | {"id": "u" + x["id"]} for x in rows], "no answered item in common"),
        (lambda rows: [x | {"error": "damaged"} for x in rows], "no answered item in common"),
        (lambda rows: [], "no answered item in common"),
        (lambda rows: [rows[0], rows[1] | {"correct": "yes"}], "scored.jsonl:2: correct is 'yes'"),
        (lambda rows: [{"id": "t/0"}], "scored.jsonl:1: task is missing"),
    ],
)
def test_runs_that_do_not_compare_are_refused_in_one_sentence(tmp_path, change, message):
    with pytest.raises((SystemExit, ValueError)) as error:
        compare_runs(tmp_path, change)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_runs_of_other_items_are_compared_on_those_of_both(tmp_path, capsys):
    compare_runs(tmp_path, lambda rows: rows, lambda rows: [*rows[:1], rows[1] | {"id": "t/2"}])
    assert "1 items answered by both, 1 by A alone, 1 by B alone" in capsys.readouterr().out


def test_a_damaged_line_of_a_run_is_named(tmp_path):
    write_answers(tmp_path / "a", [1, 1])
    (tmp_path / "b").mkdir()
    (tmp_path / "b/scored.jsonl").write_text('{"id": "t/0"\n{"id": "t/1"}\n')
    with pytest.raises(ValueError, match=r"b/scored.jsonl:1: .*expected one JSON object a line"):
        main(EvalConfig(model="toy", compare=[str(tmp_path / "a"), str(tmp_path / "b")]))


@pytest.mark.parametrize("bench", ["mvbench", "vinoground"])
def test_runs_of_another_benchmark_are_refused_with_its_name(tmp_path, bench):
    a = write_answers(tmp_path / "eval/videomme/a", [1, 1])
    b = write_answers(tmp_path / "eval/videomme/b", [0, 1])
    (tmp_path / "eval/videomme/config.json").write_text('{"bench": "videomme"}')
    with pytest.raises(SystemExit, match=f"a is a run of videomme, not of {bench}: add --bench vi"):
        main(EvalConfig(model="toy", compare=[a, b], bench=bench))
    main(EvalConfig(model="toy", compare=[a, b], bench="videomme"))


# Prompts of Video-MME's yaml in lmms-eval, by the name that its --model has.
DEFAULT = (
    "Select the best answer to the following multiple-choice question based on the video and the "
    "subtitles. Respond with only the letter (A, B, C, or D) of the correct option.\n"
    "Which?\nA. x\nB. y\n"
)
VIDEOMME_PROMPTS = {
    "qwen2_vl": ("default", f"{DEFAULT}\nAnswer with the option's letter from the given choices "
                 "directly."),
    "qwen2_5_vl": ("default", f"{DEFAULT}\nAnswer with the option's letter from the given choices "
                   "directly."),
    "qwen3_vl": ("qwen3_vl", "Question: Which?\nOptions:\nA. x\nB. y\n"
                 "Answer with the option letter only."),
    "llava_onevision": ("default", f"{DEFAULT}\nAnswer with the option's letter from the given "
                        "choices directly."),
    "llava_next_video": ("llava_vid", f"{DEFAULT}The best answer is:"),
    "internvl": ("default", f"{DEFAULT}\nAnswer with the option's letter from the given choices "
                 "directly."),
    "qwen3_5": ("default", f"{DEFAULT}\nAnswer with the option's letter from the given choices "
                "directly."),
    "qwen3_5_moe": ("default", f"{DEFAULT}\nAnswer with the option's letter from the given choices "
                    "directly."),
    "smolvlm": ("default", f"{DEFAULT}\nAnswer with the option's letter from the given choices "
                "directly."),
}  # fmt: skip


def write_videomme(folder):
    row = {"videoID": "v", "question_id": "1-1", "duration": "short", "domain": "d",
           "sub_category": "s", "task_type": "t", "question": "Which?",
           "options": ["A. x", "B. y"], "answer": "A"}  # fmt: skip
    (folder / "data").mkdir(parents=True)
    (folder / "data/v.mp4").write_bytes(b"video")
    (folder / "test.json").write_text(json.dumps([row]))
    return folder


def test_every_family_has_its_prompt_of_video_mme():
    assert VIDEOMME_PROMPTS.keys() == FAMILIES.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_is_asked_with_lmms_evals_prompt_for_its_family(world, tmp_path, capsys, family):
    data = write_videomme(tmp_path / "vmme")
    name, text = VIDEOMME_PROMPTS[family]
    world.model_type = family
    main(config(tmp_path, bench="videomme", data=data))
    assert world.asked == [text]
    assert capsys.readouterr().out.count(f"lmms-eval's prompt for {name}\n") == 1
    folder = evaluate.Path("out/eval/videomme")
    assert json.loads((folder / "config.json").read_text())["prompts_used"] == name
    assert json.loads((folder / "model/answers.jsonl").read_text())["prompt"] == text


def test_answers_to_another_prompt_are_asked_anew(world, tmp_path, capsys):
    data = write_videomme(tmp_path / "vmme")
    for family in ("qwen2_5_vl", "qwen3_vl", "qwen2_vl"):  # the last has the prompt of the first
        world.model_type = family
        main(config(tmp_path, bench="videomme", data=data))
    assert world.asked == [VIDEOMME_PROMPTS[x][1] for x in ("qwen2_5_vl", "qwen3_vl")]
    assert "1 answers are not reused but asked anew" in capsys.readouterr().out


@pytest.mark.parametrize("folders", [["x"], ["x", "y", "z"]])
def test_compare_takes_two_runs(folders):
    with pytest.raises(SystemExit, match="two folders"):
        main(EvalConfig(model="toy", compare=folders))


def test_compare_names_a_run_without_answers(tmp_path):
    with pytest.raises(FileNotFoundError, match="scored.jsonl"):
        main(EvalConfig(model="toy", compare=[str(tmp_path), str(tmp_path)]))


def test_check_opens_every_video_and_asks_nothing(world, tmp_path, capsys):
    world.damaged.add("1.mp4")
    main(config(tmp_path, check=True))
    printed = capsys.readouterr().out
    assert world.asked == world.loaded == []
    assert "spatial: 3 items" in printed and "5 videos, 2 of them cannot be read" in printed
    assert "1.mp4: damaged or cut short" in printed
    assert "none of the 20 published tasks is here" in printed and "expected" not in printed


def test_check_compares_the_tasks_that_are_there_and_names_the_others_once(world, tmp_path, capsys):
    write_task(tmp_path / "bench", "action_count", "A")
    (tmp_path / "bench/perception").mkdir()
    (tmp_path / "bench/video/action_count").rename(tmp_path / "bench/perception/videos")
    main(config(tmp_path, check=True))
    printed = capsys.readouterr().out
    assert re.findall(".*, expected .*", printed) == ["action_count: 1 items, expected 200"]
    (line,) = re.findall("left out: 19 of 20 tasks, .*", printed)
    assert "fine_grained_pose" in line and "action_count" not in line


def test_the_table_is_also_written_as_markdown(world, tmp_path, capsys):
    main(config(tmp_path))
    before, table, after = evaluate.Path("out/eval/mvbench/scores.md").read_text().split("```")
    assert table.startswith("\npercent") and table in capsys.readouterr().out
    assert not before.strip() and not after.strip()


def test_a_sound_score_is_next_to_one_of_a_rule_with_faults(world, tmp_path, monkeypatch, capsys):
    bench = replace(mvbench.BENCHMARK, repaired="a word is no letter")
    monkeypatch.setattr(mvbench, "BENCHMARK", bench)
    world.says = {(None, prompt("temporal", 0)): "Not a. The answer is B"}
    main(config(tmp_path))
    values = {x: run["groups"]["temporal"]["value"] for x, run in scores()["runs"].items()}
    assert values == {"model": 0, "model sound": 50}
    printed = capsys.readouterr().out
    assert "\nsound: a word is no letter\n" in printed and "model sound\n" in printed


def test_a_letter_is_drawn_by_the_item_alone_and_counted():
    bench = SimpleNamespace(parse=lambda *_: None, draws=True, repaired="", credit=None)

    def read(text, id_):
        item = SimpleNamespace(id=id_, letters="ABCDE", answer="A")
        return answers.reread(bench, {"response": text}, item, "head")

    first, second = (read(text, "x/1") for text in ("hm", "what"))
    assert first["predicted"] == second["predicted"]
    assert first["drawn"] and first["predicted"] in "ABCDE"
    assert {read("", str(i))["predicted"] for i in range(50)} == set("ABCDE")


@pytest.mark.parametrize(
    ("text", "response"),
    [
        ("<think>A or B?</think>\nB", "B"),
        ("so B.</think> B", "B"),
        ("<analysis>x</analysis><think>\n</think>C ", "C"),
        ("B", "B"),
        ("<think>never ends", "<think>never ends"),
    ],
)
def test_reasoning_is_taken_out_before_a_letter_is_read(text, response):
    bench = SimpleNamespace(
        parse=lambda response, *_: response[0], draws=False, repaired="", credit=None
    )
    row = answers.reread(bench, {"response": text}, SimpleNamespace(answer="A"), "head")
    assert (row["response"], row["predicted"]) == (response, response[0])
    assert row.get("text", response) == text


def test_data_without_questions_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "items.jsonl", [])
    with pytest.raises(SystemExit, match="no question that can be asked"):
        main(EvalConfig(model="toy", bench="adversarial", data=tmp_path))


def test_another_parser_asks_nothing_again_and_reads_anew(world, tmp_path, monkeypatch):
    main(config(tmp_path))
    asked = list(world.asked)
    letter = {"head": "A", "v0.5": "B"}
    bench = replace(mvbench.BENCHMARK, parse=lambda response, item, parser: letter[parser])
    monkeypatch.setattr(mvbench, "BENCHMARK", bench)
    main(config(tmp_path, parser="v0.5"))
    assert world.asked == asked
    assert scores()["runs"]["model"]["groups"]["temporal"]["value"] == 100  # "BB"
    main(config(tmp_path))
    assert scores()["runs"]["model"]["groups"]["temporal"]["value"] == 0


def test_the_toy_model_gets_no_toy_questions_for_another_benchmark(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="fetch 101 GB with: hf download .*Video-MME"):
        main(EvalConfig(model="toy", bench="videomme"))


MISFITS = {  # message: what is done to each tensor of an adapter of rank 2
    "layers.9.*: no such layer in this model": lambda k, x: (k.replace("layers.0", "layers.9"), x),
    "up_proj.lora_A is missing; expected": lambda k, x: (k * ("0.mlp.up_proj.lora_A" not in k), x),
    r"lora_A is \(2, .*; expected \(2,": lambda k, x: (k, x[:, 1:].clone() if "lora_A" in k else x),
    r"lora_A is \(1, .*; expected \(2,": lambda k, x: (k, x[:1].clone() if "lora_A" in k else x),
    "lora_B holds .* infinite or nan": lambda k, x: (k, x / 0 if "lora_B" in k else x),
}


@pytest.mark.parametrize("message", MISFITS)
def test_an_adapter_that_does_not_fit_is_refused_before_anything_is_asked_or_written(
    tiny, tmp_path, monkeypatch, message
):
    add_lora(tiny.model, rank=2, alpha=4)
    save_adapter(tmp_path / "adapter", tiny.model, tiny.name)
    path = tmp_path / "adapter/adapter_model.safetensors"
    tensors = dict(MISFITS[message](*item) for item in load_file(path).items())
    save_file({key: x for key, x in tensors.items() if key}, path)
    (tmp_path / "bench").mkdir()
    files.write_benchmark(tmp_path / "bench", 12, seed=0)
    for name in ("read_frames", "ask"):
        monkeypatch.setattr(answers, name, None)
    settings = {"data": tmp_path / "bench", "model": tiny.name, "out": tmp_path / "out"}
    with pytest.raises(ValueError, match=f"adapter_model.safetensors: .*{message}"):
        main(config(tmp_path, **settings, adapter=[str(tmp_path / "adapter")]))
    assert not (tmp_path / "out").exists()


# Suites


@pytest.fixture
def suite(world, tmp_path):
    """Run evaluate.py on data/NAME of two benchmarks, with an adapter; more flags in `changes`."""
    for task, letters in TRUTH.items():
        write_task(tmp_path / "data/mvbench", task, letters)
    items = tmp_path / "data/adversarial/items.jsonl"
    items.parent.mkdir()
    for number in range(2):
        (items.parent / f"{number}.mp4").touch()
    row = {"video": "0.mp4", "mode": "temporal", "kind": "question", "query": "Why?"}
    write_rows(items, [row | {"id": "a"}, row | {"id": "b", "video": "1.mp4", "query": "How?"}])
    all_right(world, "dpo")
    world.says["dpo", "Why?"] = "There is no cat."
    adapter = write_adapter(tmp_path / "runs/dpo/adapter")

    def run(names="mvbench,adversarial", **changes):
        changes = {"suite": names, "data": tmp_path / "data", "adapter": [adapter]} | changes
        main(config(tmp_path, **changes))

    return run


def saved_scores(folder):
    found = json.loads(Path(folder, "scores.json").read_text())
    return found["runs"], found["differences"]


def test_a_suite_has_the_numbers_of_single_runs_and_loads_each_model_once(world, suite, tmp_path):
    suite(out=Path("both"))
    assert world.loaded == ["base/model"] * 2  # without and with the adapter
    for name in ("mvbench", "adversarial"):
        suite("", bench=name, data=tmp_path / "data" / name, out=Path("alone"))
        assert saved_scores(f"both/{name}") == saved_scores(f"alone/{name}")


def test_a_suite_ends_with_one_table_of_its_benchmarks(suite, capsys):
    suite()
    lines = capsys.readouterr().out.splitlines()
    head, *rows = lines[-3:]
    assert re.split("  +", head) == [
        "percent [95 % interval]", "n", "model", "+dpo", "minus base"
    ]  # fmt: skip
    # "(A)" is right in 2 of 3 and 0 of 2; it rejects no premise
    for row, name, values in zip(rows, ("mvbench", "adversarial"), (
        (33.3, 100.0, 66.7), (0.0, 50.0, 50.0)
    ), strict=True):  # fmt: skip
        found = re.findall(r"([+-]?\d+\.\d) \[", row)
        assert row.startswith(f"{name} ") and [float(x) for x in found] == list(values)


def test_a_table_of_toy_benchmarks_says_so(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(toy, "ROOT", tmp_path / "data")
    suite()
    *_, mvbench, adversarial = capsys.readouterr().out.splitlines()
    assert mvbench.startswith("TOY mvbench ") and adversarial.startswith("TOY adversarial ")


@pytest.mark.parametrize("flags", [{"names": "tomato"}, {"names": "", "bench": "tomato"}])
def test_a_benchmark_without_a_toy_one_is_fetched_into_its_own_folder(suite, capsys, flags):
    with pytest.raises((SystemExit, FileNotFoundError)) as error:
        suite(**flags, data=Path("toy"))
    assert f" {Path('data/tomato').absolute()}" in capsys.readouterr().out + str(error.value)


def test_a_killed_suite_continues_where_it_was(world, suite):
    world.dies_after = 5  # after all questions of mvbench, before those of adversarial
    with pytest.raises(KeyboardInterrupt):
        suite()
    world.dies_after, asked = None, world.asked[:]
    suite()
    assert len(world.asked) == 2 * 7 and world.asked[:5] == asked
    suite()
    assert len(world.asked) == 2 * 7


def test_a_suite_names_what_is_missing_with_the_command_that_fetches_it(suite, capsys):
    suite("paper")
    out = capsys.readouterr().out
    for name in SUITES["paper"]:
        line = f"{name} is left out: .*{re.escape(benchmark(name).fetch)} "
        assert bool(re.search(line, out)) == (name != "mvbench")
    assert saved_scores("out/eval/mvbench")


def test_a_suite_of_which_nothing_is_here_is_refused(suite):
    with pytest.raises(SystemExit, match="nothing of --suite tomato is here; fetch it"):
        suite("tomato")


def test_a_benchmark_that_no_suite_has_is_refused_with_all_names(suite):
    with pytest.raises(SystemExit, match="--suite has mvbnch; expected some of") as error:
        suite("mvbnch,adversarial")
    assert all(name in str(error.value) for name in (*SUITES, *NAMES))


def test_check_of_a_suite_opens_the_videos_of_each_and_asks_nothing(world, suite, capsys):
    suite(check=True)
    out = capsys.readouterr().out
    assert "5 videos, 0 of them cannot be read" in out
    assert "2 videos, 0 of them cannot be read" in out
    assert not world.asked and not world.loaded


@pytest.mark.parametrize("model", ["..", ".", "../..", "a/.."])
def test_a_model_s_name_leads_out_of_no_folder(tmp_path, monkeypatch, model):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    (name,) = find_adapters(model, [])
    assert name and name not in (".", "..") and "/" not in name


@pytest.mark.parametrize("base", [5, ["base/model"], "\0", "\ud83d"])
def test_an_adapter_of_a_base_that_has_no_name_is_refused_by_name(tmp_path, base):
    folder = write_adapter(tmp_path / "run/adapter", base)
    with pytest.raises(ValueError, match="adapter_config.json: base_model_name_or_path .*expected"):
        find_adapters("base/model", [folder])


def test_a_model_that_reads_text_alone_is_refused_before_anything_is_asked(tmp_path):
    make_language_model(tmp_path / "text", "Qwen2")
    (tmp_path / "bench").mkdir()
    files.write_benchmark(tmp_path / "bench", 4, seed=0)
    config = parse(EvalConfig, ["--model", str(tmp_path / "text"), "--device", "cpu"])
    config.data, config.out = tmp_path / "bench", tmp_path / "eval"
    with pytest.raises(SystemExit, match="reads only text; --model takes a model that sees"):
        main(config)
    assert not config.out.exists()


@pytest.fixture
def judged(world, tmp_path):
    """Run --bench adversarial on two questions with a judge; returns the scores."""
    row = {"id": "1", "video": "0.mp4", "mode": "spatial", "kind": "question", "query": "Why?"}
    data = tmp_path / "bench/video/spatial"
    write_rows(data / "items.jsonl", [row, row | {"id": "2", "query": "How?"}])

    def run(server):
        with command_line():
            main(config(tmp_path, bench="adversarial", data=data, judge=server.address))
        saved = json.loads(Path("out/eval/adversarial/scores.json").read_text())
        return saved["runs"]["model"]["groups"]["spatial question"]["value"]

    return run


def test_a_server_as_judge_decides_and_is_asked_once(judged):
    with FakeServer(lambda body: "Yes, it does.") as server:
        assert judged(server) == judged(server) == 100
    assert sorted("Why?" in seen.prompt for seen in server.seen) == [False, True]


def test_the_judge_is_asked_when_all_models_have_answered(world, judged, tmp_path, monkeypatch):
    write_adapter(tmp_path / "out/dpo/adapter")  # the default one
    world.says["dpo", "Why?"] = "No."
    answered = []

    def say(body):
        answered.append(len(world.asked))
        return "Yes."

    with FakeServer(say) as server:
        judged(server)
    assert answered and set(answered) == {2 * 2}


def test_a_judge_that_fails_is_one_sentence_and_the_same_command_continues(
    world, judged, monkeypatch
):
    monkeypatch.setattr("pasta.making.server.time.sleep", lambda seconds: None)
    with FakeServer(lambda body: "No.") as server:
        server.fault = from_number(1, "500")
        with pytest.raises(SystemExit, match="rerun the same command later to continue") as error:
            judged(server)
        assert "\n" not in str(error.value) and len(world.asked) == 2
        server.fault = lambda number, body: None
        assert judged(server) == 0
    assert len(world.asked) == 2 and len(server.answered()) == 2
    with pytest.raises(SystemExit, match="Connection refused") as error:  # before any question
        judged(server)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("unread", [1, 2])
def test_a_judge_that_cannot_be_read_is_named_with_a_reply(judged, capsys, unread):
    with FakeServer(lambda body: "Hm" if "Why?" in str(body) or unread == 2 else "yes") as server:
        named = f"replies cannot be read in {unread} of 2, such as 'Hm'; expected yes or no"
        if unread == 2:
            with pytest.raises(SystemExit, match=f"{named}; all answers are kept: rerun with"):
                judged(server)
        else:
            assert judged(server) == 50
            assert f"{named}; these answers count as wrong" in capsys.readouterr().out
    assert len(read_rows("out/eval/adversarial/model/answers.jsonl")) == 2
