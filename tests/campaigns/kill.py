"""Stops each script at random moments, in five ways. A resumed run must equal an uninterrupted one.

    python tests/campaigns/kill.py --n 100 --seed 0

A trial runs a script in a fresh folder on a small disk of its own, and stops it some times:

    killed     SIGKILL to all its processes
    sigterm    SIGTERM
    full       the disk becomes full; the script must name the error
    readonly   the script starts on a read-only disk; it must name the error and change nothing
    second     a second instance starts in the same folder, and must be refused

Then the same command runs to the end. Disks are in memory, which needs Linux and root (or
`unshare -rm`); elsewhere `full` and `readonly` are left out. Exit status 1 if a result differs.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[i]) for i in (1, 2)]
from campaigns.world import SCRIPTS, command, results, write_world  # noqa: E402 (after the path)
from conftest import kill_all, launch  # noqa: E402

FAULTS = {"killed": 4, "sigterm": 2, "full": 2, "readonly": 1, "second": 1}  # weights of the draw
SIZE = f"size={2**26}"  # of a disk, in bytes


class Disk:
    """A folder that is a disk of its own, where mounting is allowed."""

    def __init__(self, folder, world):
        self.folder = folder
        folder.mkdir()
        self.mounted = shutil.which("mount") and self.mount("-t", "tmpfs", "-o", SIZE, "none")
        shutil.copytree(world / "pairs", folder / "pairs")

    def mount(self, *options):
        """Mount or remount the disk. Returns whether it was possible."""
        done = subprocess.run(["mount", *options, str(self.folder)], capture_output=True)
        return done.returncode == 0

    def fill(self):
        """Leave no byte free. It fails while a process writes: try again."""
        full = False
        while not full:
            state = os.statvfs(self.folder)
            size = (state.f_blocks - state.f_bfree) * state.f_frsize
            full = self.mount("-o", f"remount,size={size}")

    def close(self):
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class Trial:
    """Runs of one script into one folder, until it is finished."""

    def __init__(self, script, world, folder, seconds=0.0):
        self.script, self.disk, self.seconds = script, Disk(folder, world), seconds
        self.flags, self.switches = command(script, world, folder)
        of_script = folder / "out" / ("mvbench" if script == "evaluate.py" else "")
        self.config = of_script / "config.json"

    def start(self):
        return launch(self.script, 0, self.flags, *self.switches)

    def wait_for_start(self, process, since):
        """Wait until a process has written its config.json."""
        while process.poll() is None:
            if self.config.exists() and self.config.stat().st_mtime_ns > since:
                return
            time.sleep(0.005)

    def finish(self):
        """Run to the end, and take its time. Returns (output, exit status)."""
        since, process = time.time_ns(), self.start()
        self.wait_for_start(process, since)
        start = time.monotonic()
        output, _ = process.communicate(timeout=300)
        self.seconds = self.seconds or time.monotonic() - start
        return output, process.returncode

    def stop(self, fault, rng):
        """Start it and stop it once. Returns (whether it has finished, output if it is wrong)."""
        if fault == "readonly":
            self.disk.mount("-o", "remount,ro")
            output, status = self.finish()
            self.disk.mount("-o", "remount,rw")
            return False, "" if status and "Read-only file system" in output else output
        since, process = time.time_ns(), self.start()
        self.wait_for_start(process, since)
        time.sleep(rng.uniform(0, self.seconds))
        if process.poll() is not None:
            output, _ = process.communicate()
            return True, output if process.returncode else ""
        if fault == "killed":
            kill_all(str(self.disk.folder))
        elif fault == "sigterm":
            process.terminate()
        elif fault == "full":
            self.disk.fill()
        elif fault == "second":
            answer, _ = self.start().communicate(timeout=300)
            refused = "is writing into it" in answer or process.poll() is not None
            output, _ = process.communicate(timeout=300)
            return True, "" if refused and not process.returncode else answer + output
        output, _ = process.communicate(timeout=300)
        kill_all(str(self.disk.folder))  # processes that it started
        ended = not process.returncode and "stopped by SIGTERM" not in output
        if fault == "full":
            self.disk.mount("-o", f"remount,{SIZE}")
            return ended, "" if ended or "No space left on device" in output else output
        return ended, ""


def trials(script, world, folder, n, seed, expected, seconds):
    """Stop a script n times, in several trials. Returns (Counter of faults, what went wrong)."""
    rng, counts, wrong, n_trials = random.Random(f"{script} {seed}"), Counter(), [], 0
    while sum(counts.values()) < n:
        trial = Trial(script, world, folder / str(n_trials), seconds)
        try:
            history, output = one_trial(trial, rng, expected)
        finally:
            trial.disk.close()
        counts.update(history)
        wrong += [(script, history, output[-3000:])] if output else []
        n_trials += 1
    return counts, wrong


def one_trial(trial, rng, expected):
    """Stop a script some times and run it to its end. Returns (faults, output if it is wrong)."""
    history, ended = [], False
    drawn = {f: n for f, n in FAULTS.items() if trial.disk.mounted or f not in ("full", "readonly")}
    for _ in range(rng.randint(1, 6)):
        history += rng.choices([*drawn], [*drawn.values()])
        ended, output = trial.stop(history[-1], rng)
        if output:
            return history, output
        if ended:
            break
    output, status = ("", 0) if ended else trial.finish()
    if status:
        return history, output
    same = results(trial.script, trial.disk.folder) == expected
    return history, "" if same else f"its results differ; it printed\n{output}"


def campaign(folder, n, seed, scripts=SCRIPTS, threads=2):
    """Stop each script n times. Returns ({script: Counter of faults}, what went wrong)."""
    world = folder / "world"
    write_world(world)
    jobs, counts, wrong = [], {script: Counter() for script in scripts}, []
    with ThreadPoolExecutor(threads) as pool:
        for script in scripts:
            whole = Trial(script, world, folder / f"whole {script}")
            output, status = whole.finish()
            assert not status, output
            expected, seconds = results(script, whole.disk.folder), whole.seconds
            whole.disk.close()
            for part in range(threads):
                home = folder / f"{script} {part}"
                home.mkdir()
                share, seeded = len(range(part, n, threads)), seed * threads + part
                work = (script, world, home, share, seeded, expected, seconds)
                jobs.append((script, pool.submit(trials, *work)))
        for script, job in jobs:
            counts[script] += job.result()[0]
            wrong += job.result()[1]
    return counts, wrong


def table(counts, wrong):
    """One aligned line a script."""
    rows = [("script", *FAULTS, "wrong")]
    for script, n in counts.items():
        rows.append((script, *(n[f] for f in FAULTS), sum(name == script for name, *_ in wrong)))
    return "\n".join(f"{name:<14}" + "".join(f"{x:>10}" for x in row) for name, *row in rows)


def main():
    parser = argparse.ArgumentParser(description="Stop each script at random moments.")
    parser.add_argument("--n", type=int, default=100, help="stops of each script, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="parallel trials")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, wrong = campaign(Path(folder), args.n, args.seed, threads=args.threads)
    print(table(counts, wrong))
    for script, history, output in wrong:
        print(f"\n{script} after {', '.join(history)}:\n{output}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
