"""The texts that models are given to make pairs.

    python -m pytest tests/test_prompts.py
"""

import re
from pathlib import Path

import pytest

from pasta import prompts
from pasta.adversaries import ADVERSARIES
from pasta.judge import OPPOSITES
from pasta.pairs import MODES

PAGE = (Path(__file__).parent.parent / "docs/pairs.md").read_text()


@pytest.mark.parametrize("texts", [prompts.QUERIES, prompts.PREMISES])
def test_each_mode_has_as_many_as_the_page_says(texts):
    assert "three topics of queries and three premises per mode" in PAGE
    assert tuple(texts) == MODES
    assert all(len(set(kinds.values())) == 3 for kinds in texts.values())


@pytest.mark.parametrize("mode", MODES)
def test_the_asker_gets_the_kind_and_the_responder_the_premise_before_the_query(mode):
    for kind, text in prompts.QUERIES[mode].items():
        assert text in prompts.query_prompt(mode, kind)
    for name, text in prompts.PREMISES[mode].items():
        premise, _, query = prompts.misled_prompt(mode, name, "Where is it?").partition("\n")
        assert text in premise and query == "Where is it?"


def test_the_judge_gets_both_answers_the_query_and_the_topic():
    fields = re.findall(r"{(\w+)}", prompts.JUDGE_PAIR)
    assert sorted(fields) == ["about", "adversarial", "preferred", "query"]
    assert tuple(prompts.ABOUT) == MODES


@pytest.mark.parametrize("table", [ADVERSARIES, OPPOSITES], ids=["ADVERSARIES", "OPPOSITES"])
def test_each_mode_has_an_entry(table):  # the tables of prompts.py: see above
    assert tuple(table) == MODES
