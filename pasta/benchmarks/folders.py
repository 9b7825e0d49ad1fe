"""Where the videos of a benchmark are, and what to do about those that are not there."""

import os
from collections import Counter
from shlex import quote

from pasta.benchmarks import inside, unlinked

SUFFIXES = (".mp4", ".MP4", ".mkv", ".webm")


def find_video(data, folders, name):
    """Where a video is; where it was looked for first, if it is nowhere.

    folders: inside `data`, in the order they are tried. name: the file inside one of them, with or
    without its suffix, which may be another one on disk; or a folder of JPEGs. Raises ValueError
    for a name that leaves the folder, by itself or by a link.
    """
    stem, suffix = os.path.splitext(name)
    if suffix.lower() not in SUFFIXES:
        stem, suffix = name, ""
    names = [name] * bool(suffix) + [stem + other for other in SUFFIXES] + [stem]
    places = [(inside(data / folder, x), data / folder) for folder in folders for x in names]
    there = (place for place in places if os.path.exists(place[0]))  # false for what is no name
    return unlinked(*next(there, places[0]))


def checked(items, data, fetch, tasks):
    """The items in the order of their tasks.

    Raises ValueError for two items of one id, and FileNotFoundError when videos are missing.
    """
    twice = [name for name, n in Counter(item.id for item in items).items() if n > 1]
    if twice:
        raise ValueError(f"{len(twice)} ids of {data} come twice, such as {twice[0]}; expected one")
    missing = list(dict.fromkeys(x.video for x in items if not os.path.exists(x.video)))
    if missing:
        videos = len({item.video for item in items})
        raise FileNotFoundError(
            f"{len(missing)} of {videos} videos are missing, such as {missing[0]} (other suffixes: "
            f"{', '.join(SUFFIXES[1:])}){how_to_get(data, fetch)}"
        )
    return sorted(items, key=lambda item: tasks.index(item.task))


def how_to_get(data, fetch):
    """What a message about missing videos ends with: unpack what is there, or fetch it."""
    get = f"fetch them with: {fetch} {data}"
    depths = ("*.zip", "*/*.zip", "*/*/*.zip")
    folders = {archive.parent for depth in depths for archive in data.glob(depth)}
    unpack = [f"unzip -n {quote(str(f / '*.zip'))} -d {quote(str(f))}" for f in sorted(folders)]
    for part in sorted(data.glob("videos.tar*"))[:1]:
        unpack.append(f"cat {quote(str(part.parent))}/videos.tar* | tar x -C {quote(str(data))}")
    return f"; unpack what is there: {'; '.join(unpack)}; or {get}" if unpack else f"; {get}"
