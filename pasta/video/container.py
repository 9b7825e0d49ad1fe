"""Reads from MP4, MKV and AVI files what decord hides: tracks, edits, orientation, order of times.

Raises ValueError for pictures and times that ffmpeg shows and decord does not.
"""

import re
import struct
from typing import NamedTuple

import numpy as np

CURE = "; convert it: `ffmpeg -i IN OUT.mp4`"
TURNED = f"its pictures are mirrored, cropped, turned by a free angle or coloured by a table{CURE}"
LEADING = f"frames before its first keyframe, which nothing can decode{CURE}"
SEI = re.compile(  # of H.264 or HEVC, in which a display orientation (47) turns or mirrors
    rb"(?s)\0\0(?:\x01|..)(?:\x06|\x4e\x01).{,999}?\x2f\x03(?!\0\0[\0-\x1f])[\0-\x7f]..\x80\0"
)
TABLE = re.compile(rb"(?s)[\1-\x08]\0{5}|.{4}(raw |rle ).{74}\0[\1-\x08!-(]")  # of AVI, MOV
EBML, SEGMENT, TRACKS, TRACK, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0xAE, 0x1F43B675
NUMBER, KIND, CODEC, TIME, BLOCKS = 0xD7, 0x83, 0x86, 0xE7, (0xA1, 0xA3)
PARENTS = (SEGMENT, TRACKS, TRACK, CLUSTER, 0xE0, 0x7670, 0xA0)  # Video, Projection, BlockGroup
VIEW = (0x7673, 0x7674, 0x7675, 0x54AA, 0x54BB, 0x54CC, 0x54DD)  # angles, crop
READ = {NUMBER, KIND, CODEC, TIME, *BLOCKS, *VIEW}


class Contents(NamedTuple):
    codecs: list  # of the video tracks, as the container names them
    pts: np.ndarray = np.zeros(0)  # (N,) times in file order, in any unit; empty: not known
    start: float = -np.inf  # the first time that an edit list shows
    frames: int | None = None  # at a constant rate
    data: int = 0  # offset of the first frames


def contents(name):
    """Contents of a file; None if its container is another one or not complete."""
    with open(name, "rb") as file:

        def read(place, n):
            file.seek(place)
            return file.read(n)

        size, head, found = file.seek(0, 2), read(0, 2**16), None
        try:
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"):
                found = mp4(read, size)
            elif head.startswith(b"\x1aE\xdf\xa3"):
                found = mkv(read, size)
            elif head.startswith(b"RIFF") and head[8:12] == b"AVI ":
                streams = re.findall(rb"(?s)strh....vids.{28}(....).*?strf.{18}(.{6})", head)
                codecs = [entry[2:].decode("latin1") for _, entry in streams]  # after its bits
                if TABLE.match(streams[0][1]):
                    raise ValueError(TURNED)
                found = Contents(codecs, frames=int.from_bytes(streams[0][0], "little"))
                kinds = [kind[0] >> 6 for kind in re.findall(b"\0\0\x01\xb6(.)", read(0, 2**20))]
                if kinds[1:2] == [2]:  # in MPEG-4, a B-frame after the first frame
                    raise ValueError(LEADING)
            elif head.startswith(b"YUV4MPEG2 "):
                found = Contents([""])
        except (struct.error, LookupError):  # cut short
            return None
        if found and ((found.pts[1:] <= found.pts[:1]) & (found.pts[1:] >= found.start)).any():
            raise ValueError(LEADING)
        if found and re.search("(?i)avc|264|he?v[c1]|dvh", " ".join(found.codecs)):
            if SEI.search(read(found.data, 2**20)):
                raise ValueError(TURNED)
        return found


def boxes(read, start, end):
    """Yield (kind, (start, end)) of the boxes of an MP4 file between two offsets."""
    while start + 8 <= end:
        (length, kind), head = struct.unpack(">I4s", read(start, 8)), 8
        if length == 1:
            length, head = struct.unpack(">Q", read(start + 8, 8))[0], 16
        stop = max(start + head, min(start + length, end) if length else end)
        yield kind, (start + head, stop)
        start = stop


def mp4(read, size):
    """Contents of an MP4 or MOV file."""

    def body(span, *path):
        for name in path:
            span = next((inner for kind, inner in boxes(read, *span) if kind == name), (0, 0))
        return read(span[0], span[1] - span[0])

    top = dict(reversed([*boxes(read, 0, size)]))  # of two boxes of a kind, the first
    movie, codecs, pts, start = body(top[b"moov"], b"mvhd"), [], np.zeros(0), -np.inf
    for kind, trak in boxes(read, *top[b"moov"]):
        if kind != b"trak" or body(trak, b"mdia", b"hdlr")[8:12] != b"vide":
            continue
        entry = body(trak, b"mdia", b"minf", b"stbl", b"stsd")[8:]
        codecs.append(entry[4:8].decode("latin1"))
        check_view(entry, body(trak, b"tkhd"), movie)
        if b"moof" not in top:
            pts = mp4_times(lambda name, at=trak: body(at, b"mdia", b"minf", b"stbl", name))
        elst, media = body(trak, b"edts", b"elst"), body(trak, b"mdia", b"mdhd")
        start = first_time(elst, max(pts, default=-np.inf), media, movie)
    return Contents(codecs, pts, start, data=top.get(b"mdat", (0, 0))[0])


def check_view(entry, header, movie):
    """Raise ValueError unless pictures are whole, in true colours, and upright or on a side."""
    view = np.eye(2)
    for data, place in ((header, 40), (movie, 36)):  # matrices of tkhd and mvhd
        numbers = struct.unpack_from(">5i", data, place + 12 * data[0])
        view = view @ np.reshape(numbers[:2] + numbers[3:], (2, 2)) / 2**16
    (a, b), (c, d) = np.round(view, 3)
    width, height = struct.unpack_from(">2H", entry, 32)
    crop = re.search(rb"(?s)clap(.{16})", entry[86:])
    cropped = crop and crop[1] != struct.pack(">4I", width, 1, height, 1)
    right = b == c == 0 < a * d or a == d == 0 > b * c or a == b == c == d == 0
    if cropped or not right or TABLE.match(entry):
        raise ValueError(TURNED)


def mp4_times(table):
    """(N,) times of a track's samples, in file order. ValueError if its tables do not fit."""
    n, times = struct.unpack(">I", table(b"stsz")[8:12])[0], []
    for name in (b"stts", b"ctts"):
        pairs = np.frombuffer(table(name)[8:], ">i4").reshape(-1, 2).astype(np.int64)
        ends = np.minimum(np.cumsum(pairs[:, 0] & 0xFFFFFFFF), n)
        times.append(np.repeat(pairs[:, 1], np.diff(ends, prepend=0)))
    steps, shifts = times
    if (steps < 0).any() or not n or len(steps) != n or len(shifts) not in (0, n):
        raise ValueError(f"damaged times{CURE}")
    return np.cumsum(steps) - steps + (shifts if len(shifts) else 0)


def first_time(elst, last, media, movie):
    """The time an edit list starts at; ValueError unless it shows all from there to time `last`."""
    if len(elst) <= 8:
        return -np.inf
    edits = [*struct.iter_unpack(">QqI" if elst[:1] == b"\1" else ">IiI", elst[8:])]
    while edits and edits[0][1] == -1:  # a delay
        edits.pop(0)
    rates = [struct.unpack_from(">I", data, 12 + 8 * data[0])[0] for data in (media, movie)]
    ends = [start + round(length * rates[0] / max(1, rates[1])) for length, start, _ in edits]
    if len(edits) != 1 or last >= ends[0]:
        raise ValueError(f"an edit list hides the end of its frames or reorders them{CURE}")
    return edits[0][1]


def elements(read, place, size):
    """Yield (id, start, end) of the elements of an MKV file, children after their parents."""
    while place + 12 <= size:
        head = read(place, 12)
        n = 9 - head[0].bit_length()
        m = 9 - head[min(n, 11)].bit_length()
        if n > 4 or m > 8:
            return  # damaged from here on
        tag, length = int.from_bytes(head[:n]), int.from_bytes(head[n : n + m]) & (1 << 7 * m) - 1
        place += n + m
        end = size if length == (1 << 7 * m) - 1 else place + length  # all ones: unknown
        yield tag, place, end
        place = place if tag in PARENTS or end == size else end


def mkv(read, size):
    """Contents of an MKV or WebM file."""
    tracks, blocks, base, data, last = [], [], 0, 0, size
    for tag, start, end in elements(read, 0, size):
        if tag == EBML and start > 12:
            raise ValueError(f"two files in one, of which decord reads the first{CURE}")
        if start > last:
            break  # no part of the file
        last = end if tag == SEGMENT else last
        tracks += [{}] * (tag == TRACK)
        data = data or start * (tag == CLUSTER)
        body = read(start, min(end - start, 64)) if tag in READ else b""
        if tag in VIEW and body.strip(b"\0"):
            raise ValueError(TURNED)
        if tag == TIME:
            base = int.from_bytes(body)
        elif tag in BLOCKS:
            n = 9 - body[0].bit_length()
            track = int.from_bytes(body[:n]) & (1 << 7 * n) - 1
            blocks.append((track, base + struct.unpack_from(">h", body, n)[0]))
        elif tracks and body:
            tracks[-1][tag] = body
    videos = [track for track in tracks if int.from_bytes(track.get(KIND, b"")) == 1]
    pts = [time for track, time in blocks if videos and track == int.from_bytes(videos[0][NUMBER])]
    codecs = [track[CODEC].rstrip(b"\0").decode("latin1") for track in videos]
    return Contents(codecs, np.array(pts), data=data) if tracks else None
