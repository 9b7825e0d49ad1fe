"""docs/paper_map.md and docs/changing.md name what is there; a reader finds ten things at once.

python -m pytest -q tests/test_paper_map.py
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAP = (ROOT / "docs/paper_map.md").read_text()
CHANGING = (ROOT / "docs/changing.md").read_text()
README = (ROOT / "README.md").read_text()
TEN = {
    "the loss": "pasta/dpo.py: dpo_loss",
    "the weights of the three modes": "pasta/dpo.py: pair_weights",
    "the log-probability of a response": "pasta/policy.py: response_logps",
    "the reference, and its cache on disk": "pasta/reference.py: reference_logps",
    "several pairs of one video in one row": "pasta/packs.py: pack",
    "attention to the shared prefix": "pasta/attention.py: shared_prefix_attention",
    "the three adversaries": "pasta/adversaries.py: ADVERSARIES",
    "which frames of a video": "pasta/sampling.py: uniform",
    "which answers make a pair": "pasta/selection.py: make_pairs",
    "the letter that an answer names": "pasta/benchmarks/scoring.py: lettered_text",
}


def places(text):
    """Every (file, name) that a text names as `file: name`."""
    return re.findall(r"`([\w/]+\.py): (\w+)`", text)


def names_of(path):
    """What a file defines at its top: functions, classes, constants."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("place", sorted({*places(MAP), *places(CHANGING)}), ids=": ".join)
def test_every_place_on_the_map_and_in_the_recipes_exists(place):
    file, name = place
    assert name in names_of(ROOT / file)


def test_ten_things_are_found_on_the_maps_first_page():
    page = MAP[: MAP.index("## The method")]
    rows = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)`", page, re.M))
    assert rows == TEN


def test_the_readme_sends_readers_to_the_map_before_anything_long():
    assert "docs/paper_map.md" in README[: README.index("## Use it on your model")]


def test_every_row_of_the_method_has_a_place_a_way_to_see_it_and_a_status():
    rows = [line for line in MAP[MAP.index("## The method") :].splitlines() if line[:2] == "| "]
    assert len(rows) > 20
    for row in rows[1:]:
        _, what, where, see, status, _ = row.split("|")
        assert what.strip() and places(where) and see.strip(), row
        assert re.match(r"verified|our choice|not public|in miniature", status.strip()), row


def test_every_table_and_figure_of_the_paper_is_on_the_map():
    for thing in ("Table 1", "Table 2", "Table 6", "Figure 4"):
        assert thing in MAP


def test_every_file_of_the_recipes_exists():
    files = set(re.findall(r"`([\w/]+\.(?:py|md))\b", CHANGING)) - {"pasta/benchmarks/NAME.py"}
    assert len(files) > 15 and [file for file in files if not (ROOT / file).is_file()] == []
