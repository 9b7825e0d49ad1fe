"""Video-MME (arXiv 2405.21075) without subtitles, as lmms-eval prompts and scores it.

A data folder is the hub's dataset, its zip files unpacked:

    videomme/test-*.parquet    2700 rows; also as videomme/test.json or .csv, or without videomme/
    data/VIDEOID.mp4           900 videos, three questions each; also in videos/ or video/

The tasks are the three durations. They have 900 questions each, so the mean of the items is that of
the durations, too.
"""

from pathlib import Path

from pasta.benchmarks import Item, parsers
from pasta.benchmarks.folders import checked, find_video
from pasta.benchmarks.groups import by_label, by_task, lacking
from pasta.benchmarks.tables import letter_in, one_of, read_items, tables, text, texts

DATA = Path("data/videomme")
FETCH = "hf download lmms-eval/Video-MME --repo-type dataset --local-dir"
MAX_NEW_TOKENS = 16
MACRO, RANDOM = False, False
EMPTY = "wrong"
TASKS = ("short", "medium", "long")
COUNTS = dict.fromkeys(TASKS, 900)
FOLDERS = ("data", "videos", "video")  # videos/ is Qwen's name for it
COLUMNS = (
    "videoID, question_id, duration (short, medium or long), domain, sub_category, task_type, "
    "question, options (a list) and answer (a letter)"
)
# The subtitles are spoken of although none are given: so is lmms-eval's prompt.
BEFORE = (
    "Select the best answer to the following multiple-choice question based on the video and the "
    "subtitles. Respond with only the letter (A, B, C, or D) of the correct option.\n"
)
AFTER = "\n\nAnswer with the option's letter from the given choices directly."


def items(data) -> list[Item]:
    """Every question of a data folder. Raises FileNotFoundError and ValueError."""
    data = Path(data).absolute()
    paths = tables(data, FETCH, "videomme/test", "test")
    found = read_items(paths, lambda _, row: item_of(row, data), COLUMNS)
    return checked(found, data, FETCH, TASKS)


def item_of(row, data):
    """The Item of one row."""
    video = find_video(data, FOLDERS, text(row, "videoID"))
    options = texts(row["options"])
    return Item(
        id=text(row, "question_id"),
        task=one_of(row["duration"], TASKS, "duration"),
        name=str(video.relative_to(data)),
        video=video,
        prompt=prompt_text(text(row, "question"), options),
        options=options,
        answer=letter_in(row["answer"], options),
        labels=tuple(f"{key}={text(row, key)}" for key in ("domain", "sub_category", "task_type")),
    )


def prompt_text(question, options) -> str:
    """The text that goes behind the video (tasks/videomme/utils.py). The options have letters."""
    return BEFORE + "\n".join([question, *options]) + AFTER


def absent(questions) -> list[str]:
    """The durations that have no items."""
    return lacking(questions, TASKS)


def parse(response, item, parser="head"):
    """The letter among the item's that a response names, or None."""
    if parser == "v0.5":
        letter = parsers.first_capital(response, "ABCD", parsers.GLUED_PREFIXES)
    else:
        letter = parsers.ranked_letter(response)
    return letter if letter and letter in item.letters else None


aggregate, breakdown = by_task, by_label
