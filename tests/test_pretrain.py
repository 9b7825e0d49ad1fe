"""Pretraining of the toy model, with one step of each stage; the two processes that do it.

Oracles: a picture counted by hand, a batch that is overfitted, one process with both halves.
"""

import math
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
from conftest import ROOT, linux
from torch.multiprocessing import ProcessRaisedException

from pasta.models.generate import Request, ask
from pasta.models.load import load_vlm
from pasta.toy import pretrain, world
from pasta.toy.captions import NO_NOISE, caption_samples, qa_samples
from pasta.toy.model import make_folder
from pasta.toy.world import COLOURS, SHAPES, Thing, Video

HALF = dict.fromkeys(NO_NOISE, 0.5)
STEP = ((caption_samples, NO_NOISE, 0.5, 1, 1, 0.0), (qa_samples, HALF, 0.0, 1, 1, 0.0))


def train(folder, kind, threads=1):
    """The bytes of the weights after a step of every stage, started with some threads."""
    torch.set_num_threads(threads)
    try:
        pretrain.train_base(folder, 0, kind, align_steps=1, stages=STEP, batch=1)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture
def forked(monkeypatch):
    """The two processes are forked from one that has imported torch and transformers."""
    start = partial(pretrain.start_processes, start_method="forkserver")
    monkeypatch.setattr(pretrain, "start_processes", start)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("kind", ["qwen", "onevision"])
def test_a_step_of_every_stage_makes_a_folder_that_can_be_asked(tmp_path, kind):
    make_folder(tmp_path / "untrained", 0, kind)
    weights = train(tmp_path / "trained", kind)
    before, after = (load_vlm(tmp_path / name) for name in ("untrained", "trained"))
    old, new = before.model.state_dict(), after.model.state_dict()
    assert set(new) == set(old)
    assert sum(not weight.equal(old[name]) for name, weight in new.items()) > len(old) / 2
    assert ask(after, [Request(None, "Describe it.")], max_new_tokens=2)[0].ids
    if kind == "qwen":  # on any number of threads
        assert weights == train(tmp_path / "again", kind, threads=2)


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


def learn_and_stop(rank, folder):
    weights = trained(lambda loss: (loss(batch) for batch in batches(rank)))
    pretrain.LOSS_WINDOW = 1
    losses = [torch.tensor(x if rank else 1.0) for x in (0.8, 0.6, 0.4, 0.2)]
    steps = len(list(pretrain.one_stage(iter(losses), 1, 4, 0.75)))
    torch.save((weights, steps), folder / f"{rank}.pt")


@pytest.mark.usefixtures("forked")
def test_two_processes_learn_as_one_process_with_both_halves(tmp_path):
    pretrain.in_two_processes(learn_and_stop, tmp_path)
    (first, *steps), (second, *more) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first.equal(second)
    both = list(zip(batches(0), batches(1), strict=True))
    alone = trained(lambda loss: ((loss(a) + loss(b)) / 2 for a, b in both))
    assert first == pytest.approx(alone, abs=1e-5)
    assert steps == more == [3]  # early stopping compares the mean over both


def train_forever(rank, folder=None):
    """Write the process id into a folder; without a folder, the second process fails."""
    if folder:
        (folder / f"pid{rank}").write_text(str(os.getpid()))
    while True:
        pretrain.mean_of_processes(torch.zeros(1))
        if rank == 1 and not folder:
            raise ValueError("no such video")


@pytest.mark.usefixtures("forked")
def test_a_process_that_fails_raises_in_the_parent():
    with pytest.raises(ProcessRaisedException, match="ValueError: no such video"):
        pretrain.in_two_processes(train_forever)


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_parent(tmp_path, number):
    code = "import signal, sys; from pathlib import Path; import test_pretrain as t; "
    # a background job of a shell ignores SIGINT, and so would this process
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "t.pretrain.in_two_processes(t.train_forever, Path(sys.argv[1]))"
    here = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    parent = subprocess.Popen([sys.executable, "-c", code, tmp_path], env=here)
    files, end = [tmp_path / "pid0", tmp_path / "pid1"], time.monotonic() + 300
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < end and parent.poll() is None
        time.sleep(0.1)
    parent.send_signal(number)
    parent.wait(120)
    while any(alive(file.read_text()) for file in files):
        assert time.monotonic() < end
        time.sleep(0.1)


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
