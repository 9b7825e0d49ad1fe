"""Real torchrun processes on gloo: one update is the same at any number of them, whole or sharded.

The oracle is one process, which test_train.py compares with a plain loop.

    python -m pytest -q tests/test_torchrun.py
"""

import re
import socket

import pytest
import torch
from conftest import PAIRS_OF_VIDEO, ROOT, end_of, finish, numbers, printed
from rounding import ROWS
from safetensors.torch import load_file

from pasta.datasets.read import read_pairs
from pasta.models.load import load_vlm
from pasta.packs import by_video
from pasta.run import ranks
from pasta.run.rows import read_rows, write_rows
from pasta.training.plan import plan_updates


def parts_of(monkeypatch, n, items, costs):
    """The part of `items` of each of n ranks."""
    monkeypatch.setattr(ranks, "size", lambda: n)
    parts = []
    for r in range(n):
        monkeypatch.setattr(ranks, "rank", lambda r=r: r)
        parts.append(ranks.balance(items, costs))
    return parts


def test_items_are_balanced_in_snake_order_most_expensive_first(monkeypatch):
    parts = parts_of(monkeypatch, 2, "abcdef", [1, 6, 2, 5, 3, 4])
    assert parts == [["b", "e", "c"], ["d", "f", "a"]]  # 6 3 2 and 5 4 1


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("n_items", [1, 5, 12])
def test_every_item_is_in_one_part_and_parts_differ_by_one_at_most(monkeypatch, n, n_items):
    parts = parts_of(monkeypatch, n, list(range(n_items)), [(7 * i) % 5 for i in range(n_items)])
    assert sorted(item for part in parts for item in part) == list(range(n_items))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_balanced_by_cost_the_slowest_rank_has_less_than_in_order(monkeypatch):
    costs = torch.randint(100, 5000, (64,), generator=torch.Generator().manual_seed(0)).tolist()
    parts = parts_of(monkeypatch, 8, costs, costs)
    in_order = [sum(costs[r::8]) for r in range(8)]
    assert max(map(sum, parts)) < 1.05 * sum(costs) / 8 < 0.95 * max(in_order)


def metrics(folder):
    return numbers(read_rows(folder / "metrics.jsonl"))


def apart(one, other):
    """How far 99 % of the weights of each tensor are apart; the most of all tensors.

    AdamW's steps have the size of the rate whatever the gradient. So a gradient that is a rounding
    moves its weight by anything up to the rate, and the largest difference has no bound below it.
    """
    assert one.keys() == other.keys()
    return max((one[k] - other[k]).abs().flatten().float().quantile(0.99).item() for k in one)


def assert_same_rows(one, other):
    """Two run folders have the same metrics up to rounding."""
    for row, again in zip(metrics(one), metrics(other), strict=True):
        assert row == pytest.approx(again, **ROWS)


def assert_same_adapters(*folders):
    weights = [load_file(folder / "adapter/adapter_model.safetensors") for folder in folders]
    assert apart(*weights) < 0.01 * 1e-3  # of the learning rate


def test_updates_are_the_same_at_one_two_and_three_processes(torchrun, tmp_path, toy_pairs):
    sizes = [len(update) for update in plan_updates(by_video(read_pairs(toy_pairs)), 2, 3, seed=0)]
    assert 1 in sizes and 3 in sizes  # some process has no pack; one has more than another
    finish(torchrun(0, "run1", epochs=2))
    flags = {2: {"cold": True, "epochs": 2}, 3: {"epochs": 2}}
    started = [torchrun(n, f"run{n}", "--checkpointing", **flags[n]) for n in (2, 3)]
    assert all("0 log-probs computed, 16 found" in finish(process) for process in started)
    rows = metrics(tmp_path / "run1")
    assert sum(row["pairs"] for row in rows) == 2 * sum(PAIRS_OF_VIDEO)
    for n in (2, 3):
        assert_same_rows(tmp_path / "run1", tmp_path / f"run{n}")
        assert_same_adapters(tmp_path / "run1", tmp_path / f"run{n}")


@pytest.mark.slow
def test_two_agents_of_torchrun_train_the_adapter_that_one_process_trains(torchrun, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agents = [torchrun(1, "two", epochs=2, port=port, cold=True) for _ in range(2)]
    finish(torchrun(0, "one", epochs=2))
    outputs = [finish(process) for process in agents]
    assert sum(bool(re.search(r"step +6/6 ", output)) for output in outputs) == 1  # of rank 0
    assert [line for output in outputs for line in output.splitlines() if "Warning" in line] == []
    assert_same_rows(tmp_path / "one", tmp_path / "two")
    assert_same_adapters(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_processes_split_the_reference_and_hold_out_the_same_pairs(torchrun, tmp_path, toy_pairs):
    flags = {"holdout": 0.4, "eval_every": 1}
    assert "16 log-probs computed, 0 found" in finish(torchrun(2, "run2", **flags))
    assert toy_pairs.with_name("reference.rank1.jsonl").exists()
    finish(torchrun(0, "run1", **flags))
    assert "eval/loss" in metrics(tmp_path / "run1")[0]
    assert_same_rows(tmp_path / "run1", tmp_path / "run2")


@pytest.mark.slow
def test_sharded_full_tuning_equals_one_process(torchrun, tmp_path):
    flags = {"lora_rank": 0, "epochs": 2, "lr": 1e-4}
    finish(torchrun(0, "whole", **flags))
    for n, counts in ((2, "16 log-probs computed, 0 found"), (3, "0 log-probs computed, 16 found")):
        process = torchrun(n, f"sharded{n}", "--shard", "--checkpointing", **flags)
        assert counts in finish(process)
        assert_same_rows(tmp_path / "whole", tmp_path / f"sharded{n}")
        models = [load_vlm(tmp_path / run / "model").model for run in ("whole", f"sharded{n}")]
        weights = [dict(model.named_parameters()) for model in models]
        assert apart(*weights) < 0.01 * flags["lr"]


WATCHED = f"""
import atexit, gc, runpy, sys
from torch.nn.parallel import DistributedDataParallel
sys.path.insert(0, {str(ROOT)!r})
from pasta.run import ranks

def stop(before=ranks.stop):
    print(sum(type(thing) is DistributedDataParallel for thing in gc.get_objects()), "held")
    before()

def parallel(*args, before=ranks.parallel):
    policy = before(*args)
    print(type(policy).__name__, "made")
    return policy

ranks.stop, ranks.parallel = stop, parallel
atexit.register(print, "the interpreter ends")
runpy.run_path({str(ROOT / "train_dpo.py")!r}, run_name="__main__")
"""


@pytest.mark.slow
def test_ranks_end_after_the_wrapped_policy_and_without_a_thread_at_interpreter_exit(
    torchrun, tmp_path
):
    (tmp_path / "watched.py").write_text(WATCHED)
    watched = {"script": tmp_path / "watched.py", "cold": True}
    finish(torchrun(2, "run", logs=tmp_path / "logs", **watched))
    both = printed(tmp_path / "logs", 2)
    assert ["wrote" in output for output in both] == [True, False]  # only rank 0 prints
    for output in both:
        assert output.count("DistributedDataParallel made") == 1
        assert re.findall(r"(\d+) held", output) == ["0"]
        assert "the interpreter ends" not in output


@pytest.mark.slow
def test_sharded_adapters_equal_whole_ones(torchrun, tmp_path):
    finish(torchrun(0, "whole", epochs=2))
    finish(torchrun(2, "sharded", "--shard", epochs=2))
    assert_same_rows(tmp_path / "whole", tmp_path / "sharded")
    assert_same_adapters(tmp_path / "whole", tmp_path / "sharded")


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [0, 8])
def test_sharded_in_bfloat16_stays_near_float32(torchrun, tmp_path, lora_rank):
    flags = {"lora_rank": lora_rank, "lr": 1e-4, "epochs": 2}
    finish(torchrun(2, "half", "--shard", "--checkpointing", dtype="bfloat16", **flags))
    finish(torchrun(0, "full", **flags))
    for row, other in zip(metrics(tmp_path / "full"), metrics(tmp_path / "half"), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=0.02)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=0.1)


def add_unreadable_videos(path, n):
    rows = read_rows(path)
    write_rows(path, [rows[0] | {"id": f"x{i}", "video": f"gone{i}.avi"} for i in range(n)] + rows)


@pytest.mark.slow
def test_ranks_with_unreadable_videos_keep_step_with_the_others(torchrun, tmp_path, toy_pairs):
    add_unreadable_videos(toy_pairs, 3)
    finish(torchrun(2, "run", "--shard", max_length=140, logs=tmp_path / "logs"))
    both = printed(tmp_path / "logs", 2)
    assert any("3 pairs left out, 3 of 8 videos" in output for output in both)
    assert [output.count(" about 8 videos: 5 found under ") for output in both] == [1, 0]
    assert sum(row["pairs"] for row in metrics(tmp_path / "run")) == sum(PAIRS_OF_VIDEO)


@pytest.mark.slow
def test_too_many_unreadable_videos_over_all_processes_stop_the_run(torchrun, toy_pairs):
    add_unreadable_videos(toy_pairs, 2)
    process = torchrun(2, "run", max_skipped=1)
    output = end_of(process)
    assert process.returncode != 0
    assert "2 videos cannot be read, and --max_skipped is 1" in output and "gone1.avi" in output


@pytest.mark.slow
def test_sharding_without_torchrun_says_how_to_start(torchrun):
    process = torchrun(0, "run", "--shard")
    assert "start the script with torchrun" in end_of(process) and process.returncode != 0


def test_one_gpu_for_several_processes_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="--device cuda:1 is one GPU .* use --device cuda"):
        ranks.start("cuda:1")
