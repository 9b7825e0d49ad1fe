"""Anybody's preference data as our pairs: the seam where the work of others enters.

    files.py   the rows of a .jsonl or a .json file, each with its place
    rows.py    a row in anybody's columns and shapes -> pairs
    made.py    what make_pairs.py relies on in its own files
    queries.py somebody's own queries
    videos.py  where the video of a row is, and how many were found

`python -m pasta.datasets FILE --video_root DIR` shows what is read, without training.
"""

import functools
from pathlib import Path

from pasta.datasets.files import placed_rows
from pasta.datasets.rows import pairs_of
from pasta.pairs import Pair
from pasta.run.rows import no_search_for_cycles
from pasta.video.find import SUFFIXES, describe, find_video, missing


@no_search_for_cycles()
def read_pairs(path, mode=None, video_root=None) -> list[Pair]:
    """The pairs of a file, in order.

    path: .jsonl, or .json with one list. mode: the mode of rows that name none; without it such a
    row is an error.
    video_root: folder in which relative video paths are looked up; None is the folder of the file.
        A relative path may not leave it; an absolute path is taken as it is.
    A list of rejected responses gives one pair each, with ids "ID#0", "ID#1", ... Rows without an
    id get a hash of their content. <video> and <image> tags are taken out of queries.
    Raises ValueError "FILE:LINE: what it got; what is expected", and when the file holds no pairs.
    """
    root = root_of(path, video_root)
    find = functools.cache(functools.partial(find_video, root=root))
    pairs, seen = [], {}
    for place, row in placed_rows(path):
        try:
            for pair in pairs_of(row, mode, find):
                if pair.id in seen:
                    raise ValueError(
                        f"id {pair.id!r} is also at {seen[pair.id]}; expected every id once, and "
                        "no pair twice; rows without id get one of their content: "
                        "jq -c 'del(.id)' OLD.jsonl > NEW.jsonl"
                    )
                seen[pair.id] = place
                pairs.append(pair)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    if not pairs:
        raise ValueError(
            f"{path} holds no pairs; `python make_pairs.py --help` shows how to make some"
        )
    return pairs


def root_of(path, video_root):
    """The folder in which the relative videos of a file begin."""
    return Path(path).parent if video_root is None else Path(video_root)


def open_pairs(path, mode, video_root, tell) -> list[Pair]:
    """`read_pairs`, and how many of the videos are on this disk, printed if `tell`.

    Raises ValueError as read_pairs does, and SystemExit when the file or all videos are missing.
    """
    if not Path(path).exists():
        raise SystemExit(f"no pairs at {path}; `python make_pairs.py` makes some, or name --pairs")
    pairs, root = read_pairs(path, mode, video_root), root_of(path, video_root)
    if tell:
        print(describe(pairs, root))
    check_found(pairs, root)
    return pairs


def check_found(pairs, root):
    """Raise SystemExit, with where it looked, when not one video is on this disk."""
    lost = missing(pairs)
    if len(lost) == len({pair.video for pair in pairs}):
        raise SystemExit(
            f"no video of the pairs is found: the first would be {lost[0]}, also looked for with "
            f"{', '.join(SUFFIXES)}; relative names begin in {root}: give the folder that holds "
            "them with --video_root"
        )
