"""MLVU (arXiv 2406.04264), the multiple-choice tasks of its dev set, as in lmms-eval.

A data folder is the hub's sy1998/MLVU_dev, which lmms-eval reads, its zip files unpacked:

    mlvu/test-*.parquet       2174 rows; also as test.json or .csv, or without mlvu/
    VIDEO_NAME                the videos, in no folder; also in mlvu/, videos/ or video/

or the authors' MLVU/MVLU, with MLVU/ or without it:

    MLVU/json/1_plotQA.json   {"video", "question", "candidates", "answer", ...}, and so on to 7
    MLVU/video/1_plotQA/...

The authors' two needle questions whose answer is no candidate stay in, and no answer is right.
"""

import re
from pathlib import Path

from pasta.benchmarks import LETTERS, Item, parsers
from pasta.benchmarks.folders import checked, find_video
from pasta.benchmarks.groups import by_label, by_task, lacking
from pasta.benchmarks.tables import letter_at, letter_in, one_of, read_items, tables, text, texts

DATA = Path("data/mlvu")
FETCH = "hf download sy1998/MLVU_dev --repo-type dataset --local-dir"
FETCH_OFFICIAL = "hf download MLVU/MVLU --repo-type dataset --local-dir"
MAX_NEW_TOKENS = 16
MACRO, RANDOM = True, False
EMPTY = "wrong"
TASKS = ("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning")
COUNTS = {"all": (2174, 2175)}  # the hub's, the authors'
FOLDERS = (".", "mlvu", "videos", "video")
COLUMNS = "video_name, question, candidates (a list), answer (a letter or a candidate), task_type"
OFFICIAL_COLUMNS = "video, question, candidates (a list) and answer (one of them)"
NONE_RIGHT = ("needle_4.mp4", "needle_5.mp4")
AFTER = "\nOnly give the best option.\nBest option: ("


def items(data) -> list[Item]:
    """Every question of a data folder. Raises FileNotFoundError and ValueError."""
    data = Path(data).absolute()
    paths = tables(data, FETCH, "mlvu/test", "test", "json/1_plotQA", "MLVU/json/1_plotQA")
    if paths[0].stem == "1_plotQA":
        return official_items(data, paths[0].parent.parent)
    found = read_items(paths, lambda number, row: hub_item(number, row, data), COLUMNS)
    return checked(found, data, FETCH, TASKS)


def hub_item(number, row, data):
    task = one_of(row["task_type"].replace("findNeedle", "needle"), TASKS, "task_type")
    video = find_video(data, FOLDERS, text(row, "video_name"))
    options = row.get("candidates") or re.findall(r"(?m)^\([A-Z]\) ?(.*)", row["question"])
    return item_of(f"{task}/{number}", row, data, video, texts(options))


def official_items(data, base):
    """The items of the authors' layout; base: the folder that holds json and video."""
    found = []
    for i, task in enumerate(TASKS, 1):
        stem, folder = base.relative_to(data) / f"json/{i}_{task}", base / f"video/{i}_{task}"

        def official_item(number, row, task=task, folder=folder):
            video = find_video(folder, (".",), text(row, "video"))
            return item_of(f"{task}/{number}", row, data, video, texts(row["candidates"]))

        paths = tables(data, FETCH_OFFICIAL, str(stem))
        found += read_items(paths, official_item, OFFICIAL_COLUMNS)
    return checked(found, data, FETCH_OFFICIAL, TASKS)


def item_of(id_, row, data, video, options):
    """The Item of one row of either layout; id_ is TASK/NUMBER."""
    return Item(
        id=id_,
        task=id_.split("/")[0],
        name=str(video.relative_to(data)),
        video=video,
        prompt=prompt_text(text(row, "question"), options),
        options=options,
        answer=answer_letter(row["answer"], options, video.name),
    )


def answer_letter(answer, options, video_name):
    """The letter that an answer is, or of the first candidate that it is."""
    if answer in options:
        return letter_at(options.index(answer), options)
    if len(answer) > 1 and video_name in NONE_RIGHT:
        return ""
    return letter_in(answer, options)


def prompt_text(question, options) -> str:
    """The text that goes behind the video (tasks/mlvu/mlvu_dev.yaml), an open "(" at its end.

    The hub's questions have their options in them.
    """
    if not re.search(r"(?m)^\(A\)", question):
        lines = zip(LETTERS, options, strict=False)
        question += "".join(f"\n({letter}) {option}" for letter, option in lines)
    return question + AFTER


def absent(questions) -> list[str]:
    """The tasks that have no items."""
    return lacking(questions, TASKS)


def parse(response, item, parser="head"):
    """The letter among the item's that a response names, or None."""
    rule = parsers.before_parenthesis if parser == "v0.5" else parsers.ranked_letter
    letter = rule(response)
    return letter if letter and letter in item.letters else None


aggregate, breakdown = by_task, by_label
