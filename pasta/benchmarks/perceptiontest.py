"""Perception Test (arXiv 2305.13786), multiple choice, validation, as in lmms-eval.

A data folder is the hub's dataset, its zip files unpacked:

    mc_question_val/validation-*.parquet    19140 rows; also as validation.json or .csv
    videos/VIDEO_NAME.mp4

The tasks are the four areas. The authors cut some videos before their end gives the answer away;
lmms-eval shows them whole, and so do we, which makes the validation videos easier.
"""

from pathlib import Path

from pasta.benchmarks import Item, parsers
from pasta.benchmarks.folders import checked, find_video
from pasta.benchmarks.groups import by_label, by_task, lacking
from pasta.benchmarks.tables import letter_at, one_of, read_items, tables, text, texts, whole

DATA = Path("data/perceptiontest")
FETCH = "hf download lmms-eval/PerceptionTest_Val --repo-type dataset --local-dir"
MAX_NEW_TOKENS = 128  # lmms-eval leaves it to the model's wrapper
MACRO, RANDOM = False, False
EMPTY = "wrong"
TASKS = ("memory", "abstraction", "physics", "semantics")
COUNTS = {"all": 19140}
FOLDERS = ("videos", "video")
COLUMNS = (
    "video_name, question_id, question, options (a list of 3), answer_id (0 to 2), area, reasoning "
    "and tag (a list)"
)
AFTER = "Answer with the option's letter from the given choices directly."


def items(data) -> list[Item]:
    """Every question of a data folder. Raises FileNotFoundError and ValueError."""
    data = Path(data).absolute()
    paths = tables(data, FETCH, "mc_question_val/validation", "validation")
    found = read_items(paths, lambda _, row: item_of(row, data), COLUMNS)
    return checked(found, data, FETCH, TASKS)


def item_of(row, data):
    """The Item of one row."""
    name = text(row, "video_name")
    video = find_video(data, FOLDERS, name)
    options = texts(row["options"], 3)
    if len(options) != 3:  # lmms-eval would give the fourth a second C
        raise ValueError(f"{len(options)} options, expected 3")
    tags = [f"tag={tag}" for tag in texts(row["tag"], 0)]
    return Item(
        id=f"{name}/{whole(row, 'question_id')}",
        task=one_of(text(row, "area").lower(), TASKS, "area"),
        name=str(video.relative_to(data)),
        video=video,
        prompt=prompt_text(text(row, "question"), options),
        options=options,
        answer=letter_at(whole(row, "answer_id"), options),
        labels=(f"reasoning={text(row, 'reasoning').lower()}", *tags),
    )


def prompt_text(question, options) -> str:
    """The text that goes behind the video (tasks/perceptiontest/val/utils.py)."""
    a, b, c = options
    return f"{question}\nA. {a}\nB. {b}\nC. {c}\n{AFTER}"


def absent(questions) -> list[str]:
    """The areas that have no items."""
    return lacking(questions, TASKS)


def parse(response, item, parser="head"):
    """The letter that a response names, D being wrong, or None."""
    return parsers.word_letter(response)


aggregate, breakdown = by_task, by_label
