"""Each script stopped at random moments, in five ways; gone on with, it ends as if never stopped.

    python tests/campaigns/kill.py --n 100 --seed 0

A trial runs a script into a fresh folder, on a small disk of its own, and stops it as often as
drawn, every time at a moment drawn from the whole time of its work:

    killed     SIGKILL, to all its processes
    told       SIGTERM
    full       the disk has no byte left; it must say so
    readonly   begun again while nothing can be written, it must say so, and harm nothing
    second     a second instance is begun beside it, and must be refused

Then the same command goes on to the end, and what it leaves must be what a run leaves that nobody
stopped. Disks are mounted in memory, which takes Linux and root (or `unshare -rm`); elsewhere
`full` and `readonly` are left out. Prints what became of each script; exit status 1 if any differs.
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

FAULTS = {"killed": 4, "told": 2, "full": 2, "readonly": 1, "second": 1}  # how often each is drawn
MIB = 2**20


class Disk:
    """A folder that is a disk of its own, where that can be had."""

    def __init__(self, folder, world):
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={64 * MIB}", "none", str(folder)]
        try:
            self.mounted = subprocess.run(mount, capture_output=True).returncode == 0
        except FileNotFoundError:
            self.mounted = False
        shutil.copytree(world / "pairs", folder / "pairs")

    def remount(self, option):
        """Change an option of the disk; whether it was possible."""
        done = subprocess.run(
            ["mount", "-o", f"remount,{option}", str(self.folder)], capture_output=True
        )
        return done.returncode == 0

    def fill(self):
        """Leave no byte free, while somebody may be writing."""
        while True:
            state = os.statvfs(self.folder)
            if self.remount(f"size={(state.f_blocks - state.f_bfree) * state.f_frsize}"):
                return

    def close(self):
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class Trial:
    """Runs of one script into one folder, until it is finished."""

    def __init__(self, script, world, folder, seconds=0.0):
        self.script, self.disk, self.seconds = script, Disk(folder, world), seconds
        self.flags, self.switches = command(script, world, folder)
        self.config = (
            folder / "out" / ("mvbench" if script == "evaluate.py" else "") / "config.json"
        )

    def start(self):
        return launch(self.script, 0, self.flags, *self.switches)

    def begun(self, process, since):
        """Wait until a process has begun to work: it has written its config.json."""
        while process.poll() is None:
            if self.config.exists() and self.config.stat().st_mtime_ns > since:
                return
            time.sleep(0.005)

    def finish(self):
        """Run to the end, and take its time. Returns (what was printed, exit status)."""
        since, process = time.time_ns(), self.start()
        self.begun(process, since)
        start = time.monotonic()
        said, _ = process.communicate(timeout=300)
        self.seconds = self.seconds or time.monotonic() - start
        return said, process.returncode

    def stop(self, fault, rng):
        """Start it and stop it once. Returns (whether it came to its end, what went wrong)."""
        if fault == "readonly":
            self.disk.remount("ro")
            said, status = self.finish()
            self.disk.remount("rw")
            return False, "" if status and "Read-only file system" in said else said
        since, process = time.time_ns(), self.start()
        self.begun(process, since)
        time.sleep(rng.uniform(0, self.seconds))
        if process.poll() is not None:
            said, _ = process.communicate()
            return True, said if process.returncode else ""
        if fault == "killed":
            kill_all(str(self.disk.folder))
        elif fault == "told":
            process.terminate()
        elif fault == "full":
            self.disk.fill()
        elif fault == "second":
            answer, _ = self.start().communicate(timeout=300)
            refused = "is writing into it" in answer or process.poll() is not None
            said, _ = process.communicate(timeout=300)
            return True, "" if refused and not process.returncode else answer + said
        said, _ = process.communicate(timeout=300)
        kill_all(str(self.disk.folder))  # what it left behind
        ended = not process.returncode and "stopped by SIGTERM" not in said
        if fault == "full":
            self.disk.remount(f"size={64 * MIB}")
            return ended, "" if ended or "No space left on device" in said else said
        return ended, ""


def trials(script, world, folder, n, seed, expected, seconds):
    """Stop a script n times, in as many trials as that takes. Returns (Counter, list of faults)."""
    rng, counts, wrong, n_trials = random.Random(f"{script} {seed}"), Counter(), [], 0
    while sum(counts.values()) < n:
        trial = Trial(script, world, folder / str(n_trials), seconds)
        try:
            history, said = one_trial(trial, rng, expected)
        finally:
            trial.disk.close()
        counts.update(history)
        wrong += [(script, history, said[-3000:])] if said else []
        n_trials += 1
    return counts, wrong


def one_trial(trial, rng, expected):
    """Stop a script some times and run it to its end. Returns (the stops, what went wrong)."""
    history, over = [], False
    drawn = {f: n for f, n in FAULTS.items() if trial.disk.mounted or f not in ("full", "readonly")}
    for _ in range(rng.randint(1, 6)):
        history += rng.choices([*drawn], [*drawn.values()])
        over, said = trial.stop(history[-1], rng)
        if said:
            return history, said
        if over:
            break
    said, status = ("", 0) if over else trial.finish()
    if status:
        return history, said
    same = results(trial.script, trial.disk.folder) == expected
    return history, "" if same else f"its results are others; it printed\n{said}"


def campaign(folder, n, seed, scripts=SCRIPTS, threads=2):
    """Stop each script n times. Returns ({script: Counter of faults}, what went wrong)."""
    world = folder / "world"
    write_world(world)
    jobs, counts, wrong = [], {script: Counter() for script in scripts}, []
    with ThreadPoolExecutor(threads) as pool:
        for script in scripts:
            whole = Trial(script, world, folder / f"whole {script}")
            said, status = whole.finish()
            assert not status, said
            expected, seconds = results(script, whole.disk.folder), whole.seconds
            whole.disk.close()
            for part in range(threads):
                home = folder / f"{script} {part}"
                home.mkdir()
                share, seeded = len(range(part, n, threads)), seed * threads + part
                work = (script, world, home, share, seeded, expected, seconds)
                jobs.append((script, pool.submit(trials, *work)))
        for script, job in jobs:
            found, bad = job.result()
            counts[script] += found
            wrong += bad
    return counts, wrong


def table(counts, wrong):
    """One aligned line a script."""
    lines = [f"{'script':<14}" + "".join(f"{fault:>10}" for fault in (*FAULTS, "wrong"))]
    for script, n in counts.items():
        bad = sum(name == script for name, *_ in wrong)
        lines.append(f"{script:<14}" + "".join(f"{x:>10}" for x in (*(n[f] for f in FAULTS), bad)))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Stop each script at random moments.")
    parser.add_argument("--n", type=int, default=100, help="stops of each script, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="trials side by side")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, wrong = campaign(Path(folder), args.n, args.seed, threads=args.threads)
    print(table(counts, wrong))
    for script, history, said in wrong:
        print(f"\n{script} after {', '.join(history)}:\n{said}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
