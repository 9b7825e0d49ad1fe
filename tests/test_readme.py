"""README's first result: its own command, run end to end, prints what README shows.

Another processor rounds its way to another adapter: the figures are compared within what such
adapters differ by, and the gain must be there in each.
    python -m pytest tests/test_readme.py
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from make_pairs import PairsConfig

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAIRS = (ROOT / "docs/pairs.md").read_text()
TRAINING = (ROOT / "docs/training.md").read_text()
SHOWN = re.search(r"<!-- what the first command prints.*?```\n(.*?)```", README, re.S)[1]
AUDIT = re.search(r"<!-- the audit of the first command.*?```\n(.*?)```", PAIRS, re.S)[1]


def first_command():
    """The README's first command; outside of CI, which may load packages, its scripts alone."""
    block = re.search(r"```\n(python3 -m venv.*?)```", README, re.S)[1]
    line = block.replace("\\\n", " ").strip()
    return line if os.environ.get("CI") else line[line.index("torchrun") :]


def numbers(table):
    """First word of each line -> its numbers."""
    rows = (line.split(maxsplit=1) for line in table.strip().splitlines() if " " in line)
    return {name: [float(x) for x in re.findall(r"[-+]?\d+\.\d+", rest)] for name, rest in rows}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """A folder in which the README's scripts were run, the table at the end, and all of stdout."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "pasta", folder / "pasta")
    for name in ("make_pairs.py", "train_dpo.py", "evaluate.py", "requirements.txt"):
        shutil.copy(ROOT / name, folder / name)
    here = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        first_command(), shell=True, cwd=folder, env=here, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    return folder, done.stdout[done.stdout.rindex("percent [95 %") :], done.stdout


def test_the_row_without_flags_is_the_first_result():
    row = next(line for line in PAIRS.splitlines() if line.startswith("| no flag: "))
    mean, *gain = (float(x) for x in re.findall(r"[-+]?\d+\.\d+", row.split("|", 3)[3]))
    assert (mean, *gain) == (numbers(SHOWN)["mean"][3], *numbers(SHOWN)["mean"][-3:])
    toy = {field.name: field.metadata["toy"] for field in fields(PairsConfig)}
    assert f"`--select {toy['select']} --keep {toy['keep']}`" in row


def modes_of(audit):
    """mode -> (kept, sides with their counts) of an audit's table."""
    found = {}
    for line in audit.splitlines():
        if match := re.match(r"(spatial|temporal|cross_frame) +(\d+) .*\d  (.*); ", line):
            found[match[1]] = int(match[2]), dict(re.findall(r"(\w+) (\d+)", match[3]))
    return found


def test_the_number_of_pairs_without_flags_is_that_of_the_audit():
    row = next(line for line in PAIRS.splitlines() if line.startswith("| no flag: "))
    kept = sum(n for n, _ in modes_of(AUDIT).values())
    assert row.split("|")[2].strip() == f"{kept:,}"


@pytest.mark.slow
def test_the_page_on_pairs_shows_the_audit_that_the_first_command_prints(first_run):
    shown, printed = modes_of(AUDIT), modes_of(first_run[2])
    assert list(shown) == list(printed) == ["spatial", "temporal", "cross_frame"]
    for mode, (kept, sides) in printed.items():
        assert 1 / 2 < kept / shown[mode][0] < 2  # what balance drops depends on the model
        assert sides.keys() == shown[mode][1].keys()
        counts = sorted(sides.values())
        assert counts[::2] == counts[1::2]  # each side is as common as its opposite
    heads = [text[text.index("mode  ") :].splitlines()[0] for text in (AUDIT, first_run[2])]
    assert heads[0] == heads[1]


@pytest.mark.slow
def test_the_adapter_beats_the_base_by_more_than_the_paired_interval(first_run):
    mean, low, high = numbers(first_run[1])["mean"][-3:]
    assert 0 < low < mean < high
    assert json.loads((first_run[0] / "out/eval/toy/mvbench/scores.json").read_text())


@pytest.mark.slow
def test_readme_shows_what_the_first_command_prints(first_run):
    def words(table):
        return [re.findall(r"[A-Za-z_]+", line) for line in table.strip().splitlines()]

    printed = first_run[1]
    assert words(SHOWN) == words(printed)[: len(words(SHOWN))]
    shown, found = numbers(SHOWN), numbers(printed)
    assert shown["mean"][0] == pytest.approx(found["mean"][0], abs=10)
    assert shown["mean"][-3] == pytest.approx(found["mean"][-3], abs=8)


@pytest.mark.slow
def test_the_page_on_training_shows_the_last_line(first_run):
    shown, printed = (re.findall(r"^step .*", text, re.M)[-1] for text in (TRAINING, first_run[2]))
    # All but speed; and the number of pairs, hence of steps, depends on the trained model.
    names = [re.findall(r"[a-z_]+", line.split("pairs/s")[0]) for line in (shown, printed)]
    assert names[0] == names[1]


@pytest.mark.slow
def test_the_first_loss_is_ln_2_and_the_last_ones_are_lower(first_run):
    rows = (first_run[0] / "out/dpo/metrics.jsonl").read_text().splitlines()
    losses = [json.loads(row)["loss"] for row in rows]
    assert losses[0] == pytest.approx(0.693147, abs=1e-4)
    assert sum(losses[-10:]) / 10 < losses[0] - 0.3
