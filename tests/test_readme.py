"""README's first result: its own command, run end to end, prints what the README shows.

    python -m pytest tests/test_readme.py -m slow
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHOWN = re.search(r"<!-- toy result.*?```\n(.*?)```", README, re.S)[1]


def commands():
    """The three scripts of the README's first command."""
    line = next(line for line in README.splitlines() if line.startswith("python3 -m venv"))
    return [part.strip() for part in line.split("&&") if ".py" in part]


@pytest.fixture(scope="module")
def world_run(tmp_path_factory):
    """A folder in which the README's commands were run, and what the last one printed."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("pasta", "make_pairs.py", "train_dpo.py", "evaluate.py"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands():
        done = subprocess.run(
            command, shell=True, cwd=folder, env=os.environ | {"PATH": path},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr[-3000:]}"
    return folder, done.stdout


@pytest.mark.slow
def test_first_loss_is_ln_2(world_run):
    rows = (world_run[0] / "out/dpo/metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["loss"] == pytest.approx(0.693147, abs=1e-4)


@pytest.mark.slow
def test_the_table_has_the_rows_that_readme_shows(world_run):
    def words(text):
        return [re.findall(r"[a-z_+]+", line) for line in text.strip().splitlines()]

    assert words(SHOWN)[-3:] == words(world_run[1])[-len(words(SHOWN)) :][-3:]


@pytest.mark.slow
def test_a_second_run_computes_no_reference(world_run):
    done = subprocess.run(
        [sys.executable, "train_dpo.py", "--out", "out/again", "--lr", "1e-5"],
        cwd=world_run[0], capture_output=True, text=True,
    )  # fmt: skip
    assert "reference: 0 of" in done.stdout, done.stdout + done.stderr[-2000:]
