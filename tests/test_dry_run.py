"""--dry_run: what it counts is what the run would do, and nothing is written.

    python -m pytest -q tests/test_dry_run.py
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import evaluate
import make_pairs
import train_dpo
from pasta.attention import dense_mask
from pasta.models.load import load_vlm
from pasta.packs import TooLong, pack_responses
from pasta.policy import Policy
from pasta.run.config import parse
from pasta.run.rows import read_rows, write_rows
from pasta.tools import dry_run
from pasta.tools.costs import costs_of
from pasta.tools.speed_models import settings_of
from pasta.toy.files import write_benchmark


@pytest.fixture
def seven_billions(tmp_path):
    """A folder with the config.json of Qwen2.5-VL-7B's sizes, and no weights."""
    settings_of(SimpleNamespace(model="qwen2.5-vl-7b")).save_pretrained(tmp_path / "7b")
    return tmp_path / "7b"


@pytest.fixture(autouse=True)
def known_rates(monkeypatch):
    """A device of 1 TFLOP/s and 1 GB/s: nothing is measured."""
    monkeypatch.setattr(dry_run, "rates", lambda *_: (1e12, 1e9))


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def dry(script, cls, capsys, *argv):
    """What a script prints with --dry_run, its commas taken out of numbers."""
    main, config = script.main, parse(cls, [*map(str, argv), "--dry_run"])
    main(config)
    return re.sub(r"(?<=\d),(?=\d)", "", capsys.readouterr().out)


@pytest.fixture
def training(tiny_folder, toy_pairs, toy_videos, tmp_path, capsys):
    def run(*more):
        argv = ["--model", tiny_folder, "--pairs", toy_pairs, "--video_root", toy_videos]
        argv += ["--out", tmp_path / "run", "--dtype", "float32", "--device", "cpu", *more]
        return dry(train_dpo, train_dpo.TrainConfig, capsys, *argv)

    return run


def test_a_model_of_published_sizes_has_the_published_number_of_weights(seven_billions):
    assert costs_of(seven_billions).total == 8_292_166_656  # "8.29B params" on its page


def test_an_adapter_of_the_7b_has_as_many_weights_as_by_hand(seven_billions):
    q_o, k_v, mlp = 2 * (3584 + 3584), 2 * (3584 + 512), 3 * (3584 + 18944)
    by_hand = 28 * 32 * (q_o + k_v + mlp)
    assert costs_of(seven_billions, lora_rank=32, train=True).trained == by_hand


def test_operations_are_those_that_torch_counts(tiny, tiny_folder, tiny_inputs):
    pack, _ = pack_responses(tiny.processor, tiny_inputs[0], [("Where is it?", "left"), ("", "")])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Policy(tiny)(pack, mask=dense_mask(pack.lengths))  # what the counter can follow
    counted = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in counted.items() if "attention" not in str(op))
    costs = costs_of(tiny_folder)
    patches = costs.patches(pack.inputs)
    assert patches == len(pack.inputs.pixel_values)
    forward = costs.forward(pack.lengths, patches, len(pack.keep))
    seen = sum(n * (n + 1) // 2 for n in pack.lengths) + pack.lengths[0] * sum(pack.lengths[1:])
    attention = 4 * 4 * 32 * 4 * seen  # 4 operations, 4 heads of width 32, 4 layers
    assert sum(forward) - attention == pytest.approx(products, rel=0.05)


def test_a_training_is_counted(training):
    told = training("--batch_pairs", 4, "--epochs", 2)
    assert "8 pairs of 5 videos, 2 times; 0 videos held out" in told
    (updates,) = re.findall(r"(\d+) updates", told)
    assert int(updates) in (4, 5, 6)  # 8 pairs in videos of 3, 1, 2, 1, 1: two or three an epoch


def test_tokens_of_an_epoch_are_those_of_the_packs(training, tiny, toy_pairs, toy_videos):
    rows, total = read_rows(toy_pairs), 0
    for video in {row["video"] for row in rows}:
        here = [row for row in rows if row["video"] == video]
        texts = {(r["query"], r[side]) for r in here for side in ("chosen", "rejected")}
        segments = [tiny.processor.query_ids(q) + tiny.processor.response_ids(r) for q, r in texts]
        total += 2 + 8 * 4 + sum(map(len, segments))  # marks, and 8 grids of 4 tokens
    (told,) = re.findall(r"tokens: about (\d+) an epoch", training())
    assert int(told) == total


def test_a_dry_training_writes_nothing(training, tmp_path, toy_videos):
    before = files(tmp_path), files(toy_videos)
    assert training().rstrip().endswith("without --dry_run it begins")
    assert (files(tmp_path), files(toy_videos)) == before


def test_a_video_that_cannot_be_read_is_named_and_the_others_count(training, toy_pairs, capsys):
    rows = read_rows(toy_pairs)
    broken = toy_pairs.with_name("broken.avi")
    broken.write_bytes(b"no video")
    write_rows(toy_pairs, [rows[0] | {"video": str(broken)}, *rows[1:]])
    told = training()
    assert "left out" in told and "broken.avi" in told
    assert "time: about" in told


def test_a_pair_that_is_too_long_is_told_before_the_run_meets_it(training):
    with pytest.raises(TooLong, match="--max_length is 40"):
        training("--max_length", 40)


@pytest.mark.parametrize("rank", [0, 8])
def test_the_memory_is_that_of_weights_gradients_and_moments(training, tiny_folder, rank):
    costs = costs_of(tiny_folder, rank, train=True)
    if rank:  # an adapter beside a frozen model
        by_hand = 4 * costs.total + 16 * costs.trained
    else:  # all but the vision tower, which is what is not in the decoder
        vision = sum(
            p.numel() for name, p in load_vlm(tiny_folder).model.named_parameters()
            if ".visual." in name
        )  # fmt: skip
        by_hand = 4 * vision + 16 * (costs.total - vision)
    assert f"memory: {by_hand / 1e6:.1f} MB for weights" in training("--lora_rank", rank)


def test_flags_that_a_run_cannot_begin_with_are_refused(training):
    with pytest.raises(SystemExit, match="--mode_weights takes 3 numbers"):
        training("--mode_weights", 1, 2)


def test_pair_making_is_counted_and_writes_nothing(tiny_folder, toy_videos, tmp_path, capsys):
    argv = ["--responder", tiny_folder, "--videos", toy_videos, "--out", tmp_path / "pairs"]
    argv += ["--dtype", "float32", "--device", "cpu", "--candidates", 2, "--max_new_tokens", 10]
    told = dry(make_pairs, make_pairs.PairsConfig, capsys, *argv)
    assert "5 videos, 15 queries, 45 answers, at most 30 pairs" in told
    assert f"asker {tiny_folder}: about" in told and "150 written at most" in told
    assert f"responder {tiny_folder}: about" in told and "450 written at most" in told
    assert not (tmp_path / "pairs").exists()


def test_own_queries_are_counted_and_need_no_asker(tiny_folder, toy_videos, tmp_path, capsys):
    row = {"video": "00001.avi", "mode": "spatial", "query": "Where is it?"}
    write_rows(tmp_path / "own.jsonl", [row, row | {"mode": "temporal"}])
    argv = ["--responder", tiny_folder, "--videos", toy_videos, "--out", tmp_path / "pairs"]
    argv += ["--dtype", "float32", "--device", "cpu", "--queries", tmp_path / "own.jsonl"]
    told = dry(make_pairs, make_pairs.PairsConfig, capsys, *argv)
    assert "2 queries, 8 answers" in told and "asker" not in told


def test_decoding_reads_the_weights_once_a_step(tiny_folder):
    config = SimpleNamespace(batch_size=4, dtype="bfloat16")
    costs = costs_of(tiny_folder)
    _, read = dry_run.decoded(costs, config, n_rows=10, n_new=7)
    assert read == 3 * 7 * 2 * costs.total  # three batches, seven steps, two bytes


def test_scoring_is_counted_and_writes_nothing(tiny_folder, tmp_path, capsys):
    data = tmp_path / "bench"
    data.mkdir()
    write_benchmark(data, 4, seed=0)
    argv = ["--model", tiny_folder, "--data", data, "--out", tmp_path / "eval", "--device", "cpu"]
    told = dry(evaluate, evaluate.EvalConfig, capsys, *argv, "--dtype", "float32")
    n = sum(len(json.loads(path.read_text())) for path in (data / "json").glob("*.json"))
    assert f"{n} questions about" in told and f"to {Path(tiny_folder).name}" in told
    assert not (tmp_path / "eval").exists()


def test_time_is_operations_and_weights_over_the_rates(capsys):
    dry_run.tell("cpu", "float32", operations=0.4e12 * 3600, weights_read=3600e9)
    assert "about 2.0 h" in capsys.readouterr().out
