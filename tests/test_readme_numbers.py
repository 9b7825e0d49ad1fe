"""Every number of the README, and every estimate in docs/training.md, has another source.

    python -m pytest -q tests/test_readme_numbers.py

test_readme.py, test_study.py and test_speed.py read its first result and its other tables.
"""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from campaigns.ways import SIZES
from transformers import Qwen2_5_VLConfig

from make_pairs import PairsConfig
from pasta.models.load import bare_model
from pasta.pairs import MODES
from pasta.tools.dry_run import n_trained, print_time

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TRAINING = (ROOT / "docs/training.md").read_text()
PAPER = """
    base         71.7 68.6 75.8 65.2 27.9 68.7 60.7 62.2
    VideoPASTA   72.3 69.4 77.3 66.3 28.3 69.2 61.5 64.1
"""  # arXiv 2504.14096v1, Table 1
H100 = (989e12, 3.35e12)  # published: bfloat16 operations, and bytes of memory, a second
UTILISATION = 0.4  # assumed: operations per second, as a share of H100[0]
VIDEOS, PAIRS = 2340, 7020
# Qwen2.5-VL-7B, by hand. Numbers of weights: all, in the language model's linear layers, in its
# head, and those that a patch of the vision tower passes; its merger has four patches a token.
TOTAL, LAYERS, WIDTH = 8_292_166_656, 28, 3584
LINEAR = LAYERS * (2 * 3584 * (3584 + 512) + 3 * 3584 * 18944)
HEAD = 152064 * 3584
VISION = 1176 * 1280 + 32 * (4 * 1280**2 + 3 * 1280 * 3420) + 5120 * (5120 + 3584) // 4


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
    settings = Qwen2_5_VLConfig.from_json_file(SIZES / "qwen2.5-vl-7b.json")
    settings.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokens():
    """Tokens of 32 frames at --max_pixels: one per two frames and 28 x 28 pixels."""
    (pixels,) = (f.metadata["default"] for f in fields(PairsConfig) if f.name == "max_pixels")
    return 32 // 2 * pixels // 28**2


def test_the_conditions_of_the_estimates_are_stated(tokens):
    text = " ".join(TRAINING.split())
    assert f"{VIDEOS:,} videos of {tokens:,} tokens" in text and VIDEOS * len(MODES) == PAIRS
    assert f"{UTILISATION * 100:.0f} % of an H100's {H100[0] / 1e12:.0f} TFLOP/s" in text


def operations(lengths, patches, scored):
    """Operations of one packed row: (in the language model, in the vision tower).

    2 per weight and token, and 4 per element of a head and layer for each key that a query sees: in
    each piece the earlier ones, and in a segment those of the prefix. `scored` tokens have logits.
    """
    prefix, *segments = lengths
    seen = sum(n * (n + 1) // 2 for n in lengths) + prefix * sum(segments)
    language = 2 * LINEAR * sum(lengths) + 2 * HEAD * scored + 4 * LAYERS * WIDTH * seen
    return language, 2 * VISION * patches


def test_the_hours_of_training_are_estimated_as_stated(tokens):
    # three pairs: six answers of 30 tokens after queries of 30; four patches per token
    language, vision = operations((tokens, *[60] * 6), 4 * tokens, 6 * 30)
    reference, epoch = language + vision, 3 * language + vision  # forward, input gradient, again
    hours = VIDEOS * (reference + epoch) / (UTILISATION * H100[0]) / 3600
    assert row("training, one epoch") == f"{hours:.1f} h on one GPU, {hours / 8:.1f} h on eight"


def test_the_hours_of_pair_making_are_estimated_as_stated(tokens):
    def read(n_tokens, *questions):
        return sum(operations((n_tokens, *questions), 4 * n_tokens, len(questions)))

    sparse = tokens // 4  # 8 frames of 32
    n = read(tokens, 40, 40, 40)  # the asker
    n += read(tokens, 40) + read(tokens, 40, 40)  # dense; native, which is uniform
    # of nine misled answers, each mode has two on corrupted videos and one on sparse frames
    n += 6 * read(sparse, 60) + read(sparse, 60, 60, 60)
    n += 2 * (LINEAR + HEAD) * 15 * 128
    steps = (1 + 2) * 128  # three queries in one batch of 8, twelve answers in two
    total = n / (UTILISATION * H100[0]) + steps * 2 * TOTAL / H100[1]
    hours = VIDEOS * total / 3600
    shown = row("pairs, three answers of 128 tokens")
    assert shown == f"{hours:.1f} h on one GPU, {hours / 8:.1f} h on eight"
    # contrast scores a query's four answers on the clean frames, and on 2, 1 and 2 counterfactuals
    views = [operations((tokens, *[168] * n), 4 * tokens, 128 * n) for n in (4, 8, *[4] * 5)]
    hours += VIDEOS * sum(map(sum, views)) / (UTILISATION * H100[0]) / 3600
    shown = row("the same with `--select contrast`")
    assert shown == f"{hours:.1f} h on one GPU, {hours / 8:.1f} h on eight"


def test_a_dry_run_estimates_time_by_the_same_speeds(folder, capsys):
    print_time(bare_model(folder), tokens=1e9, steps=10**6)
    seconds = 2 * LINEAR * (1e9 / (UTILISATION * H100[0]) + 10**6 / H100[1])
    assert f"time: {seconds / 3600:.1f} hours or more" in capsys.readouterr().out


def test_memory_and_disk_are_estimated_as_stated(folder, tokens):
    trained = n_trained(bare_model(folder), lora_rank=32)
    resident = 2 * TOTAL + 16 * trained  # bfloat16; float32 weight, gradient, two moments
    stored = 2 * LAYERS * WIDTH * (tokens + 360)  # the input of every layer
    temporary = 2 * 8 * 18944 * (tokens + 360)  # eight of an MLP's inner activations
    parts = (resident, stored, temporary)
    assert row("memory") == "; ".join(f"{n / 1e9:.1f} GB" for n in parts)
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
    assert found - known == {"3", "2"}  # measured: minutes of the first command, and cores
