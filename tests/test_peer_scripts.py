"""campaigns/making.py and campaigns/peer_eval.py on small videos: what they run, check and print.

python -m pytest -q tests/test_peer_scripts.py
"""

from pathlib import Path
from statistics import median

import pytest
from campaigns import making, peer_eval, peer_files
from conftest import ROOT, linux

from pasta.benchmarks import benchmark
from pasta.candidates import KINDS
from pasta.pairs import MODES
from pasta.run.rows import read_rows

OLD, NEW = (Path("old"), (1, 8)), (Path("new"), (2, 16))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(peer_files, "FRAME", "56x56")


def made(seconds, text="left"):
    """A function like `making.make` for runs that need `seconds` a video and 10 to start."""

    def make(code, batches, world, n, out, flags):
        rows = [{"video": n, "response": text if code == NEW[0] else "left"}]
        return (10 + n * seconds[code], 10**9), rows

    return make


@linux
def test_pair_making_answers_every_query_once_well_and_misled(small, tmp_path):
    making.write_world(tmp_path, (1, 2))
    flags = ["--max_new_tokens", "2"]
    (seconds, memory), rows = making.make(making.ROOT, (1, 16), tmp_path, 2, tmp_path / "a", flags)
    assert seconds > 1 and 10**8 < memory < 10**10
    assert [row["mode"] for row in rows] == sorted(MODES) * 2
    assert {len(row["adversarial"]) for row in rows} == {3}
    assert {x["kind"] for row in rows for x in row["adversarial"]} == {*KINDS["both"]}


def test_the_speed_is_that_of_videos_without_the_start(monkeypatch):
    monkeypatch.setattr(making, "make", made({OLD[0]: 12.0, NEW[0]: 8.0}))
    found = making.compare([OLD, NEW], Path(), 2, (4, 8))
    assert found == {OLD: [12.0, 12.0], NEW: [8.0, 8.0]}
    assert [*making.table(found)] == [
        "| before | 1 | 8 | 12.0 | 12.0, 12.0 | 300 | 1.00 |",
        "| before | 2 | 16 | 8.0 | 8.0, 8.0 | 450 | 1.50 |",
    ]


def test_other_rows_are_an_error(monkeypatch):
    monkeypatch.setattr(making, "make", made({OLD[0]: 12.0, NEW[0]: 8.0}, "right"))
    with pytest.raises(RuntimeError, match="other rows"):
        making.compare([OLD, NEW], Path(), 1)


@pytest.fixture
def world(small, tmp_path):
    """A folder with a model and, in data, two videos with three questions each."""
    peer_files.make_model(tmp_path / "model")
    peer_eval.write_benchmark(tmp_path / "data", 2, 3)
    return tmp_path


def test_the_questions_are_mvbench_s(world):
    items = benchmark("mvbench").items(world / "data" / peer_eval.HOME)
    assert [item.name[-5:] for item in items] == ["0.mp4"] * 3 + ["1.mp4"] * 3
    assert len({(item.video, item.prompt) for item in items}) == 6
    assert all(item.video.is_file() for item in items)


@linux
def test_evaluate_answers_all_of_them(world):
    seconds, memory = peer_eval.run_pasta(4, world / "model", world / "data", world / "run")
    rows = read_rows(world / "run/out/mvbench/model/answers.jsonl")
    assert len(rows) == 6 and seconds > 1 and 10**8 < memory < 10**10


def fake_peer(folder, tokens):
    """A program in place of the peer's Python, which prints visual tokens as the peer does."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\necho "  0%| visual tokens {tokens}" >&2\n')
    path.chmod(0o755)
    return path


@linux
@pytest.mark.parametrize("tokens", ["32 32", "32 16", "", "16"])
def test_a_peer_with_other_visual_tokens_is_an_error(world, tokens):
    # 16 frames of 56 x 56 pixels are 8 grids of 2 x 2 tokens
    assert peer_eval.visual_tokens(world / "model", world / "data") == 32
    run = (fake_peer(world, tokens), 1, world / "model", world / "data", world / "run")
    if tokens == "32 32":
        assert peer_eval.run_lmms_eval(*run)[0] < 10
        return
    with pytest.raises(RuntimeError, match="expected 32"):
        peer_eval.run_lmms_eval(*run)


def test_ratios_of_the_evaluation_are_medians_over_rounds():
    found = {("pasta", 4): ([1.0, 2.0, 4.0], 10**9), ("lmms-eval", 1): ([6.0, 8.0, 8.0], 2 * 10**9)}
    *_, line = peer_eval.table(found, 3)
    assert line == "| 3 | lmms-eval | 1 | 8.00 | 6.00, 8.00, 8.00 | 4.0 | 2,000 | 2.0 |"


def rows_of_section(title, n_cells):
    """The cells of a table's rows in a section of docs/speed.md, without heads."""
    page = (ROOT / "docs/speed.md").read_text()
    section = page.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return [row for row in rows if len(row) == n_cells and row[1].strip("-")][1:]


def floats(text):
    return [float(x.replace(",", "")) for x in text.split(", ")]


def test_the_speeds_of_docs_speed_are_those_of_its_rounds():
    rows = rows_of_section("Pair making", 7)
    assert [row[0] for row in rows] == ["before"] + ["now"] * len(making.BATCHES)
    shown = [(int(row[1]), int(row[2])) for row in rows]
    assert shown == [making.OLD, *making.BATCHES]
    base = floats(rows[0][4])
    for *_, seconds, rounds, rate, speed in rows:
        each = floats(rounds)
        assert float(seconds) == pytest.approx(median(each), abs=0.06)
        assert floats(rate) == [pytest.approx(3600 / median(each), rel=0.01)]
        ratio = median(a / b for a, b in zip(base, each, strict=True))
        assert float(speed) == pytest.approx(ratio, abs=0.01)


def test_the_ratios_of_the_evaluation_in_docs_speed_are_those_of_its_rounds():
    rows = rows_of_section("Evaluation", 8)
    assert [int(row[0]) for row in rows[::3]] == [*peer_eval.QUESTIONS]
    for first in (0, 3):
        base = floats(rows[first][4])
        for *_, seconds, rounds, ratio, megabytes, memory in rows[first : first + 3]:
            each = floats(rounds)
            assert float(seconds) == pytest.approx(median(each), abs=0.006)
            expected = median(a / b for a, b in zip(each, base, strict=True))
            assert float(ratio) == pytest.approx(expected, abs=0.06)
            expected = floats(megabytes)[0] / floats(rows[first][6])[0]
            assert float(memory) == pytest.approx(expected, abs=0.06)
