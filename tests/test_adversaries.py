"""The three adversaries, and what each corruption does to tiny videos, by hand.

python -m pytest tests/test_adversaries.py
"""

import numpy as np
import pytest

from pasta import adversaries as adv
from pasta.adversaries import ADVERSARIES
from pasta.pairs import MODES
from pasta.sampling import samplers

CORRUPTIONS = {
    f"{mode}-{name}": corrupt
    for mode in MODES
    for name, corrupt in ADVERSARIES[mode].corruptions.items()
}
SHAPES = [(1, 4, 6), (2, 5, 7), (3, 2, 2), (8, 6, 4), (9, 7, 5)]  # frames, height, width


def rng(seed=0):
    return np.random.default_rng(seed)


def noise(shape, seed=0):
    return rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def grey(*values):
    """One frame of 2 x 2 equal pixels for each value."""
    return np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])


def values(frames):
    """What `grey` was made of."""
    assert (frames == frames[:, :1, :1, :1]).all()
    return frames[:, 0, 0, 0].tolist()


def picture(*rows):
    """One frame whose three channels are the same."""
    return np.repeat(np.array(rows, np.uint8)[None, :, :, None], 3, axis=3)


def test_every_mode_has_an_adversary_with_all_that_it_needs():
    assert tuple(ADVERSARIES) == MODES
    for adversary in ADVERSARIES.values():
        assert len(adversary.corruptions) >= 2
        assert adversary.twins and set(adversary.twins) <= set(adversary.corruptions)
        assert adversary.sampling in samplers(32, 8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_keep_shape_and_type_and_leave_their_input_alone(name, shape):
    frames, other = noise(shape), noise((5, 3, 8), seed=1)
    before, other_before = frames.copy(), other.copy()
    broken = CORRUPTIONS[name](frames, rng(), other)
    assert broken.shape == frames.shape and broken.dtype == np.uint8
    assert (frames == before).all() and (other == other_before).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_the_same_for_the_same_seed(name):
    frames, other = noise((8, 4, 4)), noise((8, 4, 4), seed=1)
    once, again = (CORRUPTIONS[name](frames, rng(3), other) for _ in range(2))
    assert (once == again).all()


@pytest.mark.parametrize("corrupt", [adv.mirror, adv.rotate, adv.reverse])
def test_twice_is_the_identity(corrupt):
    frames = noise((5, 5, 7))
    assert not (corrupt(frames, rng(), None) == frames).all()
    assert (corrupt(corrupt(frames, rng(), None), rng(), None) == frames).all()


def test_mirror_and_rotate_by_hand():
    frames = picture([1, 2, 3], [4, 5, 6])
    assert (adv.mirror(frames, rng(), None) == picture([3, 2, 1], [6, 5, 4])).all()
    assert (adv.rotate(frames, rng(), None) == picture([6, 5, 4], [3, 2, 1])).all()


def test_swap_halves_draws_both_directions():
    frames = picture([1, 2], [3, 4])
    found = {tuple(adv.swap_halves(frames, rng(i), None)[0, ..., 0].flatten()) for i in range(30)}
    assert found == {(2, 1, 4, 3), (3, 4, 1, 2)}


def test_no_tile_keeps_its_place_an_odd_edge_does_and_all_frames_are_alike():
    frames = np.concatenate([picture([1, 2, 9], [3, 4, 9], [9, 9, 9])] * 2)
    for i in range(9):
        broken = adv.shuffle_tiles(frames, rng(i), None)[..., 0]
        assert (broken == broken[:1]).all()
        assert (broken[:, 2] == 9).all() and (broken[:, :, 2] == 9).all()
        assert sorted(broken[0, :2, :2].flatten()) == [1, 2, 3, 4]
        assert (broken[:, :2, :2] != frames[:, :2, :2, 0]).all()


def test_shuffle_moves_whole_quarters_and_never_none():
    for i in range(40):
        broken = values(adv.shuffle(grey(*range(8)), rng(i), None))
        assert broken != list(range(8)) and sorted(broken) == list(range(8))
        assert all(b == a + 1 for a, b in zip(broken[::2], broken[1::2], strict=True))


def test_reverse_and_freeze_by_hand():
    assert values(adv.reverse(grey(1, 2, 3), rng(), None)) == [3, 2, 1]
    frozen = [values(adv.freeze(grey(1, 2, 3), rng(i), None)) for i in range(30)]
    assert all(len(set(video)) == 1 for video in frozen)
    assert {video[0] for video in frozen} == {1, 2, 3}


@pytest.mark.parametrize(
    ("frames", "cut"),
    [
        (grey(10, 12, 90, 91), 2),
        (grey(10, 200, 10), 1),  # the first of equals
        (grey(250, 249, 5), 2),  # uint8 would wrap around
        (grey(7, 7, 7), 1),
        (grey(0, 9), 1),
        (grey(5), 1),
    ],
)
def test_largest_cut_by_hand(frames, cut):
    assert adv.largest_cut(frames) == cut


def test_fit_frames_by_hand():
    other = picture([1, 2, 3], [4, 5, 6])
    expected = np.concatenate([picture([1, 3], [4, 6])] * 2)
    assert (adv.fit_frames(other, (2, 2, 2, 3)) == expected).all()
    assert adv.fit_frames(other, (0, 2, 2, 3)).shape == (0, 2, 2, 3)


@pytest.mark.parametrize(
    ("corrupt", "expected"),
    [
        (adv.splice, [10, 11, 12, 150, 151]),  # the second scene of the other video
        (adv.repeat_scene, [10, 11, 12, 10, 12]),
        (adv.swap_scenes, [90, 91, 10, 11, 12]),
    ],
)
def test_scene_corruptions_by_hand(corrupt, expected):
    assert values(corrupt(grey(10, 11, 12, 90, 91), rng(), grey(200, 150, 151))) == expected


def test_scene_corruptions_turn_kept_into_replaced_and_back():
    kept, replaced = grey(10, 10, 60, 60), grey(10, 10, 160, 160)
    assert values(adv.splice(kept, rng(), replaced))[2:] == [160, 160]
    assert values(adv.repeat_scene(replaced, rng(), kept))[2:] == [10, 10]
