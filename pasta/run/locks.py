"""Folder locks, released when the process ends, even if it is killed; children inherit none."""

import fcntl
import os
import platform
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from pasta.run import ranks
from pasta.run.config import read_config, script_of

OPEN = {}  # (device, inode) -> lock file; closing it would release the lock


def claim_folder(folder, config, model, own=()):
    """Lock a folder for results. Raises SystemExit if it holds what another program wrote.

    It may be new, or hold logs, hidden files and what the script of `config` wrote, which its
    config.json shows. model: it may not be in this one. own: names that need no config.json.
    """
    folder, script, cure = Path(folder), script_of(config), "choose another --out"
    if Path(model).is_dir() and folder.resolve().is_relative_to(Path(model).resolve()):
        raise SystemExit(f"{folder} is in the folder of the model {model}; {cure}")
    names = os.listdir(folder) if folder.is_dir() else []
    others = {x for x in names if x[0] != "." and not x.endswith(".log")} - {"log.txt", *own}
    if "config.json" in others:
        try:
            before = read_config(folder)
        except ValueError as error:
            raise ValueError(f"{error}; restore it, or {cure}") from None
        others -= others if before.get("script") == script else set()
    if others:
        raise SystemExit(f"{folder} holds {min(others)}, which {script} did not write; {cure}")
    lock_folder(folder)


def lock_folder(folder):
    """Create `folder` and lock it until this process ends, or raise SystemExit; all ranks call."""
    path = Path(folder) / ".lock"
    if ranks.rank() == 0:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            if (inode := (path.stat().st_dev, path.stat().st_ino)) not in OPEN:
                file = open(path, "r+")
                if not lock(file, path):
                    text = "is writing into it; wait until it ends, or choose another --out"
                    raise SystemExit(f"{path.parent}: process {file.read().strip()} {text}")
                file.truncate(0)
                print(f"{os.getpid()} on {platform.node()}", file=file, flush=True)
                OPEN[inode] = file
        except OSError as error:
            raise SystemExit(f"cannot write to {folder}: {error.strerror}; change --out") from error
    ranks.gather([])  # no rank writes before the lock is there
    path.parent.mkdir(parents=True, exist_ok=True)  # also renews what NFS has cached
    if not path.exists():
        raise SystemExit(f"{path} is only on rank 0's machine; --out needs a disk that all share")


@contextmanager
def wait_for_lock(path):
    """Only one run at a time is inside this context for `path`; the others wait. All ranks call."""
    path, opened = path.with_name(f".{path.name}.lock"), nullcontext()
    with suppress(OSError):  # a folder that cannot be written needs no lock
        opened = nullcontext() if ranks.rank() else open(path, "a")
    with opened as file:
        if file and not lock(file, path):
            print(f"{path.parent}: waiting for another run that computes the same", flush=True)
            lock(file, path, wait=True)
        ranks.gather([])  # all ranks wait for rank 0
        yield


def lock(file, path, wait=False):
    """Lock an open file until it is closed. Returns False if another process has the lock."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        print(f"{path}: no lock ({error.strerror}): do not start another run there", flush=True)
    return True
