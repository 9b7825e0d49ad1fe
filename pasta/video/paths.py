"""Which paths are videos at all: refused before native code sees them."""

import os
import re

JPEG = re.compile(r"(?is)[^.].*\.jpe?g")  # the names that macOS adds begin with a dot


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
    with open(name, "rb") as file:
        head = file.read(400)
    if head.startswith(b"#EXTM3U"):
        raise ValueError("a playlist, which names other files; expected a video")
    if b"GGG" in (head[:377:188], head[4:389:192]):  # packets of 188 or 192 bytes, marked 0x47
        raise ValueError("MPEG-TS, of which decord skips the start; `ffmpeg -i IN -c copy OUT.mp4`")
    return name


def jpeg_names(folder):
    """Names of a folder's JPEGs, ordered by the numbers in them: 2.jpg comes before 10.jpg."""
    names = filter(JPEG.fullmatch, os.listdir(folder))
    return sorted(names, key=lambda n: (re.sub("[0-9]+", lambda digits: digits[0].zfill(20), n), n))
