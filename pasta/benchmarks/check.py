"""Is the data of a benchmark whole? Opens every video, asks no model."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tqdm import tqdm

from pasta.video import VideoError, read_frames, uniform


def check_items(items, expected):
    """Print what is there and what is wrong: unreadable videos, numbers of items.

    items: list of Item. expected: COUNTS of a benchmark.
    """
    clips = {(item.video, item.start, item.end): item for item in items}
    with ThreadPoolExecutor(max_workers=4) as pool:
        bar = tqdm(pool.map(first_frame, clips.values()), "videos", len(clips), disable=None)
        broken = [error for error in bar if error]
    for error in broken:
        print(error)
    present = Counter(item.task for item in items)
    for task, n in present.items():
        print(f"{task}: {n} items")
    present["all"] = len(items)
    for task, right in expected.items():
        right = right if isinstance(right, tuple) else (right,)
        if present[task] not in right:
            print(f"{task}: {present[task]} items, expected {' or '.join(map(str, right))}")
    print(f"{len(clips)} clips, {len(broken)} of them cannot be read")


def first_frame(item):
    """The VideoError that an item's video gives when one frame of it is read, or None."""
    sample, span = partial(uniform, n=1), (item.start, item.end)
    try:
        read_frames(item.video, sample, None, *span, folder_fps=item.folder_fps)
    except VideoError as error:
        return error
