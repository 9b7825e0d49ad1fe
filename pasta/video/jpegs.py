"""Folders of JPEGs, one a frame.

Shapes: N frames of the video, F sampled frames, H, W pixels.
"""

import struct
from io import BytesIO
from pathlib import Path

import numpy as np

from pasta.video.decord_files import VideoReader, pixels
from pasta.video.errors import reading
from pasta.video.paths import jpeg_names


def open_folder(path, fps):
    """Like open_file, of a folder of JPEGs; all are scaled to the size of the first."""
    names = jpeg_names(path)

    def decode(indices, height, width):
        return np.stack([read_jpeg(path, names[i], height, width) for i in indices])

    return np.arange(len(names)) / fps, read_jpeg(path, names[0]).shape[:2], decode


def read_jpeg(path, name, height=-1, width=-1):
    """(H, W, 3) uint8, at a given size or at the JPEG's own."""
    with reading(path, f"{name}: "):
        data = Path(path, name).read_bytes()
        # FFmpeg paints what is missing grey and says nothing: look for the end marker.
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise ValueError("a JPEG that is cut short")
        avi = BytesIO(one_frame_avi(data))
        return pixels(VideoReader(avi, width=width, height=height, num_threads=1).next())


def one_frame_avi(jpeg):
    """The least of an AVI that FFmpeg takes, around a JPEG: decord opens no single JPEG."""
    stream = struct.pack("<4sI8s10I8x", b"strh", 56, b"vidsMJPG", 0, 0, 0, 1, 25, 0, 1, 0, 0, 0)
    image = struct.pack("<4sI3I2H4s20x", b"strf", 40, 40, 16, 16, 1, 24, b"MJPG")  # 16: not used
    frame = struct.pack("<4sI4s4sI", b"LIST", len(jpeg) + 12, b"movi", b"00dc", len(jpeg)) + jpeg
    body = b"AVI " + stream + image + frame
    return struct.pack("<4sI", b"RIFF", len(body)) + body
