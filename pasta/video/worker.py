"""A process that opens and decodes videos.

A call into decord may never return, or abort its process. Here that costs one video: the process
is killed and replaced. A request is a line of JSON on its stdin, a reply a line of JSON on its
stdout and the bytes of an array:

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

from pasta.video.decord_files import VideoError, checked, open_file, open_folder, reading

# -m would import this module twice. The first line shows whether decord can be imported.
SERVE = "import decord; print('decord', flush=True); from pasta.video.worker import serve; serve()"
MEMORY = 8 * 2**30  # bytes of address space of a worker: a video that needs more is refused
STEP = 0.25  # seconds between two looks at the clock
CURE = "re-encode it: `ffmpeg -i IN OUT.mp4`"
IDLE = []  # this process's workers that wait for a request
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=IDLE.clear)  # their pipes are the parent's


@contextmanager
def opened(path, folder_fps, timeout):
    """Open a video in a worker. timeout: seconds for opening and decoding together.

    Yields ((N,) float64 seconds, (H, W), function (F,) indices, h, w -> (F, h, w, 3) uint8 RGB).
    """
    worker = idle_or_new()
    worker.seconds = float("inf") if timeout is None else timeout

    def ask(request):
        try:
            reply, data = worker.ask(request)
        except TimeoutError:
            raise VideoError(path, f"not read in {timeout:g} s; {CURE}") from None
        except (EOFError, BrokenPipeError):
            reason = f"damaged, or too large for memory: decord crashed; {CURE}"
            raise VideoError(path, reason) from None
        if "reason" in reply:
            raise VideoError(path, reply["reason"])
        return reply, data

    def decode(indices, height, width):
        reply, data = ask({"indices": indices.tolist(), "size": [int(height), int(width)]})
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
    with suppress(IndexError):  # of pop: checking first is no use, other threads pop too
        while (worker := IDLE.pop()).process.poll() is not None:
            pass
        return worker
    return Worker()


class Worker:
    """The parent's handle. `waits`: ready for a request. `seconds`: left for the current video."""

    def __init__(self):
        path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVE],  # -P: ignores files in this folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        )
        imported = self.process.stdout.readline() == b"decord\n"
        self.waits = imported and self.process.stdout.readline() == b"ready\n"
        if not self.waits:
            self.stop()
            cure = "" if imported else f"; try: {sys.executable} -c 'import decord'"
            text = "the process that decodes videos did not start; its message is above"
            raise RuntimeError(text + cure)

    def ask(self, request):
        """(reply, writable bytes). Raises TimeoutError, and EOFError when the process died."""
        self.waits, future = False, Future()

        def exchange():
            try:
                self.process.stdin.write(json.dumps(request).encode() + b"\n")
                self.process.stdin.flush()
                reply = json.loads(self.process.stdout.readline() or "null")
                data = bytearray(reply["bytes"] if reply else 0)
                if not reply or self.process.stdout.readinto(data) < len(data):
                    raise EOFError
                future.set_result((reply, data))
            except BaseException as error:  # future.result raises it in the caller
                future.set_exception(error)

        Thread(target=exchange, daemon=True).start()  # it may never return
        while not future.done():
            began = time.monotonic()
            wait([future], STEP)
            # While both processes are stopped (Ctrl-Z, a paused container), the clock runs on.
            self.seconds -= min(time.monotonic() - began, 2 * STEP)
            if self.seconds <= 0 and not future.done():
                raise TimeoutError
        result = future.result()
        self.waits = True
        return result

    def stop(self):
        self.process.kill()
        self.process.wait()


def open_video(path, folder_fps):
    name = checked(path)
    return open_folder(path, folder_fps) if os.path.isdir(name) else open_file(name)


def serve():
    """Answer requests until the parent process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles both, and may want to
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # finish the current video first
    with suppress(ImportError):  # not every system has such limits
        import resource

        limits = {MEMORY, *resource.getrlimit(resource.RLIMIT_AS)} - {resource.RLIM_INFINITY}
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), min(limits)))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # native code prints to stdout: keep that out of the replies
    replies.write(b"ready\n")
    replies.flush()
    requests = SimpleQueue()
    Thread(target=listen, args=(requests,), daemon=True).start()
    while True:
        request = json.loads(requests.get())
        try:
            with reading(None):  # the parent knows the path
                if "path" in request:
                    array, size, decode = open_video(**request)
                    reply = {"size": [int(n) for n in size]}
                else:
                    array = decode(np.array(request["indices"]), *request["size"])
                    reply = {"shape": array.shape}
        except VideoError as error:
            array, reply = np.empty(0), {"reason": error.reason}
        replies.write(json.dumps(reply | {"bytes": array.nbytes}).encode() + b"\n")
        replies.write(np.ascontiguousarray(array))
        replies.flush()
        array = None  # frees the frames while waiting


def listen(requests):
    """Read requests in a thread, to notice the parent's end even while native code runs."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)
