"""Short campaigns. The results of the long ones are in docs/guarantees.md.

python -m pytest -q tests/test_campaigns.py
"""

import ast
import inspect
import re
import subprocess
import sys
from itertools import chain

import pytest
from campaigns import decode, kill, load, memory
from campaigns.spoil import KINDS
from campaigns.world import SCRIPTS
from conftest import ROOT, linux

from pasta.video import read_frames
from pasta.video.worker import MEMORY

GUARANTEES = (ROOT / "docs/guarantees.md").read_text()


def test_every_guarantee_names_tests_that_exist():
    guarantees = GUARANTEES.split("\n* ")[1:]
    for guarantee in guarantees:
        named = re.findall(r"`(tests/[\w/]+\.py)`", guarantee)
        assert named and all((ROOT / name).exists() for name in named), guarantee


def test_the_numbers_of_the_guarantees_are_those_of_the_code():
    timeout = inspect.signature(read_frames).parameters["timeout"].default
    assert f"within `timeout` seconds ({timeout:g})" in GUARANTEES
    assert f"{MEMORY / 2**30:g} GiB of memory" in GUARANTEES
    assert f"{len(decode.CLIPS) + 1} good clips" in GUARANTEES
    assert f"damaged in {len(KINDS)} ways" in GUARANTEES
    rows = [line.split() for line in GUARANTEES.splitlines() if re.match(r"\w+( +\d+){5}$", line)]
    *kinds, everything = [(name, *map(int, counts)) for name, *counts in rows]
    assert {name for name, *_ in kinds} == {*KINDS, "none"}
    assert everything[1:] == tuple(map(sum, zip(*(counts for _, *counts in kinds), strict=True)))
    assert sum(everything[1:]) == 2000 + len(decode.CLIPS) + 1


def test_every_script_was_stopped_a_hundred_times_and_no_result_was_wrong():
    rows = re.findall(r"^(\w+\.py) ((?: *\d+){6})$", GUARANTEES, re.M)
    assert tuple(script for script, _ in rows) == SCRIPTS
    for _, counts in rows:
        *stops, wrong = map(int, counts.split())
        assert len(stops) == len(kill.FAULTS) and sum(stops) >= 100 and not wrong


def test_the_number_of_damaged_files_is_that_of_the_tests():
    times, names = re.search(r"^PASTA_FUZZ=(\d+) .* -q (.*)$", GUARANTEES, re.M).groups()
    n_examples = {}  # test -> of one of its parameters
    bodies = [ast.parse((ROOT / name).read_text()).body for name in names.split()]
    for node in chain(*bodies):
        if n := re.search(r"(?:@examples|fuzz)\((\d+)", ast.unparse(node)):
            n_examples[node.name] = int(n[1])
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *names.split()]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    tests = [t for t in re.findall(r"^\S+\.py::(\w+)", listed, re.M) if t in n_examples]
    total = int(times) * sum(n_examples[test] for test in tests)
    assert f"{len(tests)} valid files of all kinds" in GUARANTEES
    assert f"{times} times as often as the tests do: at most {total:,} damaged" in GUARANTEES


def test_the_table_of_many_pairs_shows_proportion_and_steady_memory():
    table = GUARANTEES.rpartition("begins")[2]
    rows = [[float(x) for x in re.findall(r"-?[\d.]+", line)] for line in table.splitlines()[1:4]]
    assert [row[0] for row in rows] == [1000, 10_000, 100_000]
    for column in (1, 5):  # a quadratic step would make the slope 11 times as steep
        few, some, many = (row[column] for row in rows)
        assert (many - some) / 90_000 < 2 * (some - few) / 9000
    assert rows[-1][1] < 10  # seconds until 100,000 pairs start
    assert max(row[2] for row in rows) < 1.2 * min(row[2] for row in rows)
    assert all(row[4] < 5 for row in rows)  # percent


def test_damaged_videos_are_decoded_as_ffmpeg_does_or_refused(tmp_path):
    fates, wrong = decode.campaign(tmp_path, n=8 * len(KINDS), seed=1)
    assert not wrong
    n_clips = sum(sum(n.values()) for n in fates.values())
    assert n_clips == 8 * len(KINDS) + len(decode.CLIPS) + 1
    refused = len(decode.REFUSED)  # good clips in these containers; all others are read
    assert fates["none"] == {"read": len(decode.CLIPS) + 1 - refused, "refused": refused}
    assert set(fates["page"]) == set(fates["empty"]) == {"refused"}
    assert sum(n["read"] for n in fates.values()) > len(decode.CLIPS) + 2 * len(KINDS)


@pytest.mark.parametrize("name, how", [("h264.mp4", "seeked"), ("mpeg4 B-frames.mp4", "in order")])
def test_frames_of_a_long_file_are_ffmpegs(tmp_path, name, how):
    row, good = decode.long_row(tmp_path, name, 80)
    assert good and how in row


def test_the_table_of_long_files_has_every_kind_and_no_wrong_frame():
    table = GUARANTEES.split("an hour   wrong\n")[1].split("```")[0]
    rows = [re.split(" {2,}", line) for line in table.splitlines()]
    assert [name for name, *_ in rows] == list(decode.LONG)
    assert all(how == "refused" or wrong == "0" for _, how, *_, wrong in rows)


def memory_in_table():
    """{clip: MiB of its decoder}."""
    table = GUARANTEES.split("decoder    frames\n")[1].split("```")[0]
    return {line[:16].strip(): int(line[36:].split()[0]) for line in table.splitlines()}


def test_the_table_of_memory_has_every_clip_and_none_is_near_the_limit():
    assert list(memory_in_table()) == list(memory.CLIPS)
    assert max(memory_in_table().values()) < MEMORY / 2**20 / 2


@linux
def test_an_8k_video_takes_the_memory_of_the_table(tmp_path):
    width, height, fps, _ = memory.CLIPS["8K"]
    memory.make(tmp_path / "8k.mp4", width, height, fps, 1)
    _, held, n_bytes = memory.measure(tmp_path / "8k.mp4")
    assert n_bytes <= 24 * memory.MAX_PIXELS * 3
    # Decoded frames wait in decord, more of them if other programs keep its reader from a core.
    waiting = 16 * 1.5 * width * height / 2**20
    assert held / 2**20 < 1.2 * memory_in_table()["8K"] + waiting


@linux
@pytest.mark.slow
def test_stopped_scripts_resume_to_the_results_of_uninterrupted_runs(tmp_path):
    counts, wrong = kill.campaign(tmp_path, n=4, seed=1, threads=1)
    assert not wrong
    assert all(sum(counts[script].values()) >= 4 for script in SCRIPTS)


@pytest.mark.slow
def test_many_pairs_slow_down_no_update_and_memory_does_not_grow(tmp_path):
    few, many = load.campaign(tmp_path, [1000, 20_000])
    for _, _, _, after, before, _ in (few, many):
        assert after < 1.05 * before
    assert many[2] < 2 * few[2]  # seconds of the updates
    for column in (1, 5):  # seconds to start and to select: mostly of Python's start
        assert many[column] < 3 * few[column]
