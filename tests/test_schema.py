"""Schemas of JSON files: the messages about values that do not fit, by hand.

python -m pytest -q tests/test_schema.py
"""

import json
from types import SimpleNamespace

import pytest
from test_selection import LEFT, RIGHT, candidate

from pasta.benchmarks.answers import earlier_rows
from pasta.benchmarks.report import scored_rows
from pasta.making.roles import Roles
from pasta.making.stages import candidates_in_order
from pasta.run.rows import read_rows, write_rows
from pasta.run.schema import ABSENT, NUMBER, read_by, read_json, schema_error
from pasta.training.loop import Log
from pasta.training.plan import Skipped


@pytest.mark.parametrize(
    ("value", "shape", "message"),
    [
        (3, str, "it is 3; expected str"),
        ({"a": None}, {"a": str | None}, ""),
        ({}, {"a": str | None}, "a is missing; expected str | None"),
        ({}, {"a": str | ABSENT}, ""),
        ({"a": None}, {"a": str | ABSENT}, "a is None; expected str"),
        ({"a": {"b": [1, True]}}, {"a": {"b": [NUMBER]}}, "a.b[1] is True; expected int | float"),
        ({"a": 2**63}, {"a": NUMBER}, f"a is {2**63}; expected int | float"),
        ({"a": []}, {"a": {"b": int, "c": int}}, "a is []; expected an object with b, c"),
        ({"a": {}}, {"a": [int]}, "a is {}; expected list"),
        ({"a": ["x"]}, {"a": ("x", "y")}, "a is ['x']; expected one of x, y"),
        ({"a": 1, "more": 2}, {"a": int}, ""),
        (True, object, ""),
    ],
)
def test_the_first_value_that_does_not_fit_is_named(value, shape, message):
    assert schema_error(value, shape) == message
    assert len(schema_error("x" * 1000, int)) < 120


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"5", b"[" * 10**5, b"\xef\xbb\xbf{",
                                  b'{"n": "\0"}', b'{"n": "\xff"}'])  # fmt: skip
def test_a_file_without_a_json_object_is_named(tmp_path, data):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ValueError, match="a.json.*expected an object"):
        read_json(tmp_path / "a.json")


def test_an_error_of_a_library_names_the_file():
    with pytest.raises(ValueError, match="a.bin: torch cannot read it: KeyError.*expected"):
        with read_by("torch", "a.bin"):
            raise KeyError("n")


QUERY = {"video": "/v.avi", "mode": "spatial", "n": 0, "topic": None, "query": "Where?"}
ANSWER = {"id": "t/0", "task": "t", "video": "v", "prompt": "?", "answer": "A", "response": "A",
          "predicted": "A", "correct": True, "fingerprint": "f"}  # fmt: skip


def in_order(path):
    config = SimpleNamespace(out=path.parent, judge="rules")
    if path.name != "queries.jsonl":
        write_rows(path.with_name("queries.jsonl"), [QUERY])
    candidates_in_order(config, ["/v.avi"], {"spatial": 1})


def stored(path):
    return Roles(SimpleNamespace(out=path.parent), "cpu")


FILES = {  # file: (its reader, a good row, changes that no row may have)
    "queries.jsonl": (in_order, QUERY, [{"mode": "odd"}, {"query": 5}, {"topic": {}}, {"n": "0"}]),
    "candidates.jsonl": (in_order, candidate(LEFT, ("frames", RIGHT)), [
        {"preferred": "left"}, {"adversarial": [{}]}, {"logps": [{"response": LEFT}]},
        {"recipe": None}, {"video": []},
    ]),
    "answers.jsonl": (lambda path: earlier_rows(path, {}), ANSWER, [
        {"id": []}, {"response": None}, {"fingerprint": 5}, {"correct": "yes"}, {"text": 5},
    ]),
    "scored.jsonl": (lambda path: scored_rows(path.parent), ANSWER, [{"id": {}}, {"task": None}]),
    "replies.jsonl": (stored, {"key": "k", "text": "yes", "finished": True}, [
        {"key": []}, {"text": None}, {"finished": "stop"},
    ]),
    "metrics.jsonl": (lambda path: Log(path, 9, 9), {"step": 1, "eval/loss": 0.5}, [
        {"step": "1"}, {"step": None}, {"eval/loss": "low"}, {"eval/loss": 10**400},
    ]),
    "skipped.jsonl": (lambda path: Skipped(path, 1, resume=True), {"video": "v", "pairs": ["a"]},
                      [{"video": []}, {"pairs": "a"}, {"pairs": [1]}, {"pairs": None}]),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_row_of_another_shape_is_refused_with_its_line_and_field(tmp_path, name):
    read, row, changes = FILES[name]
    write_rows(tmp_path / name, [row])
    read(tmp_path / name)
    for change in changes:
        write_rows(tmp_path / name, [row, row | change])
        with pytest.raises(ValueError, match=rf"{name}:2: {next(iter(change))}.* is .*expected"):
            read(tmp_path / name)


def test_a_row_nested_too_deep_is_refused_with_its_line(tmp_path):
    for end in ("\n", ""):
        (tmp_path / "rows.jsonl").write_text("{}\n" + '{"n":' * 10**5 + end)
        with pytest.raises(ValueError, match="rows.jsonl:2: .*expected one JSON object a line"):
            read_rows(tmp_path / "rows.jsonl")


def test_a_held_out_loss_that_is_not_a_number_is_never_the_best(tmp_path):
    losses = [float("nan"), 0.5, 0.7]
    rows = [{"step": n, "eval/loss": loss} for n, loss in enumerate(losses, 1)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    log = Log(tmp_path / "metrics.jsonl", 3, 9)
    assert log.best == 0.5 and not log.is_best({"eval/loss": 0.6})
