"""pasta/tools/speed.py at a tiny size: the two ways it times are the same computation.

python -m pytest -q tests/test_speed.py
"""

import sys

import pytest
import torch

from pasta.config import parse
from pasta.tools.speed import SpeedConfig, in_own_process, main, step, two_ways

TINY = "--rounds 1 --prompt_tokens 256 --layers 2 --width 96 --vocabulary 128 --no-memory".split()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """To share such small products out costs more than it saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config():
    return parse(SpeedConfig, TINY)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_rows_and_pack_give_the_same_log_probabilities(config, checkpointing):
    policy, ways = two_ways(config, 3, checkpointing)
    rows, packed = (step(policy, ways[name]) for name in ("rows", "packed"))
    assert rows.shape == (4,)
    assert (rows - packed).abs().max() < 1e-5 * rows.abs().max()


def test_rows_under_another_vision_tower_do_not(config):
    policy, ways = two_ways(config, 1, False)
    before = ways["packed"]()
    torch.manual_seed(1)
    policy.model.model.visual.merger.mlp[2].weight.data.normal_()
    assert (before - ways["rows"]()).abs().max() > 1e-3 * before.abs().max()


def test_the_table_has_a_row_for_every_k_with_and_without_checkpointing(config, capsys):
    main(config)
    table = [line.split("|")[0].split() for line in capsys.readouterr().out.splitlines()]
    assert table[1:5] == [["1", "no"], ["1", "yes"], ["3", "no"], ["3", "yes"]]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_step_takes_memory_above_the_model(config):
    assert in_own_process(config, 1, False, "rows") > 0
