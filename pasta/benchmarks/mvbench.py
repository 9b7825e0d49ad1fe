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
import os
from pathlib import Path

from pasta.benchmarks import LETTERS, Item, inside, unlinked
from pasta.benchmarks.groups import by_label
from pasta.benchmarks.scoring import lettered_text
from pasta.benchmarks.tables import letter_at, read_json, read_table, text, texts
from pasta.run.schema import ABSENT

DATA = Path("data/mvbench")
FETCH = "hf download OpenGVLab/MVBench --repo-type dataset --revision video --local-dir"
MAX_NEW_TOKENS = 16
MACRO = True  # published numbers are the mean of the tasks; lmms-eval prints the tasks only
RANDOM = False
EMPTY = "not counted"

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
COUNTS = dict.fromkeys(TASKS, 200)
FRAME_FPS = 3.0  # of the frame folders of episodic_reasoning on main


def items(data) -> list[Item]:
    """Every question of a data folder, task by task; a task whose folder is not there is left out.

    Raises FileNotFoundError for a folder without tasks or a task with some of its videos missing,
    and ValueError "FILE: item N: ..." for a malformed item or a path that leaves the folder.
    """
    data = Path(data).absolute()
    found = sorted(path.stem for path in data.glob("json/*.json"))
    if not found:
        raise FileNotFoundError(f"no json/TASK.json in {data}; fetch them with: {FETCH} {data}")
    own_tasks = [task for task in found if task not in TASKS]
    folders = {task: video_folder(data, task) for task in TASKS if task in found}
    present = {task: folder for task, folder in folders.items() if folder.is_dir()}
    if not present and not own_tasks:
        folder = next(iter(folders.values()))
        raise FileNotFoundError(f"no folder {folder}{how_to_get(data)}")
    present |= {task: video_folder(data, task) for task in own_tasks}
    return [item for task, folder in present.items() for item in task_items(data, task, folder)]


def absent(questions) -> list[str]:
    """The tasks of MVBench that have no items; none for a folder that has other tasks only."""
    present = {item.task for item in questions}
    return [task for task in TASKS if task not in present] if present & TASKS.keys() else []


def is_main(data):
    """Whether a data folder has the layout of revision main: no folder of revision video."""
    return (data / "video").is_dir() and not any((data / t[0]).is_dir() for t in TASKS.values())


def video_folder(data, task):
    """Where the videos of a task are; it need not exist."""
    if task in TASKS:
        on_video, on_main, _ = TASKS[task]
        return data / "video" / on_main if is_main(data) else data / on_video
    path = data / "test.json"
    root = read_json(path, {"root": {task: str | ABSENT}})["root"] if path.is_file() else {}
    try:
        return inside(data, root.get(task, f"video/{task}"))
    except ValueError as error:
        raise ValueError(f"{path}: root: {error}") from None


def task_items(data, task, folder):
    """The items of json/TASK.json, videos in `folder`. Raises as `items` does."""
    path = data / "json" / f"{task}.json"
    bounded = task in TASKS and TASKS[task][2] and is_main(data)
    questions = []
    for number, row in enumerate(read_table(path)):
        try:
            questions.append(item_of(f"{task}/{number}", row, data, folder, bounded))
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{path}: item {number}: {error!r}; expected video (inside {folder}), question, "
                f"candidates and answer (one of them){', start and end' * bounded}"
            ) from None
    missing = [item.video for item in questions if not os.path.exists(item.video)]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(questions)} videos of {task} are missing, such as "
            f"{missing[0]}{how_to_get(data)}"
        )
    return questions


def item_of(id_, row, data, folder, bounded):
    """The Item of one entry of a json file; id_ is TASK/NUMBER."""
    video = video_path(data, folder, row["video"])
    options = texts(row["candidates"], 1)
    return Item(
        id=id_,
        task=id_.split("/")[0],
        name=str(video.relative_to(data)),
        video=video,
        prompt=prompt_text(text(row, "question"), options),
        options=options,
        # the first of equal ones, as lmms-eval
        answer=letter_at(options.index(row["answer"]), options),
        start=second(row, "start") if bounded else None,
        end=second(row, "end") if bounded else None,
        folder_fps=FRAME_FPS,
    )


def second(row, key):
    """row[key], a time. Raises ValueError for what is none, KeyError."""
    value = float(row[key])
    if not 0 <= value < math.inf:
        raise ValueError(f"{key} is {row[key]!r}, no time in a video")
    return value


def video_path(data, folder, name):
    """A video's path; main's late files may still be where data0613.zip unpacks them."""
    video, videos = inside(folder, name), data / "video"
    if not os.path.exists(video) and video.is_relative_to(videos):
        late = videos / "data0613" / folder.relative_to(videos)
        if os.path.exists(inside(late, name)):
            return unlinked(late / name, late)
    return unlinked(video, folder)


def how_to_get(data):
    """What a message about missing videos ends with."""
    if any(data.glob("video/*.zip")):
        return f"; unpack the zip files in {data / 'video'}"
    return f"; fetch them with: {FETCH} {data}"


def prompt_text(question, options) -> str:
    """The text that goes behind the video: lmms-eval's, to the byte (tasks/mvbench/utils.py)."""
    lines = [f"({letter}) {option}\n" for letter, option in zip(LETTERS, options, strict=False)]
    return f"Question:{question}\nOption:\n{''.join(lines)}Only give the best option.\n"


def parse(response, item, parser="head"):
    """The letter among the item's that a response names by lmms-eval's only rule, or None."""
    named = lettered_text(response)
    return next((letter for letter in item.letters if lettered_text(letter) == named), None)


def aggregate(rows):
    """{task: {id: score}}; an empty response leaves the count, as in lmms-eval.

    A video that did not decode is wrong: leaving it out would reward a model for failing.
    """
    scores = {}
    for row in rows:
        left_out = row["response"] == "" and "error" not in row
        score = None if left_out else float(row["correct"])
        scores.setdefault(row["task"], {})[row["id"]] = score
    return scores


breakdown = by_label  # of which there are none
