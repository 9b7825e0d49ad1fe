"""A process that opens and decodes videos.

A call into decord may never return, or abort its process. Here that costs one video: the process
is killed and replaced. A request is the keywords of `open_video` or of the function that this
returns. The reply is (reason of the failure or "", shape), then the bytes of an array.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import numpy as np

from pasta.video.decord_files import CURE, VideoError, open_video, reading

ROOT = str(Path(__file__).resolve().parents[2])
START = "import sys; sys.path.insert(0, sys.argv[1]); "  # in PYTHONPATH, a colon splits a path
SERVE = "from pasta.video.worker import serve; serve()"  # -m would import this module twice
MEMORY = 8 * 2**30  # bytes of address space of a worker: a video that needs more is refused
STEP = 0.05  # seconds between two looks at the clock
IDLE = []  # this process's workers that wait for a request
os.register_at_fork(after_in_child=IDLE.clear)  # their pipes are the parent's


@contextmanager
def opened(path, folder_fps, timeout):
    """Open a video in a worker. timeout: seconds for opening and decoding together, or None.

    Yields ((N,) float64 seconds, (H, W), function (F,) indices, h, w -> (F, h, w, 3) uint8 RGB).
    """
    worker, left = idle_or_new(), np.inf if timeout is None else timeout

    def ask(**request):
        nonlocal left
        worker.waits = ready = False
        try:
            worker.pipe.send(request)
            while not ready and left > 0:
                began = time.monotonic()
                ready = worker.pipe.poll(STEP)
                # While both processes are stopped (Ctrl-Z, a paused container), the clock runs on.
                left -= min(time.monotonic() - began, 2 * STEP)
            if not ready:
                raise VideoError(path, f"not read in {timeout:g} s{CURE}")
            reason, shape = json.loads(worker.pipe.recv_bytes())  # no pickle of a decoder is read
            data = bytearray(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            reason = f"damaged, or too large for memory: decord crashed{CURE}"
            raise VideoError(path, reason) from None
        worker.waits = True
        if reason:
            raise VideoError(path, reason)
        return shape, np.frombuffer(data, np.uint8)

    def decode(indices, height, width):
        shape, data = ask(indices=indices, height=int(height), width=int(width))
        return data.reshape(shape)

    try:
        size, data = ask(path=os.path.abspath(path), folder_fps=folder_fps)
        yield data.view(float), tuple(size), decode
    finally:
        if worker.waits:
            IDLE.append(worker)
        else:
            worker.stop()


def idle_or_new():
    with suppress(IndexError):  # of pop: checking first is no use, other threads pop too
        while (worker := IDLE.pop()).process.poll() is not None:
            pass
        return worker
    return Worker()


class Worker:
    """The parent's handle. `waits`: ready for a request."""

    def __init__(self):
        self.pipe, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", START + SERVE, ROOT, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdout=2,  # native code prints to it
            )
        try:
            self.waits = bool(self.pipe.recv_bytes())
        except (EOFError, OSError):
            self.stop()
            text = f"its message is above; if about decord: {sys.executable} -c 'import decord'"
            raise RuntimeError(f"the process that decodes videos did not start; {text}") from None

    def stop(self):
        self.process.kill()
        self.process.wait()


def serve():
    """Answer requests until the parent process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles both, and may want to
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # finish the current video first
    limits = {MEMORY, *resource.getrlimit(resource.RLIMIT_AS)} - {resource.RLIM_INFINITY}
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), min(limits)))
    pipe, requests = Connection(int(sys.argv[2])), SimpleQueue()
    pipe.send_bytes(b"ready")
    Thread(target=listen, args=(pipe, requests), daemon=True).start()
    while True:
        request, reason = requests.get(), ""
        try:
            with reading(None):  # the parent knows the path
                if "path" in request:
                    array, shape, decode = open_video(**request)
                else:
                    array = decode(**request)
                    shape = array.shape
        except VideoError as error:
            array, shape, reason = np.empty(0), (), error.reason
        pipe.send_bytes(json.dumps([reason, [int(n) for n in shape]]).encode())
        pipe.send_bytes(np.ravel(array).view(np.uint8))
        array = None  # frees the frames while waiting


def listen(pipe, requests):
    """Read requests in a thread, to notice the parent's end even while native code runs."""
    with suppress(EOFError, OSError):
        while True:
            requests.put(pipe.recv())
    os._exit(0)
