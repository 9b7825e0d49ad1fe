"""TempCompass (arXiv 2403.00476) as lmms-eval prompts and scores it, by rules alone.

A data folder is the hub's dataset, its zip file unpacked:

    TASK/test-*.parquet       also as test.json or .csv
    videos/VIDEO_ID.mp4       410 videos

The tasks are multi-choice, yes_no and caption_matching; captioning needs another model as a judge.
lmms-eval gives each task's number, in total and by dimension, and none of all tasks. Responses that
its rules do not match go to a judge; without a judge they are wrong, as here.
"""

import re

from pasta.benchmarks import LETTERS, Benchmark, Item, parsers
from pasta.benchmarks.scoring import by_label
from pasta.benchmarks.tables import letter_in, one_of, text

AFTER = {
    "multi-choice": "\nPlease directly give the best option:",
    "yes_no": "\nPlease answer yes or no:",
    "caption_matching": "\nPlease directly give the best option:",
}
DIMENSIONS = ("action", "direction", "speed", "order", "attribute_change")


def item(row, find, task, number):
    """The Item of one row."""
    question, answer = text(row, "question"), text(row, "answer")
    options = ()
    if task == "multi-choice":
        options = lines_with_letters(question)
        answer = letter_in(answer[0], options)
    elif task == "yes_no":
        one_of(answer, ("yes", "no"), "answer")
    else:
        check_captions(question, answer)
    return Item(
        id=f"{task}/{number}",
        task=task,
        **find(text(row, "video_id")),
        prompt=question + AFTER[task],
        options=options,
        answer=answer,
        labels=(f"dim={one_of(row['dim'], DIMENSIONS, 'dim')}",),
    )


def lines_with_letters(question):
    """The options of a multi-choice question, whose lines are "A. dunking" and so on."""
    lines = re.findall(r"(?m)^([A-D])\. *(.*)", question)
    letters = "".join(letter for letter, _ in lines)
    if len(lines) < 2 or letters != LETTERS[: len(lines)]:
        raise ValueError(f"options are {letters!r}; expected lines from 'A. ' on")
    return tuple(option for _, option in lines)


def check_captions(question, answer):
    """Raise ValueError unless the label of an answer is that of a line of its question."""
    labels = [parsers.caption_parts(line)[0] for line in question.split("\n")[1:]]
    if len(labels) < 2:
        raise ValueError(f"{len(labels)} captions; expected two lines such as 'Option 1: ...'")
    one_of(parsers.caption_parts(answer)[0], labels, "the answer's label")


def parse(response, item, parser="head"):
    """What a response names: a letter, yes or no, or the whole line of a caption; or None."""
    if item.task == "multi-choice":
        return parsers.leading_letter(response)
    if item.task == "yes_no":
        return parsers.yes_or_no(response)
    lines = item.prompt.removesuffix(AFTER[item.task]).split("\n")[1:]
    return parsers.matched_caption(response, lines, item.answer)


def breakdown(rows, items):
    """{"TASK dim=DIM": {id: score}}, which is how lmms-eval groups them."""
    scores = {}
    for task in AFTER:
        of_task = by_label([row for row in rows if row["task"] == task], items)
        scores |= {f"{task} {label}": units for label, units in of_task.items()}
    return scores


BENCHMARK = Benchmark(
    fetch="hf download lmms-eval/TempCompass --repo-type dataset --local-dir",
    tasks=tuple(AFTER),
    columns=f"video_id, question, answer (a candidate) and dim (one of {', '.join(DIMENSIONS)})",
    item=item,
    parse=parse,
    counts={"multi-choice": 1580, "yes_no": 2453, "caption_matching": 1503},
    tables={task: (f"{task}/test",) for task in AFTER},
    folders=("videos", "video"),
    may_lack=True,
    max_new_tokens=128,  # lmms-eval leaves it to the wrapper of the model
    macro=None,
    breakdown=breakdown,
)
