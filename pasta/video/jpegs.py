"""Folders of JPEGs: their names in order, and one picture as a video that decord can open."""

import os
import re
import struct
from pathlib import Path

JPEG = re.compile(r"(?is)[^.].*\.jpe?g")  # the names that macOS adds begin with a dot
MARKER = re.compile(rb"(?s)\xff([\x01-\xcf\xda-\xfe]|[\xd8\xd9])")  # without 0xff d0-d7: restarts
# EXIF's orientation, little or big endian, if it is none of the stored one
TURNED = re.compile(rb"\x12\x01\x03\0\x01\0{3}[\x02-\x08]|\x01\x12\0\x03\0{3}\x01\0[\x02-\x08]")


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
