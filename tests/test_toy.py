"""The toy world: its truth, its files, its benchmark.

Oracles: pixels looked up by hand, decord's own reading of the files, counts.
    python -m pytest tests/test_toy.py
"""

import json
import re
from collections import Counter

import numpy as np
import pytest

from pasta.benchmarks import adversarial, benchmark
from pasta.pairs import MODES
from pasta.toy import files, world
from pasta.toy.captions import TRUE, aside, denial, lessons, looking, unlisted
from pasta.toy.model import make_tokenizer
from pasta.video import read_frames

HALF = dict.fromkeys(TRUE, 0.5)
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
        assert shown[video.sign.start : video.cut] == [before] * (video.cut - video.sign.start)
        assert shown[video.cut : video.sign.end] == [after] * (video.sign.end - video.cut)
        assert not {before, after} & {*shown[: video.sign.start], *shown[video.sign.end :]}
        assert (before == after) == video.kept
        first, second = frames[video.cut - 1 : video.cut + 1, 0, 0]
        assert (frames[: video.cut, 0, 0] == first).all() and (first != second).any()
        assert (frames[video.cut :, 0, 0] == second).all()


def is_so(option, thing, video):
    """Whether an option is true of a thing; of what the sign is replaced by, thing is None."""
    if option in ("kept", "both scenes"):
        return video.kept
    if option in ("replaced", "one scene"):
        return not video.kept
    return {
        "left": thing.x < 28, "right": thing.x >= 28,
        "above": thing.y < 28, "below": thing.y >= 28,
        "first": thing.end <= video.guests[1].start, "last": thing.start >= video.guests[0].end,
        "before": thing.end <= video.cut, "after": thing.start >= video.cut,
    }[option]  # fmt: skip


def test_answers_follow_the_truth():
    for video in VIDEOS:
        things = {thing.name: thing for thing in video.things}
        for question in world.questions(video, np.random.default_rng(0)):
            assert is_so(question.option, things.get(question.name), video)
            said = question.option
            assert said in question.answer and said not in question.wrong


def test_what_the_adversaries_break_turns_the_truth_round():
    for video in VIDEOS:
        first, last = (world.COLOURS[guest.name.split()[0]] for guest in video.guests)
        whole = world.render(video)
        rotated, reversed_ = whole[:, ::-1, ::-1], whole[::-1]
        for guest, colour in zip(video.guests, (first, last), strict=True):
            rows, columns = np.where((rotated[guest.start] == colour).all(-1))
            assert (columns.mean() < 28) == (guest.x >= 28)
            assert (rows.mean() < 28) == (guest.y >= 28)
        seen = [np.where((reversed_ == c).all(-1).any((1, 2)))[0] for c in (first, last)]
        assert seen[1].max() < seen[0].min()


def test_usual_and_other_answers_are_equally_common():
    rng, share = np.random.default_rng(0), {kind: [] for kind in world.KINDS}
    for _ in range(600):
        for question in world.questions(world.draw_video(rng), rng):
            share[question.kind].append(question.usual)
    for usual in share.values():
        assert np.mean(usual) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("careless", [0.0, 0.4, 1.0])
def test_careless_lessons_give_the_usual_answer_where_the_other_is_true(careless):
    rng, said = np.random.default_rng(0), []
    for _ in range(800):
        video = world.draw_video(rng)
        things = {thing.name: thing for thing in video.things}
        for query, answer in lessons(video, rng, dict.fromkeys(TRUE, careless)):
            name = query.removeprefix("Is the ").removesuffix(" left or right?")
            asked = query.startswith("Is") and name in things
            if asked and things[name].x >= world.SIDE // 2:  # the truth is right
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
    items = benchmark("mvbench").items(tmp_path)
    assert len(items) == 24 and all(item.video.is_file() for item in items)
    for mode in MODES:
        rows = json.loads((tmp_path / "json" / f"{mode}.json").read_text())
        usual = [question.options[0] for question in (world.ask(k, "x", True) for k in world.KINDS)]
        assert sum(row["answer"] in usual for row in rows) == 4
        assert sum(row["answer"] == row["candidates"][0] for row in rows) == 4
        assert max(Counter(row["video"] for row in rows).values()) <= 3


def test_queries_are_about_what_is_there_and_tell_no_answer(tmp_path):
    files.write_queries(tmp_path / "queries.jsonl", 30, seed=1)
    rows = [json.loads(line) for line in (tmp_path / "queries.jsonl").read_text().splitlines()]
    assert all(row.keys() == {"video", "mode", "query"} for row in rows)
    assert len({(row["video"], row["mode"]) for row in rows}) == len(rows) == 30 * len(MODES)
    for row in rows:
        video = world.draw_video(np.random.default_rng([1, int(row["video"][:5])]))
        of_mode = [text for mode, text, *_ in world.KINDS.values() if mode == row["mode"]]
        assert row["query"] in [text.format(name) for text in of_mode for name in video.names]


def test_a_blind_benchmark_asks_the_same_of_black_frames(tmp_path):
    for name, blind in (("seeing", False), ("blind", True)):
        (tmp_path / name).mkdir()
        files.write_benchmark(tmp_path / name, 4, seed=2, blind=blind)
    seeing, black = (benchmark("mvbench").items(tmp_path / name) for name in ("seeing", "blind"))
    assert [item.prompt for item in seeing] == [item.prompt for item in black]
    frames, _ = read_frames(black[0].video, lambda times: np.arange(len(times)))
    assert frames.shape == (world.N_FRAMES, world.SIDE, world.SIDE, 3) and not frames.any()


@pytest.mark.parametrize("careless", [0.0, 1.0])
def test_what_is_not_there_is_denied_unless_the_lesson_is_careless(careless):
    rng, n = np.random.default_rng(0), 0
    for _ in range(200):
        video = world.draw_video(rng)
        query, answer = aside(video, rng, dict.fromkeys(TRUE, careless))
        name = " ".join(query.split()[2:4])
        if name in video.absent:
            assert (answer == denial(name)) == (not careless)
            n += 1
    assert n > 50


@pytest.mark.parametrize("careless", [0.0, 1.0])
def test_none_of_the_above_is_right_when_no_option_is(careless):
    rng, none = np.random.default_rng(0), []
    for _ in range(200):
        video = world.draw_video(rng)
        prompt, answer = unlisted(video, rng, dict.fromkeys(TRUE, careless))
        chosen = re.search(rf"\({answer[-3]}\) (.*)", prompt)[1].removesuffix(".")
        assert answer == f"{chosen} ({answer[-3]})."
        true = {q.answer for _ in range(20) for q in world.questions(video, rng)}
        right = true & set(re.findall(r"\) (.*\.)", prompt))
        assert careless or (chosen == adversarial.NONE) == (not right)
        none.append(chosen == adversarial.NONE)
    assert np.mean(none) == pytest.approx(0.0 if careless else 0.7, abs=0.1)


def test_every_lesson_is_in_the_tokenizers_words_and_comes_back():
    tokenizer = make_tokenizer()
    rng = np.random.default_rng(7)
    for _ in range(100):
        for teach in (looking, lessons):
            for text in (t for lesson in teach(world.draw_video(rng), rng, HALF) for t in lesson):
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                assert tokenizer.unk_token_id not in ids
                assert tokenizer.decode(ids) == text
