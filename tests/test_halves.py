"""Two processes that learn as one: that they do, and that neither is left alone.

Oracle: one process that learns from both halves.

    python -m pytest -q tests/test_halves.py
"""

from multiprocessing import get_context

import pytest
import torch

from pasta.toy.halves import learn, learn_there, other_half

STEPS = 20


def lessons(seed):
    """Inputs and targets of each step of one half."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 6, 3, generator=draw) for _ in range(STEPS)]


def loss_of(model, lesson):
    return ((model(lesson[0]) - lesson[1]) ** 2).mean()


def pupil():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


def learn_half(mean, folder, seed):
    """Learn one half, and leave the weights in a file."""
    model = pupil()
    losses = ((loss_of(model, x), STEPS - i) for i, x in enumerate(lessons(seed)))
    learn(model, losses, STEPS, 5, 1e-2, mean=mean)
    rows = [f"{value!r}" for weight in model.parameters() for value in weight.flatten().tolist()]
    (folder / str(seed)).write_text("\n".join(rows))


def test_both_halves_have_the_same_weights_as_one_process_with_both(tmp_path):
    with other_half(learn_half, tmp_path, 1) as mean:
        learn_half(mean, tmp_path, 0)
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text()
    model = pupil()
    both = enumerate(zip(lessons(0), lessons(1), strict=True))
    losses = (((loss_of(model, a) + loss_of(model, b)) / 2, STEPS - i) for i, (a, b) in both)
    learn(model, losses, STEPS, 5, 1e-2)
    found = [float(x) for x in (tmp_path / "0").read_text().split()]
    expected = torch.cat([weight.flatten() for weight in model.parameters()]).tolist()
    assert found == pytest.approx(expected, abs=1e-2 / 1000)  # of the rate, in 20 steps


def break_off(mean):
    mean(torch.zeros(1))
    raise ValueError("no more")


def test_the_end_of_the_other_half_ends_this_one():
    with pytest.raises(RuntimeError, match="other half ended"):
        with other_half(break_off) as mean:
            while True:
                mean(torch.zeros(1))


def ask_for_ever(mean):
    while True:
        mean(torch.zeros(1))


def test_the_second_half_ends_when_the_first_is_gone():
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=learn_there, args=(there, ask_for_ever, ()))
    process.start()
    there.close()
    here.recv_bytes()
    here.close()
    process.join(60)
    assert process.exitcode == 1
