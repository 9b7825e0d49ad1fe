"""One run at a time writes into a folder, and a killed run leaves no lock.

python -m pytest -q tests/test_locks.py
"""

import os
import sys
import time
from contextlib import contextmanager

import pytest
from conftest import ROOT, end_of, finish, launch, linux
from warm import Warm

from pasta.run import locks, ranks
from pasta.run.rows import read_rows

HOLD = "from pasta.run.locks import lock_folder; lock_folder({!r}); print('held', flush=True); {}"
SLEEP = "import time; time.sleep(300)"
FORK = "import os; child = os.fork(); child and print(child, flush=True); " + SLEEP


def python(code):
    return Warm([sys.executable, "-c", code], ROOT, dict(os.environ))


@contextmanager
def holder(folder, then=SLEEP):
    """A process that locks a folder and does something else; killed at the end."""
    process = python(HOLD.format(str(folder), then))
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_process_can_lock_its_folder_again_and_no_other_can(tmp_path):
    locks.lock_folder(tmp_path / "a/run")
    locks.lock_folder(tmp_path / "a/run")
    with pytest.raises(AssertionError), holder(tmp_path / "a/run"):
        pass


def test_a_second_process_is_refused_with_the_first_ones_number(tmp_path):
    with holder(tmp_path) as process:
        with pytest.raises(SystemExit, match=f"process {process.pid} on .* choose another --out"):
            locks.lock_folder(tmp_path)
    locks.lock_folder(tmp_path)


@linux
def test_a_killed_process_leaves_no_lock_while_its_children_live(tmp_path):
    with holder(tmp_path, FORK) as process:
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        try:
            os.kill(child, 0)  # is there
            locks.lock_folder(tmp_path)
        finally:
            os.kill(child, 9)


def test_a_folder_on_a_disk_of_rank_0_alone_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "rank", lambda: 1)  # rank 0 has put its lock elsewhere
    with pytest.raises(SystemExit, match="--out needs a disk that all share"):
        locks.lock_folder(tmp_path / "run")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="cannot write to .*file/run: Not a directory; .*--out"):
        locks.lock_folder(tmp_path / "file/run")


def test_the_second_run_that_computes_the_same_waits_for_the_first(tmp_path, capfd):
    code = f"""if True:
        import time
        from pathlib import Path
        from pasta.run.locks import wait_for_lock
        with wait_for_lock(Path({str(tmp_path / "x")!r})):
            print("in", flush=True)
            while not Path({str(tmp_path / "go")!r}).exists():
                time.sleep(0.01)"""
    first = python(code)
    assert first.stdout.readline() == "in\n"
    second = python(code)
    assert "waiting for another run" in second.stdout.readline()
    time.sleep(0.2)
    assert second.poll() is None
    (tmp_path / "go").touch()
    assert first.communicate()[0] == "" and first.returncode == 0
    assert second.communicate()[0] == "in\n" and second.returncode == 0


@pytest.mark.parametrize("script", ["train_dpo.py", "make_pairs.py"])
def test_a_second_instance_is_refused_and_writes_nothing(
    tiny_folder, toy_videos, toy_pairs, tmp_path, script
):
    flags = {
        "train_dpo.py": {"model": tiny_folder, "pairs": toy_pairs, "video_root": toy_videos},
        "make_pairs.py": {"responder": tiny_folder, "videos": toy_videos},
    }[script]
    locks.lock_folder(tmp_path / "run")
    process = launch(script, 0, flags | {"out": tmp_path / "run", "device": "cpu"})
    printed = end_of(process)
    assert process.returncode == 1 and "is writing into it; wait until it ends" in printed
    assert os.listdir(tmp_path / "run") == [".lock"]


@pytest.mark.slow
def test_two_trainings_on_the_same_pairs_compute_the_reference_once(torchrun, tmp_path, toy_pairs):
    started = [torchrun(n, f"run{n}") for n in (0, 2)]
    printed = sorted(finish(process).rpartition("reference: ")[2][:2] for process in started)
    assert printed == ["0 ", "16"]
    rows = [row for path in toy_pairs.parent.glob("reference*.jsonl") for row in read_rows(path)]
    assert len({row["key"] for row in rows}) == len(rows) == 16
