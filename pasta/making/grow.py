"""Rows made a few videos at a time: resumable, read ahead, timed.

A stage reads videos, asks a model and appends rows. The next videos are read while the model works
on these; at the end a line says how many videos an hour that was, and where the time went.
"""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tqdm import tqdm

from pasta.run import ranks
from pasta.run.rows import Appender


class Clock:
    """Seconds by what they were spent on.

    with clock("answering"):
        ...
    """

    def __init__(self):
        self.spent = Counter()

    @contextmanager
    def __call__(self, what):
        start = time.perf_counter()
        yield
        self.spent[what] += time.perf_counter() - start

    def timed(self, what, function):
        """`function`, its time spent on `what`."""

        def call(*args):
            with self(what):
                return function(*args)

        return call

    def report(self, stage, n_videos, seconds):
        """One line: videos an hour and shares of the time. Reading goes on beside the rest."""
        parts = [f"{what} {100 * s / seconds:.0f} %" for what, s in self.spent.most_common()]
        rate = f"{3600 * n_videos / seconds:,.0f} videos/hour"
        return f"{stage}: {n_videos} videos in {seconds:.1f} s, {rate}; {', '.join(parts)}"


def grow(path, groups, n, read, make, clock):
    """Append to `path` the rows of groups, n videos at a time; each process its own file.

    groups: list of (video, what is wanted of it). read: (video, wanted) -> list of works, empty for
    a video that cannot be read; it runs in a thread. make: list of works -> rows.
    """
    chunks = [groups[start : start + n] for start in range(0, len(groups), n)]
    read, start = clock.timed("reading (beside)", read), time.perf_counter()
    bar = ranks.progress(name=path.stem, total=len(groups), unit="video")
    with Appender(ranks.rank_path(path)) as out, ThreadPoolExecutor(1) as pool, bar:
        ahead = [pool.submit(read, *group) for chunk in chunks[:1] for group in chunk]
        for chunk, following in zip(chunks, [*chunks[1:], []], strict=False):
            current, ahead = ahead, [pool.submit(read, *group) for group in following]
            with clock("waiting for videos"):
                works = [work for future in current for work in future.result()]
            for row in make(works) if works else ():
                out.write(row)
            bar.update(len(chunk))
    if groups and ranks.rank() == 0:
        tqdm.write(clock.report(path.stem, len(groups), time.perf_counter() - start))
