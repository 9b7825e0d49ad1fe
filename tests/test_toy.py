"""The toy world: its ground truth, its files, its benchmarks.

Oracles: pixels looked up by hand, decord's own reading of the files, counts.
"""

import json
import os
import re
import sys
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT
from golden.make_toy_tokenizer import make_tokenizer
from safetensors.numpy import load_file
from warm import Warm

from pasta import toy
from pasta.benchmarks import adversarial, benchmark
from pasta.run.rows import read_rows
from pasta.toy import captions, files, world
from pasta.toy.captions import NO_NOISE
from pasta.toy.pretrain import FOLDERS, make_folder
from pasta.toy.world import MODES
from pasta.video import read_frames

HALF = dict.fromkeys(NO_NOISE, 0.5)
VIDEOS = [world.draw_video(np.random.default_rng(i)) for i in range(40)]


def colour(name):
    return world.COLOURS[name.split()[0]]


def test_a_thing_is_where_and_when_its_truth_says():
    for video in VIDEOS:
        frames, marker = world.render(video), video.marker
        for actor in video.actors:
            seen = (frames[:, actor.y, actor.x] == colour(actor.name)).all(-1).tolist()
            assert seen == [actor.start <= t < actor.end for t in range(world.N_FRAMES)]
        before, after = colour(marker.name), colour(video.successor)
        seen = [tuple(pixel) for pixel in frames[:, marker.y, marker.x].tolist()]
        assert seen[marker.start : video.cut] == [before] * (video.cut - marker.start)
        assert seen[video.cut : marker.end] == [after] * (marker.end - video.cut)
        assert not {before, after} & {*seen[: marker.start], *seen[marker.end :]}
        assert (before == after) == video.kept
        first, second = frames[video.cut - 1 : video.cut + 1, 0, 0]
        assert (frames[: video.cut, 0, 0] == first).all() and (first != second).any()
        assert (frames[video.cut :, 0, 0] == second).all()


def is_true(option, thing, video):
    """Whether an option is true of a thing; None stands for the successor of the marker."""
    if option in ("kept", "both scenes"):
        return video.kept
    if option in ("replaced", "one scene"):
        return not video.kept
    return {
        "left": thing.x < 28, "right": thing.x >= 28,
        "above": thing.y < 28, "below": thing.y >= 28,
        "first": thing.end <= video.actors[1].start, "last": thing.start >= video.actors[0].end,
        "before": thing.end <= video.cut, "after": thing.start >= video.cut,
    }[option]  # fmt: skip


def test_answers_follow_the_truth():
    for video in VIDEOS:
        things = {thing.name: thing for thing in video.things}
        for question in world.questions(video, np.random.default_rng(0)):
            assert is_true(question.option, things.get(question.name), video)
            assert question.option in question.answer and question.option not in question.wrong


def test_what_the_adversaries_corrupt_reverses_the_truth():
    for video in VIDEOS:
        frames = world.render(video)
        rotated, backwards = frames[:, ::-1, ::-1], frames[::-1]
        seen = []
        for actor in video.actors:
            rows, columns = np.where((rotated[actor.start] == colour(actor.name)).all(-1))
            assert (columns.mean() < 28) == (actor.x >= 28)
            assert (rows.mean() < 28) == (actor.y >= 28)
            seen.append(np.where((backwards == colour(actor.name)).all(-1).any((1, 2)))[0])
        assert seen[1].max() < seen[0].min()


def test_both_answers_of_a_question_are_equally_common():
    rng, share = np.random.default_rng(0), {kind: [] for kind in world.KINDS}
    for _ in range(600):
        for question in world.questions(world.draw_video(rng), rng):
            share[question.kind].append(question.majority)
    for majority in share.values():
        assert np.mean(majority) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("noise", [0.0, 0.4, 1.0])
def test_noisy_labels_are_the_majority_answer_where_the_other_is_true(noise):
    rng, noisy = np.random.default_rng(0), []
    for _ in range(800):
        video = world.draw_video(rng)
        things = {thing.name: thing for thing in video.things}
        for query, answer in captions.qa_samples(video, rng, dict.fromkeys(NO_NOISE, noise)):
            name = query.removeprefix("Is the ").removesuffix(" left or right?")
            asked = query.startswith("Is") and name in things
            if asked and things[name].x >= world.SIDE // 2:  # the truth is "right"
                noisy.append(answer == f"The {name} is left.")
    assert len(noisy) > 100
    assert np.mean(noisy) == pytest.approx(noise, abs=0.08)


def test_files_hold_exactly_the_drawn_pixels(tmp_path):
    for width in (world.SIDE, 35):  # an odd width needs padded rows
        frames = np.random.default_rng(0).integers(0, 256, (6, 40, width, 3), np.uint8)
        files.write_avi(tmp_path / "v.avi", frames)
        read, times = read_frames(tmp_path / "v.avi", lambda ts: np.arange(len(ts)))
        assert (read == frames).all()
        assert times == pytest.approx(np.arange(6) / world.FPS)


def test_the_benchmark_is_balanced_and_reads_as_mvbench_also_with_black_frames(tmp_path):
    for name, blind in (("seeing", False), ("blind", True)):
        (tmp_path / name).mkdir()
        files.write_benchmark(tmp_path / name, 8, seed=2, blind=blind)
    seeing, black = (benchmark("mvbench").items(tmp_path / name) for name in ("seeing", "blind"))
    assert len(seeing) == 24 and all(item.video.is_file() for item in seeing)
    assert [item.prompt for item in seeing] == [item.prompt for item in black]
    frames, _ = read_frames(black[0].video, lambda times: np.arange(len(times)))
    assert frames.shape == (world.N_FRAMES, world.SIDE, world.SIDE, 3) and not frames.any()
    majority = [world.ask(kind, "x", True).option for kind in world.KINDS]
    for mode in MODES:
        rows = json.loads((tmp_path / "seeing/json" / f"{mode}.json").read_text())
        assert sum(row["answer"] in majority for row in rows) == 4
        assert sum(row["answer"] == row["candidates"][0] for row in rows) == 4
        assert max(Counter(row["video"] for row in rows).values()) <= 3


def test_queries_are_about_what_is_there_and_have_no_answer(tmp_path):
    files.write_queries(tmp_path, 30, seed=1)
    rows = read_rows(tmp_path / "queries.jsonl")
    assert all(row.keys() == {"video", "mode", "query"} for row in rows)
    assert len({(row["video"], row["mode"]) for row in rows}) == len(rows) == 30 * len(MODES)
    for row in rows:
        video = world.draw_video(np.random.default_rng([1, int(row["video"][:5])]))
        asked = [world.ask(kind, name, True) for kind in world.KINDS for name in video.names]
        assert row["query"] in [q.query for q in asked if q.mode == row["mode"]]


@pytest.mark.parametrize(
    ("first", "made", "statuses"),
    [
        ("time.sleep(2)", 1, [0, 0, 0]),
        ("time.sleep(1); os.kill(os.getpid(), 9)", 2, [-9, 0, 0]),
        ("time.sleep(1); 1 / 0", 2, [0, 0, 1]),
    ],
)
def test_processes_that_need_one_folder_make_it_once(tmp_path, first, made, statuses):
    code = """if True:
        import os, time
        from pathlib import Path
        from pasta import toy
        def write(part):
            print("made", flush=True)
            if not (toy.ROOT / "begun").exists():
                (toy.ROOT / "begun").touch()
                FIRST
        toy.ROOT = Path(FOLDER)
        assert toy.made("folder", write).is_dir()"""
    code = code.replace("FOLDER", repr(str(tmp_path))).replace("FIRST", first)
    command = [sys.executable, "-c", code]
    three = [Warm(command, ROOT, dict(os.environ)) for _ in range(3)]
    printed = [process.communicate()[0].partition("Traceback")[0] for process in three]
    assert sorted(printed) == [""] * (3 - made) + ["made\n"] * made
    assert sorted(process.returncode for process in three) == statuses


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_absent_things_are_denied_unless_the_label_is_noisy(noise):
    rng, denied = np.random.default_rng(0), []
    for video in VIDEOS * 5:
        query, answer = captions.general_or_absent(video, rng, dict.fromkeys(NO_NOISE, noise))
        name = " ".join(query.split()[2:4])
        if name in video.absent:
            denied.append(answer == captions.denial(name))
    assert len(denied) > 50 and set(denied) == {not noise}


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_none_of_the_above_is_right_when_no_option_is(noise):
    rng, none = np.random.default_rng(0), []
    for video in VIDEOS * 5:
        prompt, answer = captions.none_of_the_above(video, rng, dict.fromkeys(NO_NOISE, noise))
        chosen = re.search(rf"\({answer[-3]}\) (.*)", prompt)[1].removesuffix(".")
        assert answer == f"{chosen} ({answer[-3]})."
        true = {q.answer for _ in range(20) for q in world.questions(video, rng)}
        right = true & set(re.findall(r"\) (.*\.)", prompt))
        assert noise or (chosen == adversarial.NONE) == (not right)
        none.append(chosen == adversarial.NONE)
    assert np.mean(none) == pytest.approx(0.0 if noise else 0.7, abs=0.1)


def test_the_tokenizer_knows_and_restores_every_sample():
    tokenizer, rng = make_tokenizer("qwen"), np.random.default_rng(7)
    for _ in range(100):
        for samples in (captions.caption_samples, captions.qa_samples):
            for text in (t for pair in samples(world.draw_video(rng), rng, HALF) for t in pair):
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                assert tokenizer.unk_token_id not in ids
                assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("kind", FOLDERS)
def test_the_stored_tokenizers_are_those_of_the_worlds_texts(kind, tmp_path):
    make_tokenizer(kind).save_pretrained(tmp_path)
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (FOLDERS[kind] / file.name).read_bytes(), file.name


def test_the_shipped_model_folder_is_the_one_that_the_code_makes(tmp_path):
    make_folder(tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {file.name for file in toy.SHIPPED.iterdir()}
    for name in names - {"model.safetensors", "config.json"}:  # loading adds the config's dtype
        assert (tmp_path / name).read_bytes() == (toy.SHIPPED / name).read_bytes()
    shapes = [
        {key: tensor.shape for key, tensor in load_file(folder / "model.safetensors").items()}
        for folder in (tmp_path, toy.SHIPPED)
    ]
    assert shapes[0] == shapes[1]


def test_the_chat_template_writes_the_marks_of_images_for_servers():
    parts = [{"type": "image"}, {"type": "text", "text": " Is it red?"}]
    turn = {"role": "user", "content": parts}
    text = make_tokenizer("qwen").apply_chat_template([turn], tokenize=False)
    assert text == "<|im_start|><|vision_start|><|image_pad|><|vision_end|> Is it red?<|im_end|>"
