"""MVBench (arXiv 2311.17005): 20 tasks of short clips, as lmms-eval prompts and scores them.

A data folder holds json/TASK.json, lists of {"video", "question", "candidates", "answer"}, and the
videos in one of the two layouts of the hub's dataset:

    revision video   FOLDER/...         clips already cut, all of them video files
    revision main    video/FOLDER/...   whole videos, with "start" and "end" in bounded tasks, and
                                        frames in folders for episodic_reasoning

TASKS names both folders of the 20 tasks. A json file with another name is a task of your own: its
videos are in the folder that test.json names, {"root": {TASK: FOLDER}}, or else in video/TASK.
"""

import math
from functools import partial

from pasta.benchmarks import Benchmark, Item, tables
from pasta.benchmarks.scoring import by_task, lettered_text
from pasta.benchmarks.tables import inside, letter_at, read_items, text, texts
from pasta.run.schema import ABSENT, read_json

TASKS = {  # folder on revision video, folder on revision main, whether main has bounds
    "action_sequence": ("star/Charades_segment", "star/Charades_v1_480", True),
    "action_prediction": ("star/Charades_segment", "star/Charades_v1_480", True),
    "action_antonym": ("ssv2_video_mp4", "ssv2_video", False),
    "fine_grained_action": ("Moments_in_Time_Raw/videos", "Moments_in_Time_Raw/videos", False),
    "unexpected_action": ("FunQA_test/test", "FunQA_test/test", False),
    "object_existence": ("clevrer/video_validation", "clevrer/video_validation", False),
    "object_interaction": ("star/Charades_segment", "star/Charades_v1_480", True),
    "object_shuffle": ("perception/videos", "perception/videos", False),
    "moving_direction": ("clevrer/video_validation", "clevrer/video_validation", False),
    "action_localization": ("sta/sta_video_segment", "sta/sta_video", True),
    "scene_transition": ("scene_qa/video", "scene_qa/video", False),
    "action_count": ("perception/videos", "perception/videos", False),
    "moving_count": ("clevrer/video_validation", "clevrer/video_validation", False),
    "moving_attribute": ("clevrer/video_validation", "clevrer/video_validation", False),
    "state_change": ("perception/videos", "perception/videos", False),
    "fine_grained_pose": ("nturgbd_convert", "nturgbd", False),  # main may not ship it: licence
    "character_order": ("perception/videos", "perception/videos", False),
    "egocentric_navigation": ("vlnqa", "vlnqa", False),
    "episodic_reasoning": ("tvqa/video_fps3_hq_segment", "tvqa/frames_fps3_hq", True),
    "counterfactual_inference": ("clevrer/video_validation", "clevrer/video_validation", False),
}


def read(bench, data):
    """The items of all json/TASK.json; a task of MVBench without folder of videos is left out."""
    found = []
    for path in sorted(data.glob("json/*.json")):
        folders = video_folders(data, path.stem)
        present = [folder for folder in folders if (data / folder).is_dir()]
        if present or path.stem not in TASKS:
            find = partial(tables.video_fields, data, present or folders)
            found += read_items([path], item, bench.columns, find, path.stem)
    if not found:
        get = tables.how_to_get(data, bench.fetch)
        raise FileNotFoundError(f"no json/TASK.json with a folder of videos in {data}{get}")
    return found


def video_folders(data, task):
    """The folders inside `data` where the videos of a task may be."""
    if task in TASKS:
        on_video, on_main, _ = TASKS[task]  # some late files of main are in data0613.zip
        return [on_video, f"video/{on_main}", f"video/data0613/{on_main}"]
    path = data / "test.json"
    root = read_json(path, {"root": {task: str | ABSENT}})["root"] if path.is_file() else {}
    folder = root.get(task, f"video/{task}")
    try:
        inside(data, folder)
    except ValueError as error:
        raise ValueError(f"{path}: root: {error}") from None
    return [folder]


def item(row, find, task, number):
    """The Item of one row."""
    options, place = texts(row["candidates"], 1), find(row["video"])
    # on revision video the clips are already cut
    bounded = task in TASKS and TASKS[task][2] and place["name"].startswith("video/")
    return Item(
        id=f"{task}/{number}",
        task=task,
        **place,
        prompt=prompt_text(text(row, "question"), options),
        options=options,
        # the first of equal ones, as lmms-eval
        answer=letter_at(options.index(row["answer"]), options),
        start=second(row, "start") if bounded else None,
        end=second(row, "end") if bounded else None,
    )


def second(row, key):
    value = float(row[key])
    if not 0 <= value < math.inf:
        raise ValueError(f"{key} is {row[key]!r}, no time in a video")
    return value


def prompt_text(question, options) -> str:
    """The text after the video: lmms-eval's, to the byte (tasks/mvbench/utils.py)."""
    lines = "\n".join(tables.lettered(options, "({}) {}"))
    return f"Question:{question}\nOption:\n{lines}\nOnly give the best option.\n"


def parse(response, item, parser="head"):
    """The letter among the item's that a response names by lmms-eval's only rule, or None."""
    named = lettered_text(response)
    return next((letter for letter in item.letters if lettered_text(letter) == named), None)


def aggregate(rows):
    """{task: {id: score}}; an empty response is not counted, as in lmms-eval."""
    scores = by_task(rows)
    for row in rows:
        # a video that did not decode is wrong: leaving it out would reward a model for failing
        if row["response"] == "" and "error" not in row:
            scores[row["task"]][row["id"]] = None
    return scores


BENCHMARK = Benchmark(
    fetch="hf download OpenGVLab/MVBench --repo-type dataset --revision video --local-dir",
    tasks=tuple(TASKS),
    columns="video, question, candidates, answer (one of them) and, on main, start and end",
    item=item,
    parse=parse,
    counts=dict.fromkeys(TASKS, 200),
    tables={},
    macro=True,  # published numbers are the mean of the tasks; lmms-eval prints the tasks only
    empty="not counted",
    aggregate=aggregate,
    read=read,
)
