"""The requests to the asker, and the flaws of queries.

python -m pytest tests/test_queries.py
"""

from collections import Counter

import pytest
from test_candidates import FakeReader

from pasta.making.queries import cleaned, query_flaw, query_rows, topic_of, wanted_queries
from pasta.models.generate import Answer
from pasta.pairs import MODES
from pasta.prompts import QUERIES, query_prompt
from pasta.video import VideoError


class Asker:
    """Answers with the given texts, one after another, then with queries of the requests' seeds."""

    def __init__(self, *texts):
        self.texts, self.asked = list(texts), []

    def __call__(self, requests):
        self.asked += requests
        texts = [self.texts.pop(0) if self.texts else f"Is it {r.seed}?" for r in requests]
        return [Answer(text, (), 0.0, True) for text in texts]


def keys(*videos, n=1):
    return [(video, mode, i) for video in videos for mode in MODES for i in range(n)]


def wanted(*videos, n=1, reader=None):
    reader = reader or FakeReader()
    found = [wanted_queries(video, keys(video, n=n), reader, seed=0) for video in videos]
    return [item for items in found for item in items]


def rows_by(asker, items, earlier=(), failed=None):
    rows, failures = query_rows(items, dict(earlier), asker, "model")
    assert failures == (failed or {})
    return rows


def test_each_query_is_asked_for_with_an_instruction_of_its_mode_and_topic():
    asker = Asker()
    rows = rows_by(asker, wanted("a", "b", n=2))
    assert [(r["video"], r["mode"], r["n"]) for r in rows] == keys("a", "b", n=2)
    for row, request in zip(rows, asker.asked, strict=True):
        assert request.prompt == query_prompt(row["mode"], row["topic"])
        assert QUERIES[row["mode"]][row["topic"]] in request.prompt
        assert request.temperature == 1.0 and row["asker"] == "model"
        assert row["query"] == f"Is it {request.seed}?" and "flaw" not in row


def test_topics_come_in_turn_and_each_as_often_as_the_others():
    for mode in MODES:
        for video in "abcdef":
            assert {topic_of(0, video, mode, n) for n in range(3)} == set(QUERIES[mode])
        used = Counter(topic_of(0, f"v{i}", mode, 0) for i in range(900))
        assert min(used.values()) > 240  # 300 each by chance, with a spread of 14


def test_queries_of_one_video_share_its_inputs():
    reader = FakeReader()
    items = wanted("a", n=2, reader=reader)
    assert len(reader.prepared) == len({id(request.inputs) for _, request in items}) == 1


def test_a_corrupted_video_gets_no_query():
    with pytest.raises(VideoError):
        wanted("bad")


def test_a_query_does_not_depend_on_where_the_video_lies():
    here, there = Asker(), Asker()
    rows_by(here, wanted("/here/a"))
    rows_by(there, wanted("/there/a"))
    assert [r.seed for r in here.asked] == [r.seed for r in there.asked]


def test_a_query_that_asks_nothing_is_kept_with_its_flaw():
    asker = Asker("Left?", "no question", "Which first?")
    rows = rows_by(asker, wanted("a"))
    assert [row["query"] for row in rows] == ["Left?", "no question", "Which first?"]
    assert [row.get("flaw") for row in rows] == [None, "asks nothing", None]
    assert len(asker.asked) == 3


@pytest.mark.parametrize(
    ("texts", "videos", "earlier", "flaws"),
    [
        (["Is it left?", "Is it LEFT?", "So?"], "aaa", {}, ["", "repeats another", ""]),
        (["Is it left?"] * 2, "ab", {}, ["", ""]),  # about another video
        (["Is it left?"], "a", {"a": ["Is it left?"]}, ["repeats another"]),  # written before
    ],
)
def test_a_query_that_repeats_another_about_its_video_is_named(texts, videos, earlier, flaws):
    items = [wanted(video)[videos[:i].count(video)] for i, video in enumerate(videos)]
    rows = rows_by(Asker(*texts), items, earlier)
    assert [row.get("flaw", "") for row in rows] == flaws


def test_the_outcome_does_not_depend_on_how_many_are_asked_for_at_a_time():
    def say(requests):  # of few words, so that repeats are common
        return [Answer(f"Is it {'ab c'[r.seed % 4]}?", (), 0.0, True) for r in requests]

    items = wanted("a", n=3)
    together, alone, earlier = rows_by(say, items), [], {"a": []}
    for item in items:
        alone += rows_by(say, [item], earlier)
        earlier["a"] += [alone[-1]["query"]] * ("flaw" not in alone[-1])
    assert together == alone
    assert {row.get("flaw") for row in alone} == {None, "repeats another"}


def test_a_refused_query_gets_no_row_and_is_named():
    def refuse(requests):
        return [Answer("", (), 0.0, False, "too large")] + Asker()(requests[1:])

    rows = rows_by(refuse, wanted("a"), failed={"a": "too large"})
    assert [row["mode"] for row in rows] == list(MODES[1:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Is it left?", "Is it left?"),
        ('"Is it left?"', "Is it left?"),
        ("**Question:** Is it left?", "Is it left?"),
        ("Question 1: Is it left?", "Is it left?"),
        ("1. Is it left?\n2. Is it right?", "Is it left?"),
        ("Sure! Here it is:\n\nIs it left?", "Is it left?"),
        ("Questions are asked by whom?", "Questions are asked by whom?"),
        ("3 men or 2?", "3 men or 2?"),
        ("nothing", "nothing"),
        ("", ""),
    ],
)
def test_a_query_is_taken_out_of_what_is_around_it(text, expected):
    assert cleaned(text) == expected


@pytest.mark.parametrize(
    ("query", "flaw"),
    [
        ("Is it left?", ""),
        ("It is left.", "asks nothing"),
        ("What is <|video_pad|>?", "contains a special token"),
        ("<video> What is it?", "contains a special token"),
        ("Is 3 < 4 and 5 > 4?", ""),
        ("Where does the man put the red cup down?", ""),
        ("So where does the man put the red cup at the end?", ""),
        ("Where does a man put the red cup, at the end?", "repeats another"),
        ("Where does the man put the blue cup at the end?", ""),
        ("where does the man put the red cup, in the end", "asks nothing"),
    ],
)
def test_flaws_of_queries(query, flaw):
    assert query_flaw(query, ["Where does the man put the red cup at the end?"]) == flaw


def test_a_row_says_if_a_reply_was_cut_off():
    def ask(requests):
        return [Answer("Once upon", (), 0.0, i > 0) for i in range(len(requests))]

    rows = rows_by(ask, wanted("a"))
    assert [row.get("finished", True) for row in rows] == [False, *[True] * (len(MODES) - 1)]
