"""Adversarial QA: what counts as a rejection, and the items made from candidates and by the toy.

python -m pytest -q tests/test_adversarial.py
"""

import json

import numpy as np
import pytest

from pasta.benchmarks import Item, adversarial
from pasta.judge import judge_by_rules
from pasta.making.adversarial_items import adversarial_rows
from pasta.models.generate import Answer
from pasta.run.rows import write_rows
from pasta.toy import files, world
from pasta.toy.world import MODES

BENCH = adversarial.BENCHMARK
QUESTION = {"id": "1", "video": "a.mp4", "mode": "spatial", "kind": "question", "query": "Why so?"}
OPTIONS = QUESTION | {"id": "2", "kind": "options", "options": ["Left.", "Right."]}


def rules(cases):
    return [judge_by_rules(*case) for case in cases]


@pytest.fixture
def folder(tmp_path):
    """Write items.jsonl next to a video, and read it."""

    def folder(*rows):
        (tmp_path / "a.mp4").touch()
        write_rows(tmp_path / "items.jsonl", rows)
        return BENCH.items(tmp_path)

    return folder


def test_a_question_is_asked_as_it_is_and_options_end_with_none_of_the_above(folder):
    question, options = folder(QUESTION, OPTIONS)
    assert (question.task, question.prompt) == ("spatial question", "Why so?")
    assert question.answer == "rejected"
    assert options.prompt == (
        "Question:Why so?\nOption:\n(A) Left.\n(B) Right.\n(C) None of the above\n"
        "Only give the best option.\n"
    )
    assert (options.task, options.letters, options.answer) == ("spatial options", "ABC", "C")


@pytest.mark.parametrize(
    ("response", "predicted"),
    [
        ("There is no red circle in the video.", "rejected"),
        ("It isn’t shown.", "rejected"),
        ("The premise of the question is false.", "rejected"),
        ("Actually, the square is blue.", "rejected"),
        ("No.", "rejected"),
        ("The red circle hasn't moved.", "rejected"),
        ("The red circle is left.", "accepted"),
        ("Yes, because it is left.", "accepted"),
        ("It is now left of another note.", "accepted"),  # "now", "another", "note" deny nothing
        ("Yes.", None),
        ("", None),
        ("...", None),
    ],
)
def test_a_response_rejects_accepts_or_leaves_it_open(folder, response, predicted):
    (question,) = folder(QUESTION)
    assert BENCH.parse(response, question) == predicted


@pytest.mark.parametrize(
    ("response", "predicted"),
    [("(C)", "C"), ("None of the above.", "C"), ("C.", "C"), ("b", "B"), ("(E)", None)],
)
def test_of_options_the_letter_is_read(folder, response, predicted):
    (options,) = folder(OPTIONS)
    assert BENCH.parse(response, options) == predicted


@pytest.mark.parametrize(
    ("reply", "predicted"),
    [("Yes.", "rejected"), ("No, it does not.", "accepted"), ("Hard to say", None)],
)
def test_a_judge_decides_instead_of_the_rules_except_for_options_and_empty_answers(
    reply, predicted
):
    row = {"id": "1", "task": "spatial question", "prompt": "Why?", "response": "Because."}
    row |= {"answer": "rejected", "predicted": "accepted", "correct": False}
    others = [row | {"id": "2", "task": "spatial options"}, row | {"id": "3", "response": ""}]
    second = row | {"id": "4", "prompt": "How?"}  # one reply can be read, or the run ends
    asked = []

    def ask(requests, max_new_tokens):
        asked.extend(request.prompt for request in requests)
        return [Answer(text, (), 0.0, True) for text in (reply, "Yes")]

    decided, *same, _ = adversarial.judged([row, *others, second], ask)
    assert same == others and len(asked) == 2 and "Why?" in asked[0] and "Because." in asked[0]
    assert (decided["predicted"], decided["correct"]) == (predicted, predicted == "rejected")


def test_scores_are_by_mode_and_kind(folder):
    items = folder(QUESTION, QUESTION | {"id": "2", "mode": "temporal"}, OPTIONS | {"id": "3"})
    rows = [{"id": x.id, "task": x.task, "correct": x.id != "2"} for x in items]
    assert BENCH.aggregate(rows) == {
        "spatial question": {"1": 1.0},
        "temporal question": {"2": 0.0},
        "spatial options": {"3": 1.0},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "colour"}, "mode is 'colour'"),
        ({"kind": "riddle"}, "kind is 'riddle'"),
        ({"query": " "}, "query is ' '"),
        ({"kind": "options", "options": ["Left."]}, "is no list of 2 to 26 texts"),
        ({"kind": "options"}, "KeyError"),
        ({"video": "../a.mp4"}, "expected an absolute path or one inside"),
    ],
)
def test_a_malformed_row_is_named_with_file_and_line(folder, change, message):
    with pytest.raises(ValueError, match=rf"items.jsonl:2: .*{message}.*; expected id, video"):
        folder(OPTIONS, QUESTION | change)


def test_an_id_that_comes_twice_is_refused(folder):
    with pytest.raises(ValueError, match="items.jsonl:2: .*id '1' is also at .*items.jsonl:1"):
        folder(QUESTION, QUESTION)


def test_missing_files_say_what_makes_them(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="make_pairs.py --adversarial_qa --responder MODEL"):
        BENCH.items(tmp_path)
    with pytest.raises(FileNotFoundError, match="1 of 1 videos are missing, such as .*b.mp4"):
        folder(QUESTION | {"video": "b.mp4"})


def candidate(*wrong, preferred="The red circle is left."):
    return {
        "video": "/v/a.mp4",
        "mode": "spatial",
        "query": "Is the red circle left or right?",
        "preferred": {"response": preferred, "finished": True},
        "adversarial": [{"response": text, "finished": True} for text in wrong],
    }


def asker(text):
    """An asker that always says `text`; notes what it was asked in its `asked`."""

    def ask(requests):
        ask.asked += [request.prompt for request in requests]
        return [Answer(text, (), 0.0, True) for _ in requests]

    ask.asked = []
    return ask


def test_options_are_the_answers_that_the_judge_calls_wrong():
    row = candidate(
        "The red circle is right.", "The red circle is left.", "It is the rightmost thing."
    )
    options, *_ = adversarial_rows([row], rules, asker("What?"))
    assert options["kind"] == "options"
    assert options["options"] == ["The red circle is right.", "It is the rightmost thing."]


def test_a_question_takes_a_wrong_answer_for_granted_and_the_judge_must_agree():
    ask = asker("What stands beside the circle on the right?")
    (question,) = adversarial_rows([candidate("The red circle is right.")], rules, ask)
    assert question["query"] == "What stands beside the circle on the right?"
    assert "The red circle is right." in ask.asked[0]
    soft = asker("What stands beside the circle?")
    assert adversarial_rows([candidate("The red circle is right.")], rules, soft) == []
    statement = asker("It is right.")
    assert adversarial_rows([candidate("The red circle is right.")], rules, statement) == []


def test_without_a_wrong_answer_there_are_no_items_and_nothing_is_asked():
    ask = asker("What?")
    assert adversarial_rows([candidate("The red circle is left.")], rules, ask) == []
    assert ask.asked == []


def test_rows_are_read_back_as_items(tmp_path):
    (tmp_path / "a.mp4").touch()
    row = candidate("The red circle is right.", "It is the rightmost thing.")
    row["video"] = str(tmp_path / "a.mp4")
    rows = adversarial_rows([row], rules, asker("Is it right of the circle?"))
    write_rows(tmp_path / "items.jsonl", rows)
    assert [item.task for item in BENCH.items(tmp_path)] == ["spatial question", "spatial options"]


def test_the_asker_is_asked_once_for_all_candidates_after_the_judge():
    order = []

    def judge(cases):
        order.append("judge")
        return rules(cases)

    def ask(requests):
        order.append(len(requests))
        return [Answer("Is it right?", (), 0.0, True) for _ in requests]

    rows = adversarial_rows([candidate("The red circle is right.")] * 3, judge, ask)
    assert order == ["judge", 3, "judge"]
    assert [row["kind"] for row in rows] == ["question"] * 3


def test_the_toys_items_have_false_premises_and_no_right_option(tmp_path):
    files.write_adversarial(tmp_path, 8, seed=0)
    assert len(BENCH.items(tmp_path)) == 8 * len(MODES) * 2
    for line in (tmp_path / "items.jsonl").read_text().splitlines():
        row = json.loads(line)
        video = world.draw_video(np.random.default_rng([0, int(row["id"].split("-")[0])]))
        true = [q.answer for q in world.questions(video, np.random.default_rng(0))]
        there = " ".join([thing.name for thing in video.things] + [video.successor])
        if row["kind"] == "question":
            assert row["query"].split()[2] not in there
        else:
            assert not set(row["options"]) & set(true)


def test_more_options_than_letters_are_refused_with_their_line(folder):
    with pytest.raises(ValueError, match="items.jsonl:1: .*number is 26, none of 0, .*expected"):
        folder(OPTIONS | {"options": [f"It is {n}." for n in range(26)]})


def test_a_sixth_option_is_read():
    options = (*"vwxyz", adversarial.NONE)
    item = Item("1", "spatial options", "v.mp4", None, "", options, "F")
    assert adversarial.parse("F", item) == "F"
