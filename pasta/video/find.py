"""Finds the videos of rows on this disk, and lists those of a folder."""

import os
import re
from collections import Counter
from pathlib import Path

from pasta.pairs import MODES
from pasta.run.schema import is_name
from pasta.video.decord_files import VideoError
from pasta.video.jpegs import jpeg_names

SUFFIXES = (".mp4", ".MP4", ".mkv", ".webm", ".avi", ".mov")
VIDEO = re.compile(r"(?is)[^.].*\.(3gp|avi|flv|gif|m2ts|m4v|mkv|mov|mp4|mpe?g|ts|vob|webm|wmv|y4m)")


def find_video(name, root, folders=(".",), any_suffix=False):
    """The path of a video, a file or a folder of JPEGs; the first place tried if it is not there.

    name: from a row, perhaps without suffix. root: folder of relative names.
    folders: inside `root`, in order. any_suffix: the file may have another suffix or none
    Raises ValueError for a name that no file can have, or that leaves `root`, also through a link.
    """
    if not is_name(name):
        raise ValueError(f"video is {name!r:.80}; expected the name of a file")
    if os.path.normpath(name).split(os.sep)[0] == "..":
        raise ValueError(f"video is {name!r}; expected an absolute path or one inside {root}")
    stem, suffix = os.path.splitext(name)
    if suffix.lower() not in SUFFIXES:
        stem, suffix = name, ""
    others = [stem + x for x in (*SUFFIXES, "")] if any_suffix or not suffix else []
    homes = [Path(root) / folder for folder in folders]
    places = [(str(home / x), home) for home in homes for x in (name, *others)]
    found, home = next((place for place in places if is_video(place[0])), places[0])
    if not os.path.isabs(name):
        check_links(found, home)
    return found


def check_links(path, root):
    """Raise ValueError when a video inside `root`, or a frame of it, is a link that leads out.

    `root` itself may be a link, or lie below one: that is the user's choice.
    """
    frames = map(Path(path).joinpath, jpeg_names(path) if os.path.isdir(path) else ())
    homes = [Path(os.path.realpath(root))]
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
    return [name for name in dict.fromkeys(p.video for p in pairs) if not os.path.exists(name)]


def describe(pairs, root):
    """One line: the pairs of each mode, and how many of their videos are on this disk."""
    counts = Counter(pair.mode for pair in pairs)
    modes = ", ".join(f"{counts[mode]} {mode}" for mode in MODES if counts[mode])
    lost, n = missing(pairs), len({pair.video for pair in pairs})
    text = f"{len(pairs)} pairs ({modes}) about {n} videos: {n - len(lost)} found under {root}"
    names = ", ".join(os.path.relpath(name, root) for name in lost[:3])
    return text + (f", {len(lost)} not, such as {names}" if lost else "")


def list_videos(folder):
    """Sorted Paths of the videos below a folder: files by suffix, else folders of JPEGs."""
    if not os.path.isdir(folder):
        raise VideoError(folder, "no such folder")
    found = []
    for here, _, names in os.walk(folder):
        videos = [Path(here, name) for name in names if VIDEO.fullmatch(name)]
        found += videos or [Path(here)] * bool(jpeg_names(here))
    return sorted(found)
