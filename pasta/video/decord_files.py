"""Opens and decodes video files and folders of JPEGs: the only file that knows decord.

decord is wrong or endless on some files; each step names the trap that it avoids.
"""

import os
import re
import struct
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from decord import VideoReader

SHORT = 1500  # frames; up to here, decoding all takes at most about twice as long as seeking
JPEG = re.compile(r"(?is)[^.].*\.jpe?g")  # the names that macOS adds begin with a dot
MEANING = {  # regex for decord's message: its meaning
    "Error reading": "not a video, or cut short before its index",
    "av_read|ing packet|e buffer|open codec|stream info|Check failed|EOF": "damaged or cut short",
    "[Oo]ut of bound|StopIteration": "cut short; remux it: `ffmpeg -i IN -c copy OUT.mkv`",
    "measure duration": "no frame count in it; convert it: `ffmpeg -i IN OUT.mp4`",
    "find video stream": "nothing decord can decode; if it is AV1: `pip install decord2` instead",
}


class VideoError(Exception):
    """A video that cannot be read correctly: its `path` and the `reason`."""

    def __init__(self, path, reason):
        super().__init__(path, reason)  # unpickling in another process needs both
        self.path, self.reason = path, reason

    def __str__(self):
        return f"{self.path}: {self.reason}"


@contextmanager
def reading(path, part=""):
    """Turn any error in reading a video into a VideoError that explains it. part: a prefix."""
    try:
        yield
    except VideoError:
        raise
    except Exception as error:  # decord alone raises five types
        text = (str(error).strip() or type(error).__name__).splitlines()[-1]
        text = re.sub(r"(\[[\d:]+\] \S+:\d+: )+(Check failed: .*? \(.*?\) )?", "", text)
        found = [meaning for words, meaning in MEANING.items() if re.search(words, text)]
        reason = f"{found[0]} (decord: {text})" if found else text
        raise VideoError(path, part + reason) from error


def checked(path):
    """The absolute path, as text, of a video file or a folder of JPEGs; else ValueError."""
    name = os.path.abspath(path)  # decord takes a relative 'a:b.mp4' for an address
    if os.path.isdir(name) and jpeg_names(name):
        return name
    if not os.path.isfile(name):  # decord waits forever on a pipe
        there = os.path.exists(name)
        raise ValueError("no regular file, no folder of JPEGs" if there else "no such file on disk")
    if not os.path.getsize(name):
        raise ValueError("an empty file")
    with open(name, "rb") as file:
        head = file.read(400)
    if head.startswith(b"#EXTM3U"):
        raise ValueError("a playlist, which names other files; expected a video")
    if b"GGG" in (head[:377:188], head[4:389:192]):  # packets of 188 or 192 bytes, marked 0x47
        raise ValueError("MPEG-TS, of which decord skips the start; `ffmpeg -i IN -c copy OUT.mp4`")
    return name


def open_file(name):
    """(N,) seconds of a file's frames, its (H, W) pixels, and a function that decodes frames."""
    reader = VideoReader(name, num_threads=1)  # VP9 fails with the default, 0
    count, fps = len(reader), reader.get_avg_fps()
    seconds = reader.get_frame_timestamp(range(count))[:, 0].astype(float)
    # `ffmpeg -ss 4 -c copy` hides frames from the keyframe to the cut: their times are below 0.
    # decord counts them, and seeking then gives wrong frames or never ends (dmlc/decord#269, #373,
    # #375). Decoding in order gives the frames that are shown.
    unknown = np.abs(seconds) > 1e7  # AVI and MPEG-PS files with B-frames have times of -3e17
    hidden = int((~unknown & (seconds < -1e-6)).sum())
    sound = not unknown.any() and (np.diff(seconds[hidden:]) > 0).all()
    if hidden == count or not (sound or fps > 0):
        raise ValueError(f"damaged times: {count} frames, {hidden} hidden, {fps:g} per second")
    timestamps = seconds[hidden:] if sound else np.arange(count - hidden) / fps  # (N,)
    # Seeking is also wrong in HEVC, WMV2, and some kinds of H.264 and MPEG-4: only for long files.
    in_order = hidden or not sound or count <= SHORT

    def decode(indices, height, width):
        sized = VideoReader(name, width=width, height=height, num_threads=1)
        if not in_order:
            return sized.get_batch(indices).asnumpy()
        decoded = enumerate(sized.next() for _ in range(indices.max() + 1))
        frames = {i: pixels(frame) for i, frame in decoded if i in indices}
        return np.stack([frames[i] for i in indices])

    return timestamps, reader.next().shape[:2], decode


def pixels(frame):
    """(H, W, 3) uint8. decord takes the padding of narrow rows, such as W = 48, for channels."""
    height, width, _ = frame.shape
    return frame.asnumpy().reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


def open_folder(path, fps):
    """As open_file, for a folder of JPEGs; all are scaled to the size of the first."""
    names = jpeg_names(path)

    def decode(indices, height, width):
        return np.stack([read_jpeg(path, names[i], height, width) for i in indices])

    return np.arange(len(names)) / fps, read_jpeg(path, names[0]).shape[:2], decode


def jpeg_names(folder):
    """Names of a folder's JPEGs, ordered by the numbers in them: 2.jpg comes before 10.jpg."""
    names = filter(JPEG.fullmatch, os.listdir(folder))
    return sorted(names, key=lambda n: (re.sub("[0-9]+", lambda digits: digits[0].zfill(20), n), n))


def read_jpeg(path, name, height=-1, width=-1):
    """(H, W, 3) uint8, at a given size or at the JPEG's own."""
    with reading(path, f"{name}: "):
        data = Path(path, name).read_bytes()
        # FFmpeg silently paints the missing part grey, so look for the end marker.
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise ValueError("a JPEG that is cut short")
        avi = BytesIO(one_frame_avi(data))
        return pixels(VideoReader(avi, width=width, height=height, num_threads=1).next())


def one_frame_avi(jpeg):
    """The smallest AVI that FFmpeg accepts, around a JPEG: decord cannot open a single JPEG."""
    stream = struct.pack("<4sI8s10I8x", b"strh", 56, b"vidsMJPG", 0, 0, 0, 1, 25, 0, 1, 0, 0, 0)
    image = struct.pack("<4sI3I2H4s20x", b"strf", 40, 40, 16, 16, 1, 24, b"MJPG")  # 16: not used
    frame = struct.pack("<4sI4s4sI", b"LIST", len(jpeg) + 12, b"movi", b"00dc", len(jpeg)) + jpeg
    body = b"AVI " + stream + image + frame
    return struct.pack("<4sI", b"RIFF", len(body)) + body
