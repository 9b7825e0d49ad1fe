"""What every command line runs in: all text prints, and an everyday mistake is one sentence."""

import errno
import linecache
import os
import runpy
import shlex
import sys
from argparse import ArgumentTypeError
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from traceback import walk_tb

from pasta.run import ranks
from pasta.run.schema import printable

OURS = Path(__file__).resolve().parents[2]


@contextmanager
def command_line():
    """The context of a `main`: errors that `sentence` has a text for become SystemExit(text)."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed by the caller
        stream.reconfigure(errors="backslashreplace")  # its encoding may lack a letter
    try:
        try:
            yield
        finally:
            if sys.stdout:
                sys.stdout.flush()  # here, because an error at Python's end is not one sentence
    except (Exception, SystemExit) as error:
        text = error.code if isinstance(error, SystemExit) else sentence(error)
        if text and isinstance(text, str):  # a name in it may have control characters
            text = "\n".join(map(printable, text.splitlines()))
            raise SystemExit(text if ranks.is_first(text) else 1) from None
        raise


def run_script(command, log):
    """Run a script in this process, where importing costs nothing; its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as file, redirect_stdout(file), redirect_stderr(file):
        print(f"$ python {command}", flush=True)
        sys.argv = command.split()
        runpy.run_path(str(OURS / sys.argv[0]), run_name="__main__")


def sentence(error) -> str:
    """The text of an error of the system or of a `raise` in our own files; "" for a bug."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ENOSPC):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python writes the rest when it ends
        return f"standard output or a file cannot be written: {error.strerror}; rerun to continue"
    if ranks.started() and "closed by peer" in str(error):  # gloo's
        return "another process of this run has ended: see its message"
    *_, (frame, line) = walk_tb(error.__traceback__)
    file = frame.f_code.co_filename
    ours = linecache.getline(file, line).lstrip().startswith("raise ")
    ours = ours and OURS in Path(file).resolve().parents
    # safetensors reports a full disk in an error type of its own.
    return str(error) if ours or isinstance(error, OSError) or "os error" in str(error) else ""


def to_paste(script, *words, **flags) -> str:
    """The command of a script, on as many processes as run here; flags replace those in words."""
    new = {f"--{name}" for name in flags}
    pairs = zip(("", *words), words, strict=False)  # a value follows its flag
    words = [word for flag, word in pairs if not {flag, word.partition("=")[0]} & new]
    n = os.environ.get("LOCAL_WORLD_SIZE", "1")  # of this machine, from torchrun
    start = ["python"] if n == "1" else ["torchrun", "--nproc_per_node", n]
    more = [x for name, value in flags.items() if value is not None for x in (f"--{name}", value)]
    return shlex.join(map(str, [*start, script, *words, *more]))


def number(text):  # of a tool's flag
    if 0 <= int(text) <= 10**9:
        return int(text)
    raise ArgumentTypeError(f"is {text}; expected 0 or more, at most {10**9}")


def typed(*names) -> dict:
    """{flag: value} of those of `names` that the user typed: the next command repeats them."""
    return {x: sys.argv[sys.argv.index(f"--{x}") + 1] for x in names if f"--{x}" in sys.argv[:-1]}
