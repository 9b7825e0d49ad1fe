"""Every file of rows, damaged in thousands of ways, is read or refused with file and line.

PASTA_FUZZ=50 python -m pytest -q tests/test_fuzz*.py
"""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from damage import fuzz, survives, typed
from test_reference import SETTING, Scorer, pair
from test_selection import LEFT, RED, RIGHT, candidate, rules

from pasta.benchmarks import Item, benchmark
from pasta.benchmarks.answers import earlier_rows, reread
from pasta.benchmarks.report import scored_rows
from pasta.datasets.read import read_pairs
from pasta.making.audit import audit_of, audit_table
from pasta.making.queries import own_queries
from pasta.making.roles import Roles
from pasta.making.stages import candidates_in_order
from pasta.packs import by_video
from pasta.pairs import GROUPS, MODES, Pair
from pasta.reference import ReferenceCache, reference_logps
from pasta.run.rows import read_rows, write_rows
from pasta.selection import make_pairs
from pasta.training.loop import Log
from pasta.training.plan import Skipped

MVBENCH = benchmark("mvbench")
PAIR = {"id": "a", "video": "v.mp4", "mode": "temporal", "query": "Which?", "chosen": "red",
        "rejected": "blue", "recipe": {"kind": "prompt"}}  # fmt: skip
SHAPES = [  # of other trainers, one a row
    {"videos": ["v.mp4"], "messages": [{"role": "user", "content": "<video>Which?"},
     {"role": "assistant", "content": "red"}], "rejected_response": "blue", "mode": "spatial"},
    {"video": "v", "conversations": [{"from": "human", "value": "Which?"}], "chosen": "red",
     "rejected": [{"response": "green"}, {"response": "blue"}], "failure mode": "cross-frame"},
    {"video": "v.mp4", "instruction": "Which?", "input": "Left?", "history": [], "mode": "spatial",
     "chosen": {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
     "rejected": "blue"},
]  # fmt: skip
ITEM = Item("t/0", "t", "v.mp4", Path("v.mp4"), "Which?", ("x", "y"), "A")
SCORED = {"id": "t/0", "task": "t", "video": "v.mp4", "prompt": "Which?", "answer": "A",
          "response": "(A)", "predicted": "A", "correct": True, "seconds": 1.0}  # fmt: skip


def pairs(folder):
    def read():
        for one in read_pairs(path):
            typed(one, Pair)
            for text in (one.id, one.video, one.query, one.chosen, one.rejected):
                text.encode("utf-8")
            assert one.mode in GROUPS and isinstance(one.recipe, dict)

    (folder / "v.mp4").touch()
    write_rows(path := folder / "pairs.jsonl", [PAIR, *SHAPES])
    return path, read


def listed_pairs(folder):
    path, _ = pairs(folder)
    path.with_suffix(".json").write_text(json.dumps(read_rows(path)))
    return path.with_suffix(".json"), lambda: read_pairs(path.with_suffix(".json"))


def queries_of_ones_own(folder):
    def read():
        rows, _ = own_queries(path, [str(folder / "v.mp4")], folder)
        for row in rows:
            row["query"].encode("utf-8")
            typed(row["topic"], str, type(None))

    row = {"video": "v.mp4", "mode": "spatial", "query": "Which?", "topic": "order"}
    write_rows(path := folder / "own.jsonl", [row, row | {"mode": "temporal"}])
    return path, read


def made(folder, damage, select):
    """Files of make_pairs.py, one of which is damaged, and what its last stage makes of them."""

    def read():
        config = SimpleNamespace(out=folder, judge="rules")
        rows = candidates_in_order(config, ["/v.avi"], dict.fromkeys(MODES, 1))
        try:
            for one in sum(make_pairs(rows, rules, select), []):
                typed(one["chosen"], str)
        except ValueError as error:  # which answers were scored depends on --select
            assert "/v.avi" in str(error) and "choose another --select" in str(error)

    logps = {LEFT: (-1.0, -4.0), RIGHT: (-2.0, -2.5), RED: (-3.0, -3.5)} if select else ()
    answers = (("frames", RIGHT), ("prompt", RED))
    rows = [candidate(LEFT, *answers, logps=logps, query=query) for query in ("Which?", "Where?")]
    asked = {"mode": "spatial", "video": "/v.avi", "topic": None, "flaw": "repeats another"}
    asked = [asked | {"n": n, "query": row["query"]} for n, row in enumerate(rows)]
    asked = [{k: v for k, v in row.items() if k != "flaw" or row["n"]} for row in asked]
    write_rows(folder / "queries.jsonl", [*asked, asked[0] | {"query": "Where?", "n": 2}])
    write_rows(folder / "candidates.jsonl", rows)
    return folder / damage, read


def answers(folder):
    def read():
        for row in earlier_rows(path, {"t/0": "f"}).values():
            typed(reread(MVBENCH, row, ITEM, "head")["correct"], bool)

    rows = [SCORED | {"fingerprint": "f", "text": "<think>x</think>(A)"}]
    write_rows(path := folder / "answers.jsonl", rows + [rows[0] | {"fingerprint": "old"}])
    return path, read


def answers_that_were_scored(folder):
    failed = {"response": "", "predicted": None, "correct": False, "error": "cut"}
    write_rows(path := folder / "scored.jsonl", [SCORED, SCORED | failed])
    return path, lambda: MVBENCH.aggregate(list(scored_rows(folder).values()))


def metrics(folder):
    write_rows(path := folder / "metrics.jsonl", [{"step": 1, "eval/loss": 0.7}, {"step": 2}])
    return path, lambda: typed(Log(path, 1, 2).is_best({"eval/loss": 0.1}), bool)


def reference(folder):
    (folder / "v.mp4").write_text("v")
    cache = ReferenceCache(folder / "reference.jsonl", SETTING)
    groups = by_video([pair(folder / "v.mp4", "left", "right")])
    reference_logps(cache, groups, Scorer(), Scorer())
    written = cache.read()

    def read():  # a number that was not written is never read
        assert cache.read().items() <= written.items()

    return cache.path, read


def replies(folder):
    row = {"by": "m", "key": "k", "prompt": "Fits?", "text": "yes", "finished": True}
    write_rows(path := folder / "replies.jsonl", [row, row | {"key": "l"}])

    def read():
        roles = Roles(SimpleNamespace(out=folder), "cpu")
        return [typed(answer.text, str) for answer in roles.known.values()]

    return path, read


def skipped(folder):
    write_rows(path := folder / "skipped.jsonl", [{"video": "v", "pairs": ["a"], "reason": "cut"}])
    return path, lambda: [typed(x, str) for x in sum(Skipped(path, 1, resume=True).written, ())]


def audited(folder, damage):
    """Files of make_pairs.py, one of which is damaged, and the audit of them."""
    pair = PAIR | {"blind": 0.3, "sides": ["left", "right"], "recipe": {"topic": "order"}}
    write_rows(folder / "pairs.jsonl", [pair, pair | {"blind": None, "sides": None}])
    write_rows(folder / "dropped.jsonl", [{"mode": "spatial", "reason": "length"}] * 2)
    return folder / damage, lambda: typed(audit_table(audit_of(folder)), str)


FILES = {
    **{f.__name__: f for f in (pairs, listed_pairs, queries_of_ones_own, answers, metrics,
                               answers_that_were_scored, reference, replies, skipped)},
    **{f"audit of {name}": lambda folder, name=name: audited(folder, f"{name}.jsonl")
       for name in ("pairs", "dropped")},
    "queries": lambda folder: made(folder, "queries.jsonl", "none"),
    **{f"candidates, {how}": lambda folder, how=how: made(folder, "candidates.jsonl", how)
       for how in ("none", "flip", "contrast")},
}  # fmt: skip


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_row_is_read_or_refused_with_its_line(file, tmp_path):
    path, read = FILES[file](tmp_path)
    read()

    fuzz(150, lambda data: survives(data, path, read))
