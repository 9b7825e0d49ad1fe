"""Results computed ahead of their use, in threads."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor


def in_order(function, items, workers):
    """Yield function(item) of every item, in order; `workers` threads are up to two each ahead.

    Threads, for a process forked beside threads of torch.distributed may find locked for ever what
    one of them had locked. Video is decoded in processes of its own, see video/worker.py.
    """
    if not workers:
        yield from map(function, items)
        return
    pool, coming = ThreadPoolExecutor(workers), deque()
    try:
        for item in items:
            coming.append(pool.submit(function, item))
            if len(coming) > 2 * workers:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
