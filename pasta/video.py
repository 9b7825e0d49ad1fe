"""Which frames of a video, and decoding them.                    (the only file that knows decord)

A video is a file, or a folder of JPEGs. decord is fast, and on some files wrong or endless; each
step says which trap it avoids. What cannot be read rightly raises VideoError: nothing is skipped.

Shapes: N frames of the video, F sampled frames, H, W pixels.
"""

import hashlib
import os
import re
import struct
from concurrent.futures import Future, wait
from contextlib import contextmanager
from io import BytesIO
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from threading import Thread

import numpy as np
from decord import VideoReader

VIDEO = re.compile(r"(?is)[^.].*\.(3gp|avi|flv|gif|m2ts|m4v|mkv|mov|mp4|mpe?g|ts|vob|webm|wmv|y4m)")
JPEG = re.compile(r"(?is)[^.].*\.jpe?g")  # the names that macOS adds begin with a dot
SAME_TIME = 1e-3  # seconds; decord's are float32, which is that coarse after four hours
SHORT = 1500  # frames; up to here decoding all of them takes at most about twice as long as seeking
WILD_COUNT = re.compile(rb"(?s)st(?:ts\0{4}.{4}|rh.{4}vids.{31})[\x10-\xff]")  # 2^28; MP4, AVI
WILD_DURATION = re.compile(rb"(?s)\*\xd7\xb1.{,200}?D\x89(\x88[\x43-\x7f]|\x84[\x58-\x7f])")  # MKV
MEANING = {  # what decord says: what it means
    "Error reading": "not a video, or cut short before its index",
    "av_read|ing packet|e buffer|open codec|stream info|Check failed|EOF": "damaged or cut short",
    "[Oo]ut of bound|StopIteration": "cut short; remux it: `ffmpeg -i IN -c copy OUT.mkv`",
    "measure duration": "no frame count in it; convert it: `ffmpeg -i IN OUT.mp4`",
    "find video stream": "nothing decord can decode; if it is AV1: `pip install decord2` instead",
}


class VideoError(Exception):
    """A video that cannot be read rightly: its `path` and the `reason`."""

    def __init__(self, path, reason):
        super().__init__(path, reason)  # both, or it cannot be unpickled from a worker process
        self.path, self.reason = path, reason

    def __str__(self):
        return f"{self.path}: {self.reason}"


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

    def read():
        with reading(path):
            name = checked(path)
            opened = open_folder(path, folder_fps) if os.path.isdir(name) else open_file(name)
        timestamps, size, decode = opened
        low, high = start or 0, np.inf if end is None else end
        inside = np.flatnonzero((timestamps > low - SAME_TIME) & (timestamps < high + SAME_TIME))
        if not len(inside):
            has = f"its frames go from {timestamps[0]:g} s to {timestamps[-1]:g} s"
            raise VideoError(path, f"no frame between {low:g} s and {high:g} s; {has}")
        indices = inside[sample(timestamps[inside])]
        fitted = size if fit is None else fit(len(indices), *size)
        with reading(path):
            frames = decode(indices, *min(size, fitted, key=np.prod))
        return frames, timestamps[indices]

    return within(timeout, path, read)


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


def checked(path):
    """The absolute path of a video file or a folder of JPEGs, as text: decord takes no Path."""
    name = os.path.abspath(path)  # decord takes a relative 'a:b.mp4' for an address
    if os.path.isdir(name) and jpeg_names(name):
        return name
    if not os.path.isfile(name):  # decord waits for ever on a pipe
        there = os.path.exists(name)
        raise ValueError("no regular file, no folder of JPEGs" if there else "no such file on disk")
    if not os.path.getsize(name):
        raise ValueError("an empty file")
    with open(name, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_COPY) as data:
        head, wild = data[:9999], WILD_COUNT.search(data) is not None
    if wild or WILD_DURATION.search(head):  # reserving for them, decord aborts the whole program
        raise ValueError("damaged: it claims more frames than memory could hold the times of")
    if head.startswith(b"#EXTM3U"):
        raise ValueError("a playlist, which names other files; expected a video")
    if b"GGG" in (head[:377:188], head[4:389:192]):  # packets of 188 or 192 bytes, marked 0x47
        raise ValueError("MPEG-TS, of which decord skips the start; `ffmpeg -i IN -c copy OUT.mp4`")
    return name


def open_file(name):
    """A video file's (N,) seconds, its (H, W), and a function that decodes some of its frames."""
    reader = VideoReader(name, num_threads=1)  # VP9 fails with the default, 0
    count, fps = len(reader), reader.get_avg_fps()
    seconds = reader.get_frame_timestamp(range(count))[:, 0].astype(float)
    # A file cut with `ffmpeg -ss 4 -c copy` begins at the keyframe before the cut and hides all
    # up to the cut behind times below 0. decord counts that too, and seeking gives wrong frames or
    # never ends (dmlc/decord#269, #373, #375). Decoded in order, it gives what it shows, first.
    unknown = np.abs(seconds) > 1e7  # AVI and MPEG-PS files with B-frames say -3e17
    hidden = int((~unknown & (seconds < -1e-6)).sum())
    sound = not unknown.any() and (np.diff(seconds[hidden:]) > 0).all()
    if hidden == count or not (sound or fps > 0):
        raise ValueError(f"damaged times: {count} frames, {hidden} hidden, {fps:g} per second")
    timestamps = seconds[hidden:] if sound else np.arange(count - hidden) / fps  # (N,)
    # Seeking is off in HEVC, WMV2, and H.264 and MPEG-4 of some kinds, too: only for long files.
    in_order = hidden or not sound or count <= SHORT

    def decode(indices, height, width):
        sized = VideoReader(name, width=width, height=height, num_threads=1)
        return in_turn(sized, indices) if in_order else sized.get_batch(indices).asnumpy()

    return timestamps, reader.next().shape[:2], decode


def in_turn(reader, indices):
    """Decode from the first frame to the last that is wanted, and keep only the wanted ones."""
    decoded = enumerate(reader.next() for _ in range(indices.max() + 1))
    kept = {i: pixels(frame) for i, frame in decoded if i in indices}
    return np.stack([kept[i] for i in indices])


def pixels(frame):
    """(H, W, 3) uint8: decord takes the padding of narrow rows, say W = 48, for more channels."""
    height, width, _ = frame.shape
    return frame.asnumpy().reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


def open_folder(path, fps):
    """Like open_file, of a folder of JPEGs; all are scaled to the size of the first."""
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


@contextmanager
def reading(path, part=""):
    """Turn whatever goes wrong in reading a video into a VideoError that says what it means."""
    try:
        yield
    except VideoError:
        raise
    except Exception as error:  # decord alone raises five types, DECORDError being one
        said = (str(error).strip() or type(error).__name__).splitlines()[-1]
        said = re.sub(r"(\[[\d:]+\] \S+:\d+: )+(Check failed: .*? \(.*?\) )?", "", said)
        text = [meaning for words, meaning in MEANING.items() if re.search(words, said)]
        raise VideoError(path, part + (f"{text[0]} (decord: {said})" if text else said)) from error


def within(seconds, path, work):
    """The result of work(), or a VideoError after that many seconds."""
    future = Future()

    def run():
        try:
            future.set_result(work())
        except BaseException as error:  # future.result raises it again, in the caller
            future.set_exception(error)

    # Native code cannot be stopped, only left behind; a daemon thread lets the program end.
    Thread(target=run, daemon=True).start()
    if wait([future], seconds).not_done:
        raise VideoError(path, f"not read in {seconds:g} s; re-encode it: `ffmpeg -i IN OUT.mp4`")
    return future.result()
