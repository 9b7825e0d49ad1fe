"""Checkpoints are atomic, and a resumed run equals the run that never stopped.

The oracle is the uninterrupted run, bit for bit.

    python -m pytest -q tests/test_checkpoint.py
"""

import json
import math
import os
import random
import time
from pathlib import Path

import pytest
import torch
from conftest import finish, kill_all, linux, numbers
from rounding import ROWS
from torch import nn

from pasta.run.atomic import atomic_folder
from pasta.run.digest import digest_files
from pasta.run.rows import read_rows
from pasta.training import checkpoint
from pasta.training.checkpoint import Checkpoints, training_state
from train_dpo import TrainConfig


def trainee(seed=0):
    """A policy with a frozen part, and its optimizer."""
    torch.manual_seed(seed)
    policy = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    policy[0].requires_grad_(False)
    return policy, torch.optim.AdamW(policy[1].parameters(), lr=0.1)


def update(policy, optimizer, seed=0):
    """One step on noise; returns the loss."""
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    loss = policy(noise).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def checkpoints(out, keep=2, data="p", **changes):
    config = TrainConfig(model="m", out=out, keep_checkpoints=keep, **{"lr": 1e-4} | changes)
    return Checkpoints(config, data)


def test_what_follows_a_checkpoint_is_the_same_bit_for_bit(tmp_path):
    policy, optimizer = trainee()
    update(policy, optimizer)
    checkpoints(tmp_path).save(1, policy, optimizer)
    expected = [update(policy, optimizer, seed) for seed in range(5)]
    frozen = policy[0]  # is not in it
    policy, optimizer = trainee(seed=1)
    policy[0] = frozen
    assert checkpoints(tmp_path).load(policy, optimizer) == 1
    assert [update(policy, optimizer, seed) for seed in range(5)] == expected


def test_frozen_weights_are_not_written():
    names = {name for name in training_state(*trainee()) if name.startswith("weight/")}
    assert names == {"weight/1.weight", "weight/1.bias"}


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3):
        checkpoints(tmp_path).save(step, *trainee())
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step-000002", "step-000003"]


def test_there_may_be_none(tmp_path):
    assert checkpoints(tmp_path).load(*trainee()) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["1.weight", "1.bias"])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, value, name):
    policy, optimizer = trainee()
    checkpoints(tmp_path).save(1, policy, optimizer)
    before = (tmp_path / "checkpoints/step-000001/rank0.safetensors").read_bytes()
    with torch.no_grad():
        dict(policy.named_parameters())[name].view(-1)[0] = value
    kept, adapter = checkpoints(tmp_path), tmp_path / "adapter"
    for save, begin in (
        (lambda: kept.save(2, policy, optimizer), "after update 2, weights are"),
        (lambda: kept.stop(2, policy, optimizer, "x"), "update 3: x; .* Before it"),
        (lambda: checkpoint.save_trained(adapter, policy, "m", "float32"), ".*adapter: "),
    ):
        text = rf"^{begin}.*infinite, nan .*first {name}.*lower --lr"
        with pytest.raises(SystemExit, match=text):
            save()
    assert os.listdir(tmp_path) == ["checkpoints"]
    assert os.listdir(tmp_path / "checkpoints") == ["step-000001"]
    assert (tmp_path / "checkpoints/step-000001/rank0.safetensors").read_bytes() == before


def test_weights_that_evaluate_refuses_are_no_result(tmp_path):
    policy, optimizer = trainee()
    with torch.no_grad():
        policy[1].bias[0] = 1e30
    checkpoints(tmp_path).save(1, policy, optimizer)  # finite: may be looked at
    with pytest.raises(SystemExit, match=r"above 1e\+06, first 1.bias.*lower --lr"):
        checkpoint.save_trained(tmp_path / "adapter", policy, "m", "float32")


def test_a_half_written_checkpoint_is_ignored(tmp_path, monkeypatch):
    policy, optimizer = trainee()
    checkpoints(tmp_path).save(1, policy, optimizer)
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        checkpoints(tmp_path).save(2, policy, optimizer)
    monkeypatch.undo()
    assert checkpoints(tmp_path).load(policy, optimizer) == 1
    checkpoints(tmp_path).save(2, policy, optimizer)  # and its remains are no obstacle
    assert checkpoints(tmp_path).load(policy, optimizer) == 2


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("rank0.safetensors", cut, "sha256 differs"),
        ("rank0.safetensors", flip, "sha256 differs"),
        ("rank0.safetensors", Path.unlink, "No such file"),
        ("state.json", cut, "damaged"),
        ("state.json", lambda path: path.write_text("{}"), "damaged"),
        ("state.json", Path.unlink, "No such file"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_loaded(
    tmp_path, capsys, name, damage, message
):
    policy, optimizer = trainee()
    for step in (1, 2):
        checkpoints(tmp_path).save(step, policy, optimizer)
    damage(tmp_path / "checkpoints/step-000002" / name)
    assert checkpoints(tmp_path).load(policy, optimizer) == 1
    printed = capsys.readouterr().out
    assert "step-000002 is damaged" in printed and message in printed
    assert "trying the one before" in printed


def test_without_a_usable_checkpoint_the_run_starts_from_the_beginning(tmp_path, capsys):
    checkpoints(tmp_path).save(1, *trainee())
    cut(tmp_path / "checkpoints/step-000001/state.json")
    assert checkpoints(tmp_path).load(*trainee()) == 0
    assert "no usable checkpoint" in capsys.readouterr().out


def test_damaged_checkpoints_do_not_push_out_the_new_ones(tmp_path):
    for step in (50, 100):
        checkpoints(tmp_path).save(step, *trainee())
    cut(tmp_path / "checkpoints/step-000100/state.json")
    checkpoints(tmp_path, keep=1).save(60, *trainee())
    assert os.listdir(tmp_path / "checkpoints") == ["step-000060"]


def test_another_run_is_refused_with_its_changes(tmp_path):
    checkpoints(tmp_path).save(1, *trainee())
    with pytest.raises(SystemExit, match=r"--lr was 0.0001 and is 0.1"):
        checkpoints(tmp_path, lr=0.1).load(*trainee())
    with pytest.raises(SystemExit, match="the pairs, the videos .* model have changed"):
        checkpoints(tmp_path, data="q").load(*trainee())


def test_flags_that_do_not_change_the_result_may_change(tmp_path):
    checkpoints(tmp_path).save(1, *trainee())
    assert checkpoints(tmp_path, workers=7, save_every=3, keep=5).load(*trainee()) == 1


def test_slices_are_refused_at_another_number_of_processes(tmp_path):
    policy, optimizer = trainee()
    checkpoints(tmp_path, shard=True).save(1, policy, optimizer)
    folder = tmp_path / "checkpoints/step-000001"
    state = json.loads((folder / "state.json").read_text())
    (folder / "rank1.safetensors").touch()
    state["files"]["rank1.safetensors"] = [0, digest_files([folder / "rank1.safetensors"])]
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(SystemExit, match="slices of 2 processes.*--nproc_per_node 2"):
        checkpoints(tmp_path, shard=True).load(policy, optimizer)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    with atomic_folder(tmp_path / "x") as part:
        (part / "old").touch()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "x") as part:
        (part / "half").touch()
        raise RuntimeError
    assert os.listdir(tmp_path) == ["x"] and os.listdir(tmp_path / "x") == ["old"]
    with atomic_folder(tmp_path / "x") as part:
        (part / "new").touch()
    assert os.listdir(tmp_path / "x") == ["new"]
    assert os.listdir(tmp_path) == ["x"]


# ---- real processes ----

LONG = {"epochs": 12, "save_every": 4, "holdout": 0.2, "eval_every": 5}


def results(folder):
    """All that a run leaves, without the times."""
    adapters = [folder / name / "adapter_model.safetensors" for name in ("adapter", "adapter-best")]
    return numbers(read_rows(folder / "metrics.jsonl")), [file.read_bytes() for file in adapters]


def wait_for(folder, n_rows, process):
    """Wait until a run has made n_rows updates. Returns whether it is still at work."""
    path, deadline = folder / "metrics.jsonl", time.monotonic() + 200
    while not path.exists() or path.read_bytes().count(b"\n") < n_rows:
        assert time.monotonic() < deadline, "the run makes no progress"
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    return process.poll() is None


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "switches", "flags"),
    [
        (0, [], {}),
        (2, [], {}),
        (2, ["--shard"], {}),
    ],
    ids=["one process", "two", "two, sharded"],
)
def test_a_run_killed_three_times_equals_the_uninterrupted_run(
    torchrun, tmp_path, n, switches, flags
):
    finish(torchrun(n, "unbroken", *switches, **LONG | flags))
    expected = results(tmp_path / "unbroken")
    rng, kills = random.Random(n + len(switches)), 0
    for _ in range(3):
        process = torchrun(n, "killed", "--resume", *switches, **LONG | flags)
        folder, before = tmp_path / "killed", 0
        if (folder / "metrics.jsonl").exists():
            before = len(read_rows(folder / "metrics.jsonl"))
        if wait_for(folder, min(before + rng.randint(1, 8), len(expected[0]) - 2), process):
            time.sleep(rng.uniform(0, 0.05))  # somewhere in an update, or in writing a checkpoint
            kill_all(str(folder))
            kills += 1
        process.wait()
        process.stdout.close()
    assert kills == 3
    finish(torchrun(n, "killed", "--resume", *switches, **LONG | flags))
    assert results(tmp_path / "killed") == expected


@linux
@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 2])
def test_sigterm_writes_a_checkpoint_of_the_last_update_and_ends_cleanly(torchrun, tmp_path, n):
    finish(torchrun(n, "unbroken", **LONG))
    process = torchrun(n, "stopped", **LONG | {"save_every": 1000})
    assert wait_for(tmp_path / "stopped", 6, process)
    process.terminate()
    printed, _ = process.communicate(timeout=100)
    assert "stopped by SIGTERM; rerun with --resume to continue" in printed
    assert n or process.returncode == 0  # torchrun itself ends with an error when it is told to
    done = len(read_rows(tmp_path / "stopped/metrics.jsonl"))
    assert os.listdir(tmp_path / "stopped/checkpoints") == [f"step-{done:06d}"]
    assert not (tmp_path / "stopped/adapter").exists()
    finish(torchrun(n, "stopped", "--resume", **LONG))
    assert results(tmp_path / "stopped") == results(tmp_path / "unbroken")


@linux
@pytest.mark.slow
def test_one_process_resumes_a_run_of_two_from_the_last_undamaged_checkpoint(torchrun, tmp_path):
    process = torchrun(2, "run", **LONG | {"save_every": 2})
    assert wait_for(tmp_path / "run", 6, process)
    kill_all(str(tmp_path / "run"))
    process.communicate()
    *_, before, last = sorted((tmp_path / "run/checkpoints").glob("step-*"))
    cut(last / "rank0.safetensors")
    printed = finish(torchrun(0, "run", "--resume", **LONG | {"save_every": 2}))
    assert f"{last} is damaged" in printed
    assert f"resuming after update {int(before.name[5:])}, from {before}" in printed
    finish(torchrun(0, "unbroken", **LONG))
    (one, _), (other, _) = results(tmp_path / "run"), results(tmp_path / "unbroken")
    for row, again in zip(one, other, strict=True):
        assert row == pytest.approx(again, **ROWS)


@pytest.mark.parametrize("change", [
    {"step": 3}, {"step": "2"}, {"flags": []}, {"data": None}, {"files": []}, {"files": {}},
    {"files": {"rank0.safetensors": 5}}, {"files": {"rank0.safetensors": [], "x": 5}},
])  # fmt: skip
def test_a_damaged_state_costs_only_its_checkpoint(tmp_path, capsys, change):
    policy, optimizer = trainee()
    for step in (1, 2):
        checkpoints(tmp_path).save(step, policy, optimizer)
    path = tmp_path / "checkpoints/step-000002/state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert checkpoints(tmp_path).load(policy, optimizer) == 1
    assert "step-000002 is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["[]", "5", '{"flags": []}', "[" * 10**5])
def test_a_run_resumes_despite_a_damaged_state(tmp_path, text):
    (tmp_path / "pairs.jsonl").touch()
    folder = tmp_path / "run/checkpoints/step-000001"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(text)
    paths = {"out": tmp_path / "run", "pairs": tmp_path / "pairs.jsonl"}
    checkpoint.open_run(TrainConfig(model="m", resume=True, **paths))
