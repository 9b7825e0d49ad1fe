"""The texts that models are given to make pairs.

    python -m pytest tests/test_prompts.py
"""

import re
from pathlib import Path

import pytest

from pasta.pairs import MODES
from pasta.prompts import ABOUT, JUDGE, JUDGE_AGAIN, PREMISES, QUERIES, misled_prompt, query_prompt

PAGE = (Path(__file__).parent.parent / "docs/pairs.md").read_text()


@pytest.mark.parametrize("texts", [QUERIES, PREMISES])
def test_each_mode_has_as_many_as_the_readme_says(texts):
    assert "three kinds of query a mode and three premises a mode" in PAGE
    assert tuple(texts) == MODES
    assert all(len(set(kinds.values())) == 3 for kinds in texts.values())


@pytest.mark.parametrize("mode", MODES)
def test_the_asker_is_told_the_kind_and_the_responder_the_premise_before_the_query(mode):
    for kind, text in QUERIES[mode].items():
        assert text in query_prompt(mode, kind)
    for name, text in PREMISES[mode].items():
        told, _, query = misled_prompt(mode, name, "Where is it?").partition("\n")
        assert text in told and query == "Where is it?"


@pytest.mark.parametrize("prompt", [JUDGE, JUDGE_AGAIN])
def test_the_judge_is_told_both_answers_the_query_and_the_topic(prompt):
    assert sorted(re.findall(r"{(\w+)}", prompt)) == ["about", "adversarial", "preferred", "query"]
    assert tuple(ABOUT) == MODES
