"""The audit, by hand.

    python -m pytest tests/test_audit.py
"""

import re
from types import SimpleNamespace

import pytest
from conftest import ROOT

from pasta.making.audit import audit, audit_table, commonest
from pasta.pairs import MODES


def pair(mode, chosen, rejected, blind, sides=None, topic="order"):
    texts = {"chosen": chosen, "rejected": rejected, "recipe": {"topic": topic}}
    return {"mode": mode, "blind": blind, "sides": sides} | texts


PAIRS = [
    pair("spatial", "a b c", "a", 0.5, ("left", "right"), "depth"),
    pair("spatial", "a", "a b", -0.5, ("left", "right"), None),
    pair("spatial", "a b", "b a", 0.0, topic="depth"),  # a tie is not preferred
    pair("temporal", "a", "b", None, ("no", "yes")),
]
DROPPED = [
    {"mode": "spatial", "reason": "duplicate"},
    {"mode": "cross_frame", "reason": "adversarial empty"},
    {"mode": "spatial", "reason": "balance"},
    {"mode": "spatial", "reason": "duplicate"},
]
QUERIES = [
    {"mode": "temporal", "query": "When?"},
    {"mode": "temporal", "query": "No", "flaw": "asks nothing"},
]


def test_audit_by_hand():
    report = audit(PAIRS, DROPPED, QUERIES)
    assert report == {mode: {"kept": 0, "dropped": {}} for mode in MODES} | {
        "spatial": {
            "kept": 3,
            "dropped": {"duplicate": 2, "balance": 1},
            "words/chosen": 2.0,
            "words/rejected": pytest.approx(5 / 3),
            "chosen longer": 0.5,  # one longer, one shorter, one as long
            "chosen sides": {"left": 2},
            "topics": {"depth": 2, "own": 1},
            "blind accuracy": pytest.approx(1 / 3),
        },
        "temporal": {
            "kept": 1,
            "dropped": {"query asks nothing": 1},
            "words/chosen": 1.0,
            "words/rejected": 1.0,
            "chosen longer": 0.5,
            "chosen sides": {"no": 1},
            "topics": {"order": 1},
            "blind accuracy": None,  # a server gives no log-probabilities
        },
        "cross_frame": {"kept": 0, "dropped": {"adversarial empty": 1}},
    }


def test_the_table_shows_the_audit():
    report = audit(PAIRS, DROPPED, QUERIES)
    report = {mode: report[mode] for mode in ("spatial", "temporal", "cross_frame")}
    assert audit_table(report).splitlines() == [
        "mode           kept  dropped  words +/-  longer  blind  chosen sides; topics",
        "spatial           3        3    2.0/1.7    0.50   0.33  left 2; depth 2, own 1",
        "temporal          1        1    1.0/1.0    0.50      -  no 1; order 1",
        "cross_frame       0        1          -       -      -",
        "  spatial: 2 dropped: duplicate",
        "  spatial: 1 dropped: balance",
        "  temporal: 1 dropped: query asks nothing",
        "  cross_frame: 1 dropped: adversarial empty",
    ]


REASONS = """
    query asks nothing: --asker
    preferred cut off, adversarial empty: --max_new_tokens
    fewer than two different usable answers: --max_new_tokens
    preferred refuses, same as preferred, duplicate: --responder
    judge's replies cannot be read, judge sees no contradiction about time: --judge_tokens
    no contradiction about time: --judge
    not contradicted on the corrupted video: --select none
    weak contrast: --keep
    balance, length: --no-balance
    length of the file, corrupted, no query: --videos
"""


@pytest.mark.parametrize("line", REASONS.split("\n")[1:-1])
def test_a_run_without_pairs_names_the_flag_that_changes_its_reason(tmp_path, line):
    reasons, flag = line.strip().split(": ")
    for reason in reasons.split(", "):
        row = {"reason": reason, "chosen": "a", "rejected": "b"}
        text = commonest(SimpleNamespace(out=tmp_path, queries=None), {}, [row])
        assert flag in re.split("; ", text, maxsplit=1)[1], text
        assert flag in (ROOT / "docs/pairs.md").read_text()
