"""train_dpo.py against a plain training loop, other process counts, and known values.

The plain loop has a row for each response, no cache and no packs. The model is the untrained toy.

    python -m pytest -q tests/test_train.py
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train_dpo
from pasta.lora import adapter_off, adapter_parameters, add_lora, load_adapter
from pasta.pairs import read_pairs
from pasta.reference import Known, cache_row
from pasta.toy import files, world
from pasta.updates import by_video, plan
from pasta.video import VideoError, read_frames, uniform
from pasta.vlm import load_vlm, video_features

SCRIPT = Path(train_dpo.__file__)
SIZES = (3, 1, 2, 1, 1)  # pairs of each video
FLAGS = {"dtype": "float32", "lr": 1e-3, "lora_rank": 8, "lora_alpha": 16, "batch_pairs": 3}
LN2 = math.log(2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder of short videos."""
    folder = tmp_path_factory.mktemp("videos")
    files.write_videos(folder, len(SIZES), seed=0)
    return folder


@pytest.fixture
def pairs(tmp_path, videos):
    """A fresh pairs.jsonl, so that no test finds another's reference."""
    rng, rows = np.random.default_rng(0), []
    for v, n in enumerate(SIZES):
        for q in world.questions(world.draw_video(rng), rng)[:n]:
            row = {"video": f"{v:05d}.avi", "mode": q.mode, "query": q.query, "chosen": q.answer}
            rejected = q.wrong if len(rows) % 2 else "The blue square is top left and kept."
            rows.append(row | {"rejected": rejected})
    (tmp_path / "pairs").mkdir()
    write(tmp_path / "pairs/pairs.jsonl", rows)
    return tmp_path / "pairs/pairs.jsonl"


@pytest.fixture
def run(tmp_path, tiny_folder, videos, pairs):
    """Train in this process, in a new folder. Returns the rows of metrics.jsonl."""

    def run(out="run", **changes):
        settings = FLAGS | {"model": str(tiny_folder), "pairs": pairs, "videos": videos}
        settings |= {"out": tmp_path / out, "device": "cpu", "checkpointing": False, "workers": 0}
        train_dpo.main(train_dpo.TrainConfig(**settings | changes))
        return read(tmp_path / out / "metrics.jsonl")

    return run


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def numbers(metrics):
    """All but the times."""
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in metrics]


def plain_logps(vlm, inputs, query, response):
    """The log-probability of a response, in a causal row of its own with all its logits."""
    processor = vlm.processor
    head = processor.prefix_ids(inputs) + processor.query_ids(query)
    tail = processor.response_ids(response)
    logits = vlm.model(
        input_ids=torch.tensor([head + tail]),
        position_ids=processor.positions(head + tail, inputs)[:, None],
        mm_encoder_outputs=video_features(vlm.model, processor.family, [inputs]),
    ).logits[0, len(head) - 1 : -1]
    return logits.log_softmax(-1)[range(len(tail)), tail].sum()


def plain_run(model, pairs, videos, max_grad_norm):
    """(mean loss, gradient norm) of each update of one epoch, written as plainly as can be."""
    vlm = load_vlm(model)
    add_lora(vlm.model, rank=8, alpha=16, seed=0)
    parameters = adapter_parameters(vlm.model)
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.95), weight_decay=0.0)
    groups = by_video(read_pairs(pairs, videos=videos))
    updates, results = plan(groups, 1, 3, 0), []
    for step, update in enumerate(updates):
        losses = {}
        for pair in [pair for i in update for pair in groups[i].pairs]:
            frames = read_frames(pair.video, lambda times: uniform(times, world.N_FRAMES))
            inputs = vlm.processor.prepare(*frames)
            texts = [(pair.query, pair.chosen), (pair.query, pair.rejected)]
            with adapter_off(vlm.model), torch.no_grad():
                chosen_0, rejected_0 = (plain_logps(vlm, inputs, *text) for text in texts)
            chosen, rejected = (plain_logps(vlm, inputs, *text) for text in texts)
            margin = 0.1 * ((chosen - chosen_0) - (rejected - rejected_0))
            losses.setdefault(pair.mode, []).append(torch.log1p(torch.exp(-margin)))
        torch.stack([sum(of) / len(of) for of in losses.values()]).mean().backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in parameters))
        for p in parameters:
            p.grad *= min(1.0, max_grad_norm / norm)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + math.cos(math.pi * step / len(updates))) / 2
        optimizer.step()
        optimizer.zero_grad()
        losses = [loss.item() for of in losses.values() for loss in of]
        results.append((sum(losses) / len(losses), norm))
    return results


def test_one_epoch_equals_a_plain_training_loop(run, tiny_folder, pairs, videos):
    plain = plain_run(tiny_folder, pairs, videos, max_grad_norm=0.5)
    assert len(plain) > 2 and max(norm for _, norm in plain) > 0.5  # some step is clipped
    metrics = run(max_grad_norm=0.5)
    assert [row["loss"] for row in metrics] == pytest.approx([p[0] for p in plain], rel=1e-4)
    assert [row["grad_norm"] for row in metrics] == pytest.approx([p[1] for p in plain], rel=1e-4)


def test_the_first_loss_is_ln2_with_margins_of_zero(run):
    first = run()[0]
    assert first["loss"] == pytest.approx(LN2)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-4)


def test_a_handful_of_pairs_is_learned(run):
    last = run(epochs=30, batch_pairs=8, lr=5e-3)[-1]
    assert last["loss"] < LN2 / 2  # a wrong pair alone loses ln 2 or more
    assert last["rewards/accuracies"] == 1.0


@pytest.mark.parametrize("objective", ["dpo", "sft"])
def test_checkpointing_changes_no_number(run, objective):
    plain = run("plain", objective=objective)
    checkpointed = run("checkpointed", objective=objective, checkpointing=True)
    for one, other in zip(numbers(plain), numbers(checkpointed), strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)


def test_sft_does_not_look_at_the_rejected(run, pairs):
    before = run("before", objective="sft")
    write(pairs, [row | {"rejected": "The white square."} for row in read(pairs)])
    after = run("after", objective="sft")
    for key in ("loss", "grad_norm", "rewards/chosen"):
        assert [r[key] for r in before] == pytest.approx([r[key] for r in after], rel=1e-4)


def test_bfloat16_starts_at_ln2_with_a_reference_from_other_packs(run, pairs):
    rows = read(pairs)
    write(pairs, rows[::2])
    run("first", dtype="bfloat16")
    write(pairs, rows)
    assert run("second", dtype="bfloat16")[0]["loss"] == pytest.approx(LN2, abs=0.01)


def test_the_run_folder_has_an_adapter_that_loads(run, tiny, tmp_path):
    run()
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "adapter",
    }
    assert json.loads((tmp_path / "run/config.json").read_text())["frames_used"] == world.N_FRAMES
    load_adapter(tiny.model, tmp_path / "run/adapter")
    assert all(p.abs().max() > 0 for p in adapter_parameters(tiny.model))


def test_a_finished_run_is_refused_and_a_stopped_one_is_begun_again(run, tmp_path):
    (tmp_path / "run").mkdir()
    write(tmp_path / "run/metrics.jsonl", [{"step": 1}] * 9)
    assert len(run()) < 9
    with pytest.raises(SystemExit, match="holds a finished run"):
        run()


@pytest.mark.parametrize(
    ("change", "computed"),
    [({"lr": 1e-5, "beta": 0.5, "seed": 3}, 0), ({"n_frames": 8}, 16), ({"model": "other"}, 16)],
)
def test_the_reference_is_computed_again_only_for_what_can_change_it(
    run, capsys, tmp_path, tiny, change, computed
):
    run("first")
    assert "16 log-probs computed, 0 found" in capsys.readouterr().out
    if "model" in change:
        tiny.model.lm_head.weight.data *= 1.01
        tiny.model.save_pretrained(tmp_path / "other")
        tiny.processor.tokenizer.save_pretrained(tmp_path / "other")
        original = Path(tiny.name, "preprocessor_config.json").read_text()
        (tmp_path / "other/preprocessor_config.json").write_text(original)
        change = {"model": str(tmp_path / "other")}
    run("second", **change)
    assert f"{computed} log-probs computed, {16 - computed} found" in capsys.readouterr().out


def test_a_reference_of_another_model_stops_the_run(run, pairs):
    run("first")
    cache = pairs.with_name("reference.jsonl")
    write(cache, [
        cache_row(row["key"], Known(row["logps"] - 0.5, row["tokens"])) for row in read(cache)
    ])
    with pytest.raises(RuntimeError, match="before any training"):
        run("second")


def test_pairs_of_a_bad_video_are_named_and_left_out(run, pairs, tmp_path, capsys):
    rows = read(pairs)
    bad = [{**rows[0], "id": "a", "video": "gone.avi"}, {**rows[1], "id": "b", "video": "gone.avi"}]
    write(pairs, bad + rows)
    metrics = run()
    assert sum(row["pairs"] for row in metrics) == sum(SIZES)
    (skipped,) = read(tmp_path / "run/skipped.jsonl")
    assert skipped["video"].endswith("gone.avi") and skipped["pairs"] == ["a", "b"]
    assert "2 pairs left out, 1 of 6 videos" in capsys.readouterr().out


def test_videos_that_fail_later_are_left_out_of_their_updates(run, tmp_path, monkeypatch):
    run("first")  # the reference is known now: every reading below is for training
    reads = []

    def failing(video, **kwargs):
        reads.append(video)
        if len(reads) <= 2:
            raise VideoError(video, "the disk is away")
        return read_frames(video, **kwargs)

    monkeypatch.setattr(train_dpo, "read_frames", failing)
    metrics = run("second")
    skipped = read(tmp_path / "second/skipped.jsonl")
    lost = sum(len(row["pairs"]) for row in skipped)
    assert len(skipped) == 2
    assert sum(row["pairs"] for row in metrics) == sum(SIZES) - lost


def test_pairs_of_other_tools_train_under_a_given_mode(run, pairs):
    rows = [{k: v for k, v in row.items() if k != "mode"} for row in read(pairs)]
    write(pairs, rows)
    with pytest.raises(ValueError, match="mode is None"):
        run()
    assert "loss/temporal" in run(mode="temporal")[0]


def test_mode_weights_must_be_three(run):
    with pytest.raises(SystemExit, match="--mode_weights takes 3 numbers"):
        run(mode_weights=[1.0, 2.0])


def test_two_processes_train_as_one(tmp_path, tiny_folder, pairs, videos):
    groups = by_video(read_pairs(pairs))
    sizes = [len(update) for update in plan(groups, 2, 3, seed=0)]
    assert 1 in sizes and 3 in sizes  # one process has no pack; one has more than the other
    started = {}
    for n in (1, 2):
        own = tmp_path / f"pairs{n}" / "pairs.jsonl"  # and so a reference of its own
        own.parent.mkdir()
        own.write_text(pairs.read_text())
        flags = FLAGS | {"model": tiny_folder, "pairs": own, "videos": videos, "epochs": 2}
        flags |= {"out": tmp_path / f"run{n}", "device": "cpu", "workers": 1}
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc_per_node", str(n), SCRIPT, "--checkpointing"]
        command += [str(x) for name, value in flags.items() for x in (f"--{name}", value)]
        started[n] = subprocess.Popen(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
        )
    said = {n: process.communicate(timeout=300)[0] for n, process in started.items()}
    assert [process.returncode for process in started.values()] == [0, 0]
    assert "16 log-probs computed" in said[1] and "16 log-probs computed" in said[2]
    one, two = (numbers(read(tmp_path / f"run{n}/metrics.jsonl")) for n in (1, 2))
    for row, other in zip(one, two, strict=True):
        assert row == pytest.approx(other, rel=1e-5, abs=1e-7)
    one, two = (load_file(tmp_path / f"run{n}/adapter/adapter_model.safetensors") for n in (1, 2))
    assert max((one[k] - two[k]).norm() / one[k].norm() for k in one) < 1e-6
