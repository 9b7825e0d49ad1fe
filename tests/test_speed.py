"""campaigns/speed.py on a small model: it has all numbers; its sizes are the published ones."""

import json
import subprocess
import sys

import pytest
import torch
import transformers
from campaigns import speed, ways
from campaigns.ways import SIZES
from conftest import ROOT


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    out = tmp_path_factory.mktemp("speed") / "out/speed.json"
    argv = ["--all", "--out", str(out), "--device", "cpu", "--rounds", "1", "--max_new_tokens", "2"]
    command = [sys.executable, "tests/campaigns/speed.py", *argv]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stderr == "no --model given: using a small random model and its defaults\n"
    return json.loads(out.read_text())


def test_every_part_and_every_script_has_positive_seconds(numbers):
    measured = {"vision tower", "eight answers", "reference", "training step"}
    assert measured < numbers["parts"].keys()
    scripts = [f"make_pairs.py, {n} videos a batch" for n in speed.BATCHES]
    scripts += [f"train_dpo.py, {k} rejected" for k in speed.REJECTED] + ["evaluate.py"]
    assert numbers["scripts"].keys() - {"videos an hour"} == {*scripts}
    for part in [numbers["parts"][x] for x in measured] + [numbers["scripts"][x] for x in scripts]:
        assert part["seconds"] > 0
    rates = numbers["scripts"]["videos an hour"]
    assert list(rates) == [str(n) for n in speed.BATCHES]
    assert all(int(rate.replace(",", "")) > 0 for rate in rates.values())


def test_the_shares_of_a_step_are_of_known_operations_and_at_most_one(numbers):
    shares = numbers["parts"]["shares of a training step"]
    assert 0.5 < sum(shares.values()) <= 1.01 and "aten::mm" in shares


def test_the_time_of_a_step_is_divided_among_its_parts():
    weights, vocabulary = torch.randn(2, 400, 400).requires_grad_()

    def step():
        q = (weights @ vocabulary)[None, None]
        out = torch.nn.functional.scaled_dot_product_attention(q, q, q)
        torch.log_softmax(out, -1).sum().backward()

    found = ways.shares(step, 2)
    assert list(found) == list(ways.PARTS) and sum(found.values()) == pytest.approx(1)
    assert min(found.values()) > 0


def test_tokens_are_those_of_the_frames_and_of_the_responses(numbers):
    # 8 frames are 4 grids; 112 x 112 pixels are 8 x 8 patches, 4 x 4 tokens
    tokens = numbers["parts"]["tokens"]
    assert tokens["video"] == 4 * 16
    assert tokens["with 6 responses"] > 64 + 6 * speed.N_WORDS


@pytest.mark.parametrize(
    ("size", "millions"), [("qwen2.5-vl-7b", 8_292.166656), ("qwen2.5-vl-3b", 3_754.622976)]
)
def test_a_size_has_the_published_number_of_weights(size, millions):
    config = transformers.AutoConfig.from_pretrained(SIZES / f"{size}.json")
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == round(millions * 1e6)
