"""Files and folders that are at every moment absent, the old or the new, and never half written."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path


def write_json(path, data):
    """Write `data` as JSON so that `path` is at every moment absent, the old file or the new one.

    Raises TypeError for what is neither JSON nor a Path.
    """

    def plain(value):
        if isinstance(value, Path):
            return str(value)
        raise TypeError(f"{path}: cannot write a {type(value).__name__} as JSON: {value!r}")

    text = json.dumps(data, indent=2, ensure_ascii=False, default=plain) + "\n"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


@contextmanager
def atomic_folder(folder):
    """A new folder to fill, which then takes the place of `folder`: on disk first, then renamed.

        with atomic_folder("run/adapter") as part:
            (part / "weights").write_bytes(...)

    At every moment `folder` is absent, the old one or the new one, whole. After an error inside
    the block it is untouched.
    """
    folder = Path(folder)
    part, old = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part)
        raise
    for path in (*part.iterdir(), part):
        sync(path)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
    os.rename(part, folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync(path):
    """Wait until a file, or the list of a folder's files, is on the disk and not in a buffer."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders, and has no such buffer of theirs
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    os.fsync(handle)
    os.close(handle)
