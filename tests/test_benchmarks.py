"""Layouts, prompts and numbers of the benchmarks, against facts about their data and lmms-eval.

Every benchmark is a small folder in the layout of its real one, with one item or two; items come
from its authors where they were seen. Videos are empty files: loading decodes none.
python -m pytest -q tests/test_benchmarks.py
"""

import csv
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

import evaluate
from pasta import benchmarks
from pasta.benchmarks import SUITES, Item, benchmark, tables
from pasta.benchmarks.answers import reread
from pasta.benchmarks.scoring import summary
from pasta.run.rows import read_rows, write_rows
from pasta.toy.files import write_videos

ROOT = Path(__file__).parent.parent
OURS = {"adversarial"}  # the others are lmms-eval's
NAMES = [name for name in benchmarks.NAMES if name not in OURS]

VIDEOMME = {
    "video_id": "001",
    "duration": "short",
    "domain": "Knowledge",
    "sub_category": "Humanity & History",
    "videoID": "fFjv93ACGo8",
    "question_id": "001-1",
    "task_type": "Counting Problem",
    "question": "Which kind of the decoration has the largest number?",
    "options": [
        "A. Apples.",
        "B. Candles.",
        "C. Berries.",
        "D. The three kinds are of the same number.",
    ],
    "answer": "C",
}
LVB = {
    "id": "86CxyhFV9MI_0",
    "video_id": "86CxyhFV9MI",
    "video_path": "86CxyhFV9MI.mp4",
    "question": "Who comes first?",
    "candidates": ["He", "She", "They", "No one"],
    "correct_choice": 1,
    "duration": 190.16,
    "duration_group": 600,
    "question_category": "TOS",
    "level": "L2-Relation",
    "starting_timestamp_for_subtitles": 5.0,
}
MLVU = {
    "video_name": "movie101_66.mp4",
    "question": "What color is the main male character?\n(A) Yellow\n(B) Red\n(C) Green\n(D) Blue",
    "candidates": ["Yellow", "Red", "Green", "Blue"],
    "answer": "A",
    "task_type": "plotQA",
}
NEXTQA = {
    "video": "2574374895",
    "frame_count": "719",
    "question": "what did the baby do after throwing the green cup away while on the floor near "
    "the end",
    "answer": "2",
    "qid": "8",
    "type": "TN",
    "a0": "clap proudly",
    "a1": "the lady sitting down",
    "a2": "lay on floor",
    "a3": "just picked it up",
    "a4": "crawl",
}
TEMPCOMPASS = {
    "multi-choice": {
        "video_id": "1034419625",
        "question": "What is the man doing in the video?\nA. dunking a basketball\n"
        "B. dribbling a basketball\nC. passing a basketball",
        "answer": "A. dunking a basketball",
        "dim": "action",
    },
    "yes_no": {
        "video_id": "1034419625",
        "question": "Is the man dunking a basketball?",
        "answer": "yes",
        "dim": "action",
    },
    "caption_matching": {
        "video_id": "1021488277_reverse",
        "question": "Which one fits?\nOption 1: It rises.\nOption 2: It falls.",
        "answer": "Option 2: It falls.",
        "dim": "direction",
    },
}
PERCEPTION = {
    "video_name": "video_1234",
    "question": "Is the camera moving?",
    "question_id": 3,
    "options": ["I don't know", "moving", "static or shaking"],
    "answer_id": 2,
    "area": "Physics",
    "reasoning": "Descriptive",
    "tag": ["motion", "place recognition"],
}
TVBENCH = {
    "video": "video_8686.mp4",
    "question": "The person makes sets of repeated actions. How many times did the person repeat "
    "the action in the last set?",
    "candidates": ["2", "3", "5", "4"],
    "answer": "2",
}
TOMATO = {
    "id": 7,
    "question": "Which direction(s) does the person's hand rotate in?",
    "options": [
        "No rotation.",
        "Clockwise then counter-clockwise.",
        "Counter-clockwise then clockwise.",
        "Clockwise throughout.",
        "Counter-clockwise throughout.",
    ],
    "answer": 3,
    "reason_type": "rotation",
    "demonstration_type": "human",
    "video_path": "videos/human/0007-10.mp4",
}
VSIBENCH = {
    "id": 1201,
    "dataset": "scannet",
    "scene_name": "scene0011_00",
    "question_type": "object_rel_direction_hard",
    "question": "If I am standing by the washer and facing the dishwasher, is the table to my "
    "front-left, front-right, back-left, or back-right?\nThe directions refer to the quadrants of "
    "a Cartesian plane (if I am standing at the origin and facing along the positive y-axis).",
    "ground_truth": "B",
    "options": ["A. back-right", "B. back-left", "C. front-right", "D. front-left"],
}
ROOM = {
    "id": 7,
    "question_type": "object_counting",
    "question": "How many chair(s) are in this room?",
    "ground_truth": "4",
    "options": None,
}
VIDEO_HOLMES = {
    "video ID": "-0NZzVq2tWk",
    "Question ID": 1,
    "Question Type": "SR",
    "Question": "What is the relationship between the woman in blue and the man in green?",
    "Options": {
        "A": "Cleaners",
        "B": "Colleagues from the same department",
        "C": "Siblings",
        "D": "Strangers who collided accidentally",
        "E": "Undercover police officers",
        "F": "Office coworkers",
    },
    "Answer": "A",
    "Explanation": "They wear the same clothes.",
}
HOLMES_ASKED = (
    "Question: What is the relationship between the woman in blue and the man in green?\n"
    "A. Cleaners\nB. Colleagues from the same department\nC. Siblings\n"
    "D. Strangers who collided accidentally\nE. Undercover police officers\nF. Office coworkers\n"
)
MMVU = {
    "id": "validation_3",
    "video_path": "videos/Thermodynamics/3.mp4",
    "question_type": "multiple-choice",
    "question": "Which process is shown in the animation?",
    "choices": {
        "A": "Isothermal compression",
        "B": "Adiabatic compression",
        "C": "Isobaric compression",
        "D": "Adiabatic expansion",
        "E": "Isothermal expansion",
    },
    "answer": "B",
}
VIDEOMMMU = {
    "id": "new_Design_5",
    "question": "The video gives two examples of aldose and ketose, how many carbon atoms do they "
    "have respectively?",
    "options": ["3, 3", "3, 4", "3, 5", "3, 6", "4, 3", "4, 4", "4, 5", "4, 6", "5, 5", "5, 6"],
    "answer": "G",
    "question_type": "multiple-choice",
    "link_selected": "https://example.org/v",
    "qa_type": "x",
}
SUGARS = "aldose ketose glucose fructose ribose xylose arabinose mannose galactose sucrose".split()
CAPTIONS = (
    "a toddler plays around the grassfield before he picks up a water bottle and drinks",
    "a toddler picks up a water bottle and drinks before he plays around the grassfield",
)


LFS = b"version https://git-lfs.github.com/spec/v1\n"


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def vinoground_rows(folder):
    videos = {"vinoground_videos": "{}_{}.mp4", "vinoground_videos_concated": "{}{}.mp4"}
    for pair in (0, 1):
        for right, side in zip("AB", ("pos", "neg"), strict=True):
            name = side if folder == "vinoground_videos" else {"pos": "", "neg": "_reverse"}[side]
            yield {
                "idx": f"{pair}_{side}",
                "video_name": f"{folder}/{videos[folder].format(pair, name)}",
                "question": f"Which caption best describes this video?\nA. {CAPTIONS[0]}\n"
                f"B. {CAPTIONS[1]}\n"
                "Answer with the option's letter from the given choices directly.",
                "GT": right,
            }


def vinoground_folder(data):
    for name, folder in (("text", "vinoground_videos"), ("video", "vinoground_videos_concated")):
        rows = list(vinoground_rows(folder))
        write_json(data / f"vinoground_{name}score.json", rows)
        touch(*(data / row["video_name"] for row in rows))
    write_csv(
        data / "vinoground.csv",
        [
            {"index": 0, "major": "action", "minor": "interaction;cyclical", "pos_cap": "x"},
            {"index": 1, "major": "object", "minor": "", "pos_cap": "x"},
        ],
    )


# benchmark: (file of the annotations, its row, the item without its video's path)
LAYOUTS = {
    "videomme": (
        "videomme/test.json",
        VIDEOMME,
        Item(
            id="001-1",
            task="short",
            name="data/fFjv93ACGo8.mp4",
            video=None,
            prompt="Select the best answer to the following multiple-choice question based on the "
            "video and the subtitles. Respond with only the letter (A, B, C, or D) of the correct "
            "option.\nWhich kind of the decoration has the largest number?\nA. Apples.\n"
            "B. Candles.\nC. Berries.\nD. The three kinds are of the same number.\n\n"
            "Answer with the option's letter from the given choices directly.",
            options=tuple(VIDEOMME["options"]),
            answer="C",
        ),
    ),
    "longvideobench": (
        "lvb_val.json",
        LVB,
        Item(
            id="86CxyhFV9MI_0",
            task="600 s",
            name="videos/86CxyhFV9MI.mp4",
            video=None,
            prompt="Who comes first?\nA. He\nB. She\nC. They\nD. No one\n"
            "Answer with the option's letter from the given choices directly.\n",
            options=("He", "She", "They", "No one"),
            answer="B",
        ),
    ),
    "mlvu": (
        "mlvu/test.json",
        MLVU,
        Item(
            id="plotQA/0",
            task="plotQA",
            name="movie101_66.mp4",
            video=None,
            prompt="What color is the main male character?\n(A) Yellow\n(B) Red\n(C) Green\n"
            "(D) Blue\nOnly give the best option.\nBest option: (",
            options=("Yellow", "Red", "Green", "Blue"),
            answer="A",
        ),
    ),
    "nextqa": (
        "MC/test.json",
        NEXTQA,
        Item(
            id="2574374895_8",
            task="temporal",
            name="NExTVideo/2574374895.mp4",
            video=None,
            prompt="what did the baby do after throwing the green cup away while on the floor near "
            "the end\nA. clap proudly\nB. the lady sitting down\nC. lay on floor\n"
            "D. just picked it up\nE. crawl",
            options=(
                "clap proudly",
                "the lady sitting down",
                "lay on floor",
                "just picked it up",
                "crawl",
            ),
            answer="C",
        ),
    ),
    "tempcompass": (
        "multi-choice/test.json",
        TEMPCOMPASS["multi-choice"],
        Item(
            id="multi-choice/0",
            task="multi-choice",
            name="videos/1034419625.mp4",
            video=None,
            prompt="What is the man doing in the video?\nA. dunking a basketball\n"
            "B. dribbling a basketball\nC. passing a basketball\n"
            "Please directly give the best option:",
            options=("dunking a basketball", "dribbling a basketball", "passing a basketball"),
            answer="A",
        ),
    ),
    "perceptiontest": (
        "mc_question_val/validation.json",
        PERCEPTION,
        Item(
            id="video_1234/3",
            task="physics",
            name="videos/video_1234.mp4",
            video=None,
            prompt="Is the camera moving?\nA. I don't know\nB. moving\nC. static or shaking\n"
            "Answer with the option's letter from the given choices directly.",
            options=("I don't know", "moving", "static or shaking"),
            answer="C",
        ),
    ),
    "tvbench": (
        "json/action_count.json",
        TVBENCH,
        Item(
            id="action_count/0",
            task="action_count",
            name="video/action_count/video_8686.mp4",
            video=None,
            prompt="The person makes sets of repeated actions. How many times did the person "
            "repeat the action in the last set?\nA. 2\nB. 3\nC. 5\nD. 4\n"
            "Answer with the option letter only.",
            options=("2", "3", "5", "4"),
            answer="C",  # of lmms-eval, which takes 2 as a place
            right="A",
        ),
    ),
    "tomato": (
        "data/test.json",
        TOMATO,
        Item(
            id="rotation/0",
            task="rotation",
            name="videos/human/0007-10.mp4",
            video=None,
            prompt="You will be provided with frames uniformly sampled from a video, the frames "
            "are provided in chronological order of the video. Analyze these frames and provide "
            "the answer to the question about the video content. Answer the multiple-choice "
            "question about the video content.\n\nYou must use these frames to answer the "
            "multiple-choice question; do not rely on any externel knowledge or commonsense. \n\n"
            "<question> \nWhich direction(s) does the person's hand rotate in? \n</question>\n\n"
            "<options> \n{'A': 'No rotation.', 'B': 'Clockwise then counter-clockwise.', 'C': "
            "'Counter-clockwise then clockwise.', 'D': 'Clockwise throughout.', 'E': "
            "'Counter-clockwise throughout.'} \n</options>\n\nEven if the information in these "
            "separate frames is not enough to answer the question, PLEASE TRY YOUR BEST TO GUESS "
            "AN ANSWER WHICH YOU THINK WOULD BE THE MOST POSSIBLE ONE BASED ON THE QUESTION. \n\n"
            "DO NOT GENERATE ANSWER SUCH AS 'NOT POSSIBLE TO DETERMINE.' \n",
            options=tuple(TOMATO["options"]),
            answer="D",
        ),
    ),
    "vsibench": (
        "test.json",
        VSIBENCH,
        Item(
            id="1201",
            task="object_rel_direction_hard",
            name="scannet/scene0011_00.mp4",
            video=None,
            prompt="These are frames of a video.\n"
            "If I am standing by the washer and facing the dishwasher, is the table to my "
            "front-left, front-right, back-left, or back-right?\n"
            "The directions refer to the quadrants of a Cartesian plane (if I am standing at the "
            "origin and facing along the positive y-axis).\nOptions:\nA. back-right\n"
            "B. back-left\nC. front-right\nD. front-left\n"
            "Answer with the option's letter from the given choices directly.",
            options=tuple(VSIBENCH["options"]),
            answer="B",
        ),
    ),
    "video_holmes": (
        "test_Video-Holmes.json",
        VIDEO_HOLMES,
        Item(
            id="-0NZzVq2tWk_1",
            task="SR",
            name="videos_cropped/-0NZzVq2tWk.mp4",
            video=None,
            prompt=HOLMES_ASKED + "Select the best answer to the following multiple-choice "
            "question based on the video. Respond with only the letter (A, B, C, D, E, or F) of "
            "the correct option.",
            options=tuple(VIDEO_HOLMES["Options"].values()),
            answer="A",
        ),
    ),
    "mmvu": (
        "data/validation.json",
        MMVU,
        Item(
            id="validation_3",
            task="multiple-choice",
            name="videos/Thermodynamics/3.mp4",
            video=None,
            prompt="\nQuestion:Which process is shown in the animation?\n"
            "A: Isothermal compression\nB: Adiabatic compression\nC: Isobaric compression\n"
            "D: Adiabatic expansion\nE: Isothermal expansion\n"
            "Visual Information: processed video\nDo not generate any "
            "intermediate reasoning process. Answer directly with the option letter from the\n"
            "given choices.\n",
            options=tuple(MMVU["choices"].values()),
            answer="B",
        ),
    ),
    "videommmu": (
        "Perception/test.json",
        VIDEOMMMU,
        Item(
            id="Perception/new_Design_5",
            task="Perception",
            name="Art/new_Design_5.mp4",
            video=None,
            prompt="The video gives two examples of aldose and ketose, how many carbon atoms do "
            "they have respectively?\nA. 3, 3\nB. 3, 4\nC. 3, 5\nD. 3, 6\nE. 4, 3\nF. 4, 4\n"
            "G. 4, 5\nH. 4, 6\nI. 5, 5\nJ. 5, 6\n"
            "Please ignore the Quiz question in last frame of the video.",
            options=tuple(VIDEOMMMU["options"]),
            answer="G",
        ),
    ),
}
ONE_FILE = list(LAYOUTS)  # vinoground has two
NEW = [*LAYOUTS, "vinoground"]


def fill(name, data, rows=None, videos=None):
    """Write a small folder of a benchmark; returns the benchmark."""
    if name == "tempcompass":
        for task, one in TEMPCOMPASS.items():
            write_json(data / task / "test.json", [one])
            touch(data / "videos" / f"{one['video_id']}.mp4")
    if name == "videommmu":
        for task in ("Comprehension", "Adaptation"):
            write_json(data / task / "test.json", [VIDEOMMMU])
    if name == "vinoground":
        vinoground_folder(data)
    else:
        path, row, item = LAYOUTS[name]
        write_json(data / path, [row] if rows is None else rows)
        touch(*(data / path for path in ([item.name] if videos is None else videos)))
    return benchmark(name)


def row(item, response="", **fields):
    """A row of pasta/benchmarks/answers.py."""
    return {"id": item.id, "task": item.task, "response": response} | fields


def scored(bench, items, responses):
    """The rows of responses as pasta/benchmarks/answers.py makes them, but for the draw."""
    return [
        row(item, response, correct=bench.parse(response, item) == item.answer)
        for item, response in zip(items, responses, strict=True)
    ]


def item(task="t", id_="t/0", options=("x", "y", "z", "w"), answer="A", prompt=""):
    return Item(id_, task, "v.mp4", None, prompt, tuple(options), answer)


# -- the interface ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", benchmarks.NAMES)
def test_a_name_is_that_of_a_benchmark_whose_counts_are_of_its_tasks(name):
    bench = benchmark(name)
    assert isinstance(bench, benchmarks.Benchmark)
    assert name in OURS or bench.fetch.startswith("hf download ")
    assert bench.counts.keys() <= {"all", *bench.tasks}


@pytest.mark.parametrize(
    ("name", "total", "macro", "draws", "length"),  # length: 128 where lmms-eval leaves it open
    [
        ("mvbench", 4000, True, False, 16),
        ("videomme", 2700, False, False, 16),
        ("longvideobench", 1337, False, True, 32),
        ("mlvu", 2174, True, False, 16),
        ("nextqa", 8564, False, True, 128),
        ("tempcompass", 1580 + 2453 + 1503, None, False, 128),
        ("perceptiontest", 19140, False, False, 128),
        ("vinoground", 2000, None, False, 16),
        ("tvbench", 2525, False, False, 32),
        ("tomato", 1484, False, False, 1024),
        ("vsibench", 5130, True, False, 16),
        ("video_holmes", 1837, False, True, 64),
        ("mmvu", 625, False, False, 1024),
        ("videommmu", 879, True, False, 1024),
    ],
)
def test_numbers_of_items_and_scoring_are_those_of_the_published_sets(
    name, total, macro, draws, length
):
    bench = benchmark(name)
    per_task = sum(n for task, n in bench.counts.items() if task != "all")
    assert bench.counts.get("all", total) == total and per_task in (0, total)
    assert (bench.macro, bench.draws, bench.max_new_tokens) == (macro, draws, length)


# -- prompts and items, layout by layout -----------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_items_size_and_command_of_a_benchmark(name):
    bench, page = benchmark(name), (ROOT / "docs/benchmarks.md").read_text()
    (row,) = re.findall(rf"(?m)^\| `{name}` \| (.*?) \| (.*?) \|", page)
    n = bench.counts.get("all") or sum(bench.counts.values())
    assert row == (f"{n:,}", bench.size or "not known")
    assert f"\n{bench.fetch} data/{name}\n" in page


def test_the_page_shows_the_suites_and_each_has_known_benchmarks():
    page = (ROOT / "docs/benchmarks.md").read_text()
    for name in {*NAMES, *(name for names in SUITES.values() for name in names)}:
        (row,) = re.findall(rf"(?m)^\| `{name}` \|(.*)\|$", page)
        assert row.split("|")[3].strip() == ", ".join(x for x in SUITES if name in SUITES[x])
    assert len(SUITES["paper"]) == 8  # the columns of the paper's Table 1


@pytest.mark.parametrize("name", ONE_FILE)
def test_an_item_and_its_prompt_are_those_of_lmms_eval(tmp_path, name):
    expected = LAYOUTS[name][2]
    found = fill(name, tmp_path).items(tmp_path)
    assert found[0] == replace(expected, video=tmp_path / expected.name)
    assert len(found) == (3 if name in ("tempcompass", "videommmu") else 1)


def test_the_items_of_longvideobench_are_in_order_of_duration(tmp_path):
    rows = [LVB | {"id": str(i), "duration_group": g} for i, g in enumerate((600, 15, 3600, 15))]
    found = fill("longvideobench", tmp_path, rows).items(tmp_path)
    assert [one.id for one in found] == ["1", "3", "0", "2"]
    assert [one.task for one in found] == ["15 s", "15 s", "600 s", "3600 s"]


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("What? (A) x (B) y", ("x", "y")),  # no line begins with (A)
        ("Is (B) first?\n(A) x\n(B) y\n", ("x", "y")),  # ends in a newline
        ("What?\n (A) x\n (B) y", ("x", "y")),
        ("What?\n(A) x\n(B) y\n(C) z\n\n", ("x", "y", "z")),
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_row_of_the_hub_s_mlvu_is_asked_as_it_is(tmp_path, question, options, listed):
    """lmms-eval's prompt is pre_prompt + question + post_prompt, whatever the question holds."""
    change = {"question": question, "candidates": list(options) if listed else None, "answer": "B"}
    (found,) = fill("mlvu", tmp_path, [MLVU | change]).items(tmp_path)
    assert found.prompt == question + "\nOnly give the best option.\nBest option: ("
    assert (found.options, found.answer) == (options, "B")


def test_no_options_are_added_to_a_row_of_the_hub_s_mlvu(tmp_path):
    change = {"question": "What color is it?", "answer": "B"}
    (found,) = fill("mlvu", tmp_path, [MLVU | change]).items(tmp_path)
    assert found.prompt == "What color is it?\nOnly give the best option.\nBest option: ("


@pytest.mark.parametrize(
    "change",
    [
        {"question": "What color is the main male character?", "answer": "Yellow"},
        {"candidates": None},
        {"video_name": "movie101_66"},
    ],
)
def test_every_form_of_a_row_of_mlvu_gives_the_same_item(tmp_path, change):
    (usual,) = fill("mlvu", tmp_path).items(tmp_path)
    assert fill("mlvu", tmp_path, [MLVU | change]).items(tmp_path) == [usual]


def test_the_two_needle_questions_without_a_right_candidate_stay_in_the_count(tmp_path):
    row = MLVU | {"task_type": "findNeedle", "answer": "None of these"}
    rows = [row | {"video_name": "needle_4.mp4"}]
    bench = fill("mlvu", tmp_path, rows, ["needle_4.mp4"])
    (lost,) = bench.items(tmp_path)
    assert (lost.task, lost.answer) == ("needle", "")
    assert all(bench.parse(response, lost) != "" for response in ("", "A", "none"))


@pytest.mark.parametrize(
    "change",
    [
        {"question": f" {NEXTQA['question']} ", "a4": "crawl\n"},
        {"video": 2574374895, "answer": 2, "qid": 8},  # the hub's
        {"type": "TP"},  # before and after are one kind
    ],
)
def test_every_form_of_a_row_of_nextqa_gives_the_same_item(tmp_path, change):
    (usual,) = fill("nextqa", tmp_path).items(tmp_path)
    assert fill("nextqa", tmp_path, [NEXTQA | change]).items(tmp_path) == [usual]


def test_the_authors_csv_of_nextqa_is_read(tmp_path):
    (usual,) = fill("nextqa", tmp_path).items(tmp_path)
    (tmp_path / "MC/test.json").unlink()
    write_csv(tmp_path / "test.csv", [NEXTQA])
    assert benchmark("nextqa").items(tmp_path) == [usual]


def test_only_multi_choice_questions_of_tempcompass_have_letters(tmp_path):
    found = fill("tempcompass", tmp_path).items(tmp_path)
    best = "Please directly give the best option:"
    assert [(one.id, one.prompt.split("\n")[-1], one.letters, one.answer) for one in found] == [
        ("multi-choice/0", best, "ABC", "A"),
        ("yes_no/0", "Please answer yes or no:", "", "yes"),
        ("caption_matching/0", best, "", "Option 2: It falls."),
    ]


def test_vinoground_asks_as_lmms_eval_does(tmp_path):
    first, *_ = fill("vinoground", tmp_path).items(tmp_path)
    assert first.prompt == (
        f"Which caption best describes this video?\nA. {CAPTIONS[0]}\nB. {CAPTIONS[1]}\n"
        "Answer with the option's letter from the given choices directly.\n"
        "Please only output one English character."
    )


def test_the_items_of_vinoground(tmp_path):
    found = fill("vinoground", tmp_path).items(tmp_path)
    assert [(one.id, one.task, one.answer) for one in found[::3]] == [
        ("0_pos_text", "text", "A"),
        ("1_neg_text", "text", "B"),
        ("1_pos_video", "video", "A"),
    ]
    assert found[5].name == "vinoground_videos_concated/0_reverse.mp4"


def test_the_files_of_vinoground_may_be_where_its_zips_unpack_them(tmp_path):
    bench = fill("vinoground", tmp_path)
    usual = bench.items(tmp_path)
    for name, folder in (("text", "vinoground_videos"), ("video", "vinoground_videos_concated")):
        file = f"vinoground_{name}score.json"
        (tmp_path / file).rename(tmp_path / folder / file)
    assert bench.items(tmp_path) == usual


# -- files and videos ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEW)
def test_a_folder_that_is_not_there_names_the_command_that_fetches_it(tmp_path, name):
    bench = benchmark(name)
    with pytest.raises(FileNotFoundError) as error:
        bench.items(tmp_path / "none")
    assert "no " in str(error.value) and ".json, .jsonl, .csv, .parquet" in str(error.value)
    assert str(error.value).endswith(bench.to_fetch(tmp_path / "none"))


@pytest.mark.parametrize("name", NEW)
def test_a_missing_video_names_itself_and_the_command(tmp_path, name):
    bench = fill(name, tmp_path)
    video = bench.items(tmp_path)[0].video
    video.unlink()
    with pytest.raises(FileNotFoundError) as error:
        bench.items(tmp_path)
    n = {"vinoground": 8, "tempcompass": 2}.get(name, 1)
    assert f"1 of {n} videos are missing, such as {video.with_suffix('')}" in str(error.value)
    end = f"; unpack any archives in {tmp_path}, or {bench.to_fetch(tmp_path)}"
    assert str(error.value).endswith(end)


@pytest.mark.parametrize("name", ONE_FILE)
@pytest.mark.parametrize("suffix", [".MP4", ".mkv", ".webm", ""])
def test_a_video_may_have_another_suffix_or_be_a_folder(tmp_path, name, suffix):
    bench = fill(name, tmp_path)
    video = bench.items(tmp_path)[0].video
    other = video.with_suffix(suffix)
    video.unlink()
    touch(other if suffix else other / "1.jpg")
    assert bench.items(tmp_path)[0].video == other


@pytest.mark.parametrize("folder", ["data", "videos", "video"])
def test_video_mme_finds_its_videos_in_any_of_three_folders(tmp_path, folder):
    bench = fill("videomme", tmp_path, videos=[f"{folder}/fFjv93ACGo8.mp4"])
    assert bench.items(tmp_path)[0].name == f"{folder}/fFjv93ACGo8.mp4"


VIDEO_COLUMN = {
    "videomme": "videoID",
    "longvideobench": "video_path",
    "mlvu": "video_name",
    "nextqa": "video",
    "tempcompass": "video_id",
    "perceptiontest": "video_name",
    "tvbench": "video",
    "tomato": "video_path",
    "vsibench": "scene_name",
    "video_holmes": "video ID",
    "mmvu": "video_path",
    "videommmu": "id",
}


OUTSIDE = ("../x", "a/../../x.mp4", "/etc/x", "..\\x", "..")


@pytest.mark.parametrize(
    ("name", "video"),
    [
        (name, video)
        for name in ONE_FILE
        for video in OUTSIDE
        if (name, video) not in (("tvbench", "/etc/x"), ("vsibench", "/etc/x"))  # in a folder
    ],
)
def test_a_video_outside_the_data_folder_is_refused(tmp_path, name, video):
    first = LAYOUTS[name][1]
    bench = fill(name, tmp_path, [first, first | {VIDEO_COLUMN[name]: video}])
    with pytest.raises(ValueError, match=r"\.json: item 1: .*no path inside"):
        bench.items(tmp_path)


def test_a_video_of_vinoground_outside_the_data_folder_is_refused(tmp_path):
    bench = fill("vinoground", tmp_path)
    rows = list(vinoground_rows("vinoground_videos"))
    rows[2]["video_name"] = "../0_pos.mp4"
    write_json(tmp_path / "vinoground_textscore.json", rows)
    with pytest.raises(ValueError, match="textscore.json: item 2: .*no path inside"):
        bench.items(tmp_path)


@pytest.mark.parametrize("name", NEW)
def test_loading_decodes_nothing_and_takes_a_relative_folder(tmp_path, monkeypatch, name):
    bench = fill(name, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    found = bench.items("data")[0]
    assert found.video == tmp_path / "data" / found.name and not found.video.stat().st_size


@pytest.mark.parametrize("scoring", ["generate", "letter"])
@pytest.mark.parametrize("name", NEW)
def test_a_model_is_asked_all_of_a_folder_with_real_videos(
    tmp_path, monkeypatch, tiny_folder, name, scoring
):
    """The untrained toy's answers are nonsense, so what is right is decided here again."""
    monkeypatch.chdir(tmp_path)
    bench = fill(name, tmp_path / "data")
    (tmp_path / "clips").mkdir()
    write_videos(tmp_path / "clips", 1, seed=0)
    for item in bench.items(tmp_path / "data"):
        item.video.write_bytes((tmp_path / "clips/00000.avi").read_bytes())
    evaluate.main(
        evaluate.EvalConfig(
            bench=name,
            data=tmp_path / "data",
            model=str(tiny_folder),
            scoring=scoring,
            max_pixels=0,
            dtype="float32",
            device="cpu",
        )
    )
    asked = [x for x in bench.items(tmp_path / "data") if x.letters or scoring == "generate"]
    rows = {r["id"]: r for r in read_rows(tmp_path / f"out/eval/tiny/{name}/tiny/scored.jsonl")}
    assert rows.keys() == {item.id for item in asked}
    for item in asked:
        found = rows[item.id]
        assert "error" not in found and found["prompt"] == item.prompt
        if scoring == "letter":
            assert found["response"] in item.letters
        elif not found.get("drawn"):
            assert found["predicted"] == bench.parse(found["response"], item)
        assert found["correct"] == (found["predicted"] == item.answer)
    saved = json.loads((tmp_path / f"out/eval/tiny/{name}/scores.json").read_text())
    assert saved["runs"]["tiny"]["groups"].keys() == bench.aggregate(rows.values()).keys()


# -- everyday mistakes: one sentence, and its command helps ----------------------------------------


def whole(name, data):
    """A small folder of any benchmark; returns (benchmark, its table, a video)."""
    if name == "mvbench":
        path, row = data / "json/action_count.json", {"video": "v.mp4", "question": "Which?"}
        write_json(path, [row | {"candidates": ["x", "y"], "answer": "y"}])
        touch(data / "perception/videos/v.mp4")
    elif name == "adversarial":
        path, row = data / "items.jsonl", {"id": "1", "video": "v.mp4", "mode": "spatial"}
        write_rows(path, [row | {"kind": "question", "query": "Which?"}])
        touch(data / "v.mp4")
    else:
        fill(name, data)
        first = {"tempcompass": "multi-choice/test.json", "vinoground": "vinoground_textscore.json"}
        path = data / first.get(name, LAYOUTS.get(name, ("",))[0])
    bench = benchmark(name)
    return bench, path, bench.items(data)[0].video


def move_into(source, target):
    """Move all that is in a folder into another, which may be inside it."""
    names = list(source.iterdir())
    target.mkdir(parents=True)
    for path in names:
        path.rename(target / path.name)


def one_level_too_deep(data, table, video):
    move_into(data, data / "downloaded")
    return data


def inner_folder(data, table, video):
    """The folder that is given is one of those in the data folder."""
    (data / "other").mkdir()
    return data / "other"


def empty(data, table, video):
    move_into(data, data.with_name("elsewhere"))
    return data


def absent(data, table, video):
    data.rename(data.with_name("elsewhere"))
    return data


def a_file(data, table, video):
    return table


def videos_too_deep(data, table, video):
    others = [x for x in video.parent.iterdir() if x.suffix == ".mp4"]
    for path in others:
        touch(data / "unpacked/some/videos" / path.name)
        path.unlink()
    return data


def archived(data, table, video):
    """The videos of one folder are in an archive, which lies next to a table."""
    names = [path for path in sorted(data.rglob("*")) if path.suffix == ".mp4"]
    with zipfile.ZipFile(data / "videos_1.zip", "w") as archive:
        for path in names:
            archive.write(path, path.relative_to(data))
            path.unlink()
    return data


def archived_in_parts(data, table, video):
    names = [path for path in sorted(data.rglob("*")) if path.suffix == ".mp4"]
    with tarfile.open(data / "videos.tar", "w") as archive:
        for path in names:
            archive.add(path, path.relative_to(data))
            path.unlink()
    content = (data / "videos.tar").read_bytes()
    (data / "videos.tar").unlink()
    (data / "videos.tar.part.aa").write_bytes(content[:700])
    (data / "videos.tar.part.ab").write_bytes(content[700:])
    return data


def interrupted(data, table, video):
    """What `hf download` leaves is not taken for the data."""
    home = data / ".cache/huggingface/download"
    touch(home / "videos.zip.metadata", home / table.relative_to(data).with_suffix(".json.lock"))
    part = home / table.relative_to(data)
    table.rename(part)
    touch(part.with_name(f"{table.stem}-00000-of-00001.parquet.incomplete"))
    return data


def pointer(data, table, video):
    table.write_bytes(LFS + b"oid sha256:4d7a\nsize 12345\n")
    return data


def pointer_as_parquet(data, table, video):
    table.unlink()
    part = table.with_name(f"{table.stem}-00000-of-00001.parquet")
    part.write_bytes(LFS + b"oid sha256:4d7a\nsize 12345\n")
    return data


def another_table(data, table, video):
    row = {"name": "x", "text": "y"}
    write_rows(table, [row]) if table.suffix == ".jsonl" else write_json(table, [row])
    return data


MISTAKES = {  # a mistake: what the message also holds
    one_level_too_deep: "--data {data}/downloaded",
    inner_folder: "--data {data}",
    empty: "{fetch} {given}",
    absent: "{fetch} {given}",
    a_file: "no ",
    videos_too_deep: "mv {data}/unpacked/some/videos/*.mp4 {video.parent}",
    archived: "cd {data} && unzip -n './*.zip'",
    archived_in_parts: "cd {data} && cat ./*.tar* | tar xi",
    interrupted: "{data}; fetch",
    pointer: "{table} is a pointer; expected the file: git -C {table.parent} lfs pull",
    pointer_as_parquet: "is a pointer; expected the file: git -C {table.parent} lfs pull",
    another_table: "{table}",
}
CURED = ("--data ([^ ;]+)", "(mkdir -p [^;]*)", "(cd [^;]*)")  # commands that need no network


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        (x, mistake)
        for x in benchmarks.NAMES
        for mistake in MISTAKES
        if (x, mistake) != ("mvbench", pointer_as_parquet)
    ],  # it has no other tables than json
)
def test_a_mistake_with_data_is_one_sentence_with_the_next_command(tmp_path, name, mistake):
    data = tmp_path / "data"
    bench, table, video = whole(name, data)
    n_items = len(bench.items(data))
    given = mistake(data, table, video)
    with pytest.raises((FileNotFoundError, ValueError)) as error:
        bench.items(given)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    facts = {"data": data, "given": given, "table": table, "video": video, "fetch": bench.fetch}
    assert MISTAKES[mistake].format(**facts) in message
    commands = [found[1] for form in CURED if (found := re.search(form, message))]
    for command in commands:
        if Path(command).is_dir():
            given = command
        else:
            subprocess.run(command, shell=True, check=True, capture_output=True)
    if commands:
        assert len(bench.items(given)) == n_items


# -- malformed data --------------------------------------------------------------------------------


UNUSED = {  # columns that an item can be made without
    "videomme": {"video_id", "domain", "sub_category", "task_type"},
    "longvideobench": {
        "video_id",
        "duration",
        "starting_timestamp_for_subtitles",
        "question_category",
        "level",
    },
    "mlvu": {"candidates"},
    "nextqa": {"frame_count"},
    "tempcompass": {"dim"},
    "perceptiontest": {"reasoning", "tag"},
    "tvbench": set(),
    "tomato": {"id", "demonstration_type"},
    "vsibench": set(),
    "video_holmes": {"Explanation"},
    "mmvu": set(),
    "videommmu": {"link_selected", "qa_type"},
}
USED = [(name, x) for name in ONE_FILE for x in LAYOUTS[name][1] if x not in UNUSED[name]]


@pytest.mark.parametrize(("name", "column"), USED)
def test_a_missing_column_names_itself_and_what_was_expected(tmp_path, name, column):
    first = LAYOUTS[name][1]
    broken = {key: value for key, value in first.items() if key != column}
    bench = fill(name, tmp_path, [first, broken])
    with pytest.raises(ValueError, match=rf"json: item 1: KeyError.'{column}'.*expected .*uest"):
        bench.items(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("videomme", {"options": ["A. Apples."]}, "is no list of 2 to 26 texts"),
        ("videomme", {"options": "A. Apples. B. Candles."}, "is no list of 2 to 26"),
        ("videomme", {"options": ["A. Apples.", 3]}, "is no list of 2 to 26"),
        ("videomme", {"answer": "E"}, "answer is 'E', none of A, B, C, D"),
        ("videomme", {"answer": None}, "answer is None, none of A"),
        ("videomme", {"duration": "huge"}, "duration is 'huge', none of short, medium, long"),
        ("videomme", {"question": None}, "question is None, no text"),
        ("videomme", {"videoID": ""}, "videoID is '', no text"),
        ("longvideobench", {"correct_choice": 4}, "the answer's number is 4, none of 0, 1, 2, 3"),
        ("longvideobench", {"correct_choice": -1}, "the answer's number is -1"),
        ("longvideobench", {"correct_choice": "B"}, "correct_choice is 'B', no whole number"),
        ("longvideobench", {"duration_group": 30}, "duration_group is '30 s', none of 15 s"),
        ("mlvu", {"answer": "Pink"}, "answer is 'Pink'"),
        ("mlvu", {"task_type": "summary"}, "task_type is 'summary', none of plotQA"),
        ("mlvu", {"candidates": None, "question": "Why?"}, "is no list of 2 to 26"),
        ("nextqa", {"type": "XX"}, "type is 'XX', none of CW"),
        ("tempcompass", {"question": "What?\nA. this"}, "options are 'A'"),
        ("tempcompass", {"question": "What?\nB. this\nA. that"}, "options are 'BA'"),
        ("tempcompass", {"answer": "D. neither"}, "answer is 'D', none of A, B, C"),
        ("perceptiontest", {"options": ["a", "b", "c", "d"]}, "is no list of 3 to 3 texts"),
        ("perceptiontest", {"answer_id": 3}, "the answer's number is 3, none of 0, 1, 2"),
        ("perceptiontest", {"area": "magic"}, "area is 'magic', none of memory"),
        ("vsibench", {"question_type": "colour"}, "question_type is 'colour', none of object_cou"),
        ("vsibench", {"question_type": "object_counting"}, "could not convert string to float"),
        ("vsibench", {"ground_truth": "E"}, "answer is 'E', none of A, B, C, D"),
        ("vsibench", {"options": None}, "is no list of 2 to 26 texts"),
        ("video_holmes", {"Options": {"A": "x", "B": "y"}}, "KeyError('C')"),
        ("videommmu", {"question_type": "essay"}, "question_type is 'essay', none of multiple"),
        ("mmvu", {"question_type": "essay"}, "question_type is 'essay', none of multiple-choice"),
        ("video_holmes", {"Answer": "G"}, "answer is 'G', none of A, B, C, D, E, F"),
        ("tomato", {"answer": 5}, "the answer's number is 5, none of 0, 1, 2, 3, 4"),
        ("videomme", {"options": ["x"] * 27}, "is no list of 2 to 26 texts"),
        ("videomme", {"question": "Which\ud83d?"}, "expected no half of a surrogate pair"),
        ("videomme", {"options": ["A. \ud83d", "B. x"]}, "expected no half of a surrogate pair"),
    ],
)
def test_a_malformed_item_is_refused(tmp_path, name, change, message):
    first = LAYOUTS[name][1]
    bench = fill(name, tmp_path, [first, first | change])
    with pytest.raises(ValueError) as error:
        bench.items(tmp_path)
    where = tmp_path / LAYOUTS[name][0]
    assert str(error.value).startswith(f"{where}: item 1: ") and message in str(error.value)


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("yes_no", {"answer": "maybe"}, "answer is 'maybe', none of yes, no"),
        ("caption_matching", {"question": "Which?\nOption 1: x"}, "1 captions"),
        ("caption_matching", {"question": "Which?\nfirst\nsecond"}, "not enough values"),
        ("caption_matching", {"answer": "Option 3: It floats."}, "label is 'Option 3', none of"),
    ],
)
def test_a_malformed_item_of_tempcompass_s_other_tasks_is_refused(tmp_path, task, change, message):
    bench = fill("tempcompass", tmp_path)
    write_json(tmp_path / task / "test.json", [TEMPCOMPASS[task] | change])
    with pytest.raises(ValueError, match=f"{task}/test.json: item 0: .*{message}"):
        bench.items(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"idx": "0"}, "idx is '0'"), ({"GT": "C"}, "answer is 'C'"), ({"question": ""}, "no text")],
)
def test_a_malformed_item_of_vinoground_is_refused(tmp_path, change, message):
    bench = fill("vinoground", tmp_path)
    rows = list(vinoground_rows("vinoground_videos"))
    write_json(tmp_path / "vinoground_textscore.json", [rows[0], rows[1] | change])
    with pytest.raises(ValueError, match=f"textscore.json: item 1: .*{message}.*expected idx"):
        bench.items(tmp_path)


@pytest.mark.parametrize(
    ("second", "message"), [("a string", "TypeError"), (VIDEOMME, "id '001-1' is also at .*item 0")]
)
def test_a_row_that_is_no_object_or_has_an_earlier_id_is_refused(tmp_path, second, message):
    with pytest.raises(ValueError, match=f"test.json: item 1: .*{message}"):
        fill("videomme", tmp_path, [VIDEOMME, second]).items(tmp_path)


@pytest.mark.parametrize("suffix", ["json", "csv"])
@pytest.mark.parametrize("content", [b"\xff" * 10, b"[" * 10**5, LFS, b'a,b\n1,"what', b'[{"a":'])
def test_damaged_annotations_are_refused_by_name(tmp_path, suffix, content):
    bench = fill("videomme", tmp_path, [])
    (tmp_path / "videomme/test.json").unlink()
    (tmp_path / f"videomme/test.{suffix}").write_bytes(content)
    with pytest.raises(ValueError, match=f"videomme/test.{suffix}.* expected"):
        bench.items(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"a": 1}', "3"])
def test_json_without_items_is_refused(tmp_path, content):
    bench = fill("videomme", tmp_path)
    (tmp_path / "videomme/test.json").write_text(content)
    with pytest.raises(ValueError, match="test.json holds .*expected a list of items"):
        bench.items(tmp_path)


# -- tables ----------------------------------------------------------------------------------------


def test_a_csv_may_begin_with_the_mark_of_excel(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,é\n", encoding="utf-8-sig")
    assert tables.read_table(tmp_path / "x.csv")[0][1] == {"a": "1", "b": "é"}


def test_a_line_of_a_csv_that_is_too_short_is_named(tmp_path):
    write_csv(tmp_path / "test.csv", [NEXTQA])
    path = tmp_path / "test.csv"
    path.write_text(path.read_text() + "2574374895,1,what\n")
    with pytest.raises(ValueError, match="test.csv: item 1: .*expected video, question"):
        benchmark("nextqa").items(tmp_path)


def test_the_parts_of_a_table_are_read_in_order(tmp_path):
    touch(tmp_path / "data/fFjv93ACGo8.mp4")
    for part, id_ in ((1, "b"), (0, "a")):
        path = tmp_path / f"videomme/test-0000{part}-of-00002.json"
        write_json(path, [VIDEOMME | {"question_id": id_}])
    assert [one.id for one in benchmark("videomme").items(tmp_path)] == ["a", "b"]


def write_parquet(path, rows):
    pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = import_module("pyarrow").Table.from_pylist(rows)
    import_module("pyarrow.parquet").write_table(table, path)


@pytest.mark.parametrize("name", ONE_FILE)
def test_parquet_gives_the_items_that_json_gives(tmp_path, name):
    bench = fill(name, tmp_path)
    of_json = bench.items(tmp_path)
    path, row, _ = LAYOUTS[name]
    (tmp_path / path).unlink()
    write_parquet(tmp_path / f"{path.removesuffix('.json')}-00000-of-00001.parquet", [row])
    assert bench.items(tmp_path) == of_json


def test_parquet_without_pyarrow_names_the_command_that_installs_it(tmp_path, monkeypatch):
    touch(tmp_path / "videomme/test-00000-of-00001.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match="parquet needs pyarrow: pip install pyarrow"):
        benchmark("videomme").items(tmp_path)


def test_json_next_to_parquet_needs_no_pyarrow(tmp_path, monkeypatch):
    touch(tmp_path / "videomme/test-00000-of-00001.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert len(fill("videomme", tmp_path).items(tmp_path)) == 1


def test_parquet_that_is_cut_short_is_named(tmp_path):
    path = tmp_path / "videomme/test.parquet"
    write_parquet(path, [VIDEOMME])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="test.parquet: the parquet reader cannot .*: download"):
        benchmark("videomme").items(tmp_path)


# -- reading and counting --------------------------------------------------------------------------


def test_the_parser_of_video_mme_can_be_the_older_one():
    bench = benchmark("videomme")
    assert [bench.parse("Answer: C", item(), p) for p in ("head", "v0.5")] == ["C", "A"]


def test_the_parser_of_mlvu_can_be_the_older_one():
    bench = benchmark("mlvu")
    assert [bench.parse("A.", item(), p) for p in ("head", "v0.5")] == ["A", None]
    assert bench.parse("(B) x", item(), "v0.5") == "B"


@pytest.mark.parametrize("name", ["longvideobench", "nextqa", "video_holmes"])
def test_a_response_without_a_letter_is_left_to_the_draw(name):
    bench = benchmark(name)
    assert bench.parse("", item(options="vwxyz")) is None
    assert bench.parse("no idea", item(options="vwxyz")) is None


def test_a_letter_that_an_item_lacks_is_wrong_and_not_drawn():
    assert benchmark("longvideobench").parse("E", item()) == "E"


@pytest.mark.parametrize(
    ("task", "right", "wrong", "unread"),
    [
        ("multi-choice", ["A", "A. dunking a basketball", "A) x"], ["B", "D."], ["(A)", ""]),
        ("yes_no", ["Yes", "yes."], ["No", "Not sure"], ["It is", ""]),
        ("caption_matching", ["2", "Option 2", "It falls."], ["1.", "It rises."], ["rises", ""]),
    ],
)
def test_tempcompass_rates_a_response_as_its_rules_do(tmp_path, task, right, wrong, unread):
    bench = fill("tempcompass", tmp_path)
    one = next(one for one in bench.items(tmp_path) if one.task == task)
    assert all(bench.parse(response, one) == one.answer for response in right)
    assert all(bench.parse(response, one) not in (None, one.answer) for response in wrong)
    assert all(bench.parse(response, one) is None for response in unread)


@pytest.mark.parametrize("answer", TVBENCH["candidates"])
def test_a_count_of_tvbench_is_a_place_as_in_lmms_eval_and_sound_by_its_text(tmp_path, answer):
    options = TVBENCH["candidates"]
    bench = fill("tvbench", tmp_path, [TVBENCH | {"answer": answer}])
    (found,) = bench.items(tmp_path)
    rows = [reread(bench, row(found, text), found, "head") for text in (*"ABCD", "2", "4")]
    right = {"2": "C", "3": "D", "4": "D", "5": "C"}[answer]
    named = [*"ABCD", "A", "D"]
    assert [x["correct"] for x in rows] == [x == right for x in named]
    assert [x["sound"] for x in rows] == [x == "ABCD"[options.index(answer)] for x in named]


def test_no_space_around_a_question_of_tvbench_is_shown(tmp_path):
    (usual,) = fill("tvbench", tmp_path).items(tmp_path)
    row = TVBENCH | {"question": f" {TVBENCH['question']}\n"}
    assert fill("tvbench", tmp_path, [row]).items(tmp_path) == [usual]


def test_a_question_of_tvbench_with_a_start_and_an_end_is_about_a_clip(tmp_path):
    row = TVBENCH | {"start": 21.4, "end": 37.6}
    rows = [TVBENCH, row, TVBENCH | {"start": None, "end": None}]
    found = fill("tvbench", tmp_path, rows).items(tmp_path)
    assert [one.clip for one in found] == [None, (21.4, 37.6), None]


@pytest.mark.parametrize("change", [{"end": None}, {"end": "soon"}, {"start": "1"}])
def test_a_clip_of_tvbench_without_two_numbers_is_refused(tmp_path, change):
    row = {key: x for key, x in (TVBENCH | {"start": 1.0} | change).items()}
    with pytest.raises(ValueError, match="action_count.json: item 0: "):
        fill("tvbench", tmp_path, [row]).items(tmp_path)


def test_clips_are_off_by_default_and_their_answers_are_not_mixed(
    tmp_path, monkeypatch, tiny_folder, capsys
):
    monkeypatch.chdir(tmp_path)
    row = TVBENCH | {"start": 0.5, "end": 1.0}
    fill("tvbench", tmp_path / "data", [TVBENCH, row])
    write_videos(tmp_path, 1, seed=0)
    video = tmp_path / "data/video/action_count/video_8686.mp4"
    video.write_bytes((tmp_path / "00000.avi").read_bytes())
    config = evaluate.EvalConfig(
        bench="tvbench",
        data=tmp_path / "data",
        model=str(tiny_folder),
        scoring="letter",
        max_pixels=0,
        dtype="float32",
        device="cpu",
    )
    said = []
    for clips in (False, True, False, True):
        evaluate.main(replace(config, clips=clips))
        said.append(capsys.readouterr().out)
        table = (tmp_path / "out/eval/tiny/tvbench/scores.md").read_text()
        assert ("--clips: " in table) == ("--clips: " in said[-1]) == clips
    asked = [int(re.search(r"(\d+) questions to answer", text)[1]) for text in said]
    assert asked == [2, 1, 0, 0]  # the other question has no clip


def test_clips_of_a_benchmark_without_them_are_refused(tmp_path, monkeypatch, tiny_folder):
    monkeypatch.chdir(tmp_path)
    fill("tomato", tmp_path / "data/tomato")
    config = evaluate.EvalConfig(bench="tomato", model=str(tiny_folder), clips=True, max_pixels=0)
    with pytest.raises(SystemExit, match="--clips: no question of tomato has a start and an end"):
        evaluate.main(config)


def test_a_task_of_tvbench_without_videos_is_left_out(tmp_path):
    bench = fill("tvbench", tmp_path)
    write_json(tmp_path / "json/action_antonym.json", [TVBENCH])
    assert [one.task for one in bench.items(tmp_path)] == ["action_count"]


def test_videos_of_tvbench_may_be_next_to_its_folder_of_questions(tmp_path):
    bench = fill("tvbench", tmp_path, videos=["action_count/video_8686.mp4"])
    assert bench.items(tmp_path)[0].name == "action_count/video_8686.mp4"


@pytest.mark.parametrize(
    ("question", "options", "shown"),
    [
        (
            "How many trapezoid(s) does the person draw in the air throughout the entire video?",
            ["2", "1", "3", "4", "5", "0"],
            "{'A': '2', 'B': '1', 'C': '3', 'D': '4', 'E': '5', 'F': '0'}",
        ),
        (
            "In which direction(s) did the person's hand move?",
            [
                "Not moving at all",
                "Left.",
                "Right.",
                "First to the right then to the left.",
                "First to the left then to the right.",
            ],
            "{'A': 'Not moving at all', 'B': 'Left.', 'C': 'Right.', 'D': 'First to the right then "
            "to the left.', 'E': 'First to the left then to the right.'}",
        ),
    ],
)
def test_options_of_tomato_are_shown_as_python_shows_a_dict(tmp_path, question, options, shown):
    row = TOMATO | {"question": question, "options": options}
    (found,) = fill("tomato", tmp_path, [row]).items(tmp_path)
    assert f"<question> \n{question} \n</question>\n\n" in found.prompt
    assert f"<options> \n{shown} \n</options>\n\n" in found.prompt


def test_video_holmes_asks_qwen3_vl_as_lmms_eval_does(tmp_path):
    bench = fill("video_holmes", tmp_path)
    (found,) = bench.items(tmp_path)
    assert found.prompts[bench.models["qwen3_vl"]] == (
        HOLMES_ASKED + "Answer with the option letter only."
    )


@pytest.mark.parametrize(
    ("name", "results", "score"),
    [
        ("tomato", {"count": [1, 0], "rotation": [1, 1], "direction": [0]}, 60),
        ("tomato", {"count": [1, 0, 0]}, 100 / 3),
        ("video_holmes", {"SR": [1, 0], "TA": [1], "CTI": [1], "IMC": [0], "XX": [1]}, 200 / 3),
        ("video_holmes", {"PAR": [1, 0], "MHR": [0]}, 100 / 3),
        ("mmvu", {"multiple-choice": [1, 0, 1]}, 200 / 3),
    ],
)
def test_the_score_is_over_all_items(name, results, score):
    bench = benchmark(name)
    rows = [
        {"id": f"{task}/{i}", "task": task, "response": "A", "correct": bool(right)}
        for task, of in results.items()
        for i, right in enumerate(of)
    ]
    found = summary(bench.aggregate(rows), bench.macro)["mean"]["value"]
    assert found == pytest.approx(score)


def test_vsi_bench_asks_for_a_number_in_a_single_word(tmp_path):
    (found,) = fill("vsibench", tmp_path, [VSIBENCH | ROOM]).items(tmp_path)
    assert found.prompt == (
        "These are frames of a video.\nHow many chair(s) are in this room?\n"
        "Please answer the question using a single word or phrase."
    )
    assert (found.options, found.answer) == ((), "4.0")


def test_the_sound_score_of_video_holmes_draws_no_letter(tmp_path):
    bench = fill("video_holmes", tmp_path)
    (found,) = bench.items(tmp_path)
    said = ["A)", "A: Cleaners", r"\boxed{A}", "Cleaners", "<answer>A</answer>", "who knows", ""]
    rows = [reread(bench, row(found, text), found, "head") for text in said]
    assert [x["sound"] for x in rows] == [True] * 5 + [False] * 2
    assert all(x["drawn"] for x in rows)


def test_an_answer_of_vsi_bench_that_is_right_in_part_has_a_score_and_a_sound_one(tmp_path):
    bench = fill("vsibench", tmp_path, [VSIBENCH | ROOM | {"ground_truth": "0.4"}, VSIBENCH])
    room, corner = bench.items(tmp_path)
    found = reread(bench, row(room, ".5"), room, "head")
    assert (found["score"], found["sound"], found["correct"]) == (0.0, 0.6, False)
    found = reread(bench, row(corner, "(B)"), corner, "head")
    assert (found["score"], found["sound"], found["correct"]) == (0.0, 1.0, False)


DIRECTION = "object_rel_direction"


@pytest.mark.parametrize(
    ("results", "direction", "overall"),
    [
        (
            {
                f"{DIRECTION}_easy": [1, 1],
                f"{DIRECTION}_medium": [0],
                f"{DIRECTION}_hard": [1, 0],
                "object_rel_distance": [1],
                "route_planning": [0],
                "obj_appearance_order": [1],
                "object_abs_distance": [0.4],
                "object_counting": [1, 0.5],
                "object_size_estimation": [0.8],
                "room_size_estimation": [0.2],
            },
            0.5,
            0.58125,
        ),
        (
            {
                f"{DIRECTION}_easy": [1],
                f"{DIRECTION}_medium": [1],
                f"{DIRECTION}_hard": [0],
                "object_counting": [0.6, 0.1],
                "route_planning": [1],
            },
            2 / 3,
            0.672222,
        ),
        (
            {f"{DIRECTION}_easy": [1], f"{DIRECTION}_hard": [0, 0, 0], "route_planning": [1]},
            0.5,
            0.75,
        ),
    ],
)
def test_the_score_of_vsi_bench_is_over_types_with_one_direction(results, direction, overall):
    bench = benchmark("vsibench")
    rows = [
        {"id": f"{task}/{i}", "task": task, "response": "A", "correct": score == 1, "score": score}
        for task, of in results.items()
        for i, score in enumerate(of)
    ]
    found = summary(bench.aggregate(rows), bench.macro)
    assert found["groups"][DIRECTION]["value"] == pytest.approx(100 * direction)
    assert found["groups"][DIRECTION]["counted"] == sum(DIRECTION in row["task"] for row in rows)
    assert found["mean"]["value"] == pytest.approx(100 * overall, abs=1e-4)


def test_a_video_of_video_mmmu_may_be_in_the_folder_of_any_domain(tmp_path):
    bench = fill("videommmu", tmp_path, videos=["Science/new_Design_5.mp4"])
    assert {one.name for one in bench.items(tmp_path)} == {"Science/new_Design_5.mp4"}


def test_adaptation_of_video_mmmu_shows_what_was_learned_and_no_note(tmp_path):
    bench = fill("videommmu", tmp_path)
    question = "<image 1> What kind of sugar is this, aldose or ketose?"
    row = VIDEOMMMU | {"question": question, "options": SUGARS, "answer": "A"}
    write_json(tmp_path / "Adaptation/test.json", [row])
    (*_, found) = bench.items(tmp_path)
    assert found.prompt == (
        "You should watch and learn the video content. Then apply what you learned to answer the "
        "following multi-choice question. The image for this question is at the end of the video.\n"
        "<image 1> What kind of sugar is this, aldose or ketose?\nA. aldose\nB. ketose\n"
        "C. glucose\nD. fructose\nE. ribose\nF. xylose\nG. arabinose\nH. mannose\n"
        "I. galactose\nJ. sucrose"
    )


@pytest.mark.parametrize(("second", "shown"), [("B. y", "A. x\nB. y"), ("y", "A. A. x\nB. y")])
def test_options_of_video_mmmu_get_letters_unless_all_have_theirs(tmp_path, second, shown):
    row = VIDEOMMMU | {"options": ["A. x", second], "answer": "A"}
    first, *_ = fill("videommmu", tmp_path, [row]).items(tmp_path)
    assert f"?\n{shown}\nPlease" in first.prompt


@pytest.mark.parametrize("kind", ["open", "", None])
def test_open_questions_of_video_mmmu_are_not_asked(tmp_path, kind):
    bench = fill("videommmu", tmp_path)
    write_json(tmp_path / "Adaptation/test.json", [VIDEOMMMU | {"question_type": kind}])
    assert [one.task for one in bench.items(tmp_path)] == ["Perception", "Comprehension"]


def test_open_questions_of_mmvu_are_not_asked(tmp_path):
    other = MMVU | {"id": "validation_4", "question_type": "open-ended"}
    bench = fill("mmvu", tmp_path, [other, MMVU])
    assert [one.id for one in bench.items(tmp_path)] == ["validation_3"]


@pytest.mark.parametrize("name", sorted(set(NEW) - {"vinoground"}))
def test_an_empty_response_and_a_failed_video_are_wrong(name):
    task = benchmark(name).tasks[0]
    rows = [
        row(item(task, "a"), correct=False),
        row(item(task, "b"), correct=False, error="damaged"),
        row(item(task, "c"), "A", correct=True),
    ]
    assert benchmark(name).aggregate(rows) == {task: {"a": 0.0, "b": 0.0, "c": 1.0}}


def shares(groups):
    return {group: sum(units.values()) / len(units) for group, units in groups.items()}


def test_the_groups_of_video_mme_by_hand():
    bench = benchmark("videomme")
    items = [item("short", "a"), item("short", "b"), item("long", "c")]
    rows = scored(bench, items, ["A", "B", "(A)"])
    assert shares(bench.aggregate(rows)) == {"short": 0.5, "long": 1.0}


@pytest.mark.parametrize(
    ("name", "tasks", "mean"),
    [
        ("mlvu", ("plotQA", "ego"), (1 / 3 + 1) / 2),
        ("videomme", ("short", "long"), 2 / 4),
        ("videommmu", ("Perception", "Adaptation"), (1 / 3 + 1) / 2),
    ],
)
def test_a_mean_is_that_of_the_tasks_or_of_the_items(name, tasks, mean):
    bench = benchmark(name)
    items = [item(tasks[0], str(i)) for i in range(3)] + [item(tasks[1], "3")]
    scores = bench.aggregate(scored(bench, items, ["A", "B", "C", "A"]))
    assert summary(scores, bench.macro)["mean"]["value"] == pytest.approx(100 * mean)


def test_a_pair_of_vinoground_is_right_when_all_its_questions_are(tmp_path):
    bench = fill("vinoground", tmp_path)
    found = bench.items(tmp_path)  # of pair 0 and 1: pos, neg; text, then video
    rows = scored(bench, found, ["A", "B", "A", "", "a", "b)", "A", "B"])
    assert bench.aggregate(rows) == {
        "text": {"0": 1.0, "1": 0.0},
        "video": {"0": 1.0, "1": 1.0},
        "group": {"0": 1.0, "1": 0.0},
    }


def test_a_pair_of_vinoground_that_is_not_asked_in_full_leaves_the_count(tmp_path):
    bench = fill("vinoground", tmp_path)
    by_id = {one.id: one for one in bench.items(tmp_path)}
    asked = [by_id[x] for x in ("0_pos_text", "0_neg_text", "1_pos_text", "0_pos_video")]
    scores = bench.aggregate(scored(bench, asked, ["A", "B", "A", "A"]))
    assert scores == {
        "text": {"0": 1.0, "1": None},
        "video": {"0": None, "1": None},
        "group": {"0": None, "1": None},
    }


@pytest.mark.parametrize("name", NEW)
def test_absent_names_the_tasks_without_items(name):
    bench = benchmark(name)
    first, *others = bench.tasks
    assert bench.absent([SimpleNamespace(task=first)]) == others


def test_a_video_whose_name_is_longer_than_a_file_s_may_be_is_missing(tmp_path):
    bench = fill("videomme", tmp_path, [VIDEOMME | {"videoID": "x" * 300}])
    with pytest.raises(FileNotFoundError, match="1 of 1 videos are missing, such as .*xxx;"):
        bench.items(tmp_path)
