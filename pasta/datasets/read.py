"""Reads a preference data set of any publisher as pairs, and checks that its videos are there."""

import codecs
import functools
import json
from pathlib import Path

from pasta.datasets.rows import pairs_of
from pasta.pairs import Pair
from pasta.run.rows import no_search_for_cycles, numbered_rows
from pasta.video.find import SUFFIXES, describe, find_video, missing


@no_search_for_cycles()
def read_pairs(path, mode=None, video_root=None) -> list[Pair]:
    """The pairs of a file, in order.

    path: .jsonl, or .json with one list. mode: of rows that name none; otherwise they are an error.
    video_root: folder of relative video paths, which may not leave it; None is the file's folder
    A list of rejected responses gives one pair each, with ids "ID#0", "ID#1", ... Rows without an
    id get a hash of their content. <video> and <image> tags are removed from queries.
    Raises ValueError "FILE:LINE: what it got; what is expected", and when the file has no pairs.
    """
    find = functools.cache(functools.partial(find_video, root=root_of(path, video_root)))
    pairs, seen = [], {}
    for place, row in placed_rows(path):
        try:
            for pair in pairs_of(row, mode, find):
                if pair.id in seen:
                    raise ValueError(
                        f"id {pair.id!r} is also at {seen[pair.id]}; expected every id once, and "
                        "no pair twice; or take out all ids: jq -c 'del(.id)' OLD.jsonl > NEW.jsonl"
                    )
                seen[pair.id] = place
                pairs.append(pair)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    if not pairs:
        raise ValueError(f"{path} holds no pairs; `python make_pairs.py` makes some")
    return pairs


def placed_rows(path):
    """(place, row) of every row: the place is FILE:3, or FILE: row 3 in a JSON list."""
    data = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    if not data.lstrip().startswith(b"["):
        for number, row in numbered_rows(path):
            yield f"{path}:{number}", row
        return
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8
        raise ValueError(f"{path}: {error}; expected one JSON list, or one object a line") from None
    for number, row in enumerate(rows, start=1):
        place = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{place}: {row!r:.60}; expected an object")
        yield place, row


def root_of(path, video_root):
    """The folder of the relative videos of a file."""
    return Path(path).parent if video_root is None else Path(video_root)


def open_pairs(path, mode, video_root, tell) -> list[Pair]:
    """`read_pairs`; if `tell`, prints how many of the videos are on this disk.

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
    """Raise SystemExit, with the places searched, when none of the videos is on this disk."""
    lost = missing(pairs)
    if len(lost) == len({pair.video for pair in pairs}):
        tried = f"the first would be {lost[0]}, also looked for with {', '.join(SUFFIXES)}"
        cure = f"relative names begin in {root}: give the folder that holds them with --video_root"
        raise SystemExit(f"no video of the pairs is found: {tried}; {cure}")
