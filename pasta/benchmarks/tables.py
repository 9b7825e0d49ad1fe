"""Rows of annotation files, and the items made of them.         (the only file that knows pyarrow)

A table is .json, .csv or .parquet; what is wrong in a row is said with its file and number.
"""

import ast
import csv
import json
from importlib import import_module

from pasta.benchmarks import LETTERS
from pasta.run import schema as shapes

SUFFIXES = (".json", ".csv", ".parquet")  # parquet last: it needs a package


def find_tables(data, *stems):
    """The files of the first table that is there, [] if none is.

    stems: paths inside `data` without a suffix; "test" finds test.json, and test-00000-of-00002.csv
    with its like.
    """
    for stem in stems:
        for suffix in SUFFIXES:
            found = [*data.glob(stem + suffix), *data.glob(f"{stem}-*-of-*{suffix}")]
            if found:
                return sorted(found)
    return []


def tables(data, fetch, *stems):
    """The same; raises FileNotFoundError if there is none, with the command that fetches it."""
    found = find_tables(data, *stems)
    if not found:
        names = " or ".join(stems)
        raise FileNotFoundError(
            f"no {names} ({', '.join(SUFFIXES)}) in {data}; fetch it with: {fetch} {data}"
        )
    return found


def read_json(path, shape=object):
    """What a JSON file holds, see pasta/run/schema.py. Raises ValueError that names it."""
    try:
        return shapes.read_json(path, shape)
    except ValueError as error:
        raise ValueError(f"{error}; delete it and fetch it again") from None


def read_csv(path):
    """The rows of a CSV file, all values texts. Raises ValueError that names it."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file, strict=True))
    except (csv.Error, ValueError) as error:
        told = f"{path} is not CSV: {error}; expected a table; delete it and fetch it again"
        raise ValueError(told) from None


def read_parquet(path):
    """The rows of a parquet file. Raises ModuleNotFoundError without pyarrow, and ValueError."""
    try:
        arrow = import_module("pyarrow")  # not one of the packages that pasta needs
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise ModuleNotFoundError(f"{path} needs pyarrow ({error}): pip install pyarrow") from None
    try:
        return parquet.read_table(path).to_pylist()
    except (OSError, ValueError, arrow.ArrowException) as error:
        told = f"{path} is not parquet: {error}; expected a table; delete it and fetch it again"
        raise ValueError(told) from None


def read_table(path):
    """The rows of a table, a list of dicts. Raises ValueError when there are none."""
    rows = {".json": read_json, ".csv": read_csv, ".parquet": read_parquet}[path.suffix](path)
    if not isinstance(rows, list) or not rows:
        held = f"a {type(rows).__name__}" if rows else "nothing"
        raise ValueError(f"{path} holds {held}; expected a list of items; fetch it again")
    return rows


def items_of(rows, path, item_of, expected, first=0):
    """[item_of(number, row)] of rows, numbered from `first`.

    expected: the columns, for the ValueError "FILE: item N: ..." that a malformed row raises.
    """
    items = []
    for number, row in enumerate(rows):
        try:
            items.append(item_of(first + number, row))
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}: item {number}: {error!r}; expected {expected}") from None
    return items


def read_items(paths, item_of, expected):
    """The items of tables, numbered through. Raises as `items_of` and the readers do."""
    items = []
    for path in paths:
        items += items_of(read_table(path), path, item_of, expected, len(items))
    return items


def text(row, key):
    """row[key], a text that is not empty. Raises KeyError, and ValueError that names the key."""
    if not isinstance(row[key], str) or not row[key].strip():
        raise ValueError(f"{key} is {row[key]!r}, no text")
    return shapes.valid_text(row[key], key)


def whole(row, key):
    """row[key] as an int; a CSV has texts. Raises KeyError, and ValueError that names the key."""
    try:
        number = float(row[key])
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{key} is {row[key]!r}, no whole number")


def one_of(value, choices, key):
    """A value that is one of the choices. Raises ValueError that names the key."""
    if value not in choices:
        raise ValueError(f"{key} is {value!r}, none of {', '.join(map(str, choices))}")
    return value


def texts(value, least=2) -> tuple[str, ...]:
    """A list of texts, such as options. value: a list, or one written as JSON or Python in a CSV.

    Raises ValueError when it is none, shorter than `least`, or longer than there are letters.
    """
    listed = written_list(value) if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(x, str) for x in listed):
        raise ValueError(f"{value!r} is no list of texts")
    if len(listed) < least:
        raise ValueError(f"{value!r} has {len(listed)}, expected {least} or more")
    if len(listed) > len(LETTERS):
        raise ValueError(f"{value!r:.80} has {len(listed)}, expected {len(LETTERS)} or fewer")
    return tuple(shapes.valid_text(one, "a list") for one in listed)


def written_list(value):
    """What a text says as JSON or as Python; itself if it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # or nested too deep
            pass
    return value


def letter_at(index, options):
    """The letter of an option by its number from 0. Raises ValueError when there is no such one."""
    if not 0 <= index < min(len(options), len(LETTERS)):
        raise ValueError(f"answer number {index} of {len(options)} options, counted from 0")
    return LETTERS[index]


def letter_in(letter, options):
    """A letter that is one of the options'. Raises ValueError when it is not."""
    if len(letter) != 1 or letter not in LETTERS[: len(options)]:
        raise ValueError(f"answer is {letter!r}, no letter of {len(options)} options")
    return letter
