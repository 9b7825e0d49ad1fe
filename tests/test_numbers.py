"""Numbers that are none stop a run, with the pairs that they are of; and what stops a run ends it.

python -m pytest -q tests/test_numbers.py
"""

import math
import os

import pytest
from conftest import end_of
from safetensors.torch import load_file
from torch import tensor

from pasta.reference import Known, cache_row
from pasta.run.rows import read_rows, write_rows
from pasta.training.loop import not_numbers

ROW = {"mode": "spatial", "id": "a", "loss": 0.7, "logps/chosen": -3.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", ["loss", "logps/chosen"])
def test_a_non_finite_value_is_named_with_its_pair(key, value):
    assert not_numbers([ROW, ROW | {"id": "b", key: value}]) == f"{key} of pair b is {value}"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_gradient_is_named_with_all_its_pairs(value):
    rows = [ROW, ROW | {"id": "b"}]
    assert not_numbers(rows, tensor(value)) == f"the gradient's norm is {value}, of pairs a, b"
    assert not not_numbers(rows, tensor(1.0))


@pytest.fixture
def ids(toy_pairs):
    """The ids of the pairs, which are in the file."""
    rows = [row | {"id": f"pair-{i}"} for i, row in enumerate(read_rows(toy_pairs))]
    write_rows(toy_pairs, rows)
    return [row["id"] for row in rows]


@pytest.mark.parametrize("n", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_an_infinite_gradient_stops_the_run_and_the_weights_before_it_are_kept(
    torchrun, tmp_path, ids, n
):
    process = torchrun(n, "run", beta=1e38)
    printed = end_of(process, 200)
    assert process.returncode == 1
    assert "update 1: the gradient's norm is nan, of pairs pair-" in printed
    (kept,) = (tmp_path / "run/checkpoints").iterdir()
    weights = load_file(kept / "rank0.safetensors")
    assert kept.name == "step-000000" and all(x.isfinite().all() for x in weights.values())
    assert not read_rows(tmp_path / "run/metrics.jsonl")  # no update was made


# Held-out pairs at the last update: its own numbers are of the weights before it.
@pytest.mark.parametrize(
    ("flags", "text", "n_rows"),
    [({}, "update 2: ", 1), ({"batch_pairs": 8, "holdout": 0.2}, "of the held-out pairs, ", 0)],
)
def test_logps_that_are_no_numbers_stop_the_run_with_the_id_of_their_pair(
    torchrun, tmp_path, ids, flags, text, n_rows
):
    process = torchrun(0, "run", lr=1e30, **flags)
    printed = end_of(process, 200)
    assert process.returncode == 1
    (line,) = [line for line in printed.splitlines() if text in line]
    assert any(f" of pair {known} is nan" in line or f" {known} is inf" in line for known in ids)
    assert len(read_rows(tmp_path / "run/metrics.jsonl")) == n_rows
    assert not (tmp_path / "run/adapter").exists()
    assert os.listdir(tmp_path / "run/checkpoints") == ["step-000001"]


@pytest.mark.parametrize("n", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_an_error_ends_the_run_though_processes_still_decode_for_it(torchrun, toy_pairs, ids, n):
    first = torchrun(0, "first")
    end_of(first)
    assert first.returncode == 0
    cache = toy_pairs.with_name("reference.jsonl")
    wrong = [(row["key"], Known(row["logps"] - 10, row["tokens"])) for row in read_rows(cache)]
    write_rows(cache, [cache_row(key, value) for key, value in wrong])
    process = torchrun(n, "second", epochs=50)
    printed = end_of(process, 100)
    assert process.returncode == 1 and "before any training the policy gives" in printed
    assert f"response of pair {ids[0][:5]}" in printed
