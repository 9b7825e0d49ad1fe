"""Reasoning in replies: one rule in all roles, and exactly lmms-eval's in evaluate.py.

python -m pytest -q tests/test_reasoning.py
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from tiny_models import LANGUAGE_TEMPLATE, make_language_model

from pasta.benchmarks import answers, report
from pasta.judge import read_verdict
from pasta.making.server import read_answer
from pasta.models import generate
from pasta.models.generate import Answer, Request, ask_all
from pasta.models.load import load_vlm
from pasta.run.reasoning import final_answer, without_reasoning

# (reply, what strip_reasoning_tags of lmms-eval 0.7.3 makes of it with its default tags, the answer
# for a role, whether it is finished)
REPLIES = [
    (" It is left. ", "It is left.", "It is left.", True),
    ("<think>Left? No,\nright.</think>\n\nIt is right.", "It is right.", "It is right.", True),
    ("I look.\n</think>\n\nIt is left.", "It is left.", "It is left.", True),
    ("<analysis>x</analysis><think>\n</think>C ", "C", "C", True),
    ("a</analysis>b</think>c", "c", "c", True),
    ("<think>a</think>B<think>c</think> D", "B D", "B D", True),
    ("<think>a<think>b</think>c</think>d", "d", "d", True),
    ("B<thi<think>x</think>nk>C</think>A", "BA", "BA", True),
    ("<THINK>x</THINK>A", "<THINK>x</THINK>A", "<THINK>x</THINK>A", True),
    ("<think></think>", "", "", True),
    ("<think>I wonder", "<think>I wonder", "", False),
    ("<analysis>It is left.", "<analysis>It is left.", "", False),
    ("x</think>A<think>y", "x</think>A<think>y", "x</think>A", False),
    ("B</think><think>", "B</think><think>", "B</think>", False),
    ("left <think>or <analysis>right", "left <think>or <analysis>right", "left", False),
]


@pytest.mark.parametrize(("reply", "theirs", "answer", "finished"), REPLIES)
def test_a_reply_is_the_same_answer_in_every_role(monkeypatch, reply, theirs, answer, finished):
    assert without_reasoning(reply) == theirs
    assert final_answer(reply) == (answer, finished)
    choice = {"message": {"content": reply}, "finish_reason": "stop"}
    assert read_answer({"choices": [choice]}) == Answer(answer, (), 0.0, finished)
    local = Answer(reply, (1,), -1.0, True)
    monkeypatch.setattr(generate, "ask", lambda *_: [local])
    vlm = SimpleNamespace(processor=SimpleNamespace(turn=("", 0, "")))
    [(_, mine)] = ask_all(lambda: vlm, [Request(None, "Why?")], 1)
    assert mine == replace(local, text=answer, finished=finished)
    bench = SimpleNamespace(
        parse=lambda response, *_: response, draws=False, repaired="", credit=None
    )
    row = answers.reread(bench, {"response": reply}, SimpleNamespace(answer="A"), "head")
    assert (row["response"], row["predicted"], row.get("text", theirs)) == (theirs, theirs, reply)


@pytest.mark.parametrize("cut", [" left", ""])
def test_a_finished_reply_of_a_server_that_is_cut_stays_unfinished(cut):
    choice = {"message": {"content": f"x</think>{cut}"}, "finish_reason": "length"}
    assert read_answer({"choices": [choice]}) == Answer(cut.strip(), (), 0.0, False)


@pytest.mark.parametrize(
    ("before", "read"),
    [("", True), ("<think>fits: no\n</think>", True), ("fits: no\n</think>\n", True),
     ("<think>a</think><analysis>b</analysis>", True), ("<think>", False), ("<analysis>\n", False)],
)  # fmt: skip
def test_a_verdict_is_not_read_from_reasoning(before, read):
    verdict = read_verdict(f"{before}fits: yes\ncontradicts: no")
    assert verdict == ({"fits": True, "contradicts": False} if read else None)


@pytest.mark.parametrize(
    ("opening", "text", "expected"),
    [
        ("", "left", ("left", True)),
        ("<think>\n", "left", ("", False)),
        ("<think>\n", "hm</think>left", ("left", True)),
        ("<think>\n\n</think>\n\n", "left", ("left", True)),
    ],
)
def test_a_judge_may_think_in_a_thought_that_its_template_opens(
    tmp_path, monkeypatch, opening, text, expected
):
    folder = make_language_model(tmp_path / "judge", "Qwen2")
    template = LANGUAGE_TEMPLATE.replace("assistant\n{% endif", f"assistant\n{opening}{{% endif")
    (folder / "chat_template.jinja").write_text(template)
    vlm = load_vlm(folder)
    assert vlm.processor.prompt("Why?", False).endswith(f"assistant\n{opening}")
    monkeypatch.setattr(generate, "ask", lambda *_: [Answer(text, (1,), 0.0, True)])
    [(_, answer)] = ask_all(lambda: vlm, [Request(None, "Why?")], 1)
    assert (answer.text, answer.finished) == expected


def test_answers_whose_reasoning_is_cut_off_are_counted():
    texts = ["A", "<think>A or", "B</think><think>", "C"]
    rows = [{"response": text, "predicted": "A"} for text in texts]
    bench = SimpleNamespace(draws=False, empty="wrong")
    assert report.counts(bench, rows)["reasoning cut off: read with its tags"] == 2
    assert "reasoning cut off: read with its tags" not in report.counts(bench, rows[::3])
