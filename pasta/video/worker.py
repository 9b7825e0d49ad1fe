"""A process that opens and decodes videos, for native code cannot be stopped otherwise.

A call into decord may never return, or abort the whole program. In a process of its own it costs
one video: the process is killed and another takes its place.

A request is a line of JSON on its stdin; the reply, a line of JSON on its stdout, and the bytes of
an array:

    {"path": text, "folder_fps": number}    opens:   {"size": [H, W], "bytes": n}, (N,) float64
    {"indices": [...], "size": [h, w]}      decodes: {"shape": [F, h, w, 3], "bytes": n}, uint8
    either, if that fails                            {"reason": text, "bytes": 0}

Shapes: N frames of the video, F sampled frames, H, W pixels of the file, h, w as decoded.
"""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import numpy as np

from pasta.video.decord_files import open_file
from pasta.video.errors import VideoError, reading
from pasta.video.jpegs import open_folder
from pasta.video.paths import checked

ROOT = Path(__file__).parents[2]
SERVE = "from pasta.video.worker import serve; serve()"  # -m would import this module twice
MEMORY = 8 * 2**30  # bytes of address space of a worker: what needs more is refused
CURE = "re-encode it: `ffmpeg -i IN OUT.mp4`"
CRASHED = f"damaged, or too large for memory: decord crashed; {CURE}"
IDLE = []  # workers of this process that wait for a request
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=IDLE.clear)  # their pipes are the parent's


@contextmanager
def opened(path, folder_fps, timeout):
    """Open a video in a worker.

    timeout: seconds for opening and decoding together, None for no limit
    Yields ((N,) float64 seconds, (H, W), function (F,) indices, h, w -> (F, h, w, 3) uint8 RGB).
    Raises VideoError.
    """
    worker = idle_or_new()
    limit = time.monotonic() + (float("inf") if timeout is None else timeout)

    def ask(request):
        """(reply, bytes) within what is left of the time."""
        try:
            reply, data = worker.ask(request, None if timeout is None else limit - time.monotonic())
        except TimeoutError:
            raise VideoError(path, f"not read in {timeout:g} s; {CURE}") from None
        except (EOFError, BrokenPipeError):
            raise VideoError(path, CRASHED) from None
        if "reason" in reply:
            raise VideoError(path, reply["reason"])
        return reply, data

    def decode(indices, height, width):
        asked = {"indices": np.asarray(indices).tolist(), "size": [int(height), int(width)]}
        reply, data = ask(asked)
        return np.frombuffer(data, np.uint8).reshape(reply["shape"])

    try:
        reply, data = ask({"path": os.path.abspath(path), "folder_fps": folder_fps})
        yield np.frombuffer(data), tuple(reply["size"]), decode
    finally:
        if worker.waits:
            IDLE.append(worker)
        else:
            worker.stop()


def idle_or_new():
    """A Worker that waits and was not killed meanwhile, perhaps for its memory."""
    with suppress(IndexError):  # of pop: looking first would tell nothing, for other threads take
        while True:
            worker = IDLE.pop()
            if worker.process.poll() is None:
                return worker
    return Worker()


class Worker:
    """The process, seen from the one that asks. `waits`: whether it is ready for a request."""

    def __init__(self):
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVE],  # -P: not what lies about here
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        )
        self.waits = self.process.stdout.readline() == b"ready\n"
        if not self.waits:
            self.stop()
            raise RuntimeError(
                "the process that decodes videos did not start; its message is above. "
                f"Try: {sys.executable} -c 'import decord'"
            )

    def ask(self, request, seconds):
        """(reply, writable bytes). Raises TimeoutError, and EOFError when the process died."""
        self.waits, future = False, Future()

        def exchange():
            """Send the request and take the reply; in a thread, for it may take for ever."""
            try:
                self.process.stdin.write(json.dumps(request).encode() + b"\n")
                self.process.stdin.flush()
                reply = json.loads(self.process.stdout.readline() or "null")
                data = bytearray(reply["bytes"] if reply else 0)
                if not reply or self.process.stdout.readinto(data) < len(data):
                    raise EOFError
                future.set_result((reply, data))
            except BaseException as error:  # future.result raises it again, in the caller
                future.set_exception(error)

        Thread(target=exchange, daemon=True).start()
        if wait([future], seconds).not_done:
            raise TimeoutError
        result = future.result()
        self.waits = True
        return result

    def stop(self):
        """Kill the process, whatever it does."""
        self.process.kill()
        self.process.wait()


def open_video(path, folder_fps):
    """(N,) seconds, (H, W), and a function that decodes. Raises VideoError."""
    with reading(path):
        name = checked(path)
        return open_folder(path, folder_fps) if os.path.isdir(name) else open_file(name)


def serve():
    """Answer requests until the asking process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # they are for the asking process, which may
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # yet want to end what it has begun
    with suppress(ImportError):  # where there is no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native code prints is no reply
    replies.write(b"ready\n")
    replies.flush()
    requests, path, decode = SimpleQueue(), "", None
    Thread(target=listen, args=(requests,), daemon=True).start()
    while True:
        request = json.loads(requests.get())
        try:
            if "path" in request:
                path = request["path"]
                array, size, decode = open_video(path, request["folder_fps"])
                reply = {"size": [int(n) for n in size]}
            else:
                with reading(path):
                    array = decode(np.array(request["indices"]), *request["size"])
                reply = {"shape": array.shape}
        except VideoError as error:
            array, reply = np.empty(0), {"reason": error.reason}
        replies.write(json.dumps(reply | {"bytes": array.nbytes}).encode() + b"\n")
        replies.write(np.ascontiguousarray(array))
        replies.flush()
        array = None  # frees the frames


def listen(requests):
    """Take requests, so that their end is seen even while native code is at work."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)
