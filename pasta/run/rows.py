"""JSONL files: one JSON object a line.

A killed writer tears at most the last line: readers leave it out, the next writer cuts it off.
"""

import codecs
import gc
import json
import os
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

from pasta.run import ranks
from pasta.run.schema import schema_error


def is_torn(line):
    """Whether a last line without newline was cut; if it parses, only the newline is missing."""
    try:
        json.loads(line)
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deep, not torn
        return isinstance(error, ValueError) and line.startswith(b"{")
    return False


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


def numbered_rows(path, shape=dict, appended=True):
    """Yield (line number, row) of a .jsonl file, without blank lines and a torn last line.

    shape: schema of every row, see pasta/run/schema.py. Raises ValueError "FILE:LINE: ...".
    appended: whether our scripts append to it. In other files a torn line is an error, and so is
    a name that comes twice in an object.
    """
    data = read_utf8(path)
    lines, check = data.splitlines(), None if appended else once
    if appended and not data.endswith(b"\n") and is_torn(lines[-1] if lines else b""):
        warnings.warn(f"{path}:{len(lines)}: left out a last line that is cut short", stacklevel=2)
        lines.pop()
    for number, line in enumerate(lines, start=1):
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
    """The rows of a .jsonl file; see `numbered_rows`."""
    return [row for _, row in numbered_rows(path, shape)]


def rows_of(path, shape=dict):
    """The rows of a file and of the files of other ranks next to it, as `read_rows`."""
    return [row for file in ranks.rank_paths(path) for row in read_rows(file, shape)]


@contextmanager
def no_search_for_cycles():
    """Turn off Python's garbage collector: with many rows it takes as long as reading them."""
    restore = gc.enable if gc.isenabled() else gc.disable
    gc.disable()
    try:
        yield
    finally:
        restore()


class Appender:
    """Appends rows to a .jsonl file, one writer a file; cuts off the torn line of a killed one."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "a+b", buffering=0)  # unbuffered: after an error nothing is pending
        self.file.seek(0)
        tail = self.file.readall().rpartition(b"\n")[2]
        if is_torn(tail):
            self.file.truncate(self.file.tell() - len(tail))
        elif tail:
            self.file.write(b"\n")

    def write(self, row):
        """Append a row. Raises OSError with the name of the file, for example on a full disk."""
        # A lone surrogate cannot be UTF-8; backslashreplace writes it as JSON's own escape.
        left = f"{json.dumps(row, ensure_ascii=False)}\n".encode(errors="backslashreplace")
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            text = f"{error.strerror}; free some space and rerun the command to continue"
            raise OSError(error.errno, text, str(self.path)) from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def write_rows(path, rows):
    """Write a whole .jsonl file, atomically."""
    part = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with Appender(part) as out:
        for row in rows:
            out.write(row)
    os.replace(part, path)
