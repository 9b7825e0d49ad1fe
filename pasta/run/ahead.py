"""Read-ahead: threads compute results before they are needed."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor


def prefetch(function, items, workers, ahead=0):
    """Yield `function(item)` in order, up to `ahead` results ahead; to be closed."""
    if not workers:
        yield from map(function, items)
        return
    # Threads: forking while torch.distributed's threads hold a lock can deadlock the child.
    pool, pending, ahead = ThreadPoolExecutor(workers), deque(), ahead or 2 * workers
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
