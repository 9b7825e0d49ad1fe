"""pasta/tools/speed.py at a tiny size: the two ways it times are the same computation.

python -m pytest -q tests/test_speed.py
"""

import pytest
import torch

from pasta.config import parse
from pasta.tools.speed import SpeedConfig, main, peak_memory, step, two_ways

TINY = "--rounds 1 --prompt_tokens 256 --layers 2 --width 96 --vocabulary 128 --no-memory".split()


@pytest.fixture
def config():
    return parse(SpeedConfig, TINY)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_rows_and_pack_give_the_same_log_probabilities(config, checkpointing):
    policy, ways = two_ways(config, 3, checkpointing)
    rows, packed = (step(policy, ways[name]) for name in ("rows", "packed"))
    assert rows.shape == (4,)
    assert (rows - packed).abs().max() < 1e-5 * rows.abs().max()


def test_rows_of_another_video_do_not(config):
    policy, ways = two_ways(config, 1, False)
    before = ways["packed"]()
    torch.manual_seed(1)
    policy.model.model.visual.merger.mlp[2].weight.data.normal_()  # what is seen
    assert (before - ways["rows"]()).abs().max() > 1e-3 * before.abs().max()


def test_the_table_has_a_row_for_every_k_with_and_without_checkpointing(config, capsys):
    main(config)
    table = [line.split("|")[0].split() for line in capsys.readouterr().out.splitlines()]
    assert table[1:5] == [["1", "no"], ["1", "yes"], ["3", "no"], ["3", "yes"]]


def test_a_step_takes_memory_above_the_model(config):
    config.prompt_tokens, config.vocabulary = 1000, 20000
    assert peak_memory(config, 3, False, "rows") >= 0
