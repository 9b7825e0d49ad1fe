"""Plans of updates and packs read ahead, by hand and on real files; the learning rate by hand.

python -m pytest -q tests/test_updates.py
"""

import json
import math
import pickle
from dataclasses import replace
from functools import partial

import pytest
import torch

from pasta.pairs import Pair
from pasta.schedule import learning_rate, log_line
from pasta.toy.files import write_videos
from pasta.updates import PackReader, by_video, plan, read_packs
from pasta.video import read_frames, uniform


def pair(video, i, mode="spatial"):
    return Pair(f"{video}-{i}", str(video), mode, "Left or right?", "Left.", "Right.")


def groups_of(*sizes):
    return by_video([pair(f"{v}.avi", i) for v, n in enumerate(sizes) for i in range(n)])


@pytest.fixture
def videos(tmp_path):
    """Two videos, and between them a file that is none."""
    write_videos(tmp_path, 2, seed=0)
    (tmp_path / "broken.avi").write_bytes(b"no video")
    return [tmp_path / name for name in ("00000.avi", "broken.avi", "00001.avi")]


@pytest.fixture
def reader(tiny):
    """What read_packs needs besides the groups."""
    fit = tiny.processor.family.fit
    read = partial(read_frames, sample=partial(uniform, n=8), fit=fit)
    return {"processor": tiny.processor, "read": read}


def test_pairs_of_a_video_stay_together_in_order_of_appearance():
    pairs = [pair("b", 0), pair("a", 0), pair("b", 1)]
    assert [(g.video, [p.id for p in g.pairs]) for g in by_video(pairs)] == [
        ("b", ["b-0", "b-1"]),
        ("a", ["a-0"]),
    ]


def test_texts_are_all_chosen_then_all_rejected():
    (group,) = by_video([pair("a", 0), pair("a", 1)])
    assert [response for _, response in group.texts()] == ["Left.", "Left.", "Right.", "Right."]


def test_every_video_is_once_in_every_epoch():
    updates = plan(groups_of(1, 3, 2, 1, 1), epochs=2, batch_pairs=3, seed=0)
    order = [i for update in updates for i in update]
    assert sorted(order[:5]) == sorted(order[5:]) == [0, 1, 2, 3, 4]
    assert order[:5] != order[5:]


def test_an_update_is_full_at_batch_pairs_and_only_the_last_is_smaller():
    groups = groups_of(*[1] * 10)
    assert [len(update) for update in plan(groups, 1, 4, seed=0)] == [4, 4, 2]


def test_the_last_video_of_an_update_is_not_cut():
    assert plan(groups_of(5), epochs=1, batch_pairs=3, seed=0) == [[0]]


def test_the_plan_depends_on_the_seed_alone():
    groups = groups_of(*[1] * 10)
    assert plan(groups, 1, 4, seed=1) == plan(groups, 1, 4, seed=1) != plan(groups, 1, 4, seed=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_packs_come_in_order_and_a_bad_video_is_named_once(
    videos, reader, workers, tmp_path, capsys
):
    groups, skipped = by_video([pair(video, 0) for video in videos]), tmp_path / "skipped.jsonl"
    items = list(read_packs(groups, workers=workers, skipped=skipped, **reader))
    assert [group.video for group, *_ in items] == [str(video) for video in videos]
    assert [pack is None for _, pack, _ in items] == [False, True, False]
    (row,) = map(json.loads, skipped.read_text().splitlines())
    assert (row["video"], row["pairs"]) == (str(videos[1]), [f"{videos[1]}-0"])
    assert row["reason"].startswith("not a video")
    assert f"skipped 1 pairs of {videos[1]}: not a video" in capsys.readouterr().out


def test_workers_change_no_number(videos, reader, tmp_path):
    groups, skipped = by_video([pair(videos[0], 0)]), tmp_path / "skipped.jsonl"
    (_, here, _), (_, there, _) = (
        next(iter(read_packs(groups, workers=workers, skipped=skipped, **reader)))
        for workers in (0, 1)
    )
    assert torch.equal(here.input_ids, there.input_ids)
    assert torch.equal(here.inputs.pixel_values, there.inputs.pixel_values)


def test_frames_that_the_model_cannot_take_are_skipped_with_the_reason(reader, tmp_path):
    def too_wide(video):
        raise ValueError("frames are 10 x 9000; expected a ratio of at most 200")

    groups, skipped = groups_of(1), tmp_path / "skipped.jsonl"
    reader |= {"read": too_wide}
    assert [pack for _, pack, _ in read_packs(groups, workers=0, skipped=skipped, **reader)] == [
        None
    ]
    assert "10 x 9000" in json.loads(skipped.read_text())["reason"]


def test_a_query_that_the_prompt_cannot_hold_is_skipped_with_the_reason(videos, reader, tmp_path):
    bad = replace(pair(videos[0], 0), query="What is <|video_pad|>?")
    items = read_packs(by_video([bad]), workers=0, skipped=tmp_path / "s.jsonl", **reader)
    assert [pack for _, pack, _ in items] == [None]
    assert "video tokens" in json.loads((tmp_path / "s.jsonl").read_text())["reason"]


def test_nothing_is_written_when_nothing_is_skipped(videos, reader, tmp_path):
    groups, skipped = by_video([pair(videos[0], 0)]), tmp_path / "skipped.jsonl"
    list(read_packs(groups, workers=0, skipped=skipped, **reader))
    assert not skipped.exists()


def test_the_reader_can_be_sent_to_a_worker_that_is_not_forked(videos, reader):
    groups = by_video([pair(videos[0], 0)])
    copy = pickle.loads(pickle.dumps(PackReader(groups, **reader)))
    assert torch.equal(copy[0][1].input_ids, PackReader(groups, **reader)[0][1].input_ids)


def test_the_rate_rises_then_follows_a_cosine():
    rates = [learning_rate(step, 6, peak=2.0, warmup=1 / 3) for step in range(1, 7)]
    cosine = [1 + math.cos(math.pi * k / 5) for k in (1, 2, 3, 4)]
    assert rates == pytest.approx([1.0, 2.0, *cosine])


@pytest.mark.parametrize("n_steps", [1, 2, 7])
def test_no_step_is_at_rate_zero_and_one_is_at_the_peak(n_steps):
    rates = [learning_rate(step, n_steps, 1.0, warmup=0.0) for step in range(1, n_steps + 1)]
    assert min(rates) > 0
    assert rates[0] == 1.0


def test_lines_are_aligned_whatever_the_modes_and_signs():
    metrics = {"step": 9, "pairs": 16, "loss": 0.6931, "lr": 5e-6, "seconds": 2.0}
    metrics |= {"rewards/margins": 0.5, "rewards/accuracies": 0.0, "seconds_waiting": 0.1}
    modes = {f"loss/{mode}": 0.7 for mode in ("spatial", "temporal", "cross_frame")}
    first = log_line(metrics | modes, 120)
    second = log_line(metrics | {"step": 10, "rewards/margins": -12.25}, 120)
    marks = [[i for i, c in enumerate(line) if c == "|"] for line in (first, second)]
    assert marks[0] == marks[1]
    assert "loss 0.6931" in first and "8.0 pairs/s" in first and "eta 4m" in first
