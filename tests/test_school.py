"""The toy model's school, a step of each stage: that it runs, and that it teaches what it says.

Oracles: a picture counted by hand, a lesson repeated until it is known.
    python -m pytest tests/test_school.py
"""

import math

import numpy as np
import pytest
import torch

from pasta.models.generate import Request, ask
from pasta.models.load import load_vlm
from pasta.toy import pretrain as school
from pasta.toy import world
from pasta.toy.captions import TRUE, lessons, looking
from pasta.toy.halves import learn
from pasta.toy.model import make_folder
from pasta.toy.world import COLOURS, SHAPES, Thing, Video

HALF = dict.fromkeys(TRUE, 0.5)
alone = torch.clone  # the mean of one process
STEP = ((looking, TRUE, 0.5, 1, 1, 0.0), (lessons, HALF, 0.0, 1, 1, 0.0))


@pytest.mark.parametrize("kind", ["qwen", "onevision"])
def test_a_step_of_every_stage_makes_a_folder_that_can_be_asked(tmp_path, kind):
    make_folder(tmp_path / "untrained", 0, kind)
    school.train_base(tmp_path / "trained", 0, kind, see_steps=1, stages=STEP, batch=1)
    before, after = (load_vlm(tmp_path / name) for name in ("untrained", "trained"))
    assert set(after.model.state_dict()) == set(before.model.state_dict())
    moved = [
        name
        for name, weight in after.model.state_dict().items()
        if not weight.equal(before.model.state_dict()[name])
    ]
    assert len(moved) > len(before.model.state_dict()) / 2
    assert ask(after, [Request(None, "Describe it.")], max_new_tokens=2)[0].ids


def test_the_model_is_the_same_on_any_number_of_threads(tmp_path):
    weights = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            school.train_base(tmp_path / str(n), see_steps=2, stages=STEP, batch=1)
            assert torch.get_num_threads() == n
            weights.append((tmp_path / str(n) / "model.safetensors").read_bytes())
    finally:
        torch.set_num_threads(1)
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("goal", "least", "steps"),
    [(0.35, 2, 4), (0.35, 6, 6), (9.0, 1, 1), (0.0, 1, 8)],  # the means: .8, .7, .5, .3, .2, ...
)
def test_a_stage_ends_when_its_goal_is_reached_but_not_before_its_least_steps(
    monkeypatch, goal, least, steps
):
    monkeypatch.setattr(school, "GOAL_OVER", 2)
    losses = [torch.tensor(x) for x in (0.8, 0.6, 0.4, 0.2, 0.2, 0.2, 0.2, 0.9)]
    assert list(school.until(goal, least, iter(losses), alone)) == losses[:steps]


def test_a_goal_is_reached_by_the_mean_of_both_halves(monkeypatch):
    monkeypatch.setattr(school, "GOAL_OVER", 1)
    losses = [torch.tensor(x) for x in (0.8, 0.6, 0.4, 0.2)]
    assert len(list(school.until(0.75, 1, iter(losses), lambda mine: (mine + 1.0) / 2))) == 3


def test_the_learning_rate_goes_down_in_the_last_stage_alone(tiny):
    stages = ((looking, TRUE, 0.0, 1, 2, 9.0), (lessons, HALF, 0.0, 3, 3, 0.0))
    left = [n for _, n in school.through(stages, tiny, np.random.default_rng(0), 1, alone)]
    assert left == [math.inf, 2, 1, 0]


def test_no_more_losses_are_made_than_are_learnt_from():
    losses = iter(range(5))  # one more would draw a video more, and change all that follow
    assert list(school.counted(losses, 3)) == [(0, 2), (1, 1), (2, 0)]
    assert next(losses) == 3


def test_what_a_quarter_shows_by_hand():
    sign = Thing("red circle", 14, 14, start=2, end=32)
    video = Video((), sign, "red circle", cut=32, backgrounds=("black", "navy"), shade=(0, 0, 0))
    table = school.shown(video, range(0, 4)).numpy()  # it is there in two of the four frames
    assert table.shape == (4, len(COLOURS) + len(SHAPES) + 4)
    red, circle = list(COLOURS).index("red"), len(COLOURS) + SHAPES.index("circle")
    expected = np.zeros_like(table)
    expected[0, [red, circle]] = 0.5
    # left, right, above, below, of the upper row first
    expected[:, -4:] = [[1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1]]
    assert table == pytest.approx(expected)


def test_a_glimpse_shows_both_guests_and_both_scenes(tiny, monkeypatch):
    rendered = []
    real = world.render
    monkeypatch.setattr(
        world, "render", lambda video: rendered.append((video, real(video))) or rendered[-1][1]
    )
    prepared = []
    kind = type(tiny.processor)
    prepare = kind.prepare
    monkeypatch.setattr(
        kind, "prepare", lambda self, f, t: prepared.append(f) or prepare(self, f, t)
    )
    school.lesson_pack(tiny, np.random.default_rng(0), looking, TRUE, True)
    (video, _), frames = rendered[0], prepared[0]
    assert len(frames) == world.N_FRAMES
    for picture, guest in ((frames[0], video.guests[0]), (frames[-1], video.guests[1])):
        assert tuple(picture[guest.y, guest.x]) == COLOURS[guest.name.split()[0]]
    for picture, name in ((frames[0], video.sign.name), (frames[-1], video.successor)):
        assert tuple(picture[video.sign.y, video.sign.x]) == COLOURS[name.split()[0]]
    changes = (np.diff(frames.astype(int), axis=0) != 0).any((1, 2, 3))
    assert changes.sum() == 1


def test_one_batch_learnt_by_heart(tiny):
    model = tiny.model.train().requires_grad_(True)
    packs = [school.lesson_pack(tiny, np.random.default_rng(0), looking, TRUE, True)]

    def losses():
        for left in reversed(range(60)):
            found.append(school.batch_loss(tiny, packs))
            yield found[-1], left

    found = []
    learn(model, losses(), 60, 30, 3e-3, "by heart")
    assert found[-1].item() < found[0].item() / 10
