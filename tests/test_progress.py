"""What a user reads while a script works, in a terminal and in a log.

    python -m pytest -q tests/test_progress.py
"""

import sys

import pytest
import tqdm.std

from pasta.models.load import load_vlm
from pasta.run import ranks


@pytest.fixture
def minutes(monkeypatch):
    """A function that lets time pass for tqdm."""
    now = [0.0]
    monkeypatch.setattr(tqdm.std, "time", lambda: now[0])

    def wait(n):
        now[0] += 60 * n

    return wait


def test_a_log_has_one_line_a_minute_with_the_time_left_by_the_mean_rate(minutes, capsys):
    for _ in ranks.progress(range(400), "candidates", unit="videos"):
        minutes(1 / 40)
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert "120/400 [03:00<07:00," in lines[2] and "400/400 [10:00<00:00," in lines[9]
    assert len(lines) <= 11


def test_a_log_names_no_total_and_no_end_that_are_not_known(minutes, capsys):
    for _ in ranks.progress(iter(range(9)), "caption", unit="steps"):
        minutes(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 4 and not any("left" in line or " of " in line for line in lines)


def test_a_log_says_nothing_of_what_takes_less_than_a_minute(minutes, capsys):
    with ranks.progress(name="queries", total=9) as bar:
        bar.update(9)
        minutes(0.9)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_terminal_has_a_bar_of_rank_0_that_ends_at_its_total(monkeypatch, capsys, rank):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(ranks, "rank", lambda: rank)
    with ranks.progress(range(3), "candidates", unit="videos") as bar:
        assert len(list(bar)) == 3
    text = capsys.readouterr().err
    assert ("candidates:   0%" in text and "0/3" in text) if rank == 0 else not text


def test_loading_and_saving_a_model_draws_no_bars(tiny_folder, tmp_path, capfd):
    load_vlm(tiny_folder).model.save_pretrained(tmp_path / "copy")
    assert capfd.readouterr().err == ""
