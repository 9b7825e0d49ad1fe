"""pasta/tools/speed.py at a tiny size: the ways it times are the same computation.

python -m pytest -q tests/test_speed.py
"""

import sys
from itertools import product

import pytest
import torch

from pasta.config import parse
from pasta.tools.speed import WAYS, SpeedConfig, in_own_process, main, step, ways_of

TINY = "--rounds 1 --prompt_tokens 256 --layers 2 --width 96 --vocabulary 128 --no-memory".split()


@pytest.fixture
def config():
    return parse(SpeedConfig, TINY)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_rows_and_pack_give_the_same_log_probabilities(config, checkpointing):
    policy, ways = ways_of(config, 3, checkpointing)
    packed, rows, bare = (step(policy, way) for way in ways.values())
    assert packed.shape == (4,)
    assert (rows - packed).abs().max() < 1e-5 * packed.abs().max()
    assert (bare - packed).abs().max() < 1e-5 * packed.abs().max()


def test_rows_under_another_vision_tower_do_not(config):
    policy, ways = ways_of(config, 1, False)
    before = ways["packed"]()
    torch.manual_seed(1)
    policy.model.model.visual.merger.mlp[2].weight.data.normal_()
    assert (before - ways["rows"]()).abs().max() > 1e-3 * before.abs().max()


def test_the_table_has_a_row_for_every_k_and_way_with_and_without_checkpointing(config, capsys):
    main(config)
    table = [tuple(line.split()[:3]) for line in capsys.readouterr().out.splitlines()[1:13]]
    assert table == list(product("13", ("no", "yes"), WAYS))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_step_takes_memory_above_the_model(config):
    assert in_own_process(config, 1, False, "rows") > 0
