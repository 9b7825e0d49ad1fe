"""The judge's rules as tables, a model's replies, and the file they are kept in.

    python -m pytest tests/test_judge.py
"""

import pytest

from pasta.judge import TOPIC, flaw, judge_by_model, judge_by_rules, model_judge, sides
from pasta.judge import verdict_word as word
from pasta.pairs import MODES, read_rows

QUERY = "Where is the cup?"


def said(response, finished=True):
    return {"response": response, "finished": finished}


@pytest.mark.parametrize(
    ("mode", "chosen", "rejected", "expected"),
    [
        ("spatial", "The cup is left.", "The cup is right.", ("left", "right")),
        ("spatial", "It's on the RIGHT!", "on the left of it", ("right", "left")),
        ("spatial", "It is above the box", "It is under the box", ("top", "bottom")),
        ("spatial", "It hides behind him.", "It is in front of him.", ("behind", "front")),
        ("spatial", "It is hidden.", "It is clearly visible.", ("hidden", "visible")),
        ("temporal", "He jumps first.", "He jumps last.", ("first", "last")),
        ("temporal", "A comes before B.", "A comes after B.", ("before", "after")),
        ("temporal", "Then she sits.", "They sit together.", ("then", "simultaneously")),
        ("cross_frame", "The cup is kept.", "The cup is replaced.", ("kept", "replaced")),
        ("cross_frame", "It is the same man.", "Another man.", ("same", "different")),
        ("spatial", "Yes.", "No.", ("yes", "no")),
        ("temporal", "No, he does.", "Yes, he does.", ("no", "yes")),
    ],
)
def test_contradictions_are_seen_with_their_sides(mode, chosen, rejected, expected):
    assert sides(mode, chosen, rejected) == expected
    assert sides(mode, rejected, chosen) == expected[::-1]


@pytest.mark.parametrize(
    ("mode", "chosen", "rejected"),
    [
        ("spatial", "The cup is left.", "It is on the left side."),
        ("spatial", "The cup is left.", "The cup is red."),
        ("spatial", "A comes before B.", "A comes after B."),  # the order is of another mode
        ("temporal", "The cup is left.", "The cup is right."),
        ("cross_frame", "The cup is left.", "The cup is right."),
        ("spatial", "I see a cup.", "I do not see a cup."),  # nothing about where
        ("spatial", "Yes, on the left.", "Yes, left."),
        ("temporal", "", ""),
    ],
)
def test_what_is_no_contradiction_in_the_mode(mode, chosen, rejected):
    assert sides(mode, chosen, rejected) is None


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("It is left.", "It is not left.", ("left", "right")),
        ("It isn't left.", "It is left.", ("right", "left")),
        ("It isn’t left.", "It is left.", ("right", "left")),
        ("It is left.", "It is not right.", None),
        ("No, it is left.", "It is left.", None),  # the denial is of another clause
        ("It is not red, it is left.", "It is left.", None),
    ],
)
def test_a_denial_turns_the_side_of_its_clause_round(chosen, rejected, expected):
    assert sides("spatial", chosen, rejected) == expected


@pytest.mark.parametrize(
    ("mode", "chosen", "rejected", "contradict"),
    [
        ("temporal", "The cup falls before the bell.", "The bell falls after the cup.", False),
        ("temporal", "The cup falls before the bell.", "The bell falls before the cup.", True),
        ("temporal", "The cup falls before the bell.", "The cup falls after the bell.", True),
        ("spatial", "The cup is left of the bell.", "The bell is right of the cup.", False),
        ("spatial", "The cup is left of the bell.", "The bell is left of the cup.", True),
    ],
)
def test_a_sentence_turned_round_says_the_same(mode, chosen, rejected, contradict):
    assert (sides(mode, chosen, rejected) is not None) == contradict


@pytest.mark.parametrize(
    ("response", "finished", "expected"),
    [
        ("The cup is left.", True, ""),
        ("左边", True, ""),
        ("", True, "empty"),
        (" .,! ", True, "empty"),
        ("The cup is", False, "cut off"),
        ("I'm sorry, I can't tell.", True, "refuses"),
        ("I’m unable to see it.", True, "refuses"),
        ("As an AI, I see no video.", True, "refuses"),
        ("It is left, as if mirrored.", True, "speaks of the instruction"),
        ("Following the instruction, it is left.", True, "speaks of the instruction"),
        ("Your instructions say left.", True, "speaks of the instruction"),
        ("She reads the instructions on the cup.", True, ""),
        ("where is the cup", True, "repeats the query"),
    ],
)
def test_flaws(response, finished, expected):
    assert flaw(response, QUERY, finished) == expected


GOOD, BAD = said("The cup is left."), said("The cup is right.")


@pytest.mark.parametrize(
    ("query", "preferred", "adversarial", "reason"),
    [
        (QUERY, GOOD, BAD, ""),
        ("The cup.", GOOD, BAD, "query asks nothing"),
        ("", GOOD, BAD, "query asks nothing"),
        (QUERY, said(""), BAD, "preferred empty"),
        (QUERY, said("The cup is left.", finished=False), BAD, "preferred cut off"),
        (QUERY, said("I cannot see a cup."), BAD, "preferred refuses"),
        (QUERY, GOOD, said(""), "adversarial empty"),
        (QUERY, GOOD, said("Pretend it is right."), "adversarial speaks of the instruction"),
        (QUERY, GOOD, said("the cup is LEFT"), "same as preferred"),
        (QUERY, GOOD, said("The cup is red."), "no contradiction about where things are"),
    ],
)
def test_each_rule_drops_its_example_and_says_why(query, preferred, adversarial, reason):
    verdict = judge_by_rules("spatial", query, preferred, adversarial)
    assert (verdict.kept, verdict.reason) == (not reason, reason)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("yes", True),
        ("Yes.", True),
        ("**No**", False),
        ("No, since yes would mean a contradiction.", False),
        ("I would say yes.", True),
        ("The answer is: NO", False),
        ("", None),
        ("Maybe.", None),
        ("Perhaps yes, perhaps no.", None),
        ("Yesterday nothing happened.", None),
        ('{"verdict": "yes"}', True),
        ("1", None),
    ],
)
def test_verdicts_are_read_from_replies(reply, expected):
    assert word(reply) is expected


@pytest.mark.parametrize("mode", MODES)
def test_a_model_is_asked_about_the_mode_with_both_answers(mode):
    prompts = []

    def ask(prompt):
        prompts.append(prompt)
        return "yes"

    judge_by_model(mode, QUERY, said("On a table."), said("On a chair."), ask)
    [prompt] = prompts
    assert all(text in prompt for text in (QUERY, "On a table.", "On a chair.", TOPIC[mode]))


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("yes", ""),
        ("no", "judge sees no contradiction about where things are"),
        ("well", "judge says neither yes nor no"),
    ],
)
def test_a_models_word_counts_and_not_the_opposites(reply, reason):
    for bad in (BAD, said("The cup is red.")):
        verdict = judge_by_model("spatial", QUERY, GOOD, bad, lambda prompt: reply)
        assert (verdict.kept, verdict.reason) == (not reason, reason)


def test_a_model_is_not_asked_about_what_the_rules_see():
    verdict = judge_by_model("spatial", QUERY, GOOD, said(""), ask=None)
    assert verdict.reason == "adversarial empty"


def test_replies_are_kept_by_model_and_asked_for_once(tmp_path):
    asked = []

    def ask(prompt):
        asked.append(prompt)
        return "yes"

    for name in ("one", "one", "two"):
        with model_judge(ask, tmp_path / "replies.jsonl", name) as judge:
            assert all(judge("spatial", QUERY, GOOD, BAD).kept for _ in range(2))
    assert len(asked) == 2
    assert [row["judge"] for row in read_rows(tmp_path / "replies.jsonl")] == ["one", "two"]
