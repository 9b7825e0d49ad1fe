"""MVBench (arXiv 2311.17005) as in lmms-eval, and tasks of your own (docs/benchmarks.md)."""

from functools import partial

from pasta.benchmarks import Benchmark, Item, tables
from pasta.benchmarks.scoring import by_task, lettered_text
from pasta.benchmarks.tables import letter_at, read_items, text, texts
from pasta.run.schema import ABSENT, read_json

TASKS = {
    "action_sequence": "star/Charades_segment",
    "action_prediction": "star/Charades_segment",
    "action_antonym": "ssv2_video_mp4",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_segment",
    "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation",
    "action_localization": "sta/sta_video_segment",
    "scene_transition": "scene_qa/video",
    "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation",
    "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos",
    "fine_grained_pose": "nturgbd_convert",
    "character_order": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/video_fps3_hq_segment",
    "counterfactual_inference": "clevrer/video_validation",
}


def read(bench, data):
    """The items of all json/TASK.json; a task of MVBench without its folder is left out."""
    found = []
    for path in sorted(data.glob("json/*.json")):
        folder = TASKS.get(path.stem) or own_folder(data, path.stem)
        if path.stem not in TASKS or (data / folder).is_dir():
            find = partial(tables.video_fields, data, [folder])
            found += read_items([path], item, bench.columns, find, path.stem)
    if not found:
        lost = (TASKS.values(), data) if any(data.glob("json/*.json")) else (["json/*.json"],)
        hint = tables.next_command(data, *lost)
        text = f"no json/TASK.json with a folder of videos in {data}; {hint}{bench.to_fetch(data)}"
        raise FileNotFoundError(text)
    return found


def own_folder(data, task):
    path = data / "test.json"
    root = read_json(path, {"root": {task: str | ABSENT}})["root"] if path.is_file() else {}
    return tables.inside(root.get(task, f"video/{task}"), data, f"{path}: root: ")


def item(row, find, task, number):
    options = texts(row["candidates"], 1)
    prompt = prompt_text(text(row, "question"), options)
    answer = letter_at(options.index(row["answer"]), options)  # of equal ones the first: lmms-eval
    return Item(f"{task}/{number}", task, *find(row["video"]), prompt, options, answer)


def prompt_text(question, options) -> str:
    """The text after the video: lmms-eval's, to the byte (tasks/mvbench/utils.py)."""
    lines = "\n".join(tables.lettered(options, "({}) {}"))
    return f"Question:{question}\nOption:\n{lines}\nOnly give the best option.\n"


def parse(response, item, parser="head"):
    """The letter among the item's that a response names by lmms-eval's only rule, or None."""
    named = lettered_text(response)
    return next((letter for letter in item.letters if lettered_text(letter) == named), None)


BENCHMARK = Benchmark(
    fetch="hf download OpenGVLab/MVBench --repo-type dataset --revision video --local-dir",
    size="15.8 GB",
    tasks=tuple(TASKS),
    columns="video, question, candidates and answer (one of them)",
    item=item,
    parse=parse,
    counts=dict.fromkeys(TASKS, 200),
    macro=True,  # published numbers are the mean of the tasks; lmms-eval prints the tasks only
    empty="not counted",
    aggregate=partial(by_task, count_empty=False),  # as in lmms-eval
    read=read,
)
