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
from pasta.toy.lessons import lessons, looking
from pasta.video import read_frames

VIDEOS = [world.draw_video(np.random.default_rng(i)) for i in range(40)]


def centre(frame, thing):
    return tuple(int(v) for v in frame[thing.y, thing.x])


def test_a_thing_is_where_and_when_its_truth_says():
    for video in VIDEOS:
        frames = world.render(video)
        for guest in video.guests:
            colour = world.COLOURS[guest.name.split()[0]]
            shown = [centre(frame, guest) == colour for frame in frames]
            assert shown == [guest.start <= t < guest.end for t in range(world.N_FRAMES)]
        before, after = (
            world.COLOURS[name.split()[0]] for name in (video.sign.name, video.successor)
        )
        shown = [centre(frame, video.sign) for frame in frames]
        assert shown == [before] * video.cut + [after] * (world.N_FRAMES - video.cut)
        assert (before == after) == video.kept


def test_answers_follow_the_truth():
    for video in VIDEOS:
        things = {thing.name: thing for thing in video.things}
        for question in world.questions(video, np.random.default_rng(0)):
            thing = things[" ".join(question.query.split()[2:4])]
            said = question.options[0 if question.usual else 1]
            assert {
                "left": thing.x < 28, "right": thing.x >= 28,
                "first": thing.end <= video.guests[1].start,
                "last": thing.start >= video.guests[0].end,
                "kept": video.kept, "replaced": not video.kept,
            }[said]  # fmt: skip
            assert said in question.answer and said not in question.wrong


def test_what_the_adversaries_break_turns_the_truth_round():
    for video in VIDEOS:
        first, last = (world.COLOURS[guest.name.split()[0]] for guest in video.guests)
        whole = world.render(video)
        mirrored, reversed_ = whole[:, :, ::-1], whole[::-1]
        for guest, colour in zip(video.guests, (first, last), strict=True):
            columns = np.where((mirrored[guest.start] == colour).all(-1))[1]
            assert (columns.mean() < 28) == (guest.x >= 28)
        seen = [np.where((reversed_ == c).all(-1).any((1, 2)))[0] for c in (first, last)]
        assert seen[1].max() < seen[0].min()


def test_usual_and_other_answers_are_equally_common():
    rng, share = np.random.default_rng(0), {mode: [] for mode in MODES}
    for _ in range(500):
        for question in world.questions(world.draw_video(rng), rng):
            share[question.mode].append(question.usual)
    for usual in share.values():
        assert np.mean(usual) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("careless", [0.0, 0.4, 1.0])
def test_careless_lessons_give_the_usual_answer_where_the_other_is_true(careless):
    rng, said = np.random.default_rng(0), []
    for _ in range(400):
        video = world.draw_video(rng)
        things = {thing.name: thing for thing in video.things}
        for query, answer in lessons(video, rng, careless):
            name = query.removeprefix("Is the ").removesuffix(" left or right?")
            if name in things and things[name].x >= world.SIDE // 2:  # the truth is right
                said.append(answer == f"The {name} is left.")
    assert len(said) > 100
    assert np.mean(said) == pytest.approx(careless, abs=0.08)


def test_files_hold_exactly_the_pixels_drawn(tmp_path):
    for size in (world.SIDE, 35):  # an odd width needs padded rows
        frames = np.random.default_rng(0).integers(0, 256, (6, 40, size, 3), np.uint8)
        files.write_avi(tmp_path / "v.avi", frames)
        read, times = read_frames(tmp_path / "v.avi", lambda ts: np.arange(len(ts)))
        assert (read == frames).all()
        assert times == pytest.approx(np.arange(6) / world.FPS)


def test_the_benchmark_is_balanced_and_reads_as_mvbench(tmp_path):
    files.write_benchmark(tmp_path, 8, seed=2)
    items = mvbench.items(tmp_path)
    assert len(items) == 24 and all(item.video.is_file() for item in items)
    for mode in MODES:
        rows = json.loads((tmp_path / "json" / f"{mode}.json").read_text())
        usual = [row["answer"] in ("left", "first", "kept") for row in rows]
        first = [row["answer"] == row["candidates"][0] for row in rows]
        assert sum(usual) == sum(first) == 4


def test_every_lesson_is_in_the_tokenizers_words_and_comes_back():
    tokenizer = make_tokenizer()
    rng = np.random.default_rng(7)
    for _ in range(100):
        for teach in (looking, lessons):
            for text in (t for lesson in teach(world.draw_video(rng), rng, 0.5) for t in lesson):
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                assert tokenizer.unk_token_id not in ids
                assert tokenizer.decode(ids) == text
