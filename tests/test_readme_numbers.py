"""Every number of the README, and every estimate in docs/training.md, has another source.

    python -m pytest -q tests/test_readme_numbers.py

test_readme.py, test_study.py and test_speed.py read its first result and its other tables.
"""

import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from make_pairs import PairsConfig
from pasta.models.load import bare_model
from pasta.pairs import MODES
from pasta.tools.costs import SHARE, costs_of, n_trained
from pasta.tools.speed_ways import settings_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TRAINING = (ROOT / "docs/training.md").read_text()
PAPER = """
    base         71.7 68.6 75.8 65.2 27.9 68.7 60.7 62.2
    VideoPASTA   72.3 69.4 77.3 66.3 28.3 69.2 61.5 64.1
"""  # arXiv 2504.14096v1, Table 1
H100 = (989e12, 3.35e12)  # published: bfloat16 operations, and bytes of memory, a second
VIDEOS, PAIRS = 2340, 7020


def tables(page):
    """{first cell: other cells} of all tables of a page."""
    rows = [line.strip("|").split("|") for line in page.splitlines() if line[:1] == "|"]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_papers_numbers_are_the_papers():
    shown = tables(README)
    for line in PAPER.strip().splitlines():
        name, *numbers = re.split(r"\s{2,}|(?<=\d) ", line.strip())
        assert shown[name] == numbers
    assert set(shown["pasta"]) == {"not run"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the config.json of the 7B, without weights."""
    folder = tmp_path_factory.mktemp("7b")
    settings_of(SimpleNamespace(model="qwen2.5-vl-7b")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def costs(folder):
    return costs_of(bare_model(folder))


@pytest.fixture(scope="module")
def tokens():
    """Tokens of 32 frames at --max_pixels: one per two frames and 28 x 28 pixels."""
    (pixels,) = (f.metadata["default"] for f in fields(PairsConfig) if f.name == "max_pixels")
    return 32 // 2 * pixels // 28**2


def test_the_conditions_of_the_estimates_are_stated(tokens):
    text = " ".join(TRAINING.split())
    assert f"{VIDEOS:,} videos of {tokens:,} tokens" in text and VIDEOS * len(MODES) == PAIRS
    assert f"{SHARE * 100:.0f} % of an H100's {H100[0] / 1e12:.0f} TFLOP/s" in text


def test_the_hours_of_training_are_estimated_as_stated(costs, tokens):
    # three pairs: six answers of 30 tokens after queries of 30; four patches per token
    language, vision = costs.forward((tokens, *[60] * 6), 4 * tokens, 6 * 30)
    reference, epoch = language + vision, 3 * language + vision  # forward, input gradient, again
    hours = VIDEOS * (reference + epoch) / (SHARE * H100[0]) / 3600
    assert row("training, one epoch") == f"{hours:.1f} h on one GPU, {hours / 8:.1f} h on eight"


def test_the_hours_of_pair_making_are_estimated_as_stated(costs, tokens):
    def seconds(n_tokens, *questions):
        return sum(costs.forward((n_tokens, *questions), 4 * n_tokens, len(questions)))

    sparse = tokens // 4  # 8 frames of 32
    operations = seconds(tokens, 40, 40, 40)  # the asker
    operations += seconds(tokens, 40) + seconds(tokens, 40, 40)  # dense; native, which is uniform
    # of nine misled answers, each mode has two on corrupted videos and one on sparse frames
    operations += 6 * seconds(sparse, 60) + seconds(sparse, 60, 60, 60)
    operations += 2 * (costs.language + costs.head) * 15 * 128
    steps = (1 + 2) * 128  # three queries in one batch of 8, twelve answers in two
    total = operations / (SHARE * H100[0]) + steps * 2 * costs.total / H100[1]
    hours = VIDEOS * total / 3600
    shown = row("pairs, three answers of 128 tokens")
    assert shown == f"{hours:.1f} h on one GPU, {hours / 8:.1f} h on eight"


def test_memory_and_disk_are_estimated_as_stated(costs, folder, tokens):
    trained = n_trained(bare_model(folder), lora_rank=32)
    resident = 2 * costs.total + 16 * trained  # bfloat16; float32 weight, gradient, two moments
    stored = 2 * costs.layers * costs.width * (tokens + 360)  # the input of every layer
    assert row("memory") == f"{resident / 1e9:.1f} GB; {stored / 1e9:.1f} GB"
    adapter = 4 * trained
    assert row("disk") == f"{adapter / 1e9:.1f} GB; {(adapter + 24 * trained) / 1e9:.1f} GB"


def row(start):
    """The estimate in a row of the table for the 7B, which was not run."""
    (cells,) = (v for k, v in tables(TRAINING).items() if k.startswith(start))
    assert cells[1] == "not run"
    return cells[0]


def test_the_prose_has_no_other_number():
    text = re.sub(r"```.*?```", "", README, flags=re.S)
    text = re.sub(r"^\|.*|^\d\. |`[^`]*`|\]\([^)]*\)", "", text, flags=re.M)
    text = re.sub(r"7B|7K|ln 2|Table 1|Step 1|not 0\.|1 fps", "", text)
    found = set(re.findall(r"(?<![\w.\-/])\d[\d,.]*\d|(?<![\w.\-/])\d", text))
    needs = (ROOT / "pyproject.toml").read_text()
    (python,) = re.findall(r'requires-python = ">=([\d.]+)"', needs)
    speed = (ROOT / "docs/speed.md").read_text()
    assert "1,536 tokens" in speed and "4 layers" in speed
    known = {"2504.14096", "2025", "95", python, "1,536", "4"}
    assert found - known == {"8", "2"}  # measured: minutes of the first command, and cores
