"""Which frames of a video, and their times.

A video is a file, or a folder of JPEGs. What cannot be read rightly raises VideoError: nothing is
skipped.

Shapes: N frames of the video, F sampled frames, H, W pixels.
"""

import hashlib
import os
import re
from pathlib import Path

import numpy as np

from pasta.decoding.errors import VideoError, reading
from pasta.decoding.paths import checked, jpeg_names
from pasta.decoding.worker import opened

VIDEO = re.compile(r"(?is)[^.].*\.(3gp|avi|flv|gif|m2ts|m4v|mkv|mov|mp4|mpe?g|ts|vob|webm|wmv|y4m)")
SAME_TIME = 1e-3  # seconds; decord's are float32, which is that coarse after four hours


def uniform(timestamps, n):
    """Indices of n frames, spread evenly from the first to the last.

        index_i = round(i (N - 1) / (n - 1)), i = 0 .. n - 1               (as qwen-vl-utils does)

    n: made even, since Qwen's models take frames in pairs, and at most N.
    Returns (F,) ints, strictly increasing; [0, 0] for a video of one frame.
    """
    last = len(timestamps) - 1
    return np.rint(np.linspace(0, last, max(2, min(n, last + 1) // 2 * 2))).astype(int)


def at_fps(timestamps, fps, max_frames):
    """Indices of the frames on screen 0, 1/fps, 2/fps, ... seconds after the first.

    By time, not by number, so right for variable frame rates. No frame comes twice, however high
    the fps. Then thinned evenly to an even number of at most max_frames.
    Returns (F,) ints, strictly increasing; [0, 0] for a single frame.
    """
    begins = np.append(timestamps, timestamps[-1] + 2 * SAME_TIME) - timestamps[0] - SAME_TIME
    shown = np.flatnonzero(np.diff(np.ceil(begins * fps)))  # no list of moments: some claim years
    return shown[uniform(shown, max_frames)]


def read_frames(path, sample, fit=None, start=None, end=None, timeout=120.0, folder_fps=3.0):
    """The frames of a video that `sample` chooses, and their times.

    sample:     function (N,) seconds -> (F,) indices, such as partial(uniform, n=32)
    fit:        function (F, H, W) -> (H, W), the size to decode at if smaller than the video's
    start, end: seconds; `sample` sees only the frames from start to end, both included
    timeout:    seconds, None for no limit
    folder_fps: frames per second of a folder of JPEGs
    Returns (F, H, W, 3) uint8 RGB and (F,) float64 seconds in the file. Raises VideoError.
    """

    with opened(path, folder_fps, timeout) as (timestamps, size, decode):
        low, high = start or 0, np.inf if end is None else end
        inside = np.flatnonzero((timestamps > low - SAME_TIME) & (timestamps < high + SAME_TIME))
        if not len(inside):
            has = f"its frames go from {timestamps[0]:g} s to {timestamps[-1]:g} s"
            raise VideoError(path, f"no frame between {low:g} s and {high:g} s; {has}")
        indices = inside[sample(timestamps[inside])]
        fitted = size if fit is None else fit(len(indices), *size)
        return decode(indices, *min(size, fitted, key=np.prod)), timestamps[indices]


def file_digest(path):
    """sha256, in hex, of a file's bytes, or of the names and bytes of a folder's JPEGs."""
    with reading(path):
        name = checked(path)
        if not os.path.isdir(name):
            with open(name, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        for jpeg in jpeg_names(name):
            data = Path(name, jpeg).read_bytes()
            digest.update(os.fsencode(jpeg) + b"\0" + hashlib.sha256(data).digest())
        return digest.hexdigest()


def list_videos(folder):
    """Sorted Paths of the videos below a folder: files by suffix, folders of JPEGs without any."""
    if not os.path.isdir(folder):
        raise VideoError(folder, "no such folder")
    found = []
    for here, _, names in os.walk(folder):
        videos = [Path(here, name) for name in names if VIDEO.fullmatch(name)]
        found += videos or [Path(here)] * bool(jpeg_names(here))
    return sorted(found)
