"""The rules of the judge as tables, and the prompts and replies of a model as judge.

    python -m pytest tests/test_judge.py
"""

import pytest

from pasta.judge import alike, flaw, judge_by_model, judge_by_rules, read_verdict, sides
from pasta.pairs import MODES
from pasta.prompts import ABOUT, JUDGE_PAIR

QUERY = "Where is the cup?"


def answer(response, finished=True):
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
        # no contradiction in the mode
        ("spatial", "The cup is left.", "It is on the left side.", None),
        ("spatial", "The cup is left.", "The cup is red.", None),
        ("spatial", "A comes before B.", "A comes after B.", None),  # the order is of another mode
        ("temporal", "The cup is left.", "The cup is right.", None),
        ("cross_frame", "The cup is left.", "The cup is right.", None),
        ("spatial", "I see a cup.", "I do not see a cup.", None),  # nothing about positions
        ("spatial", "Yes, on the left.", "Yes, left.", None),
        ("temporal", "", "", None),
        # a denial flips the side of its clause
        ("spatial", "It is left.", "It is not left.", ("left", "right")),
        ("spatial", "It isn't left.", "It is left.", ("right", "left")),
        ("spatial", "It isn’t left.", "It is left.", ("right", "left")),
        ("spatial", "It is left.", "It is not right.", None),
        ("spatial", "No, it is left.", "It is left.", None),  # the denial is in another clause
        ("spatial", "It is not red, it is left.", "It is left.", None),
        # with swapped subjects, the other side means the same
        ("temporal", "The cup falls before the bell.", "The bell falls after the cup.", None),
        ("temporal", "The cup falls before the bell.", "The bell falls before the cup.",
         ("before", "before")),
        ("temporal", "The cup falls before the bell.", "The cup falls after the bell.",
         ("before", "after")),
        ("spatial", "The cup is left of the bell.", "The bell is right of the cup.", None),
        ("spatial", "The cup is left of the bell.", "The bell is left of the cup.",
         ("left", "left")),
    ],
)  # fmt: skip
def test_contradictions_are_found_with_their_sides(mode, chosen, rejected, expected):
    assert sides(mode, chosen, rejected) == expected
    assert sides(mode, rejected, chosen) == (expected and expected[::-1])


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("The cup is left.", ""),
        ("左边", ""),
        ("", "empty"),
        (" .,! ", "empty"),
        ("where is the cup", "repeats the query"),
        ("It is on <|video_pad|>.", "contains a special token"),
        ("I'm sorry, I can't tell.", "refuses"),
        ("I’m unable to see it.", "refuses"),
        ("As an AI, I see no video.", "refuses"),
        ("As an AI language model, I see no cup.", "refuses"),
        ("The cup is red. It is not possible to determine the side.", "refuses"),
        ("It is unclear from the video where it is.", "refuses"),
        ("Based on the video, it is impossible to say.", "refuses"),
        ("Unfortunately, there is no way to tell.", "refuses"),
        ("There is not enough information.", "refuses"),
        ("The video does not provide enough information to tell.", "refuses"),
        ("Unable to determine from the video.", "refuses"),
        ("Sorry, the frames do not show this.", "refuses"),
        ("No information is given about it.", "refuses"),
        ("I don't know.", "refuses"),
        ("The cup cannot be seen, it is behind the box.", ""),
        ('He says "I am sorry. I cannot come." before he leaves.', ""),
        ("The sign reads: no video is allowed here.", ""),
        ("The video does not show a cup.", ""),
        ("The cup is", "cut off"),
    ],
)
def test_flaws(response, expected):
    assert flaw(answer(response, finished=expected != "cut off"), QUERY) == expected


@pytest.mark.parametrize(
    ("response", "leaks"),
    [
        ("As you asked, I will pretend that it is left.", True),
        ("As instructed, the cup is left.", True),
        ("Taking it for granted that left is right, it is left.", True),
        ("Under this assumption the cup is left.", True),
        ("Assuming that all is mirrored, it is left.", True),
        ("Following the instructions, it is left.", True),
        ("In this hypothetical video it is left.", True),
        ("She reads the instructions before she builds the shelf.", False),
        ("He raises his arm as if to throw the ball.", False),
        ("The boy pretends to fall before the girl laughs.", False),
        ("The dog sits first, as told by the trainer.", False),
        ("He stirs, as instructed by the cook.", False),
    ],
)
def test_an_answer_that_mentions_its_premise_is_flawed_if_it_had_one(response, leaks):
    misled = answer(response) | {"instruction": "mirrored"}
    assert flaw(misled, QUERY) == ("mentions its premise" if leaks else "")
    assert flaw(answer(response), QUERY) == ""


GOOD, BAD = answer("The cup is left."), answer("The cup is right.")


@pytest.mark.parametrize(
    ("query", "preferred", "adversarial", "reason"),
    [
        (QUERY, GOOD, BAD, ""),
        ("The cup.", GOOD, BAD, "query asks nothing"),
        ("", GOOD, BAD, "query asks nothing"),
        (QUERY, answer(""), BAD, "preferred empty"),
        (QUERY, answer("The cup is left.", finished=False), BAD, "preferred cut off"),
        (QUERY, answer("I cannot see a cup."), BAD, "preferred refuses"),
        (QUERY, GOOD, answer(""), "adversarial empty"),
        (QUERY, GOOD, answer("I pretend it is right.") | {"instruction": "flat"},
         "adversarial mentions its premise"),
        (QUERY, GOOD, answer("the cup is LEFT"), "same as preferred"),
        (QUERY, GOOD, answer("A cup was left."), "same as preferred"),
        (QUERY, GOOD, answer("The cup is red."), "no contradiction about where things are"),
    ],
)
def test_each_rule_drops_its_example_and_says_why(query, preferred, adversarial, reason):
    verdict = judge_by_rules("spatial", query, preferred, adversarial)
    assert (verdict.kept, verdict.reason) == (not reason, reason)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "", True),
        ("The cup is left.", "a cup was LEFT", True),
        ("The cup is in the box.", "The cup is on the box.", False),
        ("The cup is left.", "The cup is right.", False),
        ("one two three", "three two one", False),
        # of 21 words 20 are the same: 40 / 42 is above 0.95; of 20, 19: 38 / 40 is not
        (" ".join("bcdefghjklmnopqrstuvw"), " ".join("bcdefghjklmnopqrstuvX"), True),
        (" ".join("bcdefghjklmnopqrstuv"), " ".join("bcdefghjklmnopqrstuX"), False),
    ],
)
def test_near_duplicates_have_nearly_all_content_words_in_the_same_order(one, other, expected):
    assert alike(one, other) is alike(other, one) is expected


# ---------------------------------------------------------------- a model as judge


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("fits: yes\ncontradicts: yes", (True, True)),
        ("Fits: No\nContradicts: YES.", (False, True)),
        ("**fits:** yes\n\n**contradicts:** no", (True, False)),
        ("- fits: yes\n- contradicts: no\n", (True, False)),
        ("Here you are.\nfits: yes\ncontradicts: no", (True, False)),
        ("contradicts: no\nfits: yes", (True, False)),
        ("fits = yes\ncontradicts = yes", (True, True)),
        ("<think>\nfits: no\ncontradicts: no\n</think>\nfits: yes\ncontradicts: yes", (True, True)),
        ("<think>\nfits: no\ncontr", None),
        ("fits: yes", None),
        ("fits: yes or no\ncontradicts: yes or no", None),
        ("fits: yes\nfits: no\ncontradicts: yes", None),
        ("fits: maybe\ncontradicts: yes", None),
        ("Answer 1 fits: yes\ncontradicts: yes", None),
        ("yes", None),
        ("", None),
    ],
)
def test_verdicts_are_parsed_line_by_line_or_not_at_all(reply, expected):
    names = ("fits", "contradicts")
    assert read_verdict(reply) == (expected and dict(zip(names, expected, strict=True)))


def judged_by(*replies, good=GOOD, bad=BAD):
    """(Verdict of a judge that gives these replies, the prompts that it got)."""
    prompts, replies = [], list(replies)

    def ask(batch):
        prompts.extend(batch)
        return [replies.pop(0) for _ in batch]

    [verdict] = judge_by_model([("spatial", QUERY, good, bad)], ask)
    return verdict, prompts


YES, NO = "fits: yes\ncontradicts: yes", "fits: yes\ncontradicts: no"


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([YES], ""),
        ([NO], "judge sees no contradiction about where things are"),
        (["fits: no\ncontradicts: yes"], "judge says that preferred does not fit the query"),
        (["yes"], "judge's replies cannot be read"),
    ],
)
def test_the_reply_of_a_model_counts_instead_of_the_opposites(replies, reason):
    for bad, expected in ((BAD, ("left", "right")), (answer("The cup is red."), None)):
        verdict, prompts = judged_by(*replies, bad=bad)
        assert (verdict.kept, verdict.reason) == (not reason, reason)
        assert verdict.sides == (None if reason else expected)
        assert len(prompts) == len(replies)


@pytest.mark.parametrize("mode", MODES)
def test_a_model_gets_mode_query_and_answers_once(mode):
    prompts, texts = [], {"query": QUERY, "preferred": "On a mat.", "adversarial": "On a box."}
    case = (mode, QUERY, answer("On a mat."), answer("On a box."))
    judge_by_model([case], lambda batch: prompts.extend(batch) or ["well"])
    assert prompts == [JUDGE_PAIR.format(about=ABOUT[mode], **texts)]


def test_a_model_is_not_asked_about_what_the_rules_see():
    verdict, prompts = judged_by(bad=answer(""))
    assert verdict.reason == "adversarial empty" and not prompts


def test_all_cases_are_asked_in_one_batch_and_equal_ones_once():
    batches = []
    bad = [answer(f"The cup is {i}.") for i in (0, 1, 2, 0)]
    cases = [("spatial", QUERY, GOOD, one) for one in bad]
    verdicts = judge_by_model(cases, lambda batch: batches.append(batch) or [YES, NO, YES])
    assert [len(batch) for batch in batches] == [3]
    assert [verdict.kept for verdict in verdicts] == [True, False, True, True]
