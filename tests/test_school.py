"""The toy model's school, a step of each stage: that it runs, and that it teaches what it says.

Oracles: a picture counted by hand, a lesson repeated until it is known.
    python -m pytest tests/test_school.py
"""

import numpy as np
import pytest

from pasta.ask import Request, ask
from pasta.toy import school
from pasta.toy.base import make_folder
from pasta.toy.world import COLOURS, SHAPES, Thing, Video
from pasta.vlm import load_vlm


def test_a_step_of_every_stage_makes_a_folder_that_can_be_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(school, "SEE_STEPS", 1)
    monkeypatch.setattr(school, "STAGES", tuple((i, 0.5, 1, 2) for i in range(3)))
    make_folder(tmp_path / "untrained")
    school.train_base(tmp_path / "trained")
    before, after = (load_vlm(tmp_path / name) for name in ("untrained", "trained"))
    assert set(after.model.state_dict()) == set(before.model.state_dict())
    moved = [
        name
        for name, weight in after.model.state_dict().items()
        if not weight.equal(before.model.state_dict()[name])
    ]
    assert len(moved) > len(before.model.state_dict()) / 2
    assert ask(after, [Request(None, "Describe it.")], max_new_tokens=2)[0].ids


def test_what_a_quarter_shows_by_hand():
    thing = Thing("red circle", 14, 14, appears=2, stays=True, successor="red circle")
    video = Video((thing,), cut=16, backgrounds=((0, 0, 0), (50, 50, 50)))
    table = school.shown(video, range(0, 4)).numpy()  # it is there in two of the four frames
    assert table.shape == (4, len(COLOURS) + len(SHAPES))
    red, circle = list(COLOURS).index("red"), len(COLOURS) + SHAPES.index("circle")
    expected = np.zeros_like(table)
    expected[0, [red, circle]] = 0.5
    assert table == pytest.approx(expected)


def test_one_batch_learnt_by_heart(tiny):
    model = tiny.model.train().requires_grad_(True)
    packs = [school.lesson_pack(tiny.processor, np.random.default_rng(0), 0, 0.5, 1)]

    def losses():
        for _ in range(60):
            found.append(school.batch_loss(tiny, packs))
            yield found[-1]

    found = []
    school.learn(model, losses(), 60, 3e-3, "by heart")
    assert found[-1].item() < found[0].item() / 10
