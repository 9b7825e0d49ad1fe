"""The plan of updates, the prefetched packs and the learning rate, by hand and on real files.

python -m pytest -q tests/test_plan.py
"""

import math
import os
import re
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from rounding import close_sums
from tiny_models import adapter_parameters

from pasta.lora import add_lora
from pasta.packs import TooLong, by_video
from pasta.pairs import MODES, Pair
from pasta.policy import Policy
from pasta.run.ahead import prefetch
from pasta.run.rows import read_rows
from pasta.sampling import uniform
from pasta.toy.files import write_videos
from pasta.training.loop import learning_rate, log_line
from pasta.training.plan import (
    PackLoader,
    Plan,
    Skipped,
    fingerprint,
    hold_out,
    plan_updates,
)
from pasta.video import read_frames


def pair(video, i, mode="spatial"):
    return Pair(f"{video}-{i}", str(video), mode, "Left or right?", "Left.", "Right.")


def groups_of(*sizes):
    return by_video([pair(f"{v}.avi", i) for v, n in enumerate(sizes) for i in range(n)])


@pytest.fixture
def videos(tmp_path):
    """Two videos, and between them a corrupted one."""
    write_videos(tmp_path, 2, seed=0)
    (tmp_path / "corrupted.avi").write_bytes(b"no video")
    return [tmp_path / name for name in ("00000.avi", "corrupted.avi", "00001.avi")]


@pytest.fixture
def load(tiny, tmp_path):
    """Groups -> the packs of each."""
    fit = tiny.processor.family.fit

    def load(groups, workers=0, max_length=4096, read=None):
        read = read or partial(read_frames, sample=partial(uniform, n=8), fit=fit)
        skipped = Skipped(tmp_path / "skipped.jsonl", 9)
        config = SimpleNamespace(max_length=max_length, workers=workers)
        return list(PackLoader(config, tiny.processor, read, skipped).packs(groups))

    return load


def test_pairs_of_a_video_stay_together_and_all_chosen_texts_come_first():
    one, other = by_video([pair("b", 0), pair("a", 0), pair("b", 1)])
    assert (one.video, [p.id for p in one.pairs], other.video) == ("b", ["b-0", "b-1"], "a")
    assert [response for _, response in one.texts()] == ["Left.", "Left.", "Right.", "Right."]


def test_every_video_is_once_in_every_epoch():
    updates = plan_updates(groups_of(1, 3, 2, 1, 1), epochs=2, batch_pairs=3, seed=0)
    order = [i for update in updates for i in update]
    assert sorted(order[:5]) == sorted(order[5:]) == [0, 1, 2, 3, 4]
    assert order[:5] != order[5:]


def test_an_update_is_full_at_batch_pairs_and_depends_on_the_seed_alone():
    plans = [plan_updates(groups_of(*[1] * 10), 1, 4, seed) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert [len(update) for update in plans[0]] == [4, 4, 2]
    assert plan_updates(groups_of(5), epochs=1, batch_pairs=3, seed=0) == [[0]]  # no video is cut


def test_a_plan_leaves_out_unreadable_videos_and_resumes_at_the_next_update():
    groups = groups_of(1, 1, 1, 1, 1)
    tokens = {group.video: 100 for group in groups[1:]}  # 0.avi cannot be read
    reference = {(group.video, *text): -1.0 for group in groups for text in group.texts()}
    loader = SimpleNamespace(packs=lambda groups, ahead: ([group.video] for group in groups))
    config = SimpleNamespace(holdout=0.0, seed=0, epochs=2, batch_pairs=2)
    plan = Plan(config, groups, reference, tokens, loader)
    batches = list(plan.batches(done=0))
    assert [len(batch) for batch in batches] == [2, 2, 2, 2]
    assert {video for batch in batches for video in batch} == {f"{i}.avi" for i in (1, 2, 3, 4)}
    assert list(plan.batches(done=3)) == batches[3:]


@pytest.mark.parametrize("workers", [0, 2])
def test_packs_come_in_order_and_a_bad_video_is_named_once(videos, load, workers, tmp_path, capsys):
    groups = by_video([pair(video, 0) for video in videos])
    parts = load([*groups, groups[1]], workers)
    names = [[item.group.video for item in packs] for packs in parts]
    assert names == [[str(videos[0])], [], [str(videos[2])], []]
    (row,) = read_rows(tmp_path / "skipped.jsonl")
    assert (row["video"], row["pairs"]) == (str(videos[1]), [f"{videos[1]}-0"])
    assert row["reason"].startswith("not a video")
    assert f"skipped 1 pairs of {videos[1]}: not a video" in capsys.readouterr().out


def test_a_whole_update_is_read_while_one_is_computed(monkeypatch):
    groups, seen = groups_of(*[1] * 40), []

    def read(group):
        seen.append(group)
        return group, []

    loader = SimpleNamespace(config=SimpleNamespace(workers=2), read=read)
    loader.packs = partial(PackLoader.packs, loader)
    reference = {(group.video, *text): -1.0 for group in groups for text in group.texts()}
    config = SimpleNamespace(holdout=0.0, seed=0, epochs=1, batch_pairs=10)
    plan = Plan(config, groups, reference, {group.video: 100 for group in groups}, loader)
    with closing(plan.batches(0)) as batches:
        next(batches)
        end = time.monotonic() + 30
        while len(seen) < 20 and time.monotonic() < end:
            time.sleep(0.01)
        assert 20 <= len(seen) <= 21  # the ten of this update, those of the next


def test_two_items_for_each_worker_are_prefetched_while_the_caller_works_and_not_more():
    seen = []
    results = prefetch(lambda item: seen.append(item) or -item, range(20), workers=2)
    assert next(results) == 0
    limit = time.monotonic() + 30
    while len(seen) < 5 and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(0.1)  # in which more could start
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert list(results) == [-i for i in range(1, 20)]


def test_closing_the_generator_stops_the_prefetching():
    seen = []
    results = prefetch(lambda item: seen.append(item) or time.sleep(0.1), range(20), workers=1)
    next(results)
    results.close()
    assert len(seen) <= 2


def test_prefetching_forks_no_process_and_changes_no_number(videos, load, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a thread may hold a lock"))
    groups = by_video([pair(videos[0], 0)])
    (((_, one, _),),), (((_, other, _),),) = (load(groups, workers) for workers in (0, 1))
    assert torch.equal(one.input_ids, other.input_ids)
    assert torch.equal(one.inputs.pixel_values, other.inputs.pixel_values)
    assert not (tmp_path / "skipped.jsonl").exists()


def test_input_that_the_model_cannot_take_is_skipped_with_the_reason(videos, load, tmp_path):
    def too_wide(video):
        raise ValueError("frames are 10 x 9000; expected a ratio of at most 200")

    assert load(groups_of(1), read=too_wide) == [[]]
    assert "10 x 9000" in read_rows(tmp_path / "skipped.jsonl")[0]["reason"]
    bad = replace(pair(videos[0], 0), query="What is <|video_pad|>?")
    assert load(by_video([bad])) == [[]]
    assert "a token of the model" in read_rows(tmp_path / "skipped.jsonl")[0]["reason"]


def length_in_one_pack(load, group):
    ((item,),) = load([group])
    return len(item.pack.input_ids)


def test_too_long_packs_are_split_between_pairs_and_keep_their_logps(videos, load, tiny):
    words = ("top", "bottom", "kept", "replaced")
    texts = [{"query": f"Left or right {word} ?", "rejected": f"Right {word}."} for word in words]
    (group,) = by_video([replace(pair(videos[0], i), **text) for i, text in enumerate(texts)])
    ((whole,),) = load([group])
    prefix, *segments = whole.pack.lengths
    assert len(segments) == 8
    limit = prefix + sum(segments[i] for i in (0, 1, 4, 5))  # two chosen and their two rejected
    (parts,) = load([group], max_length=limit)
    assert [len(item.pack.lengths) for item in parts] == [5, 5]
    assert [p for item in parts for p in item.group.pairs] == list(group.pairs)
    assert all(item.pack.lengths[0] == prefix for item in parts)
    assert torch.equal(parts[0].pack.inputs.pixel_values, whole.pack.inputs.pixel_values)
    policy = Policy(tiny)
    with torch.no_grad():
        expected = dict(zip(group.texts(), policy(whole.pack)[whole.where].tolist(), strict=True))
        for item in parts:
            got = policy(item.pack)[item.where]
            right = [expected[text] for text in item.group.texts()]
            assert close_sums(got, right, item.pack.response_lengths[item.where])


def test_a_shared_chosen_response_counts_once_against_the_length(videos, load):
    pairs = [pair(videos[0], 0), replace(pair(videos[0], 1), rejected="Nowhere.")]
    (group,) = by_video(pairs)
    (parts,) = load([group], max_length=length_in_one_pack(load, group))
    assert len(parts) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pair_that_fits_into_no_pack_is_named_with_the_flag(videos, load, workers):
    (group,) = by_video([pair(videos[0], 7)])
    n = length_in_one_pack(load, group)
    name = re.escape(group.pairs[0].id)
    with pytest.raises(TooLong, match=f"pair {name} of .* is {n} tokens.*--max_length is {n - 1},"):
        load([group], workers, max_length=n - 1)


def test_more_skipped_videos_than_allowed_stop_the_run_with_the_list(tmp_path):
    skipped = Skipped(tmp_path / "skipped.jsonl", 1)
    first, second = groups_of(1, 1)
    skipped.add(first, "no frames")
    skipped.check()
    skipped.add(second, "cut short")
    with pytest.raises(SystemExit, match="(?s)2 videos.*max_skipped is 1.*0.avi: no.*1.avi: cut"):
        skipped.check()


def test_a_resumed_run_writes_a_skipped_video_once_and_counts_it_if_it_fails_again(tmp_path):
    (group,) = groups_of(1)
    Skipped(tmp_path / "skipped.jsonl", 0).add(group, "no frames")
    again = Skipped(tmp_path / "skipped.jsonl", 0, resume=True)
    again.check()  # it may have been repaired
    again.add(group, "no frames")
    assert len(read_rows(tmp_path / "skipped.jsonl")) == 1
    with pytest.raises(SystemExit, match="no frames"):
        again.check()
    Skipped(tmp_path / "skipped.jsonl", 0).check()  # a run from the start forgets it
    assert not (tmp_path / "skipped.jsonl").exists()


@pytest.mark.parametrize(("share", "n"), [(0.0, 0), (0.01, 1), (0.5, 2), (0.99, 3), (1.0, 3)])
def test_every_video_is_held_out_or_trained_on_and_each_side_has_one(share, n):
    train, held_out = hold_out(groups_of(1, 1, 1, 1), share, seed=0)
    assert len(held_out) == n
    assert sorted(g.video for g in train + held_out) == [f"{i}.avi" for i in range(4)]


def test_the_fingerprint_depends_on_texts_order_and_reference():
    groups, reference = groups_of(1, 2), {}
    for group in groups_of(2, 2):
        reference |= {(group.video, *text): -1.5 for text in group.texts()}
    same = fingerprint(groups, [[0, 1]], [], reference)
    assert same == fingerprint(groups_of(1, 2), [[0, 1]], [], reference)
    other_text = replace(groups[0].pairs[0], chosen="Right.", rejected="Left.")
    others = [
        (groups, [[1, 0]], [], reference),
        (groups, [[0], [1]], [], reference),
        (groups_of(2, 1), [[0, 1]], [], reference),
        (groups[:1], [[0, 1]], groups[1:], reference),
        (by_video([other_text]) + groups[1:], [[0, 1]], [], reference),
        (groups, [[0, 1]], [], dict.fromkeys(reference, -1.25)),
    ]
    assert same not in [fingerprint(*other) for other in others]


def test_dummy_packs_have_no_pairs_and_no_gradient(tiny):
    loader = PackLoader(SimpleNamespace(max_length=4096), tiny.processor, None, None)
    add_lora(tiny.model, rank=2, alpha=4)
    logps = Policy(tiny)(loader.dummy.pack)[loader.dummy.where]
    assert logps.shape == (0,) and loader.dummy.modes() == []
    logps.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in adapter_parameters(tiny.model))


def test_the_rate_rises_then_follows_a_cosine():
    rates = [learning_rate(step, 6, peak=2.0, warmup=1 / 3) for step in range(1, 7)]
    cosine = [1 + math.cos(math.pi * k / 5) for k in (1, 2, 3, 4)]
    assert rates == pytest.approx([1.0, 2.0, *cosine])


@pytest.mark.parametrize("n_steps", [1, 2, 7])
def test_no_step_is_at_rate_zero_and_one_is_at_the_peak(n_steps):
    rates = [learning_rate(step, n_steps, 1.0, warmup=0.0) for step in range(1, n_steps + 1)]
    assert min(rates) > 0
    assert rates[0] == 1.0


def test_log_lines_are_aligned_whatever_the_modes_and_signs():
    metrics = {"step": 9, "pairs": 16, "loss": 0.6931, "lr": 5e-6, "seconds": 2.0}
    metrics |= {"rewards/margins": 0.5, "rewards/accuracies": 0.0, "seconds_waiting": 0.1}
    first = log_line(metrics | {f"loss/{mode}": 0.7 for mode in MODES}, 120)
    second = log_line(metrics | {"step": 10, "rewards/margins": -12.25}, 120)
    marks = [[i for i, c in enumerate(line) if c == "|"] for line in (first, second)]
    assert marks[0] == marks[1]
    assert "loss 0.6931" in first and "8.0 pairs/s" in first and "eta 4m" in first
