"""Vinoground (arXiv 2410.02763) as lmms-eval prompts and scores it.

Each of 500 pairs is asked about four times: twice which of two captions fits a video ("text"), and
twice which of two videos in a row fits a caption ("video"). A pair's "text" or "video" is right if
both answers are, its "group" if all four are. Guessing gives 25, 25 and 6.25 %.
"""

import re

from pasta.benchmarks import Benchmark, Item
from pasta.benchmarks.parsers import first_match
from pasta.benchmarks.tables import letter_in, text

FOLDERS = {"text": "vinoground_videos", "video": "vinoground_videos_concated"}
AFTER = "\nPlease only output one English character."
QUESTIONS = {task: (f"pos_{task}", f"neg_{task}") for task in FOLDERS}
QUESTIONS["group"] = QUESTIONS["text"] + QUESTIONS["video"]


def item(row, find, task, number):
    if not re.fullmatch(r"(\d+)_(pos|neg)", row["idx"]):
        raise ValueError(f"idx is {row['idx']!r}")
    video, prompt = find(text(row, "video_name")), text(row, "question") + AFTER
    options = ("A", "B")  # their texts are in the question
    answer = letter_in(row["GT"], options)
    return Item(f"{row['idx']}_{task}", task, *video, prompt, options, answer)


def aggregate(rows):
    """{"text", "video" or "group": {pair: score}}; None for a pair that was not asked in full."""
    right = {row["id"]: row["correct"] for row in rows}
    scores = {group: {} for group in QUESTIONS}
    for pair in dict.fromkeys(id_.split("_")[0] for id_ in right):
        for group, asked in QUESTIONS.items():
            answers = [right.get(f"{pair}_{x}") for x in asked]
            scores[group][pair] = None if None in answers else float(all(answers))
    return scores


BENCHMARK = Benchmark(
    fetch="hf download HanSolo9682/Vinoground --repo-type dataset --local-dir",
    tasks=tuple(FOLDERS),
    columns="idx (such as 0_pos), video_name, question and GT (A or B)",
    item=item,
    parse=lambda response, item, parser="head": first_match(r"\A([AB])", response.upper()),
    counts={"text": 1000, "video": 1000},
    tables={x: (f"vinoground_{x}score", f"{FOLDERS[x]}/vinoground_{x}score") for x in FOLDERS},
    macro=None,
    aggregate=aggregate,
)
