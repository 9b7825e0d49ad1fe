"""Which frames of a video: spread evenly, or at a fixed frame rate.

Shapes: N frames of the video, F sampled frames.
"""

from functools import partial

import numpy as np

from pasta.adversaries import DENSE_FPS, SPARSE_FPS

SAME_TIME = 1e-3  # seconds; decord's float32 times are that coarse after four hours


def uniform(timestamps, n):
    """Indices of n frames, evenly spaced from the first to the last.

        index_i = round(i (N - 1) / (n - 1)), i = 0 .. n - 1               (as qwen-vl-utils does)

    n: made even, because Qwen's models take frames in pairs, and at most N.
    Returns (F,) ints, strictly increasing; [0, 0] for a video of one frame.
    """
    last = len(timestamps) - 1
    return np.rint(np.linspace(0, last, max(2, min(n, last + 1) // 2 * 2))).astype(int)


def at_fps(timestamps, fps, max_frames):
    """Indices of the frames on screen 0, 1/fps, 2/fps, ... seconds after the first.

    Uses times, not frame numbers, so variable frame rates are right. No frame comes twice, however
    high the fps. The result is thinned evenly to an even number of at most max_frames.
    Returns (F,) ints, strictly increasing; [0, 0] for a single frame.
    """
    begins = np.append(timestamps, timestamps[-1] + 2 * SAME_TIME) - timestamps[0] - SAME_TIME
    sampled = np.flatnonzero(np.diff(np.ceil(begins * fps)))  # damaged files can claim years
    return sampled[uniform(sampled, max_frames)]


def samplers(n_frames, sparse_frames):
    """Name -> function(timestamps) -> indices, for the samplings that adversaries.py names.

    Two budgets: with 32 frames for both, all samplings of a 32-second video would be the same.
    """
    return {
        "dense": partial(at_fps, fps=DENSE_FPS, max_frames=n_frames),
        "native": partial(uniform, n=n_frames),  # every frame, thinned evenly to the budget
        "uniform": partial(uniform, n=n_frames),
        "sparse": partial(at_fps, fps=SPARSE_FPS, max_frames=sparse_frames),
    }
