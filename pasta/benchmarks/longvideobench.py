"""LongVideoBench (arXiv 2407.15754), validation, video without subtitles, as in lmms-eval.

A data folder is the hub's dataset, its tar file unpacked:

    lvb_val.json               1337 questions, options in "candidates"; or validation-*.parquet,
                               options in "option0" to "option4", of which "N/A" is none
    videos/VIDEO_PATH

The tasks are the four groups of durations. A video is shown whole: the row's timestamps are those
of its subtitles.
"""

from pathlib import Path

from pasta.benchmarks import Item, parsers
from pasta.benchmarks.folders import checked, find_video
from pasta.benchmarks.groups import by_label, by_task, lacking
from pasta.benchmarks.tables import letter_at, one_of, read_items, tables, text, texts, whole

DATA = Path("data/longvideobench")
FETCH = "hf download longvideobench/LongVideoBench --repo-type dataset --local-dir"
MAX_NEW_TOKENS = 32
MACRO, RANDOM = False, True
EMPTY = "wrong"
TASKS = ("15 s", "60 s", "600 s", "3600 s")  # up to 15 seconds, up to a minute, ...
COUNTS = {"all": 1337}
COLUMNS = (
    "id, video_path, question, candidates (a list) or option0 to option4, correct_choice (from 0), "
    "duration_group (15, 60, 600 or 3600), question_category and level"
)
AFTER = "Answer with the option's letter from the given choices directly.\n"


def items(data) -> list[Item]:
    """Every question of a data folder. Raises FileNotFoundError and ValueError."""
    data = Path(data).absolute()
    paths = tables(data, FETCH, "lvb_val", "validation", "data/validation")
    found = read_items(paths, lambda _, row: item_of(row, data), COLUMNS)
    return checked(found, data, FETCH, TASKS)


def item_of(row, data):
    """The Item of one row."""
    video = find_video(data, ("videos",), text(row, "video_path"))
    options = texts(candidates(row))
    return Item(
        id=text(row, "id"),
        task=one_of(f"{whole(row, 'duration_group')} s", TASKS, "duration_group"),
        name=str(video.relative_to(data)),
        video=video,
        prompt=prompt_text(text(row, "question"), options),
        options=options,
        answer=letter_at(whole(row, "correct_choice"), options),
        labels=(f"category={text(row, 'question_category')}", f"level={text(row, 'level')}"),
    )


def candidates(row):
    """The options of a row of either form."""
    if "option0" not in row:
        return row["candidates"]
    return [row[f"option{i}"] for i in range(5) if row[f"option{i}"] != "N/A"]


def prompt_text(question, options) -> str:
    """The text that goes behind the video (tasks/longvideobench/utils.py)."""
    lines = [f"{chr(ord('A') + i)}. {option}" for i, option in enumerate(options)]
    return "\n".join([question, *lines, AFTER])


def absent(questions) -> list[str]:
    """The groups of durations that have no items."""
    return lacking(questions, TASKS)


def parse(response, item, parser="head"):
    """The letter that a response names, perhaps one that the item lacks, or None for a draw."""
    return parsers.first_capital(response, "ABCDE", parsers.PREFIXES)


aggregate, breakdown = by_task, by_label
