"""Opens and decodes video files and folders of JPEGs: the only file that knows decord.

decord is wrong or endless on some files; each step names the trap that it avoids.
"""

import os
import re
import struct
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from decord import VideoReader, logging

from pasta.video.container import CURE, contents

logging.set_level(logging.QUIET)  # FFmpeg's messages name no file; our errors do
SHORT = 1500  # frames; up to here, decoding all takes at most about twice as long as seeking
AV1 = "AV1: `pip install decord2` instead of decord; "
PROOF = 1500  # frames, among which two keyframes show that seeking is right
DEPTH = 16  # frames that a codec with B-frames may hold back; VP8 and VP9 hold back none
SEEKABLE = re.compile("avc[13]|h[ev][cv]1|vp0[89]|V_VP[89]|V_MPEG(4/ISO/AVC|H/ISO/HEVC)")
MEANING = {  # regex for decord's message: its meaning
    "measure duration": f"no frame count in it{CURE}",
    "find video stream": f"no video in it that decord can decode{CURE}",
    "Error reading|av_read|ing packet|e buffer|open codec|stream info|Check failed|EOF|"
    "[Oo]ut of bound|StopIteration": f"damaged or cut short{CURE}",
}
JPEG = re.compile(r"(?is)[^.].*\.jpe?g")  # the names that macOS adds begin with a dot
MARKER = re.compile(rb"(?s)\xff([\x01-\xcf\xda-\xfe]|[\xd8\xd9])")  # without 0xff d0-d7: restarts
# EXIF's orientation, little or big endian, if it is none of the stored one
TURNED = re.compile(rb"\x12\x01\x03\0\x01\0{3}[\x02-\x08]|\x01\x12\0\x03\0{3}\x01\0[\x02-\x08]")


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


@contextmanager
def undamaged():
    """ValueError if FFmpeg complains of a JPEG, in whose place decord may show another frame."""
    with TemporaryFile() as messages:
        stderr = os.dup(2)
        os.dup2(messages.fileno(), 2)
        logging.set_level(logging.WARNING)
        try:
            yield
        finally:
            logging.set_level(logging.QUIET)
            os.dup2(stderr, 2)
            os.close(stderr)
        messages.seek(0)
        if re.search(rb"\[mjpeg @ \w+\] (?!EOI|overread)", messages.read()):  # as cameras do
            raise ValueError("a damaged JPEG; download the file again, or remove it")


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
    if name.encode(errors="ignore") != os.fsencode(name):
        raise ValueError("its name is not UTF-8, so decord cannot open it; rename it")
    return name


def open_video(path, folder_fps=3.0):
    """(N,) seconds of a video's frames, its (H, W) pixels, and a function that decodes frames."""
    name = checked(path)
    if os.path.isdir(name):
        return open_folder(name, folder_fps)
    found = contents(name)
    if not found:  # of another container decord may skip frames; a playlist names other files
        raise ValueError(f"not a video, or cut short, or not MP4, MOV, MKV, WebM, AVI or Y4M{CURE}")
    if len(found.codecs) != 1:
        what = f"{len(found.codecs)} video tracks{CURE}" if found.codecs else "no video track in it"
        raise ValueError(what)
    codec = found.codecs[0]
    with reading(name, AV1 if codec in ("av01", "V_AV1") else ""):
        reader = VideoReader(name, num_threads=1)  # VP9 fails with the default, 0
    count, keys = len(reader), reader.get_key_indices()
    seconds = reader.get_frame_timestamp(range(count))[:, 0].astype(float)
    unknown = (np.abs(seconds) > 1e7).any()  # AVI files with B-frames have times of -3e17
    if unknown and count == found.frames and reader.get_avg_fps() > 0:
        seconds, unknown = np.arange(count) / reader.get_avg_fps(), False
    # `ffmpeg -ss 4 -c copy` hides frames from the keyframe to the cut: their times are below 0.
    # decord counts them, and seeking then gives wrong frames or never ends (dmlc/decord#269, #373,
    # #375). Decoding in order gives the frames that are shown.
    hidden = int((seconds < -1e-6).sum())
    timestamps = rising(seconds[hidden:], unknown)
    check_order(found.pts, 0 if "vp" in codec.lower() else DEPTH)
    seek = count > SHORT and SEEKABLE.match(codec) and not hidden and closed(found.pts, keys, count)

    @undamaged()
    def decode(indices, height, width):  # without `reader`, which would decode ahead, in full size
        def fresh():
            return VideoReader(name, width=width, height=height, num_threads=1)

        if seek and proven(fresh, keys):
            sized = fresh()
            frames = {i: pixels(sized[i]) for i in sorted({*indices.tolist()})}
        else:
            # Of JPEGs, all: otherwise the decoder's look-ahead decides which damage is noticed.
            last = [len(timestamps) - 1] * ("jp" in codec.lower())
            frames = in_order(fresh(), [*indices, *last])
        return np.stack([frames[i] for i in indices])

    return timestamps, reader.next().shape[:2], decode


def rising(seconds, unknown):
    """(N,) times, of which equal ones are 1 us apart. ValueError if they say too little."""
    equal, places = np.diff(seconds, prepend=-np.inf) <= 0, np.arange(len(seconds))
    if unknown or equal.sum() * 2 > len(seconds) or not len(seconds):
        raise ValueError(f"damaged times, or none{CURE}")
    return seconds + 1e-6 * (places - np.maximum.accumulate(np.where(equal, 0, places)))


def check_order(pts, depth):
    """Raise ValueError if a time in file order is less than that of a frame already shown.

    As in a decoder, a frame waits for those that follow in the file and come before it.
    """
    waiting, shown = [], -np.inf
    for place, time in enumerate(pts.tolist()):
        while waiting and (waiting[-1][0] < time or waiting[0][1] < place - depth):
            shown = waiting.pop()[0]
        if time < shown:
            raise ValueError(f"times that fall: no frame's time is sure{CURE}")
        waiting.append((time, place))


def closed(pts, keys, count):
    """Whether no frame is shown on the other side of a keyframe than it is in the file."""
    keys, before = np.array(keys[1:], int), np.maximum.accumulate(pts)
    after = np.minimum.accumulate(pts[::-1])[::-1]
    alone = len(pts) == count and (before[keys - 1] < pts[keys]) & (after[keys] == pts[keys])
    return np.all(alone)


def proven(fresh, keys):
    """Whether seeking to the first keyframes gives the frames that decoding in order gives."""
    places = [key + i for key in keys[1:4] if key < PROOF for i in (0, 2)]
    expected, sized = in_order(fresh(), places), fresh()
    return bool(places) and all((pixels(sized[i]) == expected[i]).all() for i in places[::-1])


def in_order(reader, indices):
    """{index: (H, W, 3) uint8}, decoded from the start."""
    decoded = enumerate(reader.next() for _ in range(max(indices, default=-1) + 1))
    return {i: pixels(frame) for i, frame in decoded if i in indices}


def pixels(frame):
    """(H, W, 3) uint8. decord takes the padding of narrow rows, such as W = 48, for channels."""
    height, width, _ = frame.shape
    return frame.asnumpy().reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


def open_folder(path, fps):
    """As open_video, for a folder of JPEGs; all are scaled to the size of the first."""
    names = jpeg_names(path)

    def decode(indices, height, width):
        return np.stack([read_jpeg(path, names[i], height, width) for i in indices])

    return np.arange(len(names)) / fps, read_jpeg(path, names[0]).shape[:2], decode


def read_jpeg(path, name, height=-1, width=-1):
    """(H, W, 3) uint8, at a given size or at the JPEG's own."""
    with reading(path, f"{name}: "), undamaged():
        avi = BytesIO(one_frame_avi(jpeg_data(path, name)))
        return pixels(VideoReader(avi, width=width, height=height, num_threads=1).next())


def jpeg_names(folder):
    """Names of a folder's JPEGs, ordered by the numbers in them: 2.jpg comes before 10.jpg."""
    names = filter(JPEG.fullmatch, os.listdir(folder))
    return sorted(names, key=lambda n: (re.sub("[0-9]+", lambda digits: digits[0].zfill(20), n), n))


def jpeg_data(folder, name):
    """The bytes of a JPEG; ValueError if it is a pipe or a folder."""
    path = Path(folder, name)
    if not path.is_file():  # reading from a pipe may never end
        raise ValueError("no regular file")
    return path.read_bytes()


def one_frame_avi(jpeg):
    """The smallest AVI that FFmpeg accepts, around a JPEG: decord cannot open a single JPEG."""
    jpeg = first_picture(jpeg)
    stream = struct.pack("<4sI8s10I8x", b"strh", 56, b"vidsMJPG", 0, 0, 0, 1, 25, 0, 1, 0, 0, 0)
    image = struct.pack("<4sI3I2H4s20x", b"strf", 40, 40, 16, 16, 1, 24, b"MJPG")  # 16: not used
    frame = struct.pack("<4sI4s4sI", b"LIST", len(jpeg) + 12, b"movi", b"00dc", len(jpeg)) + jpeg
    body = b"AVI " + stream + image + frame
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def first_picture(data):
    """The bytes of a JPEG without what follows, such as the film of a motion photo."""
    if not data.startswith(b"\xff\xd8"):
        raise ValueError("no JPEG, whatever its name; convert it: `ffmpeg -i IN OUT.jpg`")
    if b"Exif" in data[: 2**16] and TURNED.search(data, 0, 2**16):
        raise ValueError("turned by its EXIF orientation; turn it: `ffmpeg -i IN OUT.jpg`")
    place = 2
    while marker := MARKER.search(data, place):
        place = marker.end()
        if marker[1] == b"\xd9":
            return data[:place]
        place += int.from_bytes(data[place : place + 2])
    raise ValueError("a JPEG that is cut short")  # FFmpeg silently paints the missing part grey
