"""Files of rows, .jsonl: one JSON object a line.

Writers append whole lines and flush each one, so a killed writer leaves at most one torn line, and
that one at the end: readers leave it out, and the next writer cuts it off.
"""

import codecs
import gc
import hashlib
import json
import os
import warnings
from contextlib import contextmanager
from pathlib import Path

from pasta.run import ranks
from pasta.run.schema import schema_error


def is_torn(line):
    """Whether a last line without newline is the beginning of a row, and not a whole one.

    An object cut short never parses. A line that does lacks its newline alone: nothing is lost.
    """
    try:
        json.loads(line)
    except (ValueError, RecursionError) as error:  # a row that is too deep is whole
        return isinstance(error, ValueError) and line.startswith(b"{")
    return False


def numbered_rows(path, shape=dict):
    """(line number, row) of every line that is not blank. Raises ValueError at FILE:LINE.

    shape: of every row, see pasta/run/schema.py.
    """
    lines = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    if is_torn(lines[-1]):
        warnings.warn(f"{path}:{len(lines)}: left out a last line that is cut short", stacklevel=2)
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            hint = f"; from a JSON list: jq -c '.[]' {path}" if line.startswith(b"[") else ""
            text = line[:60].decode(errors="replace")
            raise ValueError(f"{path}:{number}: {text!r}; expected one JSON object a line{hint}")
        if shape is not dict and (wrong := schema_error(row, shape)):
            raise ValueError(f"{path}:{number}: {wrong}")
        yield number, row


def read_rows(path, shape=dict) -> list[dict]:
    """The rows of a .jsonl file, in order; blank lines and a torn last line are left out.

    Raises ValueError "FILE:LINE: ..." for any other line that is not a JSON object of that shape.
    """
    return [row for _, row in numbered_rows(path, shape)]


@contextmanager
def no_search_for_cycles():
    """Within this context Python looks for no cycles among its objects.

    A hundred thousand rows have none, and to look through them over and over takes as long as to
    read them.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class Appender:
    """Adds rows to the end of a .jsonl file, each at once and whole. One writer a file.

        with Appender("candidates.jsonl") as out:
            out.write({"video": "v.mp4", ...})

    Opening makes missing folders and cuts off the torn line of a killed writer.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "a+b", buffering=0)  # what was not written is not tried again
        tail, start = b"", self.file.seek(0, os.SEEK_END)
        while start and b"\n" not in tail:
            end, start = start, max(0, start - 2**16)
            self.file.seek(start)
            tail = self.file.read(end - start) + tail
        tail = tail.rpartition(b"\n")[2]
        if is_torn(tail):
            self.file.truncate(self.file.seek(0, os.SEEK_END) - len(tail))
        elif tail:
            self.file.write(b"\n")

    def write(self, row):
        """Add a row. Raises OSError that names the file, as when a disk is full."""
        # A lone surrogate cannot be UTF-8; backslashreplace writes it as JSON's own escape.
        line = json.dumps(row, ensure_ascii=False) + "\n"
        left = line.encode("utf-8", errors="backslashreplace")
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            told = f"{error.strerror}; make room there, and the same command goes on"
            raise OSError(error.errno, told, str(self.path)) from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def write_rows(path, rows):
    """Write a whole .jsonl file, so that `path` is at every moment absent, the old or the new."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with Appender(part) as out:
        for row in rows:
            out.write(row)
    os.replace(part, path)


def seed_of(*parts):
    """A 63-bit seed from texts and numbers."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rows_of(path, shape=dict):
    """The rows of a file, and of those that other processes wrote beside it, as `read_rows`."""
    return [row for file in ranks.rank_paths(path) for row in read_rows(file, shape)]


def digest_files(files):
    """sha256 hex over the names and bytes of files."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
