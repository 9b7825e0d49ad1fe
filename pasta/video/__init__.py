"""Reads videos, files and folders of JPEGs, in a process that can be killed; skips no frame."""

import hashlib
import os

import numpy as np

from pasta.video.decord_files import VideoError, checked, jpeg_data, jpeg_names, reading
from pasta.video.find import list_videos
from pasta.video.worker import opened

__all__ = ["VideoError", "file_digest", "list_videos", "read_frames"]


def read_frames(path, sample, fit=None, timeout=120.0, folder_fps=3.0):
    """The frames of a video that `sample` chooses, and their times.

    sample: function (N,) seconds of all frames -> (F,) indices, such as partial(uniform, n=32)
    fit: function (F, H, W) -> (H, W), the size to decode at if smaller than the video's
    timeout: seconds. folder_fps: frames per second of a folder of JPEGs.
    Returns (F, H, W, 3) uint8 RGB and (F,) float64 seconds in the file. Raises VideoError.
    """
    with opened(path, folder_fps, timeout) as (timestamps, size, decode):
        indices = sample(timestamps)
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
            with reading(path, f"{jpeg}: "):
                data = jpeg_data(name, jpeg)
            digest.update(os.fsencode(jpeg) + b"\0" + hashlib.sha256(data).digest())
        return digest.hexdigest()
