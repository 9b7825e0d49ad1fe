"""Scripts in processes that are forked from one which has imported torch and transformers.

To import both takes longer than most runs of the tests. In all else these are processes like those
of `python SCRIPT`: they have their own pipe, environment, folder, signals and exit status, and they
may be torchrun with its ranks. `launch(..., cold=True)` starts Python itself.
"""

import atexit
import contextlib
import faulthandler
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import threading
import time
import traceback
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from multiprocessing.resource_tracker import _resource_tracker as resource_tracker
from pathlib import Path

ROOT = Path(__file__).parent.parent
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([
    "torch.distributed.run", "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "make_pairs", "train_dpo", "evaluate",
])  # fmt: skip
LOCK = threading.Lock()  # of two threads that poll one process, one would miss its exit status
STARTED = []


class Warm:
    """A process with the methods of subprocess.Popen that the tests use."""

    def __init__(self, command, cwd, env):
        read, write = os.pipe()
        self.args, self.stdout, self.output = command, open(read, errors="replace"), []
        self.reader = threading.Thread(target=self.read, daemon=True)
        with LOCK, Connection(write, readable=False) as output:
            with contextlib.chdir(ROOT):
                ensure_running()
            more = (output, command, os.fspath(cwd or os.getcwd()), env)
            self.process = FORKS.Process(target=begin, args=more)
            self.process.start()
        self.pid = self.process.pid
        STARTED.append(self)

    def read(self):
        self.output.append(self.stdout.read())

    def poll(self):
        with LOCK:
            return self.process.exitcode

    returncode = property(poll)

    def wait(self, timeout=None):
        end = time.monotonic() + (timeout or 1e9)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.005)
        return self.poll()

    def communicate(self, timeout=None):
        if not self.reader.ident:
            self.reader.start()
        self.reader.join(timeout)
        if self.reader.is_alive():
            raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(timeout)
        return self.output[0], None

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(15)

    def kill(self):
        self.send_signal(9)


def of(mark):
    """The processes of `Warm` whose command has `mark` in it, and ranks that they started."""
    for warm in STARTED:
        if any(mark in part for part in warm.args):
            yield from [warm.pid] if warm.poll() is None else []
            for file in Path("/proc").glob("[0-9]*/comm"):
                with contextlib.suppress(OSError):
                    if file.read_text() == f"of {warm.pid}\n":
                        yield int(file.parent.name)


def begin(output, command, cwd, env):
    """In a new process: be that command."""
    os.dup2(output.fileno(), 1)
    os.dup2(1, 2)
    os.chdir(cwd)
    become(command, env, f"of {os.getpid()}")


def become(command, env, name):
    """Be `python SCRIPT ...`, `python -c ...` or `python -m torch.distributed.run ...`."""
    os.closerange(3, 1000)
    resource_tracker._fd = resource_tracker._pid = None  # it was one of these
    gc.enable()  # Popen disables it for preexec_fn
    with contextlib.suppress(OSError):  # only Linux has it
        Path("/proc/self/comm").write_text(name)
    os.environ.clear()
    os.environ.update(env)
    sys.stdout, sys.stderr = (open(fd, "w", buffering=1, closefd=False) for fd in (1, 2))
    faulthandler.enable(sys.stderr)
    kind, status = command[1], 1
    script, *sys.argv[1:] = command[{"-m": 3, "-c": 2, "-u": 2}.get(kind, 1) :]
    try:
        if kind == "-m":
            run_agent([script, *sys.argv[1:]], name)
        elif kind == "-c":
            exec(script, {"__name__": "__main__"})
        else:
            sys.argv[0] = script
            sys.path.insert(0, os.path.dirname(script))
            runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # waits for threads
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(status)


def run_agent(arguments, name):
    """torchrun's main, with forked ranks."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    def popen(args, env, **more):
        start = partial(become, args, env, name)
        return subprocess.Popen(args, env=env, preexec_fn=start, **more)

    subprocess_handler.Popen = popen
    run.main(arguments)
