"""The jobs of the study: which there are, which need which, and doing them side by side.

    ("base", number, family)           a base model, trained from that seed
    ("set", name, family, seed)        a set of pairs
    ("rows", name, family, seed, arms) trainings on a set of pairs and their examinations
"""

from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm

from pasta.study.arms import ARMS, EDITED, JUDGED

N_MODELS = {"qwen": 3, "onevision": 1}  # that the seeds use in turn


def planned(parts, known):
    """{job: jobs that must be done before} in the order in which they are begun if they can be.

    parts: (seeds, {family: arms}) each, what matters most first
    known: (arm, family, seed) of the rows that are there
    """
    needs, known, last = {}, set(known), {}
    for seeds, arms in parts:
        rows = [(arm, kind, seed) for seed in seeds for kind in arms for arm in arms[kind]]
        rows, groups = [row for row in rows if row not in known], {}
        known |= set(rows)
        for arm, family, seed in rows:
            name = "" if arm == "base" else ARMS[arm][0]
            groups.setdefault((name, family, seed), []).append(arm)
        for _, family, seed in groups:  # before the sets, which need them
            needs.setdefault(base_job(family, seed), ())
        for name, family, seed in groups:
            before = base_job(family, seed)
            for source in sources(name):
                needs.setdefault(("set", source, family, seed), (before,))
                before = ("set", source, family, seed)
        for (name, family, seed), group in groups.items():
            key, made = (name, family, seed), sources(name)
            first = [("set", made[-1], family, seed)] if made else [base_job(family, seed)]
            if key in last:  # both would write the reference's log-probabilities beside the pairs
                first.append(last[key])
            last[key] = ("rows", *key, tuple(group))
            needs[last[key]] = tuple(first)
    return needs


def base_job(family, seed):
    """The job that makes the model that a seed begins with; number 0 is the first command's."""
    return "base", 1 + seed % N_MODELS[family], family


def sources(name):
    """What a set is made of, itself included, but not what is edited: that is made with its arm."""
    if name in EDITED:
        return sources(EDITED[name][0])
    return [*sources(JUDGED[name][0]), name] if name in JUDGED else [name] * bool(name)


def work(pool, processes, needs, task, keep):
    """Do all jobs in a pool, as many at once as it has processes, each when those before are done.

    task: what a process does with a job; keep: what is done here with what that returned
    Raises SystemExit that names the jobs that failed, when all that do not need them are done.
    """
    try:
        failed, left = done_and_failed(pool, processes, needs, task, keep)
    except BrokenProcessPool:
        raise SystemExit("a process was killed, perhaps for its memory; the same command goes on, "
                         "with --processes 1 if need be") from None  # fmt: skip
    if failed:
        told = "\n".join([*failed, f"not begun, as they need these: {left}"])
        raise SystemExit(f"failed:\n{told}\neach log.txt says more; the same command goes on")


def done_and_failed(pool, processes, needs, task, keep):
    """The loop of `work`. Returns (what failed, as lines; how many jobs were not begun)."""
    running, begun, done, failed = {}, set(), set(), []
    with tqdm(total=len(needs), desc="jobs") as bar:
        while True:
            ready = [job for job in needs if job not in begun and done.issuperset(needs[job])]
            for job in ready[: processes - len(running)]:
                running[pool.submit(task, job)] = job
                begun.add(job)
            if not running:
                return failed, len(needs) - len(begun)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                try:
                    keep(future.result())
                    done.add(job)
                except BrokenProcessPool:
                    raise
                except (Exception, SystemExit) as error:  # a script's own refusal is a SystemExit
                    failed.append(f"{job}: {error!r}")
                bar.update()
