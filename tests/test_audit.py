"""The audit, by hand.

    python -m pytest tests/test_audit.py
"""

from types import SimpleNamespace

import pytest
from conftest import ROOT

from pasta.making.audit import audit, audit_table, commonest
from pasta.pairs import MODES
from pasta.run.rows import write_rows


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
        "  spatial: 2 pairs dropped: duplicate",
        "  spatial: 1 pairs dropped: balance",
        "  temporal: 1 queries dropped: query asks nothing",
        "  cross_frame: 1 pairs dropped: adversarial empty",
    ]


REASONS = """
    query asks nothing: --asker
    preferred cut off, adversarial empty: --responder
    fewer than two different usable answers: --responder
    preferred refuses, same as preferred, duplicate: --responder
    judge's replies cannot be read, judge sees no contradiction about time: --judge_tokens
    no contradiction about time: --judge
    not contradicted on the corrupted video: --select none
    weak contrast: --keep
    balance, length: --no-balance
    length of the file, corrupted, no query: --videos
"""


@pytest.mark.parametrize("line", REASONS.split("\n")[1:-1])
def test_a_run_without_pairs_names_the_page_with_the_flag_that_changes_its_reason(tmp_path, line):
    page = (ROOT / "docs/pairs.md").read_text().split("ends with the most frequent reason")[1]
    reasons, flag = line.strip().split(": ")
    for reason in reasons.split(", "):
        row = {"reason": reason, "chosen": "a", "rejected": "b"}
        text = commonest(SimpleNamespace(out=tmp_path, queries=None), {}, [row])
        assert reason in text and text.endswith("names the flag for each reason")
        assert flag in page.split("\n##")[0]


def without_pairs(folder, finished):
    """What a run prints that made no pairs of two answers, with whether each was `finished`."""
    answers = [{"response": "", "finished": x, "kind": "prompt"} for x in finished]
    row = {"video": "a.mp4", "mode": "spatial", "query": "Why?", "topic": None, "logps": []}
    row |= {"preferred": answers[0], "adversarial": answers[1:], "recipe": {"twins": False}}
    write_rows(folder / "candidates.jsonl", [row])
    dropped = [{"reason": "adversarial empty", "chosen": "", "rejected": ""}]
    config = SimpleNamespace(out=folder, queries=None, max_new_tokens=8)
    return commonest(config, {}, dropped)


def test_more_tokens_are_advised_with_the_number_of_answers_that_were_cut_off(tmp_path):
    text = without_pairs(tmp_path, [True, False])
    assert "; 1 of 2 replies were cut off at --max_new_tokens 8: raise it" in text


def test_more_tokens_are_not_advised_if_no_answer_was_cut_off(tmp_path):
    assert "--max_new_tokens" not in without_pairs(tmp_path, [True, True])


def test_the_reason_of_a_run_without_pairs_names_the_unit_of_each_number(tmp_path):
    row = {"video": "b.mp4", "mode": "spatial", "query": "No", "topic": None, "n": 0}
    row |= {"flaw": "asks nothing", "finished": False}
    write_rows(tmp_path / "queries.jsonl", [row, row | {"n": 1, "finished": True}])
    config = SimpleNamespace(out=tmp_path, queries=None, max_new_tokens=8)
    dropped = [{"reason": "balance", "chosen": "a", "rejected": "b"}]
    text = commonest(config, {"c.mp4": "is damaged"}, dropped)
    assert text.startswith("left out are 1 videos, 2 queries, 1 pairs; the commonest reason, of 2 ")
    assert "; 1 of 2 replies were cut off at --max_new_tokens 8: raise it" in text


def test_own_queries_about_other_videos_are_named(tmp_path):
    text = commonest(SimpleNamespace(out=tmp_path, queries="q.jsonl"), {}, [])
    assert text.startswith("q.jsonl has no query about these videos; name other --videos, or")
