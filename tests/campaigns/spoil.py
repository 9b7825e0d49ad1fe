"""Damaged copies of good videos, as after partial downloads, bad disks and wrong names.

The same folder and seed give the same bytes.
"""

import re
from pathlib import Path

import numpy as np

VIDEO = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm", ".wmv")
INDEX = re.compile(  # names that come before sizes, times and offsets
    rb"[mt]vhd|[mt][dk]hd|elst|avcC|st(?:sd|ts|ss|sc|sz|co)|ctts|t[fr]hd|trun"  # MP4, MOV
    rb"|avih|str[hf]|idx1"  # AVI
    rb"|\x15\x49\xa9\x66|\x16\x54\xae\x6b|\x1f\x43\xb6\x75|\x2a\xd7\xb1"  # MKV, WebM
    rb"|\xe7[\x81-\x88]|\xb0[\x81\x82]"
)


def places(data, rng, n=2):
    """n sorted offsets."""
    return sorted(int(place) for place in rng.integers(1, max(2, len(data)), n))


def part(data, rng):
    """Start and end of a part of up to a tenth of the bytes."""
    start = places(data, rng, 1)[0]
    return start, min(len(data), start + int(rng.integers(1, max(2, len(data) // 10))))


def put(data, start, new):
    """Overwrite the bytes from `start`; the length stays."""
    return (data[:start] + new + data[start + len(new) :])[: len(data)]


def flipped(data, rng):
    """From 1 to 100 bits anywhere."""
    spoiled = bytearray(data)
    for place in places(data, rng, int(10 ** rng.uniform(0, 2))):
        spoiled[place % len(data)] ^= 1 << int(rng.integers(8))
    return bytes(spoiled)


def index(data, rng):
    """A number after one of INDEX; without any, near the start."""
    found = [mark.end() for mark in INDEX.finditer(data)] or [0]
    start = found[int(rng.integers(len(found)))] + int(rng.integers(40))
    numbers = [bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1", rng.bytes(4), rng.bytes(1)]
    return put(data, start, numbers[int(rng.integers(len(numbers)))])


def zeroed(data, rng):
    start, end = part(data, rng)
    return put(data, start, bytes(end - start))


def noisy(data, rng):
    start, end = part(data, rng)
    return put(data, start, rng.bytes(end - start))


def unfinished(data, rng):
    """A download for which the disk space was reserved: zeros to the end."""
    start = places(data, rng, 1)[0]
    return put(data, start, bytes(len(data) - start))


def gap(data, rng):
    start, end = places(data, rng)
    return data[:start] + data[end:]


def doubled(data, rng):
    start, end = part(data, rng)
    return data[:end] + data[start:]


def swapped(data, rng):
    """Two neighbouring parts exchanged."""
    a, b, c = places(data, rng, 3)
    return data[:a] + data[b:c] + data[a:b] + data[c:]


PAGE = b"<!DOCTYPE html><html><body><h1>403 Forbidden</h1></body></html>\n"
KINDS = {
    "truncated": lambda data, rng: data[: places(data, rng, 1)[0]],
    "flipped": flipped,
    "index": index,
    "zeroed": zeroed,
    "noisy": noisy,
    "header": lambda data, rng: put(data, 0, rng.bytes(int(rng.integers(4, 65)))),
    "gap": gap,
    "doubled": doubled,
    "swapped": swapped,
    "appended": lambda data, rng: data + rng.bytes(int(rng.integers(1, max(2, len(data))))),
    "headless": lambda data, rng: data[int(rng.integers(1, max(2, len(data) // 4))) :],
    "unfinished": unfinished,
    "suffix": lambda data, rng: data,  # `spoil_folder` adds the suffix of another container
    "empty": lambda data, rng: b"",
    "page": lambda data, rng: PAGE,  # from a server, instead of the file
}


def spoil(data, kind, rng):
    """The bytes of a file, damaged in one of KINDS. rng: numpy Generator."""
    return KINDS[kind](data, rng)


def spoil_folder(folder, out, n, seed):
    """Write n damaged copies of a folder's videos into `out`, as NUMBER-KIND-SOURCE.

    The kinds come in turn, the sources are drawn. Returns {Path: (kind, source)}.
    """
    sources = sorted(path for path in Path(folder).iterdir() if path.suffix in VIDEO)
    Path(out).mkdir(parents=True, exist_ok=True)
    rng, written = np.random.default_rng(seed), {}
    for i in range(n):
        kind, source = list(KINDS)[i % len(KINDS)], sources[rng.integers(len(sources))]
        others = [name for name in VIDEO if name != source.suffix]
        ending = str(rng.choice(others)) if kind == "suffix" else ""
        path = Path(out, f"{i:03}-{kind}-{source.name}{ending}")
        path.write_bytes(spoil(source.read_bytes(), kind, rng))
        written[path] = kind, source
    return written
