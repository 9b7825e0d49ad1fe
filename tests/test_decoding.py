"""The decoding process: a hang, crash or kill costs one video, and no process is left over.

python -m pytest -q tests/test_decoding.py
"""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import torch
from conftest import ROOT, linux

from pasta.video import VideoError, read_frames, worker

ODD = """
    import decord, os

    class Odd(decord.VideoReader):
        def next(self):
            {}

    decord.VideoReader = Odd
"""
ENDLESS = ODD.format("while True: pass  # holds the processor as decord does")


def everything(timestamps):
    return np.arange(len(timestamps))


def test_a_decoder_starts_without_loading_torch():
    code = f"{worker.SERVE.removesuffix('serve()')} import sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def decoders():
    """This process's decoding processes."""
    return [p for p in psutil.Process().children() if worker.START + worker.SERVE in p.cmdline()]


@pytest.fixture
def clip(toy_videos):
    return toy_videos / "00000.avi"


def test_a_decoder_that_never_returns_is_killed_in_time_and_another_takes_its_place(
    clip, odd_decord, monkeypatch
):
    odd_decord(ENDLESS)
    began = time.monotonic()
    with pytest.raises(VideoError, match=r"00000\.avi: not read in 2 s; convert it"):
        read_frames(clip, everything, timeout=2)
    assert time.monotonic() - began < 30  # most of it is the start of the process
    assert not decoders()
    monkeypatch.delenv("PYTHONPATH")
    assert len(read_frames(clip, everything)[0])


def test_a_decoder_that_aborts_costs_its_video_alone(clip, odd_decord, monkeypatch):
    odd_decord(ODD.format("os.abort()"))
    with pytest.raises(VideoError, match=r"00000\.avi: damaged, or too large.*crashed"):
        read_frames(clip, everything)
    assert not decoders()
    monkeypatch.delenv("PYTHONPATH")
    assert len(read_frames(clip, everything)[0])
    for process in decoders():  # killed between two videos: replaced
        process.kill()
        process.wait()
    assert len(read_frames(clip, everything)[0])


def test_one_process_serves_many_videos_and_refuses_some(toy_videos, tmp_path):
    read_frames(toy_videos / "00000.avi", everything)
    before = decoders()
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match="not a video"):
        read_frames(tmp_path / "text.mp4", everything)
    for video in sorted(toy_videos.glob("*.avi")) * 2:
        frames, _ = read_frames(video, everything)
        frames[0] = 0  # else torch.from_numpy warns of undefined behaviour
    assert decoders() == before


def test_an_idle_process_that_another_thread_takes_first_is_replaced(clip, monkeypatch):
    class Taken(list):
        """Looks filled, but another thread has taken the last one."""

        def __bool__(self):
            return True

    monkeypatch.setattr(worker, "IDLE", Taken())
    assert len(read_frames(clip, everything)[0])
    worker.IDLE.pop().stop()


def test_threads_get_their_own_frames(toy_videos):
    videos = sorted(toy_videos.glob("*.avi")) * 4
    alone = [read_frames(video, everything)[0] for video in videos]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda video: read_frames(video, everything)[0], videos)
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_a_forked_process_has_a_decoder_of_its_own(toy_videos, clip):
    here = read_frames(clip, everything)[0]
    rows = torch.utils.data.DataLoader(
        sorted(toy_videos.glob("*.avi")) * 5, batch_size=None, num_workers=2,
        collate_fn=lambda video: read_frames(video, everything)[0],
    )  # fmt: skip
    frames = [frames for frames in rows]
    assert all((read_frames(clip, everything)[0] == here).all() for _ in range(3))
    assert all((np.asarray(again) == here).all() for again in frames[:: len(frames) // 5])


def test_an_interrupt_is_left_to_the_asking_process(clip):
    read_frames(clip, everything)
    (process,) = decoders()[-1:]
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert len(read_frames(clip, everything)[0])


def test_the_decoder_of_a_killed_process_ends_even_while_it_hangs(clip, odd_decord):
    odd_decord(ENDLESS)
    code = f"from pasta.video import read_frames; read_frames({str(clip)!r}, range)"
    path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    asking = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path})
    deadline = time.monotonic() + 60
    while not (found := psutil.Process(asking.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.5)  # until it decodes
    asking.kill()
    asking.wait()
    assert not psutil.wait_procs(found, timeout=60)[1]


@pytest.mark.parametrize("code", [
    "raise SystemExit('no libraries')",
    "import sys; sys.modules['decord'] = None",
    "import sys; sys.modules['pasta.video.container'] = None",
    "import resource; resource.setrlimit = None",
])  # fmt: skip
def test_a_decoder_that_cannot_start_is_no_fault_of_the_video(clip, odd_decord, code):
    odd_decord(code)
    with pytest.raises(RuntimeError, match="did not start; its message is above; .*import decord"):
        read_frames(clip, everything)
    assert worker.IDLE == []


@linux
@pytest.mark.parametrize("soft, hard", [(7, 7), (7, 9), (9, 9), (20, 20), (None, None)])
def test_the_smaller_limit_of_memory_holds(clip, soft, hard):
    code = f"""
import resource, sys
import numpy as np
from psutil import Process
limits = [resource.RLIM_INFINITY if n is None else n * 2**30 for n in ({soft}, {hard})]
resource.setrlimit(resource.RLIMIT_AS, limits)
from pasta.video import read_frames
assert len(read_frames({str(clip)!r}, lambda times: np.arange(2))[0]) == 2
print(*Process().children()[0].rlimit(resource.RLIMIT_AS))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    limit = min(8, soft or 8) * 2**30
    assert done.stdout.split() == [str(limit)] * 2, done.stderr


@pytest.mark.parametrize(
    ("stopped", "seconds", "times"), [("group", 5, 2), ("asking", 5, 2), ("group", 1, 6)]
)
def test_time_in_which_the_process_was_stopped_does_not_count(
    clip, odd_decord, stopped, seconds, times
):
    odd_decord(ODD.format("import time; time.sleep(0.05); return super().next()"))
    code = f"""
import numpy as np
from pasta.video import read_frames
read_frames({str(clip)!r}, lambda times: np.arange(1))
print("reads", flush=True)
frames, _ = read_frames({str(clip)!r}, lambda times: np.arange(len(times)), timeout=4)
print(len(frames))
"""
    path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    asking = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    send = os.killpg if stopped == "group" else os.kill
    assert asking.stdout.readline() == "reads\n"
    for _ in range(times):
        time.sleep(0.1)
        send(asking.pid, signal.SIGSTOP)
        time.sleep(seconds)
        send(asking.pid, signal.SIGCONT)
    assert int(asking.communicate(timeout=60)[0]) > 10


def test_a_video_that_needs_too_much_memory_is_refused(clip, odd_decord):
    odd_decord("""
        import numpy
        from pasta.video import decord_files as files

        files.pixels = lambda frame: numpy.ones(10 * 2**30, numpy.uint8)  # bytes
    """)
    with pytest.raises(VideoError, match="memory|allocate"):
        read_frames(clip, everything)
    assert len(decoders()) == 1


@pytest.mark.parametrize("name", ["a:b", "it's a \"test\"", "ü 中"])
def test_a_decoder_starts_from_a_checkout_with_an_odd_path(clip, tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "pasta").symlink_to(ROOT / "pasta")
    code = """if True:
        import sys
        sys.path.insert(0, sys.argv[1])
        from pasta.sampling import uniform
        from pasta.video import read_frames, worker
        worker.ROOT = sys.argv[1]  # the module's own path leads through the link
        print(len(read_frames(sys.argv[2], lambda times: uniform(times, 2))[0]))
    """
    command = [sys.executable, "-c", code, tmp_path / name, clip]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "2\n"
