"""The three scripts, one after the other, as a user calls them, on a random model.

A random model says nothing sensible, so the pairs that train_dpo.py gets are written by hand.
    python -m pytest tests/test_scripts.py
"""

import subprocess
import sys
from pathlib import Path

import pytest

from pasta.pairs import MODES
from pasta.run.rows import read_rows, write_rows
from pasta.toy import files

ROOT = Path(__file__).parent.parent


def run(folder, *command):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
    )
    fine = done.returncode == 0 or "no pairs: " in done.stderr  # the random model makes none
    assert fine, f"{command}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def made(tiny_folder, tmp_path_factory):
    """A folder with six videos, one of them broken, and what make_pairs.py printed about them."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "videos").mkdir()
    files.write_videos(folder / "videos", 5, seed=0)
    (folder / "videos/broken.avi").write_bytes(b"RIFF but no video")
    flags = ["--dtype", "float32", "--max_new_tokens", "8", "--select", "none", "--device", "cpu"]
    command = [ROOT / "make_pairs.py", "--responder", tiny_folder, "--videos", "videos", *flags]
    return folder, run(folder, *command), command


def test_make_pairs_names_the_broken_video_and_ends_with_the_count(made):
    _, said, _ = made
    assert "broken.avi: " in said
    assert said.strip().splitlines()[-1].startswith("6 videos, 1 of them skipped")


def test_every_query_that_asks_something_has_k_adversarial_answers(made):
    rows, queries = (read_rows(made[0] / f"out/pairs/{x}.jsonl") for x in ("candidates", "queries"))
    assert len(queries) == 5 * len(MODES)
    assert [row["query"] for row in rows] == [q["query"] for q in queries if "flaw" not in q] != []
    assert {len(row["adversarial"]) for row in rows} == {3}


def test_a_second_run_asks_nothing_and_changes_nothing(made):
    folder, _, command = made
    names = ("queries.jsonl", "candidates.jsonl", "pairs.jsonl", "dropped.jsonl")
    before = [(folder / "out/pairs" / name).read_bytes() for name in names]
    run(folder, *command)
    assert [(folder / "out/pairs" / name).read_bytes() for name in names] == before


def test_train_then_evaluate(made, tiny_folder):
    folder, _, _ = made
    pairs = [
        {
            "video": f"videos/{i:05d}.avi",
            "mode": mode,
            "query": f"Is the {name} left or right?",
            "chosen": f"The {name} is left.",
            "rejected": f"The {name} is right.",
        }
        for i in range(5)
        for mode, name in zip(MODES, ("red circle", "pink circle", "blue square"), strict=True)
    ]
    write_rows(folder / "pairs.jsonl", pairs)
    flags = ["--model", tiny_folder, "--dtype", "float32", "--device", "cpu"]
    more = ["--pairs", "pairs.jsonl", "--lr", "1e-3", "--batch_pairs", "4", "--epochs", "3"]
    train = [ROOT / "train_dpo.py", *flags, *more]
    said = run(folder, "-m", "torch.distributed.run", "--standalone", *train)
    assert "reference: 30 log-probs computed, 0 found" in said
    rows = read_rows(folder / "out/dpo/metrics.jsonl")
    assert rows[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert "reference: 0 log-probs computed, 30 found" in run(folder, *train, "--out", "out/again")

    (folder / "bench").mkdir()
    files.write_benchmark(folder / "bench", 4, seed=1)
    bench = [ROOT / "evaluate.py", "--bench", "mvbench", "--data", "bench", *flags]
    table = run(folder, *bench, "--adapter", "out/dpo/adapter")
    assert "+dpo" in table and "cross_frame" in table
