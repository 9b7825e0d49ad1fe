"""One run writes into a folder at a time: locks that end with their process, however it ends.

They are POSIX record locks, on files of their own: no kill leaves one behind, and the processes
that decode do not inherit it from the one that has it. On Windows nothing is locked; nor is it on a
network disk without such locks, and a line says so.
"""

import os
import platform
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pasta.run import ranks

try:
    import fcntl
except ImportError:
    fcntl = None

HELD = {}  # (device, inode) -> lock file; closed, it would be free


def lock_folder(folder):
    """Make `folder`, and write into it alone until this process ends; all processes of a run call.

    Raises SystemExit when another run does, or nothing can be written there.
    """
    if ranks.rank() == 0:
        path = Path(folder) / ".lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            stat = path.stat()
            if (stat.st_dev, stat.st_ino) not in HELD:
                HELD[stat.st_dev, stat.st_ino] = claimed(path)
        except OSError as error:
            told = f"{error.strerror}; make room there, or choose another --out"
            raise SystemExit(f"cannot write into {folder}: {told}") from error
    ranks.gather([])  # nobody writes before


def claimed(path):
    """The lock file, open, locked and with this process's name in it. Raises SystemExit."""
    file = open(path, "r+")
    if not lock(file, path):
        told = "is writing into it; wait for its end, or choose another --out"
        raise SystemExit(f"{path.parent}: process {file.read().strip()} {told}")
    file.truncate(0)
    file.write(f"{os.getpid()} on {platform.node()}\n")
    file.flush()
    return file


@contextmanager
def wait_for_lock(path):
    """Wait until no other run is in such a block about `path`, and keep others out of it.

    All processes of a run call; in a folder that nobody can write into nothing is locked.
    """
    path = path.with_name(f".{path.name}.lock")
    try:
        file = nullcontext() if ranks.rank() else open(path, "a")
    except OSError:
        file = nullcontext()
    with file as opened:
        if opened and not lock(opened, path):
            print(f"{path.parent}: waits until another run has computed what it needs", flush=True)
            lock(opened, path, wait=True)
        ranks.gather([])  # until it is this run's turn
        yield


def lock(file, path, wait=False):
    """Lock an open file until it is closed. Returns False when another process has the lock."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        print(f"{path}: no lock, {error.strerror}: let no other run write there", flush=True)
    return True
