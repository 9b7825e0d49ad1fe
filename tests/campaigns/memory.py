"""How much memory reading a very large and a very long video takes.

    python tests/campaigns/memory.py

Each clip is made with ffmpeg and read by a decoder of its own, as a training reads it: 32 frames
spread evenly, of 602,112 pixels at most. Prints the size of the file, the seconds that reading
took, the most memory that the decoder held at a time, and that of the frames which came back.
"""

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[i]) for i in (0, 2)]
from decode import ffmpeg  # noqa: E402 (after the path to it)

from pasta.making.server import MAX_PIXELS, fit_within  # noqa: E402
from pasta.sampling import uniform  # noqa: E402
from pasta.video import read_frames, worker  # noqa: E402

CLIPS = {  # name: width, height, frames a second, seconds
    "8K": (7680, 4320, 24, 4),
    "an hour": (640, 360, 24, 3600),
    "an hour, 1080p": (1920, 1080, 1, 3600),
}


def make(path, width, height, fps, seconds):
    """Write a clip whose picture moves."""
    source = f"testsrc=size={width}x{height}:rate={fps}:duration={seconds}"
    ffmpeg("-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", "-preset", "ultrafast", path)


def held(pid):
    """Bytes of memory that a process has held at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def measure(path):
    """(seconds, bytes that the decoder held, bytes of the frames) of reading a clip."""
    while worker.IDLE:
        worker.IDLE.pop().stop()  # a new one has held nothing yet
    start = time.monotonic()
    fit = partial(fit_within, MAX_PIXELS)
    frames, _ = read_frames(path, partial(uniform, n=32), fit)
    (decoder,) = worker.IDLE
    return time.monotonic() - start, held(decoder.process.pid), frames.nbytes


def main():
    print(f"{'clip':16}{'file':>10}{'read in':>10}{'decoder':>12}{'frames':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for name, clip in CLIPS.items():
            path = Path(folder) / f"{name}.mp4"
            make(path, *clip)
            seconds, memory, n_bytes = measure(path)
            size = path.stat().st_size / 2**20
            print(f"{name:16}{size:>6.0f} MiB{seconds:>8.1f} s{memory / 2**20:>8.0f} MiB"
                  f"{n_bytes / 2**20:>6.0f} MiB", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
