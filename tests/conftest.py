"""Tiny objects that the tests share: a real Qwen2.5-VL with random weights, videos, pairs, runs."""

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager, suppress
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two workers fill two cores

import numpy as np
import pytest
import torch
from warm import Warm, of

import pasta.video as video
from pasta.models.load import load_vlm
from pasta.run.rows import write_rows
from pasta.toy import files, world
from pasta.toy.pretrain import make_folder
from pasta.video import worker
from pasta.video.decord_files import reading

ROOT = Path(__file__).parent.parent
PAIRS_OF_VIDEO = (3, 1, 2, 1, 1)  # in toy_pairs


LONGEST = ["pretrain", "readme", "campaigns", "pairs_killed", "checkpoint", "torchrun", "bad_clips"]


def pytest_collection_modifyitems(items):
    """Start the longest files first, so that both workers end at about the same time."""
    longest = {f"test_{name}.py": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: longest.get(item.path.name, len(longest)))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """As under torchrun, unless OMP_NUM_THREADS says otherwise: small products need no more."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A model folder with random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_folder(folder)
    return folder


@pytest.fixture
def tiny(tiny_folder):
    """A fresh VLM, so that no test sees another's adapter."""
    return load_vlm(tiny_folder)


@pytest.fixture
def tiny_inputs(tiny):
    """Two different videos, prepared."""
    times = np.arange(world.N_FRAMES) / world.FPS
    videos = [world.draw_video(np.random.default_rng(i)) for i in range(2)]
    return [tiny.processor.prepare(world.render(video), times) for video in videos]


@pytest.fixture(scope="session")
def toy_videos(tmp_path_factory):
    """A folder of short videos."""
    folder = tmp_path_factory.mktemp("videos")
    files.write_videos(folder, len(PAIRS_OF_VIDEO), seed=0)
    return folder


@pytest.fixture
def decoding_here(monkeypatch):
    """Decode videos in the test's own process, where decord can be replaced."""

    @contextmanager
    def opened(path, folder_fps, timeout):
        with reading(path):
            timestamps, size, decode = worker.open_video(path, folder_fps)

        def decode_or_name_error(indices, height, width):
            with reading(path):
                return decode(indices, height, width)

        yield timestamps, size, decode_or_name_error

    monkeypatch.setattr(video, "opened", opened)


@pytest.fixture
def odd_decord(tmp_path, monkeypatch):
    """A function that takes lines of code, which decoder processes run when they start."""

    def run_first(code):
        (tmp_path / "odd").mkdir()
        (tmp_path / "odd/sitecustomize.py").write_text(textwrap.dedent(code))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "odd"), str(ROOT)]))
        stop_workers()

    yield run_first
    stop_workers()


def stop_workers():
    while worker.IDLE:
        worker.IDLE.pop().stop()


@pytest.fixture
def toy_pairs(tmp_path):
    """A fresh pairs.jsonl about toy_videos, so that no test finds another's reference."""
    rng, rows = np.random.default_rng(0), []
    for v, n in enumerate(PAIRS_OF_VIDEO):
        for q in world.questions(world.draw_video(rng), rng)[:n]:
            row = {"video": f"{v:05d}.avi", "mode": q.mode, "query": q.query, "chosen": q.answer}
            rejected = q.wrong if len(rows) % 2 else "The blue square is top left and kept."
            rows.append(row | {"rejected": rejected})
    write_rows(tmp_path / "pairs/pairs.jsonl", rows)
    return tmp_path / "pairs/pairs.jsonl"


def launch(script, n, settings, *switches, cwd=None, logs=None, port=None, cold=False):
    """Start a script under torchrun with n processes, or plainly with n = 0. Returns a Popen.

    settings: {flag: value}. switches: flags without value. logs: folder for `printed`.
    port: where this agent of torchrun meets a second one.
    cold: a new Python, and not one of warm.py, which is the same in a tenth of the time.
    """
    meet = ["--nnodes", "2", "--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}"]
    command = [sys.executable]
    if n:
        command += ["-m", "torch.distributed.run", *(meet if port else ["--standalone"])]
        command += ["--nproc_per_node", str(n)]
        command += ["--tee", "3", "--log_dir", str(logs)] if logs else []
    command += [str(ROOT / script), *switches]
    command += [str(x) for name, value in settings.items() for x in (f"--{name}", value)]
    env = os.environ | {"PYTHONFAULTHANDLER": "1"}
    if sys.platform == "linux" and not cold:
        return Warm(command, cwd, env)
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def torchrun(tmp_path, tiny_folder, toy_videos, toy_pairs):
    """`launch` train_dpo.py into tmp_path / out; processes of one test share the reference."""

    def start(n, out, *switches, script="train_dpo.py", logs=None, port=None, cold=False, **flags):
        settings = {"model": tiny_folder, "pairs": toy_pairs, "video_root": toy_videos}
        settings |= {"dtype": "float32", "lr": 1e-3, "lora_rank": 8, "lora_alpha": 16}
        settings |= {"device": "cpu", "batch_pairs": 3, "workers": 1, "out": tmp_path / out} | flags
        return launch(script, n, settings, *switches, logs=logs, port=port, cold=cold)

    return start


def printed(logs, n):
    """The output of each of n processes of `launch`, in order of rank, from its own files.

    In one pipe lines of several processes may be joined or torn, because print() writes in pieces.
    """
    files = [sorted(logs.glob(f"*/attempt_0/{rank}/std*.log")) for rank in range(n)]
    assert all(len(both) == 2 for both in files), files
    return ["".join(file.read_text() for file in both) for both in files]


@contextmanager
def pairs_or_none():
    """Around make_pairs.py with a random model: to make no pairs is an error, at its end."""
    try:
        yield
    except SystemExit as error:
        assert str(error).startswith("no pairs: ")


def finish(process):
    """The output of a process, which must succeed; a random model may make no pairs."""
    output = end_of(process)
    assert process.returncode == 0 or "no pairs: " in output, output[-5000:]
    return output


def end_of(process, seconds=300):
    """The output of a process; on timeout with the tracebacks of all its threads."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        kill_all(process.args[process.args.index("--out") + 1], signal.SIGABRT)
        process.kill()
        pytest.fail(f"no end in {seconds} s; it printed\n{process.communicate()[0][-20000:]}")


def numbers(rows):
    """Rows of metrics.jsonl without the times."""
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


def kill_all(mark, sent=signal.SIGKILL):
    """Send a signal to every process with `mark` in its command line."""
    for pid in [*of(mark)]:
        with suppress(ProcessLookupError):
            os.kill(pid, sent)
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in line.read_bytes():
                os.kill(int(line.parent.name), sent)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended in the meantime


linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
