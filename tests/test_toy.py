"""The toy world: its truth, its files, its benchmark.

Oracles: pixels looked up by hand, decord's own reading of the files, counts.
    python -m pytest tests/test_toy.py
"""

import json

import numpy as np
import pytest

from pasta.benchmarks import mvbench
from pasta.pairs import MODES
from pasta.toy import files, world
from pasta.toy.base import make_tokenizer
from pasta.toy.lessons import LESSONS
from pasta.video import read_frames

VIDEOS = [world.draw_video(np.random.default_rng(i)) for i in range(40)]


def centre(frame, thing):
    return tuple(int(v) for v in frame[thing.y, thing.x])


def test_a_thing_is_where_and_when_its_truth_says():
    for video in VIDEOS:
        frames = world.render(video)
        for thing in video.things:
            colour = world.COLOURS[thing.name.split()[0]]
            assert centre(frames[thing.appears], thing) == colour
            assert thing.appears == 0 or centre(frames[thing.appears - 1], thing) != colour
            after = world.COLOURS[thing.successor.split()[0]]
            assert centre(frames[video.cut], thing) == after
            assert (after == colour) == thing.stays


def test_answers_follow_the_truth():
    for video in VIDEOS:
        things = {thing.name: thing for thing in video.things}
        for question in world.questions(video, np.random.default_rng(0)):
            words = question.query.rstrip("?").split()
            thing = things[" ".join(words[2:4]) if words[0] == "Does" else " ".join(words[2:4])]
            said = question.options[0 if question.usual else 1]
            truth = {
                "left": thing.x < 28, "right": thing.x >= 28, "top": thing.y < 28,
                "bottom": thing.y >= 28, "kept": thing.stays, "replaced": not thing.stays,
            }  # fmt: skip
            if question.mode == "temporal":
                other = things[" ".join(words[-2:])]
                truth = {"before": thing.appears < other.appears}
                truth["after"] = not truth["before"]
            assert truth[said]
            assert said in question.answer and said not in question.wrong


def test_usual_answers_are_as_common_as_asked_for():
    rng = np.random.default_rng(0)
    for usual in (0.5, 0.8):
        share = {mode: [] for mode in MODES}
        for _ in range(500):
            for question in world.questions(world.draw_video(rng, usual), rng, usual):
                share[question.mode].append(question.usual)
        for answers in share.values():
            assert np.mean(answers) == pytest.approx(usual, abs=0.06)


def test_files_hold_exactly_the_pixels_drawn(tmp_path):
    for size in (world.SIDE, 35):  # an odd width needs padded rows
        frames = np.random.default_rng(0).integers(0, 256, (6, 40, size, 3), np.uint8)
        files.write_avi(tmp_path / "v.avi", frames)
        read, times = read_frames(tmp_path / "v.avi", lambda ts: np.arange(len(ts)))
        assert (read == frames).all()
        assert times.tolist() == [0, 0.5, 1, 1.5, 2, 2.5]


def test_the_benchmark_is_balanced_and_reads_as_mvbench(tmp_path):
    files.write_benchmark(tmp_path, 8, seed=2)
    items = mvbench.items(tmp_path)
    assert len(items) == 24 and all(item.video.is_file() for item in items)
    for mode in MODES:
        rows = json.loads((tmp_path / "json" / f"{mode}.json").read_text())
        usual = [row["answer"] in ("left", "top", "before", "kept") for row in rows]
        first = [row["answer"] == row["candidates"][0] for row in rows]
        assert sum(usual) == sum(first) == 4


def test_every_lesson_is_in_the_tokenizers_words_and_comes_back():
    tokenizer = make_tokenizer()
    rng = np.random.default_rng(7)
    for _ in range(100):
        for teach in LESSONS:
            for text in (t for lesson in teach(world.draw_video(rng), rng, 0.5) for t in lesson):
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                assert tokenizer.unk_token_id not in ids
                assert tokenizer.decode(ids) == text
