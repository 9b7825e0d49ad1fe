"""Finds the videos of rows on this disk, and lists those of a folder."""

import functools
import os
import re
import sys
import unicodedata
from collections import Counter
from contextlib import suppress
from pathlib import Path

from pasta.pairs import GROUPS
from pasta.run.schema import is_name, printable
from pasta.video.decord_files import VideoError, jpeg_names

SUFFIXES = """
    .3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .ts .vob .webm .wmv .y4m
""".split()
# An address, or the base64 of an MP4, MKV or AVI file or of any other that no path is as long as.
NO_PATH = re.compile("(?i:[a-z][a-z0-9+.-]*://|data:)|(AAAA.GZ0eX|GkXfo|UklGR)[^._-]{20}|.{4096}")


def find_video(name, root, folders=(".",)):
    """The path of a video, a file or a folder of JPEGs; the first place tried if it is not there.

    name: from a row. On disk its suffix and its Unicode form may differ; the closest name counts.
    root: folder of relative names. folders: inside `root`, in order.
    Raises ValueError for a name that no file can have, leaves `root`, also through a link, or fits
    several files equally.
    """
    if NO_PATH.match(name) or not is_name(name):
        raise ValueError(f"video is {name!r:.80}; expected a path: download it, and write its path")
    if os.path.normpath(name).split(os.sep)[0] == "..":
        raise ValueError(f"video is {name!r}; expected an absolute path or one inside {root}")
    homes = [Path(root) / folder for folder in folders]
    places = ((nearest(home, name), home) for home in homes)
    found, home = next(filter(all, places), (str(homes[0] / name), homes[0]))
    if not os.path.isabs(name):
        check_links(found, home)
    return found


def nearest(home, name):
    """The path of the video with the closest name in a folder, or None."""
    if is_video(home / name):
        return str(home / name)
    *parents, last = Path(name).parts or ("",)
    for part in parents:
        if not os.path.isdir(home / part):
            alike = listing(home).get(split(part)[0], ())
            part = next((x for x in alike if split(x) == split(part)), part)
        home /= part
    alike = [x for x in listing(home).get(split(last)[0], ()) if is_video(home / x)]
    alike = [x for x in alike if split(x) == split(last)] or alike
    if len(alike) > 1:
        both = " and ".join(map(repr, sorted(alike)))
        raise ValueError(f"video is {name!r}, and {home} has {both}; expected one of these names")
    return str(home / alike[0]) if alike else None


@functools.cache  # cleared before a file of rows is read: a folder may have as many names as rows
def listing(folder):
    """{stem of `split`: its names in the folder}; {} if it cannot be read."""
    names = {}
    with suppress(OSError):
        for name in os.listdir(folder):
            names.setdefault(split(name)[0], []).append(name)
    return names


def split(name):
    """(stem, suffix) in composed Unicode: macOS may write é as two characters. suffix: or ""."""
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))
    return (stem, suffix.lower()) if suffix.lower() in SUFFIXES else (stem + suffix, "")


def check_links(path, root):
    """Raise ValueError when a video below `root`, or a frame of it, is a link that leads out."""
    frames = map(Path(path).joinpath, jpeg_names(path) if os.path.isdir(path) else ())
    homes = [Path(os.path.realpath(root))]  # it may be a link: that is the user's choice
    # in a snapshot of the hub's cache all files are links to the repository's blobs
    homes += [x.with_name("blobs") for x in homes[0].parents if x.name == "snapshots"]
    for link in (path, *filter(os.path.islink, frames)):
        real = Path(os.path.realpath(link))
        if not any(real.is_relative_to(home) for home in homes):
            text = f"video {os.path.relpath(path, root)!r} is a link to {real}, outside {root}"
            raise ValueError(f"{text}; expected a file inside it: copy it there")


def is_video(path):
    return os.path.isfile(path) or (os.path.isdir(path) and bool(jpeg_names(path)))


def missing(pairs):
    """The videos of the pairs that are not on this disk, in order of first appearance."""
    return [name for name in dict.fromkeys(p.video for p in pairs) if not is_video(name)]


def describe(pairs, root):
    """One line: the pairs of each mode, and how many of their videos are on this disk."""
    counts = Counter(pair.mode for pair in pairs)
    modes = ", ".join(f"{counts[mode]} {mode}" for mode in GROUPS if counts[mode])
    lost, n = missing(pairs), len({pair.video for pair in pairs})
    text = f"{len(pairs)} pairs ({modes}) about {n} videos: {n - len(lost)} found under {root}"
    names = printable(", ".join(os.path.relpath(name, root) for name in lost[:3]))
    return text + (f", {len(lost)} not, such as {names}" if lost else "")


def list_videos(folder):
    """Sorted Paths of the videos below a folder: files by suffix, else folders of JPEGs.

    Links to folders are followed, each folder once. What cannot be read is named on stderr.
    """
    if not os.path.isdir(folder):
        raise VideoError(folder, "no such folder")
    found, lost, seen, tops = [], set(), set(), [os.fspath(folder)]
    for top in tops:  # grows: links come last, so that they only add what has no other name
        for here, folders, names in os.walk(top, onerror=lambda error: lost.add(error.filename)):
            if (identity := os.stat(here)[1:3]) in seen:  # inode and device
                folders.clear()
                continue
            seen.add(identity)
            paths = (os.path.join(here, x) for x in folders + names)
            lost.update(x for x in paths if not is_name(x) or not os.access(x, os.R_OK))
            folders[:], names = (sorted(filter(is_name, x)) for x in (folders, names))
            tops += filter(os.path.islink, (os.path.join(here, x) for x in folders))
            videos = [x for x in names if split(x)[1] and x[0] != "."]  # macOS adds ._v.mp4
            found += map(Path(here).joinpath, videos or ["."] * bool(jpeg_names(here)))
    if lost and os.environ.get("RANK", "0") == "0":
        why = "a link to nothing, no permission, or a name that is not UTF-8"
        names = ", ".join(map(repr, sorted(lost)[:10])) + ", ..." * (len(lost) > 10)
        print(f"{len(lost)} paths below {folder} cannot be read ({why}): {names}", file=sys.stderr)
    return sorted(found)
