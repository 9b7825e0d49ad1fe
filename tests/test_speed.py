"""pasta/tools/speed*.py at a tiny size: the ways are the same computation, the counts are right.

Operations are counted again by torch's FlopCounterMode, TRL is compared where it is installed, and
README's figures with those of docs/speed.md.
    python -m pytest -q tests/test_speed.py
"""

import re
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from rounding import close_sums
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pasta.attention import dense_mask
from pasta.lora import adapter_off
from pasta.packs import seen_pairs
from pasta.run.config import parse
from pasta.tools import speed_hardware
from pasta.tools.speed import SpeedConfig, main, measure, memory_of, table_row
from pasta.tools.speed_hardware import (
    KERNEL,
    attention_kernels,
    matmul_rate,
    peak_memory,
    step_flops,
)
from pasta.tools.speed_layouts import dpo_step, ways_of
from pasta.tools.speed_models import PUBLISHED, random_model

ROOT = Path(__file__).parent.parent
TINY = "--rounds 1 --n_frames 2 --layers 2 --width 96 --vocabulary 128 --no-memory --device cpu"
WAYS = ["packed", "live", "rows", "once", "bare"]


@pytest.fixture
def config():
    return parse(SpeedConfig, TINY.split())


@pytest.fixture
def with_trl():
    pytest.importorskip("trl")
    return parse(SpeedConfig, f"{TINY} --peer trl".split())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_all_ways_give_the_same_log_probabilities(config, checkpointing):
    task, ways = ways_of(config, 3, checkpointing)
    packed = ways["packed"]()
    assert list(ways) == WAYS and packed.shape == (4,)
    for way in WAYS:
        assert close_sums(ways[way](), packed, task.lengths), way


@pytest.mark.parametrize("checkpointing", [False, True])
def test_trl_gives_the_same_log_probabilities(with_trl, checkpointing):
    task, ways = ways_of(with_trl, 3, checkpointing)
    packed, trl = ways["packed"](), ways["trl"]()
    assert trl.shape == (4,)
    assert close_sums(trl, packed, task.lengths)


def test_trl_shares_the_weights_and_has_the_adapter(with_trl):
    """Random adapters differ; so the same log-probabilities mean that ours was copied."""
    task, ways = ways_of(with_trl, 1, False)
    before = ways["trl"]()
    assert (before - task.reference).abs().max() > 1e-3 * before.abs().max()
    task.policy.model.model.language_model.norm.weight.data.mul_(2)
    assert (ways["trl"]() - before).abs().max() > 1e-3 * before.abs().max()


def test_without_trl_its_packages_are_named(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.delitem(sys.modules, "pasta.tools.speed_trl", raising=False)
    config.peer = "trl"
    with pytest.raises(SystemExit, match="requirements-dev"):
        main(config)


def test_rows_under_another_vision_tower_differ(config):
    task, ways = ways_of(config, 1, False)
    before = ways["packed"]()
    torch.manual_seed(1)
    task.policy.model.model.visual.merger.mlp[2].weight.data.normal_()
    assert (before - ways["rows"]()).abs().max() > 1e-3 * before.abs().max()


def test_the_vision_tower_sees_the_video_in_each_row_or_once(config):
    task, ways = ways_of(config, 3, False)
    seen = []
    tower = task.policy.model.model.visual
    tower.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    for way in WAYS:
        ways[way]()
    once = len(task.inputs.pixel_values)
    assert seen == [once, once, once, 4 * once, once, 4 * once]  # `live` looks twice


def test_the_known_reference_is_the_live_one(config):
    task, ways = ways_of(config, 1, False)
    policy = ways["packed"]()
    with adapter_off(task.policy):
        assert torch.equal(task.policy(task.pack), task.reference)
    assert (policy - task.reference).abs().max() > 1e-3 * policy.abs().max()


def test_flops_are_those_that_torch_counts(config):
    """Dense attention computes all L x L pairs, and the first layer's input has no gradient."""
    task, _ = ways_of(config, 3, False)
    mask = dense_mask(task.pack.lengths)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        dpo_step(task, lambda: task.policy(task.pack, mask))
    tokens = sum(task.pack.lengths)
    hidden_by_mask = 12 * 96 * (tokens**2 - seen_pairs(task.pack.lengths)) * 2  # 2 layers
    first_inputs = 2 * tokens * (96 * 96 + 2 * 96 * 24 + 3 * 96 * 16)  # q, k, v, their adapters' A
    counted = counter.get_total_flops() - hidden_by_mask + first_inputs
    assert step_flops(task.policy.model.config, task.pack, rank=16) == counted


@pytest.mark.parametrize("lengths", [(1, 1), (5, 2, 3), (7, 1, 1, 4)])
def test_seen_pairs_are_those_of_the_mask(lengths):
    assert seen_pairs(lengths) == dense_mask(lengths).sum()


def test_kernels_are_told_by_piece(config):
    task, ways = ways_of(config, 3, False)
    kernel = "flash_attention_for_cpu"
    found = attention_kernels(ways["packed"], task.pack)  # 3 x 4 windows; blocks, layers: 1, 1; 2
    calls = {"window": 12, "frame": 1, "prefix": 2, "segment": 8}
    assert found == {piece: {kernel: n} for piece, n in calls.items()}
    with sdpa_kernel(SDPBackend.MATH):
        found = attention_kernels(ways["packed"], task.pack)
    assert found == {piece: {"attention_math": n} for piece, n in calls.items()}


@pytest.mark.parametrize(
    "operator",
    [
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_efficient_attention_forward",
    ],
)
def test_the_operators_of_a_gpu_are_known(operator):
    assert hasattr(torch.ops.aten, operator) and KERNEL.fullmatch(f"aten::{operator}")


@pytest.mark.parametrize(
    "model, parameters", [("qwen2.5-vl-3b", 3_754_622_976), ("qwen2.5-vl-7b", 8_292_166_656)]
)
def test_published_sizes_have_the_published_number_of_parameters(model, parameters):
    config = parse(SpeedConfig, ["--model", model, "--device", "meta"])
    weights = list(random_model(config).parameters())
    assert sum(p.numel() for p in weights) == parameters
    assert {p.dtype for p in weights} == {torch.bfloat16}
    assert (config.lora_rank, config.n_frames) == (32, 32)


def test_the_table_has_a_row_for_every_k_and_way_with_and_without_checkpointing(config, capsys):
    main(config)
    lines = capsys.readouterr().out.splitlines()
    table = [tuple(line.split()[:3]) for line in lines if line.endswith(tuple("0123456789"))]
    assert table[-20:] == list(product("13", ("no", "yes"), WAYS))
    assert sum("utilisation" in line for line in lines) == 4


def test_the_table_has_a_row_for_trl(with_trl, capsys):
    with_trl.k = ["1"]
    main(with_trl)
    assert re.search(r"^1  no +trl +\d", capsys.readouterr().out, re.M)


def test_a_way_that_does_not_fit_is_left_out(config):
    def too_large():
        raise torch.OutOfMemoryError("CUDA out of memory")

    found = measure(config, 1, False, {"packed": lambda: torch.zeros(2), "rows": too_large})
    assert list(found) == ["packed"]
    assert table_row(found, "rows") == "does not fit"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_step_takes_memory_above_the_model(config):
    assert memory_of(config, 1, False, "rows", None) > 0


def test_memory_of_a_gpu_is_what_a_step_adds_at_its_peak(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", calls.append)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 100 + 7 * len(calls))
    assert peak_memory(lambda: calls.append("step"), "cuda:1") == 14
    assert calls == ["cuda:1", "step"]


def test_the_rate_of_a_product_that_takes_a_second(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(speed_hardware.time, "perf_counter", lambda: next(clock))
    assert matmul_rate("cpu", torch.float32) == 2 * 2048**3


def test_every_published_size_is_a_choice_of_model():
    for name in PUBLISHED:
        assert parse(SpeedConfig, ["--model", name]).model == name


def table_cells(text):
    """The cells of each row of the Markdown tables in a text."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_readme_says_what_docs_speed_says():
    docs = table_cells((ROOT / "docs" / "speed.md").read_text())
    measured = {tuple(row[:3]): row[3:] for row in docs if len(row) == 8}
    section = (ROOT / "README.md").read_text().split("### Speed")[1].split("\n## ")[0]
    names = {"packed": "live", "rows of": "rows", "the same without": "bare", "TRL": "trl"}
    compared = []
    for label, *shown in table_cells(section):
        for way in (way for name, way in names.items() if label.startswith(name)):
            of = [measured["3", checkpointing, way] for checkpointing in ("no", "yes")]
            expected = [float(row[column]) for row in of for column in (1, 4)]
            assert [float(x) for x in shown] == expected, way
            compared.append(way)
    assert set(compared) == set(names.values())
    tokens = SpeedConfig.__dataclass_fields__["n_frames"].metadata["toy"] // 2 * 192
    assert f"the video of {tokens:,} tokens" in section
