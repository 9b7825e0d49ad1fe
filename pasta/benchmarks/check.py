"""What is there of a benchmark's data: which questions can be asked, and is it whole?"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, islice

from tqdm import tqdm

from pasta.sampling import uniform
from pasta.video import VideoError, read_frames


def find_questions(config, bench, data):
    """(the questions that are asked, the tasks that the data lacks)."""
    by_task = groupby(bench.items(data), key=lambda item: item.task)
    questions = [item for _, items in by_task for item in islice(items, config.limit or None)]
    absent = bench.absent(questions)
    if absent:
        print(f"without these tasks, whose questions or videos are not there: {', '.join(absent)}")
    if config.scoring == "letter" and not all(item.letters for item in questions):
        print("left out, for they have no letters: what is answered in words")
        questions = [item for item in questions if item.letters]
    if not questions:
        raise SystemExit(f"{data} holds no question that can be asked; expected one or more")
    return questions, absent


def check_items(items, expected):
    """Open every video, and print what is there and what is wrong; no model is asked.

    items: list of Item. expected: COUNTS of a benchmark.
    """
    clips = {(item.video, item.start, item.end): item for item in items}
    with ThreadPoolExecutor(max_workers=4) as pool:
        bar = tqdm(pool.map(ends, clips.values()), "videos", len(clips), disable=None)
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


def ends(item):
    """The VideoError that a video gives when its first and last frame are read, or None."""
    sample, span = partial(uniform, n=2), (item.start, item.end)
    try:
        read_frames(item.video, sample, None, *span, folder_fps=item.folder_fps)
    except VideoError as error:
        return error
