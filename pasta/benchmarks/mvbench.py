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

from pasta.benchmarks import Benchmark, Item
from pasta.benchmarks.scoring import lettered_text
from pasta.benchmarks.tables import (
    how_to_get,
    inside,
    letter_at,
    lettered,
    read_items,
    text,
    texts,
    video_fields,
)
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
    """The items of all json/TASK.json, task by task.

    A task of MVBench is left out if the folder of its videos is missing.
    """
    on_main = (data / "video").is_dir() and not any((data / x[0]).is_dir() for x in TASKS.values())
    names = sorted(path.stem for path in data.glob("json/*.json"))
    if not names:
        raise FileNotFoundError(f"no json/TASK.json in {data}{how_to_get(data, bench.fetch)}")
    folders = {name: video_folders(data, name, on_main) for name in names}
    present = [x for x in names if x not in TASKS or (data / folders[x][0]).is_dir()]
    if not present:
        folder = data / folders[names[0]][0]
        raise FileNotFoundError(f"no folder {folder}{how_to_get(data, bench.fetch)}")
    found = []
    for name in present:
        bounded = on_main and name in TASKS and TASKS[name][2]

        def find(video, name=name):
            return video_fields(data, folders[name], video)

        expected = bench.columns + ", start and end" * bounded
        found += read_items([data / f"json/{name}.json"], item, expected, find, name, bounded)
    return found


def video_folders(data, task, on_main):
    """The folders inside `data` where the videos of a task may be."""
    if task in TASKS and not on_main:
        return [TASKS[task][0]]
    if task in TASKS:  # some late files of main are in data0613.zip
        return [f"video/{TASKS[task][1]}", f"video/data0613/{TASKS[task][1]}"]
    path = data / "test.json"
    root = read_json(path, {"root": {task: str | ABSENT}})["root"] if path.is_file() else {}
    folder = root.get(task, f"video/{task}")
    try:
        inside(data, folder)
    except ValueError as error:
        raise ValueError(f"{path}: root: {error}") from None
    return [folder]


def item(row, find, task, bounded, number):
    options = texts(row["candidates"], 1)
    return Item(
        id=f"{task}/{number}",
        task=task,
        **find(row["video"]),
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
    lines = "\n".join(lettered(options, "({}) {}"))
    return f"Question:{question}\nOption:\n{lines}\nOnly give the best option.\n"


def parse(response, item, parser="head"):
    """The letter among the item's that a response names by lmms-eval's only rule, or None."""
    named = lettered_text(response)
    return next((letter for letter in item.letters if lettered_text(letter) == named), None)


def aggregate(rows):
    """{task: {id: score}}; an empty response is not counted, as in lmms-eval.

    A video that did not decode is wrong: leaving it out would reward a model for failing.
    """
    scores = {}
    for row in rows:
        left_out = row["response"] == "" and "error" not in row
        score = None if left_out else float(row["correct"])
        scores.setdefault(row["task"], {})[row["id"]] = score
    return scores


BENCHMARK = Benchmark(
    fetch="hf download OpenGVLab/MVBench --repo-type dataset --revision video --local-dir",
    tasks=tuple(TASKS),
    columns="video, question, candidates and answer (one of them)",
    item=item,
    parse=parse,
    counts=dict.fromkeys(TASKS, 200),
    tables={},
    macro=True,  # published numbers are the mean of the tasks; lmms-eval prints the tasks only
    empty="not counted",
    aggregate=aggregate,
    read=read,
)
