"""campaigns/ways.py at a tiny size: all ways compute the same thing.

TRL is compared if it is installed. README's numbers are those of docs/speed.md.
"""

import json
import re
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from campaigns import ways as campaign
from campaigns.ways import (
    SIZES,
    SpeedConfig,
    main,
    measure,
    peak_memory,
    random_model,
    ways_of,
)
from rounding import close_sums

from pasta.lora import adapter_off
from pasta.run.config import parse

ROOT = Path(__file__).parent.parent
TINY = {
    "text_config": {"vocab_size": 128, "hidden_size": 96, "intermediate_size": 256,
                    "num_hidden_layers": 2, "initializer_range": 96**-0.5,
                    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6,
                                        "mrope_section": [2, 2, 2]}},
    "vision_config": {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 96},
}  # fmt: skip
WAYS = ["packed", "live", "rows", "bare"]
if PEER := find_spec("trl"):
    from campaigns.peer_trl import trl_step as PEER


@pytest.fixture
def config(monkeypatch, tmp_path):
    tiny = json.loads((SIZES / "small.json").read_text())
    for part, smaller in TINY.items():
        tiny[part] |= smaller
    (tmp_path / "tiny.json").write_text(json.dumps(tiny))
    monkeypatch.setattr(campaign, "SIZES", tmp_path)
    config = parse(SpeedConfig, "--rounds 1 --n_frames 2 --device cpu".split())
    config.model = "tiny"
    return config


@pytest.mark.parametrize("checkpointing", [False, True])
def test_all_ways_give_the_same_log_probabilities(config, checkpointing):
    task, ways = ways_of(config, 3, checkpointing, PEER)
    assert list(ways) == WAYS + ["trl"] * bool(PEER)
    packed = ways["packed"]()
    for way, step in ways.items():
        assert close_sums(step(), packed, task.pack.response_lengths), way


def test_trl_shares_the_weights_and_has_the_adapter(config):
    """Random adapters differ, so equal log-probabilities mean that ours was copied."""
    pytest.importorskip("trl")
    task, ways = ways_of(config, 1, False, PEER)
    before = ways["trl"]()
    assert (before - task.reference).abs().max() > 1e-3 * before.abs().max()
    task.policy.model.model.language_model.norm.weight.data.mul_(2)
    assert (ways["trl"]() - before).abs().max() > 1e-3 * before.abs().max()


def test_rows_under_another_vision_tower_differ(config):
    task, ways = ways_of(config, 1, False)
    before = ways["packed"]()
    torch.manual_seed(1)
    task.policy.model.model.visual.merger.mlp[2].weight.data.normal_()
    assert (before - ways["rows"]()).abs().max() > 1e-3 * before.abs().max()


def test_the_vision_tower_sees_the_video_once_per_row(config):
    (task, ways), seen = ways_of(config, 3, False), []
    tower = task.policy.model.model.visual
    tower.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    for way in WAYS:
        ways[way]()
    once = len(task.pack.inputs.pixel_values)
    assert seen == [once, once, once, 4 * once, 4 * once]  # `live` computes it twice


def test_the_known_reference_is_the_live_one(config):
    task, ways = ways_of(config, 1, False)
    policy = ways["packed"]()
    with adapter_off(task.policy):
        assert torch.equal(task.policy(task.pack), task.reference)
    assert (policy - task.reference).abs().max() > 1e-3 * policy.abs().max()


def test_the_published_size_has_the_published_number_of_parameters():
    config = parse(SpeedConfig, ["--model", "qwen2.5-vl-7b", "--device", "meta"])
    weights = list(random_model(config).parameters())
    assert sum(p.numel() for p in weights) == 8_292_166_656  # "8.29B params" on its page
    assert {p.dtype for p in weights} == {torch.bfloat16}
    assert (config.lora_rank, config.n_frames) == (32, 32)


def test_the_table_has_a_row_for_every_k_and_way_with_and_without_checkpointing(config, capsys):
    rows = []
    main(config, PEER)
    for table in capsys.readouterr().out.split("\nk = ")[1:]:
        k, checkpointing = re.match(r"(\d), checkpointing (\w+)", table).groups()
        ways = re.findall(r"^(\w+) +[\d.]+ +[\d.]+x .*\d +[\d.]+x$", table, re.M)
        rows += [(k, checkpointing, way) for way in ways]
    ways = WAYS + ["trl"] * bool(PEER)
    assert rows == list(product("13", ("off", "on"), ways))


@pytest.mark.parametrize("large", [["rows"], ["packed", "rows"]])
def test_a_way_that_does_not_fit_is_left_out(config, capsys, monkeypatch, large):
    too_large = Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory"))
    task, ways = ways_of(config, 1, False)
    ways |= dict.fromkeys(large, too_large)
    assert list(measure(ways, 1, "cpu")[0]) == [way for way in WAYS if way not in large]
    monkeypatch.setattr(campaign, "ways_of", lambda *_: (task, ways))
    campaign.report(config, 1, False)
    assert "rows    does not fit\n" in capsys.readouterr().out


def test_memory_of_a_cpu_is_that_of_all_tensors_at_the_peak():
    def step():
        first = torch.ones(2**20)
        del first
        return torch.ones(2**20) + torch.ones(2**20)  # three tensors at the same time

    assert peak_memory(step, "cpu") == pytest.approx(3 * 4 * 2**20, rel=1e-3)


def test_memory_of_a_gpu_is_what_a_step_adds_at_its_peak(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", calls.append)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 100 + 7 * len(calls))
    assert peak_memory(lambda: calls.append("step"), "cuda:1") == 14
    assert calls == ["cuda:1", "step"]


def table_cells(text):
    """The cells of each row of the Markdown tables in a text."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_readme_has_the_numbers_of_docs_speed():
    docs = table_cells((ROOT / "docs" / "speed.md").read_text())
    measured = {tuple(row[:3]): row[3:] for row in docs if len(row) == 8}
    before, section = (ROOT / "README.md").read_text().split("| method | time | memory")
    names = {"packed": "live", "one row per response": "bare", "TRL": "trl"}
    compared = []
    for label, *cells in table_cells(section.split("\n## ")[0]):
        for way in (way for name, way in names.items() if label.startswith(name)):
            of = [measured["3", checkpointing, way] for checkpointing in ("no", "yes")]
            expected = [float(row[column]) for row in of for column in (1, 4)]
            assert [float(x) for x in cells] == expected, way
            compared.append(way)
    assert set(compared) == set(names.values())
    tokens = SpeedConfig.__dataclass_fields__["n_frames"].metadata["toy"] // 2 * 192
    assert f"a video of {tokens:,} tokens" in before
