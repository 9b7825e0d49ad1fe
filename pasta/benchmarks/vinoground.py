"""Vinoground (arXiv 2410.02763) as lmms-eval prompts and scores it.

A data folder is the hub's dataset, its two zip files unpacked:

    vinoground_textscore.json    which of two captions fits a video; also in vinoground_videos/
    vinoground_videoscore.json   which of two videos, one after the other, fits a caption; also in
                                 vinoground_videos_concated/
    vinoground_videos/0_pos.mp4, ..., vinoground_videos_concated/0.mp4, ...
    vinoground.csv               the categories; without it there are none

Each of 500 pairs of captions and videos is asked about four times. "text" is right when both text
questions are, "video" when both video questions are, "group" when all four are. Guessing gives 25,
25 and 6.25 percent.
"""

import re
from pathlib import Path

from pasta.benchmarks import Item, parsers
from pasta.benchmarks.folders import checked, find_video
from pasta.benchmarks.groups import lacking
from pasta.benchmarks.tables import items_of, letter_in, read_items, read_table, tables, text, whole

DATA = Path("data/vinoground")
FETCH = "hf download HanSolo9682/Vinoground --repo-type dataset --local-dir"
MAX_NEW_TOKENS = 16
MACRO, RANDOM = None, False
EMPTY = "wrong"
FOLDERS = {"text": "vinoground_videos", "video": "vinoground_videos_concated"}
TASKS = tuple(FOLDERS)
COUNTS = {"text": 1000, "video": 1000}
COLUMNS = "idx (such as 0_pos), video_name, question and GT (A or B)"
AFTER = "\nPlease only output one English character."
QUESTIONS = {
    "text": ("pos_text", "neg_text"),
    "video": ("pos_video", "neg_video"),
    "group": ("pos_text", "neg_text", "pos_video", "neg_video"),
}


def items(data) -> list[Item]:
    """Every question of a data folder. Raises FileNotFoundError and ValueError."""
    data = Path(data).absolute()
    labels, found = categories(data), []
    for task, folder in FOLDERS.items():
        name = f"vinoground_{task}score"

        def question(_, row, task=task):
            return item_of(row, task, data, labels)

        found += read_items(tables(data, FETCH, name, f"{folder}/{name}"), question, COLUMNS)
    return checked(found, data, FETCH, TASKS)


def item_of(row, task, data, labels):
    """The Item of one row of a task; labels: {number of a pair: labels}."""
    video = find_video(data, (".",), text(row, "video_name"))
    pair = re.fullmatch(r"(\d+)_(pos|neg)", row["idx"])
    if not pair:
        raise ValueError(f"idx is {row['idx']!r}")
    return Item(
        id=f"{row['idx']}_{task}",
        task=task,
        name=str(video.relative_to(data)),
        video=video,
        prompt=text(row, "question") + AFTER,
        options=("A", "B"),  # what they are is in the question
        answer=letter_in(row["GT"], "AB"),
        labels=labels.get(int(pair[1]), ()),
    )


def categories(data):
    """{number of a pair: labels}; {} without the file."""

    def labels(_, row):
        minor = [x for x in (row["minor"] or "").split(";") if x]
        names = (f"major={text(row, 'major')}", *(f"minor={x}" for x in minor))
        return whole(row, "index"), names

    path = data / "vinoground.csv"
    rows = read_table(path) if path.is_file() else []
    return dict(items_of(rows, path, labels, "index, major and minor"))


def absent(questions) -> list[str]:
    """The kinds of questions that have no items."""
    return lacking(questions, TASKS)


def parse(response, item, parser="head"):
    """The letter that a response begins with, or None: "(A)" begins with none."""
    return parsers.first_character(response, item.letters)


def aggregate(rows):
    """{"text", "video" or "group": {pair: score}}; a pair that was not asked about in full leaves.

    lmms-eval knows no such pairs. An empty response is wrong; there it is an error.
    """
    right = {row["id"]: row["correct"] for row in rows}
    pairs = list(dict.fromkeys(id_.split("_")[0] for id_ in right))
    return {
        group: {pair: together([right.get(f"{pair}_{x}") for x in asked]) for pair in pairs}
        for group, asked in QUESTIONS.items()
    }


def together(answers):
    """1.0 when all answers are right, None when one of them is."""
    return None if None in answers else float(all(answers))


def breakdown(rows, questions):
    """{"CATEGORY text", "... video" or "... group": {pair: score}}."""
    labels = {item.id: item.labels for item in questions}
    scores = {}
    for label in sorted({x for row in rows for x in labels[row["id"]]}):
        of_label = aggregate([row for row in rows if label in labels[row["id"]]])
        scores |= {f"{label} {group}": units for group, units in of_label.items()}
    return scores
