"""Pretraining of the toy model, with one step of each stage; the two processes that do it.

Oracles: a picture counted by hand, a batch that is overfitted, one process with both halves.
"""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, finish, launch

from pasta.models.generate import Request, ask
from pasta.models.load import load_vlm
from pasta.run import ranks
from pasta.toy import pretrain, world
from pasta.toy.captions import NO_NOISE, caption_samples, qa_samples
from pasta.toy.pretrain import make_folder
from pasta.toy.world import COLOURS, SHAPES, Thing, Video

HALF = dict.fromkeys(NO_NOISE, 0.5)
STEP = ((caption_samples, NO_NOISE, 0.5, 1, 1, 0.0), (qa_samples, HALF, 0.0, 1, 1, 0.0))


@pytest.mark.parametrize("kind", ["qwen", "onevision"])
def test_a_step_of_every_stage_makes_a_folder_that_can_be_asked(tmp_path, kind):
    for name in ("untrained", "trained"):
        make_folder(tmp_path / name, 0, kind)
    pretrain.train(tmp_path / "trained", 0, align_steps=1, stages=STEP, batch=1)
    before, after = (load_vlm(tmp_path / name) for name in ("untrained", "trained"))
    old, new = before.model.state_dict(), after.model.state_dict()
    assert set(new) == set(old)
    assert sum(not weight.equal(old[name]) for name, weight in new.items()) > len(old) / 2
    assert ask(after, [Request(None, "Describe it.")], max_new_tokens=2)[0].ids


def test_a_further_training_repeats_the_last_stage_with_a_part_of_its_noise(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "STAGES", STEP)
    monkeypatch.setattr(pretrain, "BATCH", 1)
    real, seen = pretrain.sample_pack, []
    monkeypatch.setattr(pretrain, "sample_pack", lambda *x: seen.append(x[2:]) or real(*x))
    make_folder(tmp_path / "base", 0)
    before = (tmp_path / "base/model.safetensors").read_bytes()
    pretrain.train_further(tmp_path / "further", tmp_path / "base", 0, 0.4)
    assert seen == [(qa_samples, dict.fromkeys(NO_NOISE, 0.2), 0.0)]  # 0.4 of a half
    assert (tmp_path / "base/model.safetensors").read_bytes() == before
    assert (tmp_path / "further/model.safetensors").read_bytes() != before
    assert ask(load_vlm(tmp_path / "further"), [Request(None, "Describe it.")], 2)[0].ids


def batches(seed):
    """Inputs and targets of each of 20 steps of one half."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 6, 3, generator=draw) for _ in range(20)]


def trained(losses_of):
    """The weights of a small network, as one vector, after `descend` on losses_of(network)."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    losses = losses_of(lambda batch: ((model(batch[0]) - batch[1]) ** 2).mean())
    pretrain.descend(model, ((loss, 19 - i) for i, loss in enumerate(losses)), 20, 5, 1e-2)
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def learn_and_stop(folder):
    rank = ranks.rank()
    weights = trained(lambda loss: (loss(batch) for batch in batches(rank)))
    pretrain.LOSS_WINDOW = 1
    losses = [torch.tensor(x if rank else 1.0) for x in (0.8, 0.6, 0.4, 0.2)]
    steps = len(list(pretrain.one_stage(iter(losses), 1, 4, 0.75)))
    torch.save((weights, steps), f"{folder}/{rank}.pt")


def script_that(path, code):
    """A script that knows this file as `t`."""
    here = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
    path.write_text(f"{here}import test_pretrain as t\n{code}\n")
    return path


def test_two_processes_learn_as_one_process_with_both_halves(tmp_path):
    code = "t.ranks.start('cpu'); t.learn_and_stop(sys.argv[2]); t.ranks.stop()"
    finish(launch(script_that(tmp_path / "learn.py", code), 2, {"out": tmp_path}))
    (first, *steps), (second, *more) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first.equal(second)
    both = list(zip(batches(0), batches(1), strict=True))
    alone = trained(lambda loss: ((loss(a) + loss(b)) / 2 for a, b in both))
    assert first == pytest.approx(alone, abs=1e-5)
    assert steps == more == [3]  # early stopping compares the mean over both


def test_a_base_is_trained_by_two_processes_of_torchrun(tmp_path, monkeypatch):
    code = "t.pretrain.train.__defaults__ = (1, t.STEP, 1)\nt.pretrain.main()"
    script, started = script_that(tmp_path / "short.py", code), []

    def run(command, **settings):
        started.append(command)
        place = command.index("--module")
        assert command[place + 1] == "pasta.toy.pretrain"
        done(command[:place] + [script] + command[place + 2 :], **settings)

    done = subprocess.run
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["pretrain", str(tmp_path / "model"), "--seed", "1"])
    pretrain.main()
    make_folder(tmp_path / "untrained", 1)
    files = [tmp_path / name / "model.safetensors" for name in ("untrained", "model")]
    assert files[0].read_bytes() != files[1].read_bytes()
    assert "--nproc_per_node=2" in started[0]


def test_a_stage_stops_at_its_loss_but_not_before_its_least_steps(monkeypatch):
    monkeypatch.setattr(pretrain, "LOSS_WINDOW", 2)
    losses = [torch.tensor(x) for x in (0.8, 0.6, 0.4, 0.2, 0.2, 0.2, 0.2, 0.9)]
    # the means: .8, .7, .5, .3, .2, ...
    for stop_loss, least, steps in ((0.35, 2, 4), (0.35, 6, 6), (9.0, 1, 1), (0.0, 1, 7)):
        rest = iter(losses)
        found = list(pretrain.one_stage(rest, least, 7, stop_loss))
        assert found == [(loss, 6 - i) for i, loss in enumerate(losses[:steps])]
        assert next(rest) == losses[steps]  # no unused loss is drawn


def test_the_learning_rate_decays_in_the_last_stage_only(tiny):
    stages = ((caption_samples, NO_NOISE, 0.0, 1, 2, 9.0), (qa_samples, HALF, 0.0, 3, 3, 0.0))
    losses = pretrain.all_stages(stages, tiny, np.random.default_rng(0), 1)
    assert [left for _, left in losses] == [math.inf, 2, 1, 0]


def test_what_a_quarter_shows_by_hand():
    marker = Thing("red circle", 14, 14, start=2, end=32)
    video = Video((), marker, "red circle", cut=32, backgrounds=("black", "navy"), shade=(0, 0, 0))
    table = pretrain.visible(video, range(0, 4)).numpy()  # on screen in two of the four frames
    assert table.shape == (4, len(COLOURS) + len(SHAPES) + 4)
    expected = np.zeros_like(table)
    expected[0, [list(COLOURS).index("red"), len(COLOURS) + SHAPES.index("circle")]] = 0.5
    # left, right, above, below, of the upper row first
    expected[:, -4:] = [[1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1]]
    assert table == pytest.approx(expected)


def test_a_two_frame_clip_shows_both_actors_and_both_scenes(tiny, monkeypatch):
    seen, kind = [], type(tiny.processor)
    render, prepare = world.render, kind.prepare
    monkeypatch.setattr(world, "render", lambda video: seen.append(video) or render(video))
    monkeypatch.setattr(kind, "prepare", lambda self, f, t: seen.append(f) or prepare(self, f, t))
    pretrain.sample_pack(tiny, np.random.default_rng(0), caption_samples, NO_NOISE, 1.0)
    video, frames = seen
    assert len(frames) == world.N_FRAMES
    for picture, actor in ((frames[0], video.actors[0]), (frames[-1], video.actors[1])):
        assert tuple(picture[actor.y, actor.x]) == COLOURS[actor.name.split()[0]]
    for picture, name in ((frames[0], video.marker.name), (frames[-1], video.successor)):
        assert tuple(picture[video.marker.y, video.marker.x]) == COLOURS[name.split()[0]]
    changes = (np.diff(frames.astype(int), axis=0) != 0).any((1, 2, 3))
    assert changes.sum() == 1


def test_one_batch_can_be_overfitted(tiny):
    model, found = tiny.model.train().requires_grad_(True), []
    rng = np.random.default_rng(0)
    packs = [pretrain.sample_pack(tiny, rng, caption_samples, NO_NOISE, 1.0)]

    def losses():
        for left in reversed(range(60)):
            found.append(pretrain.batch_loss(tiny, packs))
            yield found[-1], left

    pretrain.descend(model, losses(), 60, 30, 3e-3)
    assert found[-1].item() < found[0].item() / 10
