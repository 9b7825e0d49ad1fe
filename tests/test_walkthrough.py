"""docs/walkthrough.md: its outputs are what its code prints, and its code is the project's.

    python -m pytest -q tests/test_walkthrough.py
"""

import ast
import importlib
import math
import re
from pathlib import Path

import pytest

from pasta.toy import walkthrough

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/walkthrough.md").read_text()
NUMBER = re.compile(r"[-+]?\d+\.\d*(?:e[-+]?\d+)?")  # a float; whole numbers must be the same


@pytest.fixture(scope="module")
def made():
    return walkthrough.run(TEXT)


def outputs(page):
    return re.findall(r"```text\n(.*?)```", page, re.S)


def test_the_page_is_what_its_code_prints(made):
    assert NUMBER.sub("#", made) == NUMBER.sub("#", TEXT)
    shown, printed = (list(map(float, NUMBER.findall(page))) for page in (TEXT, made))
    assert printed == pytest.approx(shown, rel=2e-3, abs=6e-3)


def test_outputs_do_not_come_from_the_page():
    page = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\nand\n```python\nx = 1\n```\n"
    assert walkthrough.run(page) == page.replace("\n3\n", "\n2\n")


def test_a_cell_that_fails_is_named():
    with pytest.raises(ZeroDivisionError) as caught:
        walkthrough.run("```python\n1 / 0\n```\n")
    assert "walkthrough.md: 1 / 0" in str(caught.traceback[-1].path)


def test_every_file_that_it_names_exists():
    files = set(re.findall(r"`(pasta/[\w/]+\.py|train_dpo\.py)`", TEXT))
    assert len(files) >= 10
    assert all((ROOT / file).is_file() for file in files)


def test_its_code_defines_no_part_of_the_method():
    cells = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    defined = [n.name for n in ast.parse("\n".join(cells)).body if isinstance(n, ast.FunctionDef)]
    assert defined == ["columns", "said"]  # which look at a picture, and at tokens
    used = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse("\n".join(cells)))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("pasta")
        for alias in node.names
    }
    for name in used:
        module, _, thing = name.rpartition(".")
        found = getattr(importlib.import_module(module), thing, None)
        assert found is not None or importlib.import_module(name)


def test_the_first_loss_is_ln_2_and_the_last_is_lower(made):
    (steps,) = (text for text in outputs(made) if text.startswith("step "))
    losses = [float(line.split()[1]) for line in steps.splitlines()[1:]]
    margins = [float(line.split()[2]) for line in steps.splitlines()[1:]]
    assert losses[0] == pytest.approx(math.log(2), abs=6e-4) and margins[0] == 0
    assert losses == sorted(losses, reverse=True)
    for loss, margin in zip(losses, margins, strict=True):
        assert loss == pytest.approx(math.log(1 + math.exp(-margin)), abs=1e-3)


def test_the_reference_knows_what_the_policy_began_with(made):
    (began,) = re.findall(r"logps of chosen, rejected: \[(\S+)", made)
    (known,) = re.findall(r"'logps': (\S+),", made)
    assert began == known
