"""Layouts, prompts and numbers of the benchmarks, against facts about their data and lmms-eval.

Every benchmark is a small folder in the layout of its real one, with one item or two; items come
from its authors where they were seen. Videos are empty files: loading decodes none.
python -m pytest -q tests/test_benchmarks.py
"""

import csv
import json
import sys
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import pytest

import evaluate
from pasta import benchmarks
from pasta.benchmarks import Item, benchmark, groups, tables
from pasta.benchmarks.scoring import summary
from pasta.run.rows import read_rows
from pasta.sampling import uniform
from pasta.toy.files import write_videos
from pasta.video import read_frames

NAMES = [name for name in benchmarks.NAMES if name != "adversarial"]  # lmms-eval's

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
LVB_PARQUET = {k: v for k, v in LVB.items() if k != "candidates"} | {
    f"option{i}": text for i, text in enumerate([*LVB["candidates"], "N/A"])
}
MLVU = {
    "video_name": "movie101_66.mp4",
    "question": "What color is the main male character?\n(A) Yellow\n(B) Red\n(C) Green\n(D) Blue",
    "candidates": ["Yellow", "Red", "Green", "Blue"],
    "answer": "A",
    "task_type": "plotQA",
}
MLVU_OFFICIAL = {
    "video": "movie101_66.mp4",
    "duration": 246,
    "question": "What color is the main male character?",
    "candidates": ["Yellow", "Red", "Green", "Blue"],
    "answer": "Yellow",
    "question_type": "plotQA",
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
CAPTIONS = (
    "a toddler plays around the grassfield before he picks up a water bottle and drinks",
    "a toddler picks up a water bottle and drinks before he plays around the grassfield",
)


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


# bench: (file of the annotations, its rows, the videos)
LAYOUTS = {
    "videomme": ("videomme/test.json", [VIDEOMME], ["data/fFjv93ACGo8.mp4"]),
    "longvideobench": ("lvb_val.json", [LVB], ["videos/86CxyhFV9MI.mp4"]),
    "mlvu": ("mlvu/test.json", [MLVU], ["movie101_66.mp4"]),
    "nextqa": ("MC/test.json", [NEXTQA], ["NExTVideo/2574374895.mp4"]),
    "tempcompass": (
        "multi-choice/test.json",
        [TEMPCOMPASS["multi-choice"]],
        ["videos/1034419625.mp4"],
    ),
    "perceptiontest": (
        "mc_question_val/validation.json",
        [PERCEPTION],
        ["videos/video_1234.mp4"],
    ),
}
ONE_FILE = list(LAYOUTS)  # vinoground has two
NEW = [*LAYOUTS, "vinoground"]


def fill(bench, data, rows=None, videos=None):
    """Write a small folder of a benchmark; returns its module."""
    if bench == "vinoground":
        vinoground_folder(data)
    else:
        path, usual_rows, usual_videos = LAYOUTS[bench]
        write_json(data / path, usual_rows if rows is None else rows)
        touch(*(data / name for name in (usual_videos if videos is None else videos)))
    return benchmark(bench)


def row(item, response="", **fields):
    """A row of pasta/benchmarks/answers.py."""
    return {"id": item.id, "task": item.task, "response": response} | fields


def scored(module, items, responses):
    """The rows of responses as pasta/benchmarks/answers.py makes them, but for the draw."""
    return [
        row(item, response, correct=module.parse(response, item) == item.answer)
        for item, response in zip(items, responses, strict=True)
    ]


def item(task="t", id_="t/0", options=("x", "y", "z", "w"), answer="A", prompt="", labels=()):
    return Item(id_, task, "v.mp4", None, prompt, tuple(options), answer, labels=labels)


# -- the interface ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_is_a_module_with_the_names_that_evaluate_needs(name):
    module = benchmark(name)
    assert module.FETCH.startswith("hf download ")
    assert str(module.DATA) == f"data/{name}"
    assert module.MACRO in (True, False, None) and module.RANDOM in (True, False)
    assert all(map(callable, (module.items, module.absent, module.parse)))
    assert all(map(callable, (module.aggregate, module.breakdown)))


def test_there_are_eight_benchmarks_of_lmms_eval_and_our_adversarial_qa():
    assert len(NAMES) == len(set(NAMES)) == 8
    assert set(benchmarks.NAMES) == {*NAMES, "adversarial"}


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("mvbench", 4000),
        ("videomme", 2700),
        ("longvideobench", 1337),
        ("mlvu", (2174, 2175)),  # the hub's and the authors'
        ("nextqa", 8564),
        ("tempcompass", 1580 + 2453 + 1503),
        ("perceptiontest", 19140),
        ("vinoground", 2000),
    ],
)
def test_the_numbers_of_items_are_those_of_the_published_sets(name, total):
    counts = benchmark(name).COUNTS
    per_task = sum(n for task, n in counts.items() if task != "all")
    assert counts.get("all", total) == total and per_task in (0, total)


def test_only_longvideobench_and_nextqa_draw_a_letter():
    assert [name for name in NAMES if benchmark(name).RANDOM] == ["longvideobench", "nextqa"]


def test_means_of_groups_are_those_of_mvbench_and_mlvu():
    assert [name for name in NAMES if benchmark(name).MACRO] == ["mvbench", "mlvu"]
    assert [name for name in NAMES if benchmark(name).MACRO is None] == [
        "tempcompass",
        "vinoground",
    ]


def test_answers_are_as_long_as_in_lmms_eval_and_128_where_it_leaves_it_open():
    assert [benchmark(name).MAX_NEW_TOKENS for name in NAMES] == [16, 16, 32, 16, 128, 128, 128, 16]


# -- prompts and items, layout by layout -----------------------------------------------------------


def test_video_mme_asks_as_lmms_eval_does(tmp_path):
    (found,) = fill("videomme", tmp_path).items(tmp_path)
    assert found.prompt == (
        "Select the best answer to the following multiple-choice question based on the video and "
        "the subtitles. Respond with only the letter (A, B, C, or D) of the correct option.\n"
        "Which kind of the decoration has the largest number?\nA. Apples.\nB. Candles.\n"
        "C. Berries.\nD. The three kinds are of the same number.\n\n"
        "Answer with the option's letter from the given choices directly."
    )


def test_an_item_of_video_mme(tmp_path):
    (found,) = fill("videomme", tmp_path).items(tmp_path)
    assert found == Item(
        id="001-1",
        task="short",
        name="data/fFjv93ACGo8.mp4",
        video=tmp_path / "data/fFjv93ACGo8.mp4",
        prompt=found.prompt,
        options=tuple(VIDEOMME["options"]),
        answer="C",
        labels=(
            "domain=Knowledge",
            "sub_category=Humanity & History",
            "task_type=Counting Problem",
        ),
    )


def test_longvideobench_asks_as_lmms_eval_does(tmp_path):
    (found,) = fill("longvideobench", tmp_path).items(tmp_path)
    assert found.prompt == (
        "Who comes first?\nA. He\nB. She\nC. They\nD. No one\n"
        "Answer with the option's letter from the given choices directly.\n"
    )


def test_an_item_of_longvideobench_is_a_whole_video(tmp_path):
    (found,) = fill("longvideobench", tmp_path).items(tmp_path)
    assert (found.id, found.task, found.answer) == ("86CxyhFV9MI_0", "600 s", "B")
    assert (found.start, found.end) == (None, None)
    assert found.labels == ("category=TOS", "level=L2-Relation")


def test_both_forms_of_longvideobench_give_the_same_items(tmp_path):
    of_json = fill("longvideobench", tmp_path / "a").items(tmp_path / "a")
    module = fill("longvideobench", tmp_path / "b", rows=[LVB_PARQUET])
    (tmp_path / "b/lvb_val.json").rename(tmp_path / "b/validation.json")
    (found,) = module.items(tmp_path / "b")
    assert (found.prompt, found.options) == (of_json[0].prompt, of_json[0].options)


def test_the_items_of_longvideobench_stand_by_duration(tmp_path):
    rows = [LVB | {"id": str(i), "duration_group": g} for i, g in enumerate((600, 15, 3600, 15))]
    found = fill("longvideobench", tmp_path, rows).items(tmp_path)
    assert [(one.task, one.id) for one in found] == [
        ("15 s", "1"),
        ("15 s", "3"),
        ("600 s", "0"),
        ("3600 s", "2"),
    ]


MLVU_PROMPT = (
    "What color is the main male character?\n(A) Yellow\n(B) Red\n(C) Green\n(D) Blue\n"
    "Only give the best option.\nBest option: ("
)


def test_mlvu_asks_as_lmms_eval_does(tmp_path):
    (found,) = fill("mlvu", tmp_path).items(tmp_path)
    assert found.prompt == MLVU_PROMPT


def test_a_newline_at_the_end_of_a_question_of_mlvu_stays(tmp_path):
    rows = [MLVU | {"question": MLVU["question"] + "\n"}]
    (found,) = fill("mlvu", tmp_path, rows).items(tmp_path)
    assert found.prompt == MLVU_PROMPT.replace("Blue\n", "Blue\n\n")


@pytest.mark.parametrize(
    "change",
    [
        {"question": "What color is the main male character?"},
        {"question": "What color is the main male character?", "answer": "Yellow"},
        {"candidates": None},
        {"video_name": "movie101_66"},
    ],
)
def test_every_form_of_a_row_of_mlvu_gives_the_same_item(tmp_path, change):
    (usual,) = fill("mlvu", tmp_path).items(tmp_path)
    assert fill("mlvu", tmp_path, [MLVU | change]).items(tmp_path) == [usual]


def mlvu_official(data, needle=()):
    """The authors' layout, one item a task, and more needle ones."""
    for i, task in enumerate(benchmark("mlvu").TASKS, 1):
        rows = [MLVU_OFFICIAL | {"video": f"{task}.mp4"}]
        rows += [MLVU_OFFICIAL | more for more in needle if task == "needle"]
        write_json(data / f"json/{i}_{task}.json", rows)
        touch(*(data / f"video/{i}_{task}" / row["video"] for row in rows))


@pytest.mark.parametrize("base", [".", "MLVU"])
def test_the_authors_layout_of_mlvu_gives_the_prompts_of_the_hubs(tmp_path, base):
    mlvu_official(tmp_path / base)
    found = benchmark("mlvu").items(tmp_path)
    assert [one.task for one in found] == list(benchmark("mlvu").TASKS)
    assert {one.prompt for one in found} == {MLVU_PROMPT}
    assert found[1].video == tmp_path / base / "video/2_needle/needle.mp4"


def test_the_two_needle_questions_without_a_right_candidate_stay_in_the_count(tmp_path):
    mlvu_official(tmp_path, [{"video": "needle_4.mp4", "answer": "None of these"}])
    module = benchmark("mlvu")
    lost = next(one for one in module.items(tmp_path) if one.name.endswith("needle_4.mp4"))
    assert lost.answer == ""
    assert all(module.parse(response, lost) != "" for response in ("", "A", "none"))


def test_any_other_answer_of_mlvu_that_is_no_candidate_is_refused(tmp_path):
    mlvu_official(tmp_path, [{"video": "needle_5.mp4"}, {"answer": "None of these"}])
    with pytest.raises(ValueError, match="2_needle.json: item 2: .*'None of these'"):
        benchmark("mlvu").items(tmp_path)


def test_a_file_of_mlvu_that_is_missing_is_named_with_its_command(tmp_path):
    mlvu_official(tmp_path / "MLVU")
    (tmp_path / "MLVU/json/4_count.json").unlink()
    with pytest.raises(FileNotFoundError, match="no MLVU/json/4_count .*hf download MLVU/MVLU"):
        benchmark("mlvu").items(tmp_path)


def test_nextqa_asks_as_lmms_eval_does(tmp_path):
    rows = [NEXTQA | {"question": f" {NEXTQA['question']} ", "a4": "crawl\n"}]
    (found,) = fill("nextqa", tmp_path, rows).items(tmp_path)
    assert found.prompt == (
        "what did the baby do after throwing the green cup away while on the floor near the end\n"
        "A. clap proudly\nB. the lady sitting down\nC. lay on floor\nD. just picked it up\nE. crawl"
    )


def test_an_item_of_nextqa_from_the_hub_has_numbers(tmp_path):
    rows = [NEXTQA | {"video": 2574374895, "answer": 2, "qid": 8}]
    (found,) = fill("nextqa", tmp_path, rows).items(tmp_path)
    assert (found.id, found.task, found.answer) == ("2574374895_8", "temporal", "C")
    assert found.labels == ("type=TN",)


@pytest.mark.parametrize("path", ["test.csv", "nextqa/test.csv", "dataset/nextqa/test.csv"])
def test_the_authors_csv_of_nextqa_finds_videos_by_the_map_of_vidor(tmp_path, path):
    write_csv(tmp_path / path, [NEXTQA])
    write_json((tmp_path / path).parent / "map_vid_vidorID.json", {"2574374895": "0101/2574374895"})
    touch(tmp_path / "NExTVideo/0101/2574374895.mp4")
    (found,) = benchmark("nextqa").items(tmp_path)
    assert found.name == "NExTVideo/0101/2574374895.mp4"
    assert found.answer == "C"


def test_questions_of_nextqa_before_and_after_are_one_kind(tmp_path):
    (found,) = fill("nextqa", tmp_path, [NEXTQA | {"type": "TP"}]).items(tmp_path)
    assert found.labels == ("type=TN",)


TEMPCOMPASS_PROMPTS = {
    "multi-choice": "What is the man doing in the video?\nA. dunking a basketball\n"
    "B. dribbling a basketball\nC. passing a basketball\nPlease directly give the best option:",
    "yes_no": "Is the man dunking a basketball?\nPlease answer yes or no:",
    "caption_matching": "Which one fits?\nOption 1: It rises.\nOption 2: It falls.\n"
    "Please directly give the best option:",
}


def tempcompass_hub(data):
    for task, one in TEMPCOMPASS.items():
        write_json(data / task / "test.json", [one])
        touch(data / "videos" / f"{one['video_id']}.mp4")


def test_tempcompass_asks_as_lmms_eval_does(tmp_path):
    tempcompass_hub(tmp_path)
    found = benchmark("tempcompass").items(tmp_path)
    assert {one.task: one.prompt for one in found} == TEMPCOMPASS_PROMPTS


def test_the_authors_questions_of_tempcompass_are_the_hubs(tmp_path):
    tempcompass_hub(tmp_path / "hub")
    for task, one in TEMPCOMPASS.items():
        short = {"question": one["question"], "answer": one["answer"]}
        questions = {one["video_id"]: {one["dim"]: [short]}}
        write_json(tmp_path / "git/questions" / f"{task}.json", questions)
        touch(tmp_path / "git/videos" / f"{one['video_id']}.mp4")
    module = benchmark("tempcompass")
    fields = [
        [(one.id, one.prompt, one.answer, one.options, one.labels) for one in module.items(path)]
        for path in (tmp_path / "hub", tmp_path / "git")
    ]
    assert fields[0] == fields[1] and len(fields[0]) == 3


def test_only_multi_choice_questions_of_tempcompass_have_letters(tmp_path):
    tempcompass_hub(tmp_path)
    found = benchmark("tempcompass").items(tmp_path)
    assert {one.task: (one.letters, one.answer) for one in found} == {
        "multi-choice": ("ABC", "A"),
        "yes_no": ("", "yes"),
        "caption_matching": ("", "Option 2: It falls."),
    }


def test_a_task_of_tempcompass_without_a_file_is_absent(tmp_path):
    module = fill("tempcompass", tmp_path)
    assert module.absent(module.items(tmp_path)) == ["yes_no", "caption_matching"]


def test_perception_test_asks_as_lmms_eval_does(tmp_path):
    (found,) = fill("perceptiontest", tmp_path).items(tmp_path)
    assert found.prompt == (
        "Is the camera moving?\nA. I don't know\nB. moving\nC. static or shaking\n"
        "Answer with the option's letter from the given choices directly."
    )


def test_an_item_of_perception_test(tmp_path):
    (found,) = fill("perceptiontest", tmp_path).items(tmp_path)
    assert (found.id, found.task, found.answer) == ("video_1234/3", "physics", "C")
    assert found.labels == ("reasoning=descriptive", "tag=motion", "tag=place recognition")


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
    assert found[4].labels == ("major=action", "minor=interaction", "minor=cyclical")
    assert found[7].labels == ("major=object",)


def test_the_files_of_vinoground_may_be_where_its_zips_unpack_them(tmp_path):
    module = fill("vinoground", tmp_path)
    usual = module.items(tmp_path)
    for name, folder in (("text", "vinoground_videos"), ("video", "vinoground_videos_concated")):
        file = f"vinoground_{name}score.json"
        (tmp_path / file).rename(tmp_path / folder / file)
    assert module.items(tmp_path) == usual


def test_vinoground_without_its_csv_has_no_categories(tmp_path):
    module = fill("vinoground", tmp_path)
    (tmp_path / "vinoground.csv").unlink()
    found = module.items(tmp_path)
    assert {one.labels for one in found} == {()}
    assert module.breakdown(scored(module, found, ["A"] * 8), found) == {}


# -- files and videos ------------------------------------------------------------------------------


@pytest.mark.parametrize("bench", NEW)
def test_a_folder_that_is_not_there_names_the_command_that_fetches_it(tmp_path, bench):
    module = benchmark(bench)
    with pytest.raises(FileNotFoundError) as error:
        module.items(tmp_path / "none")
    assert "no " in str(error.value) and ".json, .csv, .parquet" in str(error.value)
    assert str(error.value).endswith(f"fetch it with: {module.FETCH} {tmp_path / 'none'}")


@pytest.mark.parametrize("bench", NEW)
def test_a_missing_video_names_itself_and_the_command(tmp_path, bench):
    module = fill(bench, tmp_path)
    video = module.items(tmp_path)[0].video
    video.unlink()
    with pytest.raises(FileNotFoundError) as error:
        module.items(tmp_path)
    assert f"1 of {8 if bench == 'vinoground' else 1} videos are missing, such as {video} " in str(
        error.value
    )
    assert str(error.value).endswith(f"; fetch them with: {module.FETCH} {tmp_path}")


@pytest.mark.parametrize("bench", ONE_FILE)
@pytest.mark.parametrize("suffix", [".MP4", ".mkv", ".webm", ""])
def test_a_video_may_have_another_suffix_or_be_a_folder(tmp_path, bench, suffix):
    module = fill(bench, tmp_path)
    video = module.items(tmp_path)[0].video
    other = video.with_suffix(suffix)
    video.unlink()
    other.touch() if suffix else other.mkdir()
    assert module.items(tmp_path)[0].video == other


@pytest.mark.parametrize("folder", ["data", "videos", "video"])
def test_video_mme_finds_its_videos_in_any_of_three_folders(tmp_path, folder):
    module = fill("videomme", tmp_path, videos=[f"{folder}/fFjv93ACGo8.mp4"])
    assert module.items(tmp_path)[0].name == f"{folder}/fFjv93ACGo8.mp4"


def test_zip_files_that_were_not_unpacked_are_named_with_the_command(tmp_path):
    module = fill("videomme", tmp_path, videos=["videos_chunked_01.zip"])
    with pytest.raises(FileNotFoundError) as error:
        module.items(tmp_path)
    unpack = f"unzip -n '{tmp_path}/*.zip' -d {tmp_path}"
    assert f"; unpack what is there: {unpack}; or fetch them with: hf" in str(error.value)


def test_tar_files_that_were_not_unpacked_are_named_with_the_command(tmp_path):
    parts = ["videos.tar.part.aa", "videos.tar.part.ab"]
    module = fill("longvideobench", tmp_path, videos=parts)
    with pytest.raises(FileNotFoundError) as error:
        module.items(tmp_path)
    assert f"cat {tmp_path}/videos.tar* | tar x -C {tmp_path}; or fetch" in str(error.value)


def test_zip_files_in_a_folder_unpack_there(tmp_path):
    mlvu_official(tmp_path / "MLVU")
    (tmp_path / "MLVU/video/3_ego/ego.mp4").unlink()
    touch(tmp_path / "MLVU/video/3_ego.zip")
    with pytest.raises(FileNotFoundError) as error:
        benchmark("mlvu").items(tmp_path)
    where = tmp_path / "MLVU/video"
    assert f"unzip -n '{where}/*.zip' -d {where};" in str(error.value)


VIDEO_COLUMN = {
    "videomme": "videoID",
    "longvideobench": "video_path",
    "mlvu": "video_name",
    "nextqa": "video",
    "tempcompass": "video_id",
    "perceptiontest": "video_name",
}


@pytest.mark.parametrize("bench", ONE_FILE)
@pytest.mark.parametrize("name", ["../x", "a/../../x.mp4", "/etc/x", "..\\x", ".."])
def test_a_video_outside_the_data_folder_is_refused(tmp_path, bench, name):
    first = LAYOUTS[bench][1][0]
    module = fill(bench, tmp_path, [first, first | {VIDEO_COLUMN[bench]: name}])
    with pytest.raises(ValueError, match=r"\.json: item 1: .*no path inside"):
        module.items(tmp_path)


def test_a_video_of_vinoground_outside_the_data_folder_is_refused(tmp_path):
    module = fill("vinoground", tmp_path)
    rows = list(vinoground_rows("vinoground_videos"))
    rows[2]["video_name"] = "../0_pos.mp4"
    write_json(tmp_path / "vinoground_textscore.json", rows)
    with pytest.raises(ValueError, match="textscore.json: item 2: .*no path inside"):
        module.items(tmp_path)


def test_a_map_of_vidor_does_not_lead_outside_either(tmp_path):
    module = fill("nextqa", tmp_path, videos=[])
    write_json(tmp_path / "map_vid_vidorID.json", {"2574374895": "../../x"})
    with pytest.raises(ValueError, match="map_vid_vidorID.json: .*no path inside"):
        module.items(tmp_path)


@pytest.mark.parametrize("bench", NEW)
def test_loading_decodes_nothing_and_takes_a_relative_folder(tmp_path, monkeypatch, bench):
    module = fill(bench, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    found = module.items("data")[0]
    assert found.video == tmp_path / "data" / found.name and not found.video.stat().st_size


def test_an_items_video_decodes(tmp_path):
    write_videos(tmp_path, 1, seed=0)
    module = fill("videomme", tmp_path)
    (tmp_path / "00000.avi").rename(tmp_path / "data/fFjv93ACGo8.mp4")
    (found,) = module.items(tmp_path)
    frames, _ = read_frames(found.video, partial(uniform, n=2), None, found.start, found.end)
    assert len(frames) == 2


@pytest.mark.parametrize("scoring", ["generate", "letter"])
@pytest.mark.parametrize("bench", NEW)
def test_a_model_is_asked_all_of_a_folder_with_real_videos(
    tmp_path, monkeypatch, tiny_folder, bench, scoring
):
    """The untrained toy's answers are nonsense, so what is right is decided here again."""
    monkeypatch.chdir(tmp_path)
    module = fill(bench, tmp_path / "data")
    (tmp_path / "clips").mkdir()
    write_videos(tmp_path / "clips", 1, seed=0)
    for item in module.items(tmp_path / "data"):
        item.video.write_bytes((tmp_path / "clips/00000.avi").read_bytes())
    evaluate.main(
        evaluate.EvalConfig(
            bench=bench,
            data=tmp_path / "data",
            model=str(tiny_folder),
            scoring=scoring,
            max_pixels=0,
            dtype="float32",
            device="cpu",
        )
    )
    asked = module.items(tmp_path / "data")
    rows = {r["id"]: r for r in read_rows(tmp_path / f"out/eval/{bench}/tiny/scored.jsonl")}
    assert rows.keys() == {item.id for item in asked}
    for item in asked:
        found = rows[item.id]
        assert "error" not in found and found["prompt"] == item.prompt
        if scoring == "letter":
            assert found["response"] in item.letters
        elif not found.get("drawn"):
            assert found["predicted"] == module.parse(found["response"], item)
        assert found["correct"] == (found["predicted"] == item.answer)
    saved = json.loads((tmp_path / f"out/eval/{bench}/scores.json").read_text())
    assert saved["runs"]["tiny"]["groups"].keys() == module.aggregate(rows.values()).keys()


# -- malformed data --------------------------------------------------------------------------------


UNUSED = {  # columns that an item can be made without
    "videomme": {"video_id"},
    "longvideobench": {"video_id", "duration", "starting_timestamp_for_subtitles"},
    "mlvu": {"candidates"},
    "nextqa": {"frame_count"},
    "tempcompass": set(),
    "perceptiontest": set(),
}
USED = [(bench, x) for bench in ONE_FILE for x in LAYOUTS[bench][1][0] if x not in UNUSED[bench]]


@pytest.mark.parametrize(("bench", "column"), USED)
def test_a_missing_column_names_itself_and_what_was_expected(tmp_path, bench, column):
    first = LAYOUTS[bench][1][0]
    broken = {key: value for key, value in first.items() if key != column}
    module = fill(bench, tmp_path, [first, broken])
    with pytest.raises(ValueError, match=rf"json: item 1: KeyError.'{column}'.*expected .*quest"):
        module.items(tmp_path)


@pytest.mark.parametrize(
    ("bench", "change", "said"),
    [
        ("videomme", {"options": ["A. Apples."]}, "has 1, expected 2 or more"),
        ("videomme", {"options": "['A. Apples.' 'B. Candles.']"}, "has 1, expected 2"),  # numpy's
        ("videomme", {"options": "A. Apples. B. Candles."}, "is no list of texts"),
        ("videomme", {"options": ["A. Apples.", 3]}, "is no list of texts"),
        ("videomme", {"options": None}, "None is no list"),
        ("videomme", {"answer": "E"}, "answer is 'E', no letter of 4 options"),
        ("videomme", {"answer": "CD"}, "answer is 'CD'"),
        ("videomme", {"answer": None}, "NoneType"),
        ("videomme", {"duration": "huge"}, "duration is 'huge', none of short, medium, long"),
        ("videomme", {"question": None}, "question is None, no text"),
        ("videomme", {"videoID": ""}, "videoID is '', no text"),
        ("longvideobench", {"candidates": ["He"]}, "has 1, expected 2 or more"),
        ("longvideobench", {"correct_choice": 4}, "answer number 4 of 4 options"),
        ("longvideobench", {"correct_choice": -1}, "answer number -1 of 4"),
        ("longvideobench", {"correct_choice": "B"}, "correct_choice is 'B', no whole number"),
        ("longvideobench", {"correct_choice": 1.5}, "correct_choice is 1.5"),
        ("longvideobench", {"duration_group": 30}, "duration_group is '30 s', none of 15 s"),
        ("mlvu", {"candidates": ["Yellow"]}, "has 1, expected 2 or more"),
        ("mlvu", {"answer": "Pink"}, "answer is 'Pink'"),
        ("mlvu", {"task_type": "summary"}, "task_type is 'summary', none of plotQA"),
        ("mlvu", {"candidates": None, "question": "Why?"}, "has 0, expected 2"),
        ("nextqa", {"answer": 5}, "answer number 5 of 5"),
        ("nextqa", {"type": "XX"}, "type is 'XX', none of CW"),
        ("nextqa", {"a1": None}, "is no list of texts"),
        ("tempcompass", {"question": "What?\nA. this"}, "options are 'A'"),
        ("tempcompass", {"question": "What?\nB. this\nA. that"}, "options are 'BA'"),
        ("tempcompass", {"answer": "D. neither"}, "answer is 'D', no letter of 3 options"),
        ("tempcompass", {"dim": "colour"}, "dim is 'colour', none of action"),
        ("perceptiontest", {"options": ["a", "b"]}, "has 2, expected 3 or more"),
        ("perceptiontest", {"options": ["a", "b", "c", "d"]}, "4 options, expected 3"),
        ("perceptiontest", {"answer_id": 3}, "answer number 3 of 3"),
        ("perceptiontest", {"area": "magic"}, "area is 'magic', none of memory"),
        ("videomme", {"options": ["x"] * 27}, "has 27, expected 26 or fewer"),
        ("videomme", {"options": "[" * 5000}, "is no list of texts"),
        ("videomme", {"question": "Which\ud83d?"}, "expected no half of a surrogate pair"),
        ("videomme", {"options": ["A. \ud83d", "B. x"]}, "expected no half of a surrogate pair"),
    ],
)
def test_a_malformed_item_is_refused(tmp_path, bench, change, said):
    first = LAYOUTS[bench][1][0]
    module = fill(bench, tmp_path, [first, first | change])
    with pytest.raises(ValueError) as error:
        module.items(tmp_path)
    where = tmp_path / LAYOUTS[bench][0]
    assert str(error.value).startswith(f"{where}: item 1: ") and said in str(error.value)


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("yes_no", {"answer": "maybe"}, "answer is 'maybe', none of yes, no"),
        ("caption_matching", {"question": "Which?\nOption 1: x"}, "1 captions"),
        ("caption_matching", {"question": "Which?\nfirst\nsecond"}, "not enough values"),
        ("caption_matching", {"answer": "Option 3: It floats."}, "label is 'Option 3', none of"),
    ],
)
def test_a_malformed_item_of_another_task_of_tempcompass_is_refused(tmp_path, task, change, said):
    tempcompass_hub(tmp_path)
    write_json(tmp_path / task / "test.json", [TEMPCOMPASS[task] | change])
    with pytest.raises(ValueError, match=f"{task}/test.json: item 0: .*{said}"):
        benchmark("tempcompass").items(tmp_path)


def test_questions_of_tempcompass_in_another_shape_are_refused(tmp_path):
    write_json(tmp_path / "questions/yes_no.json", [TEMPCOMPASS["yes_no"]])
    with pytest.raises(ValueError, match="questions/yes_no.json: .*expected {video_id"):
        benchmark("tempcompass").items(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"idx": "0"}, "idx is '0'"), ({"GT": "C"}, "answer is 'C'"), ({"question": ""}, "no text")],
)
def test_a_malformed_item_of_vinoground_is_refused(tmp_path, change, said):
    module = fill("vinoground", tmp_path)
    rows = list(vinoground_rows("vinoground_videos"))
    write_json(tmp_path / "vinoground_textscore.json", [rows[0], rows[1] | change])
    with pytest.raises(ValueError, match=f"textscore.json: item 1: .*{said}.*expected idx"):
        module.items(tmp_path)


def test_a_row_that_is_no_object_is_refused(tmp_path):
    with pytest.raises(ValueError, match="test.json: item 1: TypeError"):
        fill("videomme", tmp_path, [VIDEOMME, "a string"]).items(tmp_path)


def test_an_id_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="1 ids of .* come twice, such as 001-1"):
        fill("videomme", tmp_path, [VIDEOMME, VIDEOMME]).items(tmp_path)


@pytest.mark.parametrize("bench", NEW)
def test_json_that_is_cut_short_is_named(tmp_path, bench):
    module = fill(bench, tmp_path)
    name = "vinoground_textscore.json" if bench == "vinoground" else LAYOUTS[bench][0]
    (tmp_path / name).write_text('[{"question": ')
    with pytest.raises(ValueError, match=f"{name} is not JSON: .*fetch it again"):
        module.items(tmp_path)


def test_a_pointer_of_git_lfs_is_no_json(tmp_path):
    module = fill("videomme", tmp_path)
    (tmp_path / "videomme/test.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="is not JSON"):
        module.items(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"a": 1}', "3"])
def test_json_without_items_is_refused(tmp_path, content):
    module = fill("videomme", tmp_path)
    (tmp_path / "videomme/test.json").write_text(content)
    with pytest.raises(ValueError, match="test.json holds .*expected a list of items"):
        module.items(tmp_path)


# -- tables ----------------------------------------------------------------------------------------


def test_a_csv_gives_the_items_that_json_gives(tmp_path):
    of_json = fill("videomme", tmp_path).items(tmp_path)
    (tmp_path / "videomme/test.json").unlink()
    for options in (json.dumps(VIDEOMME["options"]), str(VIDEOMME["options"])):
        write_csv(tmp_path / "videomme/test.csv", [VIDEOMME | {"options": options}])
        assert benchmark("videomme").items(tmp_path) == of_json


def test_a_csv_may_begin_with_the_mark_of_excel(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,é\n", encoding="utf-8-sig")
    assert tables.read_table(tmp_path / "x.csv") == [{"a": "1", "b": "é"}]


def test_a_csv_that_is_cut_short_is_named(tmp_path):
    write_csv(tmp_path / "test.csv", [NEXTQA])
    path = tmp_path / "test.csv"
    path.write_text(path.read_text() + '2574374896,1,"what')
    with pytest.raises(ValueError, match="test.csv is not CSV: .*fetch it again"):
        benchmark("nextqa").items(tmp_path)


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


@pytest.mark.parametrize("bench", ONE_FILE)
def test_parquet_gives_the_items_that_json_gives(tmp_path, bench):
    module = fill(bench, tmp_path)
    of_json = module.items(tmp_path)
    path, rows, _ = LAYOUTS[bench]
    (tmp_path / path).unlink()
    stem = "validation" if bench == "longvideobench" else path.removesuffix(".json")
    rows = [LVB_PARQUET] if bench == "longvideobench" else rows
    write_parquet(tmp_path / f"{stem}-00000-of-00001.parquet", rows)
    assert module.items(tmp_path) == of_json


def test_parquet_without_pyarrow_names_the_command_that_installs_it(tmp_path, monkeypatch):
    touch(tmp_path / "videomme/test-00000-of-00001.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ModuleNotFoundError, match="parquet needs pyarrow .*: pip install pyarrow"):
        benchmark("videomme").items(tmp_path)


def test_json_beside_parquet_needs_no_pyarrow(tmp_path, monkeypatch):
    touch(tmp_path / "videomme/test-00000-of-00001.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert len(fill("videomme", tmp_path).items(tmp_path)) == 1


def test_parquet_that_is_cut_short_is_named(tmp_path):
    path = tmp_path / "videomme/test.parquet"
    write_parquet(path, [VIDEOMME])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="test.parquet is not parquet: .*fetch it again"):
        benchmark("videomme").items(tmp_path)


# -- reading and counting --------------------------------------------------------------------------


def test_the_parser_of_video_mme_can_be_the_older_one():
    module = benchmark("videomme")
    assert [module.parse("Answer: C", item(), p) for p in ("head", "v0.5")] == ["C", "A"]


def test_the_parser_of_mlvu_can_be_the_older_one():
    module = benchmark("mlvu")
    assert [module.parse("A.", item(), p) for p in ("head", "v0.5")] == ["A", None]
    assert module.parse("(B) x", item(), "v0.5") == "B"


@pytest.mark.parametrize("bench", ["longvideobench", "nextqa"])
def test_a_response_without_a_letter_is_left_to_the_draw(bench):
    module = benchmark(bench)
    assert module.parse("", item(options="vwxyz")) is None
    assert module.parse("no idea", item(options="vwxyz")) is None


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
    tempcompass_hub(tmp_path)
    module = benchmark("tempcompass")
    one = next(one for one in module.items(tmp_path) if one.task == task)
    assert all(module.parse(response, one) == one.answer for response in right)
    assert all(module.parse(response, one) not in (None, one.answer) for response in wrong)
    assert all(module.parse(response, one) is None for response in unread)


@pytest.mark.parametrize("bench", sorted(set(NEW) - {"vinoground"}))
def test_an_empty_response_and_a_failed_video_are_wrong(bench):
    task = benchmark(bench).TASKS[0]
    rows = [
        row(item(task, "a"), correct=False),
        row(item(task, "b"), correct=False, error="damaged"),
        row(item(task, "c"), "A", correct=True),
    ]
    assert benchmark(bench).aggregate(rows) == {task: {"a": 0.0, "b": 0.0, "c": 1.0}}


def mean(scores):
    return sum(scores.values()) / len(scores)


def test_the_groups_of_video_mme_by_hand():
    module = benchmark("videomme")
    items = [
        item("short", "a", labels=("domain=Law", "task_type=OCR")),
        item("short", "b", labels=("domain=Law", "task_type=Count")),
        item("long", "c", labels=("domain=Pets", "task_type=OCR")),
    ]
    rows = scored(module, items, ["A", "B", "(A)"])
    shares = {group: mean(units) for group, units in module.aggregate(rows).items()}
    assert shares == {"short": 0.5, "long": 1.0}
    shares = {group: mean(units) for group, units in module.breakdown(rows, items).items()}
    assert shares == {
        "domain=Law": 0.5,
        "domain=Pets": 1.0,
        "task_type=Count": 0.0,
        "task_type=OCR": 1.0,
    }


def test_the_mean_of_mlvu_is_that_of_its_tasks():
    module = benchmark("mlvu")
    items = [item("plotQA", f"p{i}") for i in range(3)] + [item("ego", "e")]
    scores = module.aggregate(scored(module, items, ["A", "B", "C", "A"]))
    assert summary(scores, module.MACRO)["mean"]["value"] == pytest.approx(100 * (1 / 3 + 1) / 2)


def test_the_mean_of_video_mme_is_that_of_its_items():
    module = benchmark("videomme")
    items = [item("short", f"s{i}") for i in range(3)] + [item("long", "l")]
    scores = module.aggregate(scored(module, items, ["A", "B", "C", "A"]))
    assert summary(scores, module.MACRO)["mean"]["value"] == pytest.approx(100 * 2 / 4)


def test_the_dimensions_of_tempcompass_are_those_of_a_task():
    module = benchmark("tempcompass")
    items = [
        item("multi-choice", "a", labels=("dim=order",)),
        item("multi-choice", "b", labels=("dim=order",)),
        item("multi-choice", "c", labels=("dim=speed",)),
        item("yes_no", "d", options=(), answer="yes", labels=("dim=order",)),
    ]
    rows = scored(module, items, ["A", "B", "A", "yes"])
    shares = {group: mean(units) for group, units in module.breakdown(rows, items).items()}
    assert shares == {
        "multi-choice dim=order": 0.5,
        "multi-choice dim=speed": 1.0,
        "yes_no dim=order": 1.0,
    }


def test_an_item_with_several_tags_counts_in_each():
    items = [item("memory", "a", labels=("tag=x", "tag=y")), item("memory", "b", labels=("tag=y",))]
    rows = [row(items[0], correct=True), row(items[1], correct=False)]
    assert groups.by_label(rows, items) == {"tag=x": {"a": 1.0}, "tag=y": {"a": 1.0, "b": 0.0}}


def test_a_pair_of_vinoground_is_right_when_all_its_questions_are(tmp_path):
    module = fill("vinoground", tmp_path)
    found = module.items(tmp_path)  # of pair 0 and 1: pos, neg; text, then video
    rows = scored(module, found, ["A", "B", "A", "A", "a", "b)", "A", "B"])
    assert module.aggregate(rows) == {
        "text": {"0": 1.0, "1": 0.0},
        "video": {"0": 1.0, "1": 1.0},
        "group": {"0": 1.0, "1": 0.0},
    }


def test_an_empty_response_of_vinoground_is_wrong(tmp_path):
    module = fill("vinoground", tmp_path)
    found = module.items(tmp_path)
    rows = scored(module, found, ["A", "", "A", "B", "A", "B", "A", "B"])
    assert module.aggregate(rows)["text"] == {"0": 0.0, "1": 1.0}


def test_a_pair_of_vinoground_that_is_not_asked_in_full_leaves_the_count(tmp_path):
    module = fill("vinoground", tmp_path)
    by_id = {one.id: one for one in module.items(tmp_path)}
    asked = [by_id[x] for x in ("0_pos_text", "0_neg_text", "1_pos_text", "0_pos_video")]
    scores = module.aggregate(scored(module, asked, ["A", "B", "A", "A"]))
    assert scores == {
        "text": {"0": 1.0, "1": None},
        "video": {"0": None, "1": None},
        "group": {"0": None, "1": None},
    }


def test_the_categories_of_vinoground_by_hand(tmp_path):
    module = fill("vinoground", tmp_path)
    found = module.items(tmp_path)
    rows = scored(module, found, ["A", "B", "B", "B", "A", "A", "A", "B"])
    scores = module.breakdown(rows, found)
    assert scores["major=action text"] == {"0": 1.0}
    assert scores["minor=cyclical video"] == {"0": 0.0}
    assert scores["major=object group"] == {"1": 0.0}
    assert len(scores) == 4 * 3  # action, interaction, cyclical and object


@pytest.mark.parametrize("bench", NEW)
def test_absent_names_the_tasks_without_items(bench):
    module = benchmark(bench)
    first, *others = module.TASKS
    assert module.absent([SimpleNamespace(task=first)]) == others


def test_a_video_whose_name_is_longer_than_a_file_s_may_be_is_missing(tmp_path):
    module = fill("videomme", tmp_path, [VIDEOMME | {"videoID": "x" * 300}])
    with pytest.raises(FileNotFoundError, match="1 of 1 videos are missing, such as .*xxx.mp4"):
        module.items(tmp_path)


@pytest.mark.parametrize("name", ["videomme/test.json", "videomme/test.csv"])
def test_annotations_that_are_no_text_say_what_was_expected(tmp_path, name):
    module = fill("videomme", tmp_path)
    (tmp_path / "videomme/test.json").rename(tmp_path / name)
    (tmp_path / name).write_bytes(b"\xff" * 10)
    with pytest.raises(ValueError, match=f"{name} is not .*expected .*fetch it again"):
        module.items(tmp_path)


def test_annotations_nested_too_deep_are_refused_by_name(tmp_path):
    module = fill("videomme", tmp_path)
    (tmp_path / "videomme/test.json").write_text("[" * 10**5)
    with pytest.raises(ValueError, match="videomme/test.json is not JSON: .*depth.*expected"):
        module.items(tmp_path)


def test_a_parquet_file_that_is_cut_short_is_refused_by_name(tmp_path):
    pyarrow, parquet = map(pytest.importorskip, ("pyarrow", "pyarrow.parquet"))
    module = fill("videomme", tmp_path)
    (tmp_path / "videomme/test.json").unlink()
    path = tmp_path / "videomme/test.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([VIDEOMME]), path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 100):
        path.write_bytes(whole[:end] + b"\0" * 50 + whole[end + 50 :])
        try:
            module.items(tmp_path)
        except ValueError as error:
            assert str(path) in str(error) and "expected" in str(error)


@pytest.mark.parametrize("content", [5, [], {"2574374895": 5}, {"2574374895": "../x"}])
def test_a_map_of_vidor_that_is_none_is_refused_by_name(tmp_path, content):
    write_csv(tmp_path / "test.csv", [NEXTQA])
    write_json(tmp_path / "map_vid_vidorID.json", content)
    with pytest.raises(ValueError, match="map_vid_vidorID.json: .*expected"):
        benchmark("nextqa").items(tmp_path)
