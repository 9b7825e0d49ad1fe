"""Atomic writes of files and folders."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path


def write_json(path, data):
    """Write `data` as JSON, atomically; paths become text."""
    text = json.dumps(data, indent=2, ensure_ascii=False, default=os.fspath) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8", errors="backslashreplace")
    sync(part)  # or a power cut may leave an empty file
    os.replace(part, path)


@contextmanager
def atomic_folder(folder):
    """A new folder to fill; after a block without error it is synced and replaces `folder`."""
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
    """Flush a file, or the list of files of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    os.fsync(handle)
    os.close(handle)
