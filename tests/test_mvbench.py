"""MVBench's folders, prompt and rules, against the layouts of the hub and lmms-eval's own prompt.

python -m pytest -q tests/test_mvbench.py
"""

import json

import pytest

from pasta.benchmarks import Item, mvbench

# Item 0 of action_sequence, as the benchmark's authors print it.
REAL = {
    "video": "ZS9XR.mp4",
    "question": "What happened after the person took the food?",
    "candidates": [
        "Ate the medicine.",
        "Tidied up the blanket.",
        "Put down the cup/glass/bottle.",
        "Took the box.",
    ],
    "answer": "Ate the medicine.",
}
MVBENCH = mvbench.BENCHMARK
PROMPT = (
    "Question:What happened after the person took the food?\nOption:\n(A) Ate the medicine.\n"
    "(B) Tidied up the blanket.\n(C) Put down the cup/glass/bottle.\n(D) Took the box.\n"
    "Only give the best option.\n"
)


def put(data, task, folder, row, video=True):
    """Write a task of one item, and its video as an empty file in a folder of `data`."""
    (data / "json").mkdir(parents=True, exist_ok=True)
    (data / "json" / f"{task}.json").write_text(json.dumps([row]))
    (data / folder).mkdir(parents=True, exist_ok=True)
    if video:
        (data / folder / row["video"]).touch()


def item(letters="ABCD", answer="A"):
    return Item("t/0", "t", "v.mp4", None, "", tuple(letters), answer)


def test_an_item_and_its_prompt_are_those_of_lmms_eval(tmp_path):
    put(tmp_path, "action_sequence", "star/Charades_segment", REAL)
    (found,) = MVBENCH.items(tmp_path)
    assert found == Item(
        id="action_sequence/0",
        task="action_sequence",
        name="star/Charades_segment/ZS9XR.mp4",
        video=tmp_path / "star/Charades_segment/ZS9XR.mp4",
        prompt=PROMPT,
        options=tuple(REAL["candidates"]),
        answer="A",
    )


@pytest.mark.parametrize(("root", "folder"), [({}, "video/mine"), ({"mine": "clips/a"}, "clips/a")])
def test_a_task_of_your_own_has_its_videos_in_video_task_or_where_test_json_says(
    tmp_path, root, folder
):
    put(tmp_path, "mine", folder, REAL)
    (tmp_path / "test.json").write_text(json.dumps({"root": root, "meta": {}}))
    (found,) = MVBENCH.items(tmp_path)
    assert found.name == f"{folder}/ZS9XR.mp4"
    assert MVBENCH.absent([found]) == []


def test_tasks_without_videos_are_left_out_and_named(tmp_path):
    put(tmp_path, "action_count", "perception/videos", REAL)
    (tmp_path / "json" / "fine_grained_pose.json").write_text(json.dumps([REAL]))
    found = MVBENCH.items(tmp_path)
    assert [one.task for one in found] == ["action_count"]
    absent = MVBENCH.absent(found)
    assert len(absent) == 20 - 1 and "fine_grained_pose" in absent


def test_an_empty_folder_names_the_command_that_fills_it(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        MVBENCH.items(tmp_path)
    assert f"no json/TASK.json with a folder of videos in {tmp_path}" in str(error.value)
    assert str(error.value).endswith(
        f"hf download OpenGVLab/MVBench --repo-type dataset --revision video --local-dir {tmp_path}"
    )


def test_questions_without_any_videos_name_the_command(tmp_path):
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "action_count.json").write_text(json.dumps([REAL]))
    with pytest.raises(FileNotFoundError, match="with a folder of videos .*hf download"):
        MVBENCH.items(tmp_path)


def test_a_missing_video_names_itself_and_the_command(tmp_path):
    put(tmp_path, "action_count", "perception/videos", REAL, video=False)
    with pytest.raises(FileNotFoundError, match="1 of 1 videos .*ZS9XR.mp4; .*hf download"):
        MVBENCH.items(tmp_path)


@pytest.mark.parametrize("name", ["../x.mp4", "/etc/x.mp4", ""])
def test_a_video_outside_the_data_folder_is_refused(tmp_path, name):
    put(tmp_path, "action_count", "perception/videos", REAL | {"video": name}, video=False)
    with pytest.raises(ValueError, match="action_count.json: item 0: .*no path inside"):
        MVBENCH.items(tmp_path)


def test_a_link_inside_the_data_folder_may_point_elsewhere(tmp_path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "perception").symlink_to(tmp_path / "large disk")
    put(tmp_path / "data", "action_count", "perception/videos", REAL)
    assert MVBENCH.items(tmp_path / "data")[0].video.exists()


@pytest.mark.parametrize(
    "row",
    [
        {k: v for k, v in REAL.items() if k != "candidates"},
        REAL | {"answer": "Sang."},
        REAL | {"video": None},
        REAL | {"candidates": [1, 2], "answer": 1},
        REAL | {"candidates": list(map(str, range(30))), "answer": "28"},
        REAL | {"question": None},
        "a string",
    ],
)
def test_a_malformed_item_names_its_file_and_number(tmp_path, row):
    put(tmp_path, "action_count", "perception/videos", REAL)
    (tmp_path / "json" / "action_count.json").write_text(json.dumps([REAL, row]))
    with pytest.raises(ValueError, match="action_count.json: item 1: .*expected video"):
        MVBENCH.items(tmp_path)


def test_of_equal_options_the_first_is_right(tmp_path):
    row = REAL | {"candidates": ["x", "same", "same"], "answer": "same"}
    put(tmp_path, "spatial", "video/spatial", row)
    assert MVBENCH.items(tmp_path)[0].answer == "B"


def test_a_response_names_one_of_the_items_letters_or_none():
    assert MVBENCH.parse("(C) Took the box.", item()) == "C"
    assert MVBENCH.parse("E", item()) is None
    assert MVBENCH.parse("I cannot determine", item()) is None
    assert MVBENCH.parse("", item()) is None


def test_a_sixth_option_is_read_as_lmms_eval_compares_it():
    # its rule knows A to E only, so both sides become "f": a bare letter is right, a sentence not
    assert MVBENCH.parse("(F)", item("ABCDEF")) == "F"
    assert MVBENCH.parse("F. it sings", item("ABCDEF")) is None


def test_an_empty_response_leaves_the_count_and_a_failed_video_does_not():
    rows = [
        {"task": "a", "id": "a/0", "response": "A", "correct": True},
        {"task": "a", "id": "a/1", "response": "", "correct": False},
        {"task": "b", "id": "b/0", "response": "", "correct": False, "error": "damaged"},
    ]
    assert MVBENCH.aggregate(rows) == {"a": {"a/0": 1.0, "a/1": None}, "b": {"b/0": 0.0}}


@pytest.mark.parametrize("root", [None, [], {"mine": 5}, {"mine": "../x"}])
def test_folders_of_ones_own_that_are_none_are_refused_by_name(tmp_path, root):
    put(tmp_path, "mine", "clips", REAL)
    (tmp_path / "test.json").write_text(json.dumps({"root": root}))
    with pytest.raises(ValueError, match="test.json: .*expected"):
        MVBENCH.items(tmp_path)
