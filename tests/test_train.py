"""train_dpo.py against a plain training loop, and against known values.

The plain loop has a row for each response, no cache and no packs. The model is the untrained toy.

    python -m pytest -q tests/test_train.py
"""

import json
import math
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from conftest import PAIRS_OF_VIDEO, numbers
from rounding import ROWS, margin_bound
from tiny_models import adapter_parameters

import evaluate
import train_dpo
from pasta import toy
from pasta.datasets.read import read_pairs
from pasta.lora import adapter_off, add_lora
from pasta.models.load import load_vlm
from pasta.models.peft import load_adapter
from pasta.models.vision import video_features
from pasta.packs import by_video
from pasta.pairs import MODES
from pasta.reference import Known, cache_row
from pasta.run.config import parse
from pasta.run.rows import read_rows, write_rows
from pasta.sampling import uniform
from pasta.toy import world
from pasta.training.plan import hold_out, plan_updates
from pasta.video import VideoError, read_frames

FLAGS = {"dtype": "float32", "lr": 1e-3, "lora_rank": 8, "lora_alpha": 16, "batch_pairs": 3}
LN2 = math.log(2)


@pytest.fixture
def run(tmp_path, tiny_folder, toy_videos, toy_pairs):
    """Train in this process, in a new folder. Returns the rows of metrics.jsonl."""

    def run(out="run", **changes):
        settings = FLAGS | {"model": str(tiny_folder), "pairs": toy_pairs, "workers": 0}
        settings |= {"video_root": toy_videos, "out": tmp_path / out}
        settings |= {"device": "cpu", "checkpointing": False}
        train_dpo.main(train_dpo.TrainConfig(**settings | changes))
        return read_rows(tmp_path / out / "metrics.jsonl")

    return run


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


def plain_run(model, pairs, videos, epochs, max_grad_norm):
    """The metrics of every update, written as plainly as can be."""
    vlm = load_vlm(model)
    add_lora(vlm.model, rank=8, alpha=16, seed=0)
    parameters = adapter_parameters(vlm.model)
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.95), weight_decay=0.0)
    groups = by_video(read_pairs(pairs, video_root=videos))
    updates, metrics = plan_updates(groups, epochs, 3, 0), []
    for step, update in enumerate(updates):
        losses, margins = {}, {}
        for pair in [pair for i in update for pair in groups[i].pairs]:
            frames = read_frames(pair.video, lambda times: uniform(times, world.N_FRAMES))
            inputs = vlm.processor.prepare(*frames)
            texts = [(pair.query, pair.chosen), (pair.query, pair.rejected)]
            with adapter_off(vlm.model), torch.no_grad():
                chosen_0, rejected_0 = (plain_logps(vlm, inputs, *text) for text in texts)
            chosen, rejected = (plain_logps(vlm, inputs, *text) for text in texts)
            margin = 0.1 * ((chosen - chosen_0) - (rejected - rejected_0))
            losses.setdefault(pair.mode, []).append(torch.log1p(torch.exp(-margin)))
            margins.setdefault(pair.mode, []).append(margin.item())
        torch.stack([sum(of) / len(of) for of in losses.values()]).mean().backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in parameters))
        for p in parameters:
            p.grad *= min(1.0, max_grad_norm / norm)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + math.cos(math.pi * step / len(updates))) / 2
        optimizer.step()
        optimizer.zero_grad()
        row = {"grad_norm": norm, "loss": mean([x.item() for of in losses.values() for x in of])}
        for mode in losses:
            row[f"loss/{mode}"] = mean([loss.item() for loss in losses[mode]])
            row[f"rewards/margins/{mode}"] = mean(margins[mode])
            row[f"rewards/accuracies/{mode}"] = mean([float(m > 1e-6) for m in margins[mode]])
        metrics.append(row)
    return metrics


def mean(values):
    return sum(values) / len(values)


def test_thirty_updates_equal_a_plain_training_loop(run, tiny_folder, toy_pairs, toy_videos):
    plain = plain_run(tiny_folder, toy_pairs, toy_videos, epochs=12, max_grad_norm=0.5)
    norms = [row["grad_norm"] for row in plain]
    assert len(plain) >= 30 and min(norms) < 0.5 < max(norms)  # some steps are clipped
    metrics = run(epochs=12, max_grad_norm=0.5, warmup=0.0)
    for row, expected in zip(metrics, plain, strict=True):
        got = {key: row[key] for key in expected}
        assert got == pytest.approx(expected, **ROWS), row["step"]


def test_the_first_loss_is_ln2_with_margins_of_zero(run):
    first = run()[0]
    assert first["loss"] == pytest.approx(LN2)
    assert first["rewards/margins"] == pytest.approx(0, abs=margin_bound(10))


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


def test_sft_does_not_look_at_the_rejected(run, toy_pairs):
    before = run("before", objective="sft")
    write_rows(toy_pairs, [row | {"rejected": "The white square."} for row in read_rows(toy_pairs)])
    after = run("after", objective="sft")
    for key in ("loss", "grad_norm", "rewards/chosen"):
        assert [r[key] for r in before] == pytest.approx([r[key] for r in after], rel=1e-4)


def test_bfloat16_starts_at_ln2_with_a_reference_from_other_packs(run, toy_pairs):
    rows = read_rows(toy_pairs)
    write_rows(toy_pairs, rows[::2])
    run("first", dtype="bfloat16")
    write_rows(toy_pairs, rows)
    assert run("second", dtype="bfloat16")[0]["loss"] == pytest.approx(LN2, abs=0.01)


def test_the_run_folder_has_an_adapter_that_loads(run, tiny, tmp_path):
    run(save_every=2)
    names = {"config.json", "metrics.jsonl", "checkpoints", "adapter", ".lock"}
    assert {p.name for p in (tmp_path / "run").iterdir()} == names
    assert json.loads((tmp_path / "run/config.json").read_text())["frames_used"] == world.N_FRAMES
    load_adapter(tiny.model, tmp_path / "run/adapter")
    assert all(p.abs().max() > 0 for p in adapter_parameters(tiny.model))


@pytest.mark.parametrize(("lora_rank", "named"), [(8, True), (8, False), (0, True), (0, False)])
def test_the_last_line_is_a_command_to_paste(
    run, tiny_folder, tmp_path, capsys, monkeypatch, lora_rank, named
):
    monkeypatch.setattr(train_dpo.toy, "resolved", lambda _: str(tiny_folder))
    run("sp ace", lora_rank=lora_rank, model=str(tiny_folder) if named else "toy")
    *_, line = capsys.readouterr().out.splitlines()
    python, script, *argv = shlex.split(line.split("; next: ")[1])
    config, out = parse(evaluate.EvalConfig, argv), tmp_path / "sp ace"
    assert (python, script) == ("python", "evaluate.py")
    assert config.adapter == ([str(out / "adapter")] if lora_rank else [])
    model = str(tiny_folder) if named else "toy"
    assert config.model == (model if lora_rank else str(out / "model"))


def test_the_folder_of_the_pairs_may_be_given_instead_of_the_file(run, toy_pairs, tmp_path):
    run(pairs=toy_pairs.parent)
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["pairs"] == str(toy_pairs)


def test_the_run_records_how_many_pairs_of_each_mode_it_read(run, toy_pairs, tmp_path):
    run()
    used = json.loads((tmp_path / "run/config.json").read_text())["pairs_read"]
    assert used == Counter(row["mode"] for row in read_rows(toy_pairs))


def test_a_finished_run_is_refused(run, capsys):
    run()
    for resume, code in ((False, 1), (True, 0)):  # a restarted job has nothing left to do
        with pytest.raises(SystemExit) as stopped:
            run(resume=resume)
        assert stopped.value.code == code
        assert "holds a finished run" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(lora_rank=0)
    assert "holds a finished run" in capsys.readouterr().out


def test_a_stopped_run_is_not_restarted_without_resume(run, tmp_path):
    (tmp_path / "run").mkdir()
    write_rows(tmp_path / "run/metrics.jsonl", [{"step": step} for step in range(1, 10)])
    with pytest.raises(SystemExit, match="stopped after 9 updates; continue it with --resume"):
        run()
    assert [row["step"] for row in run(resume=True)] == [1, 2, 3]  # there is no checkpoint


def test_full_tuning_changes_the_language_model_alone_and_writes_a_model(run, tiny, tmp_path):
    metrics = run(lora_rank=0, epochs=20, batch_pairs=8)
    assert metrics[0]["loss"] == pytest.approx(LN2)
    assert metrics[-1]["loss"] < LN2 / 2
    tuned = dict(load_vlm(tmp_path / "run/model").model.named_parameters())
    changed = {name for name, p in tiny.model.named_parameters() if not torch.equal(p, tuned[name])}
    assert changed == {name for name in tuned if ".visual." not in name}


def test_full_tuning_in_bfloat16_keeps_its_weights_in_float32(run, tmp_path):
    # An update of 1e-6 would be lost in bfloat16, and every loss stay that of the first update.
    metrics = run(lora_rank=0, dtype="bfloat16", lr=1e-6, epochs=10, batch_pairs=8)
    assert metrics[0]["loss"] == pytest.approx(LN2, abs=0.01)
    assert metrics[-1]["rewards/margins"] > metrics[0]["rewards/margins"]
    weights = load_vlm(tmp_path / "run/model", "bfloat16").model
    assert weights.dtype == torch.bfloat16


def test_held_out_pairs_are_scored_and_the_best_and_the_last_adapter_kept(
    run, tiny_folder, toy_pairs, toy_videos, tmp_path
):
    metrics = run(holdout=0.4, eval_every=2, epochs=4, lr=5e-3)
    scored = {row["step"]: row["eval/loss"] for row in metrics if "eval/loss" in row}
    steps = [row["step"] for row in metrics]
    assert list(scored) == [step for step in steps if step % 2 == 0 or step == steps[-1]]
    groups = by_video(read_pairs(toy_pairs, video_root=toy_videos))
    _, held_out = hold_out(groups, 0.4, seed=0)
    best = min(scored, key=scored.get)
    expected = {"adapter": steps[-1], "adapter-best": best}
    for name, step in expected.items():
        loss = held_out_loss(tiny_folder, tmp_path / "run" / name, held_out)
        assert scored[step] == pytest.approx(loss, abs=margin_bound(10)), name


def held_out_loss(model, adapter, groups):
    """The mean DPO loss of pairs under an adapter, by plain rows."""
    policy, reference, losses = load_vlm(model), load_vlm(model), []
    load_adapter(policy.model, adapter)
    for pair in [pair for group in groups for pair in group.pairs]:
        frames = read_frames(pair.video, lambda times: uniform(times, world.N_FRAMES))
        inputs = policy.processor.prepare(*frames)
        with torch.no_grad():
            chosen, rejected = (
                plain_logps(policy, inputs, pair.query, response)
                - plain_logps(reference, inputs, pair.query, response)
                for response in (pair.chosen, pair.rejected)
            )
        losses.append(math.log1p(math.exp(-0.1 * (chosen - rejected).item())))
    return mean(losses)


def test_held_out_videos_are_not_trained_on(run):
    metrics = run(holdout=0.4, epochs=2)
    assert sum(row["pairs"] for row in metrics) < 2 * sum(PAIRS_OF_VIDEO)


def test_ipo_starts_at_the_square_of_its_goal(run):
    metrics = run(objective="ipo", beta=0.5, epochs=20, batch_pairs=8)
    assert metrics[0]["loss"] == pytest.approx(1 / (2 * 0.5) ** 2, rel=1e-4)
    assert metrics[-1]["loss"] < 0.5


def test_an_sft_term_adds_to_the_loss_and_raises_the_chosen(run):
    plain, added = run("plain", epochs=10), run("added", epochs=10, sft_weight=1.0)
    likelihoods = run("sft", objective="sft")
    expected = LN2 + likelihoods[0]["loss"]
    assert added[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert added[-1]["logps/chosen"] > plain[-1]["logps/chosen"]


def test_packs_split_at_max_length_train_the_same(run):
    whole, split = run("whole"), run("split", max_length=140)
    for row, other in zip(numbers(whole), numbers(split), strict=True):
        # An accuracy counts the margins above 0; before training all are 0 up to rounding.
        kept = [{k: v for k, v in x.items() if "accuracies" not in k} for x in (row, other)]
        assert kept[0] == pytest.approx(kept[1], **ROWS)


def test_more_bad_videos_than_max_skipped_stop_the_run_with_their_names(run, toy_pairs):
    rows = read_rows(toy_pairs)
    write_rows(toy_pairs, [{**rows[0], "id": "a", "video": "gone.avi"}, *rows])
    with pytest.raises(SystemExit, match="(?s)1 videos cannot be read.*0.*gone.avi"):
        run(max_skipped=0)


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


def test_a_reference_of_another_model_stops_the_run(run, toy_pairs):
    run("first")
    cache = toy_pairs.with_name("reference.jsonl")
    write_rows(
        cache,
        [
            cache_row(row["key"], Known(row["logps"] - 0.5, row["tokens"]))
            for row in read_rows(cache)
        ],
    )
    with pytest.raises(RuntimeError, match="before any training"):
        run("second")


def test_pairs_of_a_bad_video_are_named_and_left_out(run, toy_pairs, tmp_path, capsys):
    rows = read_rows(toy_pairs)
    bad = [{**rows[0], "id": "a", "video": "gone.avi"}, {**rows[1], "id": "b", "video": "gone.avi"}]
    write_rows(toy_pairs, bad + rows)
    metrics = run()
    assert sum(row["pairs"] for row in metrics) == sum(PAIRS_OF_VIDEO)
    (skipped,) = read_rows(tmp_path / "run/skipped.jsonl")
    assert skipped["video"].endswith("gone.avi") and skipped["pairs"] == ["a", "b"]
    assert "2 pairs left out, 1 of 6 videos" in capsys.readouterr().out


def test_a_run_prints_how_many_videos_are_found_before_it_loads_the_model(
    run, toy_pairs, capsys, monkeypatch
):
    monkeypatch.setattr(train_dpo, "load_policy", lambda *_: sys.exit("here"))
    rows = read_rows(toy_pairs)
    write_rows(toy_pairs, [{**rows[0], "id": "a", "video": "gone.avi"}, *rows])
    with pytest.raises(SystemExit, match="here"):
        run()
    text = capsys.readouterr().out
    assert text.startswith("9 pairs (") and text.count("\n") == 1
    assert ") about 6 videos: 5 found under " in text and ", 1 not, such as gone.avi\n" in text


def test_a_run_without_any_video_stops_with_the_flag_to_change(run, tmp_path):
    with pytest.raises(SystemExit, match=f"relative names begin in {tmp_path}/x: .*--video_root"):
        run(video_root=tmp_path / "x")


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
    skipped = read_rows(tmp_path / "second/skipped.jsonl")
    lost = sum(len(row["pairs"]) for row in skipped)
    assert len(skipped) == 2
    assert sum(row["pairs"] for row in metrics) == sum(PAIRS_OF_VIDEO) - lost


def test_pairs_without_a_mode_train_as_one_group_or_under_a_given_mode(run, toy_pairs, capsys):
    rows = [{k: v for k, v in row.items() if k != "mode"} for row in read_rows(toy_pairs)]
    write_rows(toy_pairs, rows)
    metrics = run(holdout=0.3, mode_weights=[0.0, 0.0, 1.0])  # weights of modes: others have 1
    assert len(metrics) > 1 and metrics[0]["loss"] == pytest.approx(LN2, abs=1e-4)
    for row in metrics:
        assert row["loss/other"] == row["loss"] and row["grad_norm"] > 0
        assert not {f"loss/{mode}" for mode in MODES} & row.keys()
    assert metrics[-1]["eval/loss/other"] == metrics[-1]["eval/loss"]
    printed = capsys.readouterr().out
    assert f"{len(rows)} pairs ({len(rows)} other)" in printed and "| other 0.693 |" in printed
    assert not any(mode in printed for mode in MODES)
    assert "loss/temporal" in run("second", mode="temporal")[0]


def test_pairs_with_and_without_a_mode_train_together(run, toy_pairs, capsys):
    rows = read_rows(toy_pairs)
    rows = [row | {"mode": "spatial" if i % 3 else None} for i, row in enumerate(rows)]
    write_rows(toy_pairs, rows)
    first = run(batch_pairs=len(rows))[0]
    assert first["pairs"] == len(rows) and {"loss/spatial", "loss/other"} <= first.keys()
    printed = capsys.readouterr().out
    assert "| spatial 0.693 temporal     - cross_frame     - other 0.693 |" in printed
    write_rows(toy_pairs, [rows[0] | {"mode": "sideways"}, *rows[1:]])
    with pytest.raises(ValueError, match="mode is 'sideways'; expected one of"):
        run("third")


def stopped_run(run, tmp_path):
    """A run that was stopped before its last update."""
    run(save_every=2)
    shutil.rmtree(tmp_path / "run/adapter")
    shutil.rmtree(tmp_path / "run/checkpoints/step-000003")
    return (tmp_path / "run/config.json").read_text()


def test_other_flags_are_refused_before_anything_is_written(run, tmp_path):
    before = stopped_run(run, tmp_path)
    with pytest.raises(SystemExit, match="cannot resume .*--lr was 0.001 and is 0.5"):
        run(resume=True, lr=0.5, save_every=2)
    assert (tmp_path / "run/config.json").read_text() == before
    assert len(run(resume=True, save_every=2, workers=1)) == 3


def test_checkpoints_restrict_only_a_resumed_run(run, tmp_path):
    stopped_run(run, tmp_path)
    (tmp_path / "run/metrics.jsonl").unlink()
    assert len(run(lr=0.5)) == 3  # from the start, with flags of its own


def test_other_texts_under_the_same_ids_are_refused(run, tmp_path, toy_pairs):
    rows = [row | {"id": str(i)} for i, row in enumerate(read_rows(toy_pairs))]
    write_rows(toy_pairs, rows)
    before = stopped_run(run, tmp_path)
    write_rows(toy_pairs, [rows[0] | {"rejected": "The white square."}, *rows[1:]])
    with pytest.raises(SystemExit, match="cannot resume .*the pairs, the videos"):
        run(resume=True, save_every=2)
    assert (tmp_path / "run/config.json").read_text() == before


def test_the_same_out_can_be_used_again_once_the_videos_are_found(run, toy_pairs):
    rows = read_rows(toy_pairs)
    write_rows(toy_pairs, [{**rows[0], "id": "a", "video": "gone.avi"}, *rows])
    with pytest.raises(SystemExit, match="cannot be read"):
        run(max_skipped=0)
    write_rows(toy_pairs, rows)
    assert len(run(max_skipped=0)) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode_weights": [0.0] * len(MODES)}, "expected some above 0"),
        ({"beta": 0.0}, "--beta is 0.0"),
    ],
)
def test_weights_and_beta_must_be_able_to_train(run, change, message):
    with pytest.raises(SystemExit, match=message):
        run(**change)


@pytest.mark.parametrize("name", ["epochs", "save_every", "eval_every", "keep_checkpoints"])
def test_counts_must_be_positive(run, name):
    with pytest.raises(SystemExit, match=f"--{name} is 0; expected 1 or more"):
        run(**{name: 0})


def test_mode_weights_must_be_one_for_each_mode(run):
    with pytest.raises(SystemExit, match=f"--mode_weights takes {len(MODES)} numbers"):
        run(mode_weights=[1.0] * (len(MODES) - 1))


def test_pairs_that_are_not_there_are_named_before_the_toy_model_is_trained(run, monkeypatch):
    monkeypatch.setattr(toy, "model_folder", lambda: pytest.fail("the toy model is trained"))
    with pytest.raises(SystemExit, match="no pairs at nowhere.jsonl; `python make_pairs.py`"):
        run(model="toy", pairs=Path("nowhere.jsonl"))


def test_the_toy_model_is_trained_on_like_one_that_was_named(run, monkeypatch, tiny_folder):
    monkeypatch.setattr(toy, "model_folder", lambda: str(tiny_folder))
    assert numbers(run("a", model="toy")) == numbers(run("b"))
