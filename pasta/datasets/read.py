"""Reads a preference data set of any publisher as pairs, and checks that its videos are there."""

import functools
from pathlib import Path

from pasta.datasets.rows import pairs_of
from pasta.pairs import Pair
from pasta.run.rows import numbered_rows, once, read_utf8
from pasta.run.schema import read_json
from pasta.video.find import describe, find_video, listing, missing


def read_pairs(path, mode=None, video_root=None) -> list[Pair]:
    """The pairs of a .jsonl file, or of a .json file with one list, in order.

    mode: of rows that name none; None: OTHER. video_root: folder of relative video paths, which may
    not leave it; None: the file's. Several rejected responses give a pair each, with ids "ID#0",
    "ID#1", ... Rows without an id get a hash of their content.
    Raises ValueError "FILE:LINE: ...; expected ...", and when the file has no pairs.
    """
    find = functools.cache(functools.partial(find_video, root=video_root or Path(path).parent))
    pairs, seen = [], {}
    for place, row in placed_rows(path):
        try:
            for pair in pairs_of(row, mode, find):
                if pair.id in seen:
                    cure = "expected every id once, or none: jq -c 'del(.id)' OLD.jsonl > NEW.jsonl"
                    raise ValueError(f"id {pair.id!r} is also at {seen[pair.id]}; {cure}")
                seen[pair.id] = place
                pairs.append(pair)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place}: {error}") from None
    if not pairs:
        raise ValueError(f"{path} holds no pairs; `python make_pairs.py` makes some")
    return pairs


def placed_rows(path):
    """(place, row) of every row: the place is FILE:3, or FILE: row 3 in a JSON list."""
    listing.cache_clear()
    if read_utf8(path).lstrip().startswith(b"["):
        rows = enumerate(read_json(path, [dict], object_pairs_hook=once), start=1)
        return ((f"{path}: row {number}", row) for number, row in rows)
    return ((f"{path}:{number}", row) for number, row in numbered_rows(path))


def open_pairs(path, mode, video_root, verbose) -> list[Pair]:
    """`read_pairs`; SystemExit without the file or any video. verbose: print how many are found."""
    if not Path(path).exists():
        raise SystemExit(f"no pairs at {path}; `python make_pairs.py` makes some, or name --pairs")
    pairs, root = read_pairs(path, mode, video_root), video_root or Path(path).parent
    if verbose:
        print(describe(pairs, root))
    lost = missing(pairs)
    if len(lost) == len({pair.video for pair in pairs}):
        text = f"no video is found: the first would be {lost[0]}, or with another suffix; relative"
        raise SystemExit(f"{text} names begin in {root}: give another folder with --video_root")
    return pairs
