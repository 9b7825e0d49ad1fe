"""TempCompass (arXiv 2403.00476) as lmms-eval prompts and scores it, by rules alone.

A data folder is the hub's dataset, its zip file unpacked, or the authors' questions/:

    TASK/test-*.parquet       also as test.json or .csv
    questions/TASK.json       {video_id: {dim: [{"question", "answer"}]}}, the same questions
    videos/VIDEO_ID.mp4       410 videos

The tasks are multi-choice, yes_no and caption_matching; captioning needs another model as a judge.
lmms-eval gives each task's number, whole and by dimension, and none of all. What its rules do not
match it sends to a judge, or without one counts as wrong, and so do we.
"""

import re
from pathlib import Path

from pasta.benchmarks import LETTERS, Item, parsers
from pasta.benchmarks.folders import checked, find_video
from pasta.benchmarks.groups import by_label, by_task, lacking
from pasta.benchmarks.tables import (
    find_tables,
    items_of,
    letter_in,
    one_of,
    read_json,
    read_table,
    tables,
    text,
)

DATA = Path("data/tempcompass")
FETCH = "hf download lmms-eval/TempCompass --repo-type dataset --local-dir"
MAX_NEW_TOKENS = 128  # lmms-eval leaves it to the model's wrapper
MACRO, RANDOM = None, False
EMPTY = "wrong"
AFTER = {
    "multi-choice": "\nPlease directly give the best option:",
    "yes_no": "\nPlease answer yes or no:",
    "caption_matching": "\nPlease directly give the best option:",
}
TASKS = tuple(AFTER)
DIMENSIONS = ("action", "direction", "speed", "order", "attribute_change")
COUNTS = {"multi-choice": 1580, "yes_no": 2453, "caption_matching": 1503}
COLUMNS = f"video_id, question, answer (a candidate) and dim (one of {', '.join(DIMENSIONS)})"


def items(data) -> list[Item]:
    """Every question of a data folder. Raises FileNotFoundError and ValueError.

    A task without a file is left out.
    """
    data = Path(data).absolute()
    found = []
    for task in TASKS:
        first = len(found)

        def numbered(number, row, task=task, first=first):
            return item_of(f"{task}/{number - first}", row, data)

        for path in find_tables(data, f"{task}/test", f"questions/{task}"):
            found += items_of(rows_of(path), path, numbered, COLUMNS, len(found))
    if not found:
        tables(data, FETCH, *(f"{task}/test" for task in TASKS), *map("questions/{}".format, TASKS))
    return checked(found, data, FETCH, TASKS)


def rows_of(path):
    """The rows of a file of either layout."""
    if path.parent.name != "questions":
        return read_table(path)
    try:
        return [
            {"video_id": video, "dim": dim} | row
            for video, dims in read_json(path).items()
            for dim, rows in dims.items()
            for row in rows
        ]
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"{path}: {error}; expected {{video_id: {{dim: [{{question, answer}}]}}}}"
        ) from None


def item_of(id_, row, data):
    """The Item of one row; id_ is TASK/NUMBER."""
    task = id_.split("/")[0]
    video = find_video(data, ("videos", "video"), text(row, "video_id"))
    question = text(row, "question")
    options, answer = READ[task](question, text(row, "answer"))
    return Item(
        id=id_,
        task=task,
        name=str(video.relative_to(data)),
        video=video,
        prompt=question + AFTER[task],
        options=options,
        answer=answer,
        labels=(f"dim={one_of(row['dim'], DIMENSIONS, 'dim')}",),
    )


def lettered(question, answer):
    """Options and letter of a multi-choice question, whose lines are "A. dunking" and so on."""
    lines = re.findall(r"(?m)^([A-D])\. *(.*)", question)
    options = tuple(option for _, option in lines)
    letters = "".join(letter for letter, _ in lines)
    if len(options) < 2 or letters != LETTERS[: len(options)]:
        raise ValueError(f"options are {letters!r}; expected lines from 'A. ' on")
    return options, letter_in(answer[0], options)


def yes_or_no(question, answer):
    """No options, and the answer."""
    return (), one_of(answer, ("yes", "no"), "answer")


def caption(question, answer):
    """No options, and the answer, whose label is that of a line of the question."""
    labels = [parsers.caption_parts(line)[0] for line in question.split("\n")[1:]]
    if len(labels) < 2:
        raise ValueError(f"{len(labels)} captions; expected two lines such as 'Option 1: ...'")
    one_of(parsers.caption_parts(answer)[0], labels, "the answer's label")
    return (), answer


READ = {"multi-choice": lettered, "yes_no": yes_or_no, "caption_matching": caption}


def absent(questions) -> list[str]:
    """The tasks that have no items."""
    return lacking(questions, TASKS)


def parse(response, item, parser="head"):
    """What a response names: a letter, yes or no, or a caption's whole line; or None."""
    if item.task == "multi-choice":
        return parsers.leading_letter(response)
    if item.task == "yes_no":
        return parsers.yes_or_no(response)
    lines = item.prompt.removesuffix(AFTER[item.task]).split("\n")[1:]
    return parsers.matched_caption(response, lines, item.answer)


def breakdown(rows, questions):
    """{"TASK dim=DIM": {id: score}}, which is how lmms-eval groups them."""
    scores = {}
    for task in TASKS:
        of_task = by_label([row for row in rows if row["task"] == task], questions)
        scores |= {f"{task} {label}": units for label, units in of_task.items()}
    return scores


aggregate = by_task
