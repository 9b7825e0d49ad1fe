"""The texts that models are given to make pairs.

    python -m pytest tests/test_prompts.py
"""

import re
import runpy
from pathlib import Path

import pytest

from pasta import prompts
from pasta.making import stages
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


@pytest.mark.parametrize("prompt", [prompts.JUDGE_PAIR, prompts.JUDGE_AGAIN])
def test_the_judge_gets_both_answers_the_query_and_the_topic(prompt):
    assert sorted(re.findall(r"{(\w+)}", prompt)) == ["about", "adversarial", "preferred", "query"]
    assert tuple(prompts.ABOUT) == MODES


def test_a_mode_that_lacks_an_entry_is_named_before_anything_is_asked(monkeypatch):
    monkeypatch.delitem(prompts.PREMISES, MODES[-1])
    with pytest.raises(ImportError, match=f"^PREMISES has no entry for {MODES[-1]}; docs/chang"):
        runpy.run_path(stages.__file__)
