"""LongVideoBench (arXiv 2407.15754), validation, video without subtitles, as in lmms-eval.

A data folder is the hub's dataset, its tar file unpacked:

    lvb_val.json               1337 questions, options in "candidates"; or validation-*.parquet,
                               options in "option0" to "option4", of which "N/A" is none
    videos/VIDEO_PATH

The tasks are the four groups of durations. A video is shown whole: the timestamps of a row are
those of its subtitles.
"""

from pasta.benchmarks import Benchmark, Item
from pasta.benchmarks.parsers import PREFIXES, first_capital
from pasta.benchmarks.tables import integer, letter_at, lettered, one_of, text, texts

TASKS = ("15 s", "60 s", "600 s", "3600 s")  # up to 15 seconds, up to a minute, ...
AFTER = "Answer with the option's letter from the given choices directly.\n"


def item(row, find, table, number):
    """The Item of one row."""
    if "option0" in row:
        listed = [row[f"option{i}"] for i in range(5) if row[f"option{i}"] != "N/A"]
    else:
        listed = row["candidates"]
    options = texts(listed)
    return Item(
        id=text(row, "id"),
        task=one_of(f"{integer(row, 'duration_group')} s", TASKS, "duration_group"),
        **find(text(row, "video_path")),
        # tasks/longvideobench/utils.py
        prompt="\n".join([text(row, "question"), *lettered(options), AFTER]),
        options=options,
        answer=letter_at(integer(row, "correct_choice"), options),
        labels=(f"category={text(row, 'question_category')}", f"level={text(row, 'level')}"),
    )


def parse(response, item, parser="head"):
    """The letter that a response names, which the item may lack, or None for a draw."""
    return first_capital(response, "ABCDE", PREFIXES)


BENCHMARK = Benchmark(
    fetch="hf download longvideobench/LongVideoBench --repo-type dataset --local-dir",
    tasks=TASKS,
    columns="id, video_path, question, candidates (a list) or option0 to option4, correct_choice "
    "(from 0), duration_group (15, 60, 600 or 3600), question_category and level",
    item=item,
    parse=parse,
    counts={"all": 1337},
    tables={"": ("lvb_val", "validation", "data/validation")},
    folders=("videos",),
    max_new_tokens=32,
    draws=True,
)
