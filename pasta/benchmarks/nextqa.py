"""NExT-QA (CVPR 2021), multiple choice, test, as lmms-eval prompts and scores it.

A data folder is the hub's dataset, its zip file unpacked, or the authors' repository beside the
videos of VidOR:

    MC/test-*.parquet                     8564 rows; or test.csv, nextqa/test.csv or
                                          dataset/nextqa/test.csv, which are the same
    NExTVideo/VIDEO.mp4                   also in videos/ or video/; where map_vid_vidorID.json is
    NExTVideo/VIDOR/VIDEO.mp4             beside the CSV, also in the folders that it tells

The tasks are causal, temporal and descriptive questions; lmms-eval gives the total only. Papers
often report the validation questions, which these are not.
"""

import os
from pathlib import Path

from pasta.benchmarks import LETTERS, Item, inside, parsers
from pasta.benchmarks.folders import checked, find_video
from pasta.benchmarks.groups import by_label, by_task, lacking
from pasta.benchmarks.tables import (
    letter_at,
    one_of,
    read_items,
    read_json,
    tables,
    text,
    texts,
    whole,
)

DATA = Path("data/nextqa")
FETCH = "hf download lmms-eval/NExTQA --repo-type dataset --local-dir"
MAX_NEW_TOKENS = 128  # lmms-eval leaves it to the model's wrapper
MACRO, RANDOM = False, True
EMPTY = "wrong"
TASKS = ("causal", "temporal", "descriptive")
TYPES = {  # what the authors' eval_mc.py tells apart
    "CW": "causal",
    "CH": "causal",
    "TN": "temporal",
    "TC": "temporal",
    "DC": "descriptive",
    "DL": "descriptive",
    "DO": "descriptive",
}
COUNTS = {"all": 8564, "causal": 4502, "temporal": 2657, "descriptive": 1405}
FOLDERS = ("NExTVideo", "videos", "video")
MAP = "map_vid_vidorID.json"
COLUMNS = "video, question, a0 to a4, answer (0 to 4), qid and type"


def items(data) -> list[Item]:
    """Every question of a data folder. Raises FileNotFoundError and ValueError."""
    data = Path(data).absolute()
    paths = tables(data, FETCH, "MC/test", "dataset/nextqa/test", "nextqa/test", "test")
    maps = [path for path in (paths[0].parent / MAP, data / MAP) if path.is_file()]
    vidor = places(maps[0]) if maps else {}
    found = read_items(paths, lambda _, row: item_of(row, data, vidor), COLUMNS)
    return checked(found, data, FETCH, TASKS)


def places(path):
    """{video: where VidOR has it} out of a file. Raises ValueError that names it."""
    found = read_json(path, dict)
    try:
        for video in found:
            inside("the data", text(found, video))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected {{video: its path}}") from None
    return found


def item_of(row, data, vidor):
    """The Item of one row; vidor: {video: where VidOR has it}."""
    hub = isinstance(row["video"], int)  # whose ids are numbers
    name = str(row["video"]) if hub else text(row, "video")
    video = find_video(data, FOLDERS, name)
    if not os.path.exists(video) and name in vidor:
        video = find_video(data, FOLDERS, text(vidor, name))
    options = tuple(a.strip() for a in texts([row[f"a{i}"] for i in range(5)]))
    kind = "TN" if row["type"] == "TP" else row["type"]  # before and after are one
    return Item(
        id=f"{name}_{whole(row, 'qid')}",
        task=TYPES[one_of(kind, TYPES, "type")],
        name=str(video.relative_to(data)),
        video=video,
        prompt=prompt_text(text(row, "question"), options),
        options=options,
        answer=letter_at(whole(row, "answer"), options),
        labels=(f"type={kind}",),
    )


def prompt_text(question, options) -> str:
    """The text that goes behind the video (tasks/nextqa/utils.py): it asks for no letter."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question.strip(), *lines])


def absent(questions) -> list[str]:
    """The kinds of questions that have no items."""
    return lacking(questions, TASKS)


def parse(response, item, parser="head"):
    """The letter that a response names, or None for a draw."""
    return parsers.mmmu_letter(response, item.options)


aggregate, breakdown = by_task, by_label
