"""JSONL files: one JSON object a line.

A kill or a power cut damages only the end of an appended file, by part of a row, NULs or any other
bytes: readers leave the end out, and the next writer cuts it off. Other damage is an error.
"""

import codecs
import json
import os
import warnings
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from pasta.run import ranks
from pasta.run.atomic import sync
from pasta.run.schema import schema_error


def is_row(line):
    """Whether a line, as bytes, is one JSON object."""
    try:
        return b"\0" not in line and isinstance(json.loads(line), dict)
    except ValueError:
        return False
    except RecursionError:
        return True  # nested too deep, which is no damage: its reader refuses it


def read_utf8(path) -> bytes:
    """The bytes of a JSON file in UTF-8, without mark; PowerShell's > writes UTF-16."""
    data = Path(path).read_bytes()
    with suppress(UnicodeDecodeError):  # damaged: the reader names the first bad line
        return data.decode(json.detect_encoding(data)).encode()
    return data.removeprefix(codecs.BOM_UTF8)


def once(pairs):
    """The dict of a JSON object. Raises ValueError if a name comes twice."""
    if len(row := dict(pairs)) < len(pairs):
        raise ValueError(f"a name comes twice in one object, {[name for name, _ in pairs]}")
    return row


def end_of_rows(data):
    """The number of bytes of an appended file up to its last undamaged row."""
    end = len(data)
    while end > 0:
        start = data.rfind(b"\n", 0, end) + 1
        line = data[start:end].rstrip(b"\0")
        if is_row(line):
            return start + len(line)
        end = start - 1
    first = data.lstrip(b"\0").strip()  # there is no row: is it at least the begin of one?
    return 0 if b"\n" not in first and first[:1] in (b"", b"{") else len(data)


def numbered_rows(path, shape=dict, appended=False):
    """Yield (line number, row) of a .jsonl file, without blank lines.

    shape: schema of a row. appended: an `Appender` wrote the file: leave out a damaged end, with a
    warning; in others a name may not come twice in an object. Raises ValueError "FILE:LINE: ...".
    """
    data, check = (Path(path).read_bytes(), None) if appended else (read_utf8(path), once)
    end = end_of_rows(data) if appended else len(data)
    if tail := data[end:].lstrip():
        number = 1 + data.count(b"\n", 0, len(data) - len(tail))
        text = f"{path}:{number}: left out the end of the file, which is cut short or damaged"
        warnings.warn(text, stacklevel=2)
    for number, line in enumerate(data[:end].splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row, fault = json.loads(line, object_pairs_hook=check), ""
        except (ValueError, RecursionError) as error:
            row, fault = None, f" ({error})"
        if not isinstance(row, dict):
            hint = f"; from a JSON list: jq -c '.[]' {path}" if line.startswith(b"[") else ""
            text = repr(line[:60].decode(errors="replace")) + fault
            raise ValueError(f"{path}:{number}: {text}; expected one JSON object a line{hint}")
        if wrong := schema_error(row, shape):
            raise ValueError(f"{path}:{number}: {wrong}")
        yield number, row


def read_rows(path, shape=dict) -> list[dict]:
    """The rows of a .jsonl file that an `Appender` wrote; see `numbered_rows`."""
    return [row for _, row in numbered_rows(path, shape, appended=True)]


def rows_of(path, shape=dict):
    """The rows of a file and of the files of other ranks next to it, as `read_rows`."""
    return [row for file in ranks.rank_paths(path) for row in read_rows(file, shape)]


class Appender(AbstractContextManager):
    """Appends rows to a .jsonl file, one writer a file; first cuts off a damaged end."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "a+b", buffering=0)  # unbuffered: after an error nothing is pending
        self.file.seek(0)
        data = self.file.readall()
        end = end_of_rows(data)
        if data[end:] != b"\n":
            self.file.truncate(end)
            self.put(b"" if data[:end].endswith(b"\n") else b"\n" * bool(end))

    def write(self, row):
        """Append a row. Raises OSError with the name of the file, for example on a full disk."""
        # A lone surrogate cannot be UTF-8; backslashreplace writes it as JSON's own escape.
        self.put(f"{json.dumps(row, ensure_ascii=False)}\n".encode(errors="backslashreplace"))

    def put(self, left):
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            text = f"{error.strerror}; free some space and rerun the command to continue"
            raise OSError(error.errno, text, str(self.path)) from error

    def __exit__(self, *_):
        self.file.close()


def write_rows(path, rows):
    """Write a whole .jsonl file, atomically."""
    part = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with Appender(part) as out:
        for row in rows:
            out.write(row)
    sync(part)  # or a power cut may leave an empty file
    os.replace(part, path)
