"""Rows of annotation files, the items made of them, and their videos; errors name file and row."""

import csv
import json
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from string import ascii_uppercase as LETTERS

from pasta.run.rows import numbered_rows
from pasta.run.schema import is_name, read_by, valid_text
from pasta.video.find import find_video, listing

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")  # parquet last: it needs a package


def find_tables(data, to_fetch, stems):
    """The files of the first table that is there; "test" also finds test-00000-of-00002.parquet."""
    for stem in stems:
        for suffix in SUFFIXES:
            if found := [*data.glob(stem + suffix), *data.glob(f"{stem}-*-of-*{suffix}")]:
                return sorted(found)
    names = f"{' or '.join(stems)} ({', '.join(SUFFIXES)})"
    hint = next_command(data, [stems[0] + suffix for suffix in (*SUFFIXES, "-*-of-*.*")])
    raise FileNotFoundError(f"no {names} in {data}; {hint}{to_fetch}")


def next_command(data, patterns, home=None):
    """What to do about files of a data folder that are elsewhere or packed; "" if they are not.

    patterns: paths of such files. home: the folder to move them to; None: take another data folder
    """
    # hidden folders hold what a download left
    inside = [x for x in data.rglob("*") if "/." not in f"/{x.relative_to(data)}"]
    for place in (data.parent, data, *filter(Path.is_dir, inside)):
        if found := next((x for pattern in patterns for x in place.glob(pattern)), None):
            move = f"mkdir -p {home} && mv {place}/*{found.suffix} {home}"
            return f"found in {place}: {move if home else f'--data {place}'}; or "
    for path in inside:
        if kind := re.search(r"\.(zip|tar)\b", path.name):
            how = {"zip": "unzip -n '{}/*.zip'", "tar": "cat {}/*.tar* | tar xi"}[kind[1]]
            return f"unpack {path}: cd {data} && {how.format(path.parent.relative_to(data))}; or "
    return ""


def read_table(path):
    """[(place, row)] of a table; place is "FILE: item N", or "FILE:LINE" of a .jsonl file."""
    kind = path.suffix[1:]
    if path.read_bytes().startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a pointer; expected the file: git -C {path.parent} lfs pull")
    if kind == "jsonl":
        return [(f"{path}:{number}", row) for number, row in numbered_rows(path)]
    if kind == "parquet" and not find_spec("pyarrow"):  # pasta itself does not need it
        raise ModuleNotFoundError(f"{path} needs pyarrow: pip install pyarrow")
    with read_by(f"the {kind} reader", path):
        if kind == "parquet":
            rows = import_module("pyarrow.parquet").read_table(path).to_pylist()
        elif kind == "csv":
            with open(path, encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file, strict=True))
        else:
            rows = json.loads(path.read_bytes())
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path} holds no items; expected a list of items; fetch it again")
    return [(f"{path}: item {number}", row) for number, row in enumerate(rows)]


def read_items(paths, item, expected, *context):
    """[item(row, *context, number)] of the rows of tables, numbered through all of them.

    expected: the columns, for the ValueError that names a malformed row or an id that comes twice.
    """
    items, places = [], {}
    listing.cache_clear()
    for place, row in (placed for path in paths for placed in read_table(path)):
        try:
            items.append(item(row, *context, len(items)))
            first = places.setdefault(getattr(items[-1], "id", place), place)
            if first != place:
                raise ValueError(f"id {items[-1].id!r} is also at {first}")
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{place}: {error!r}; expected {expected}") from None
    return [one for one in items if one]


def inside(name, folder, place=""):
    """The name, out of a file `place`; ValueError if it leads out of its folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    relative = parts and parts[0] != "/" and ".." not in parts and not Path(name).is_absolute()
    if not relative or not is_name(name):
        raise ValueError(f"{place}{name!r} is no path inside {folder}; expected one relative to it")
    return name


def video_fields(data, folders, name):
    """(name, video) of an Item; ValueError outside of `folders`. On disk the suffix may differ."""
    if not folders:
        return name, Path(find_video(name, data))
    video = Path(find_video(inside(name, data), data, folders))
    return str(video.relative_to(data)), video


def text(row, key):
    """row[key], a text that is not empty; this and the next ones raise ValueError or KeyError."""
    if not isinstance(row[key], str) or not row[key].strip():
        raise ValueError(f"{key} is {row[key]!r}, no text")
    return valid_text(row[key], key)


def integer(row, key):
    """row[key] as an int; a CSV has texts."""
    if not re.fullmatch(r"-?\d+(\.0)?", str(row[key])):
        raise ValueError(f"{key} is {row[key]!r}, no whole number")
    return int(str(row[key]).removesuffix(".0"))


def one_of(value, choices, key):
    if value not in choices:
        raise ValueError(f"{key} is {value!r}, none of {', '.join(map(str, choices))}")
    return value


def texts(value, least=2, most=26) -> tuple[str, ...]:
    are_texts = isinstance(value, list | tuple) and all(isinstance(x, str) for x in value)
    if not are_texts or not least <= len(value) <= most:
        raise ValueError(f"{value!r:.80} is no list of {least} to {most} texts")
    return tuple(valid_text(one, "a list") for one in value)


def lettered(options, form="{}. {}"):
    return [form.format(*pair) for pair in zip(LETTERS, options, strict=False)]


def letter_at(index, options):
    """The letter of an option by its number from 0."""
    return LETTERS[one_of(index, range(len(options))[: len(LETTERS)], "the answer's number")]


def letter_in(letter, options):
    return one_of(letter, list(LETTERS[: len(options)]), "answer")
