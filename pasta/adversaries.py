"""The three adversaries of VideoPASTA: which frames each samples, and how it corrupts a video.

One `Adversary` per failure mode (arXiv 2504.14096, section 3). Frames are (F, H, W, 3) uint8.

A corruption must be able to turn either answer into the other ("left" into "right" and "right"
into "left"). If it only removes things, every chosen response says "replaced", and training learns
that word instead of the video. So cross_frame has both: `splice` brings new objects, `repeat_scene`
keeps the old ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SPARSE_FPS = 1.0  # the sampling of adversarial responses (paper, section 3)
DENSE_FPS = 32.0  # "32 fps" for the spatial preferred responses (paper, section 3)


@dataclass(frozen=True)
class Adversary:
    """What is specific to one failure mode.

    sampling:    of the preferred response, within the frame budget: "dense" (32 fps), "native"
                 (every frame; within the budget, as "uniform"); adversarial responses get 1 fps
    corruptions: name -> function(frames, rng, other) -> frames of the same shape, for `--adversary
                 frames`; `other` is another video's frames, (F', H', W', 3). Used in turn
    twins:       corruptions that make the opposite answer true, in both directions
                 (counterfactuals). An answer from the prior stays as likely there. An answer that
                 depends on the video becomes unlikely. Used by --select contrast
    """

    sampling: str
    corruptions: dict[str, Callable]
    twins: tuple[str, ...]


def mirror(frames, rng, other):
    """Left becomes right, top stays top."""
    return frames[:, :, ::-1]


def rotate(frames, rng, other):
    """Half a turn: left becomes right and top becomes bottom."""
    return frames[:, ::-1, ::-1]


def swap_halves(frames, rng, other):
    """Swaps the left and right halves, or the upper and lower ones, with equal probability."""
    axis = int(rng.integers(1, 3))
    return np.roll(frames, frames.shape[axis] // 2, axis=axis)


def shuffle_tiles(frames, rng, other):
    """Permutes a 2 x 2 grid of tiles: no tile keeps its place; the same in all frames."""
    rows, columns = frames.shape[1] // 2, frames.shape[2] // 2
    corners = [(0, 0), (0, columns), (rows, 0), (rows, columns)]
    shuffled = frames.copy()  # an odd last row or column does not change
    shift = int(rng.integers(1, 4))
    for i, (y, x) in enumerate(corners):
        from_y, from_x = corners[(i + shift) % 4]
        tile = frames[:, from_y : from_y + rows, from_x : from_x + columns]
        shuffled[:, y : y + rows, x : x + columns] = tile
    return shuffled


def reverse(frames, rng, other):
    """The video runs backwards."""
    return frames[::-1]


def shuffle(frames, rng, other):
    """Permutes four equal parts in time; at least one moves."""
    parts = np.array_split(frames, min(4, len(frames)))
    order = rng.permutation(len(parts))
    if len(parts) > 1 and (order == np.arange(len(parts))).all():
        order = np.roll(order, 1)
    return np.concatenate([parts[i] for i in order])


def freeze(frames, rng, other):
    """Repeats one frame of the video, so there is no order of events."""
    return np.repeat(frames[[rng.integers(len(frames))]], len(frames), axis=0)


def largest_cut(frames):
    """Index of the first frame after the largest mean absolute change of neighbours, 1..F-1."""
    if len(frames) < 2:
        return len(frames)
    small = frames[:, ::2, ::2].astype(np.int16)
    return int(np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3)).argmax()) + 1


def fit_frames(other, shape):
    """Resizes `other` to `shape` (F, H, W, 3) by nearest neighbour in time and space."""
    sizes = zip(other.shape[:3], shape[:3], strict=True)
    index = [np.linspace(0, n - 1, m).round().astype(int) for n, m in sizes]
    return other[np.ix_(index[0], index[1], index[2])]


def splice(frames, rng, other):
    """After its largest cut, continues with another video after its cut: everything is new."""
    cut = largest_cut(frames)
    tail = other[min(largest_cut(other), len(other) - 1) :]
    return np.concatenate([frames[:cut], fit_frames(tail, (len(frames) - cut, *frames.shape[1:]))])


def repeat_scene(frames, rng, other):
    """After its largest cut, shows the first scene again: everything stays."""
    cut = largest_cut(frames)
    return np.concatenate([frames[:cut], fit_frames(frames[:cut], frames[cut:].shape)])


def swap_scenes(frames, rng, other):
    """The part after the largest cut comes first."""
    cut = largest_cut(frames)
    return np.concatenate([frames[cut:], frames[:cut]])


def named(*functions):
    return {f.__name__: f for f in functions}


ADVERSARIES = {
    "spatial": Adversary(
        "dense", named(rotate, mirror, swap_halves, shuffle_tiles), twins=("rotate", "mirror")
    ),
    "temporal": Adversary("native", named(reverse, shuffle, freeze), twins=("reverse",)),
    "cross_frame": Adversary(
        "uniform", named(splice, repeat_scene, swap_scenes), twins=("splice", "repeat_scene")
    ),
}
