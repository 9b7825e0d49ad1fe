"""pasta/datasets against rows written out by hand, as their publishers document them.

    python -m pytest -q tests/test_datasets.py
"""

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pasta.datasets.__main__ import main
from pasta.datasets.read import read_pairs
from pasta.making.queries import own_queries
from pasta.pairs import Pair
from pasta.toy.files import write_videos

ROOT = Path(__file__).parent.parent
ROW = {
    "id": "a1",
    "video": "v.mp4",
    "mode": "temporal",
    "query": "What is first?",
    "chosen": "Red.",
    "rejected": "Blue.",
    "recipe": {"seed": 0},
}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def one_pair(tmp_path, row, **kwargs):
    (pair,) = read_pairs(write(tmp_path / "pairs.jsonl", row), **kwargs)
    return pair


def without(row, *names):
    return {name: value for name, value in row.items() if name not in names}


def said(pair):
    """What a pair says, whatever it is called."""
    return pair.mode, pair.query, pair.chosen, pair.rejected


SAID = ("temporal", "What is first?", "Red.", "Blue.")
BARE = {"id": "a1", "mode": "temporal"}
TURN = {"role": "user", "content": "<video>What is first?"}
RED, BLUE = ({"role": "assistant", "content": text} for text in ("Red.", "Blue."))
SHAPES = {
    "ours": ROW,
    "paper's words": BARE
    | {"video": "v.mp4", "question": "What is first?"}
    | {"preferred": "Red.", "adversarial": "Blue."},
    "LLaMA-Factory": BARE
    | {
        "conversations": [{"from": "human", "value": "<video>What is first?"}],
        "chosen": {"from": "gpt", "value": "Red."},
        "rejected": {"from": "gpt", "value": "Blue."},
        "videos": ["v.mp4"],
    },
    "LLaMA-Factory, OpenAI's turns": BARE
    | {"messages": [TURN], "chosen": RED, "rejected": BLUE, "videos": ["v.mp4"]},
    "ms-swift": BARE | {"messages": [TURN, RED], "rejected_response": "Blue.", "videos": ["v.mp4"]},
    "TRL": BARE
    | {
        "video": "v.mp4",
        "prompt": [
            {
                "role": "user",
                "content": [{"type": "video"}, {"type": "text", "text": "What is first?"}],
            }
        ],
        "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "Red."}]}],
        "rejected": [BLUE],
    },
    "candidates": BARE
    | {
        "video": "v.mp4",
        "query": "What is first?",
        "preferred": "Red.",
        "adversarial": [{"kind": "reverse", "instruction": None, "response": "Blue."}],
    },
    "nulls of a merged data set": ROW | {"question": None, "videos": None, "messages": None},
    "spreadsheet": {"ID": "a1", "Video-Path": "v.mp4", "Failure Mode": "temporal"}
    | {"Question": "What is first?", "Chosen Response": "Red.", "Rejected Response": "Blue."},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_of_the_field_is_the_same_pair(tmp_path, shape):
    pair = one_pair(tmp_path, SHAPES[shape])
    expected = Pair("a1", str(tmp_path / "v.mp4"), "temporal", "What is first?", "Red.", "Blue.")
    assert replace(pair, recipe={}) == expected


@pytest.mark.parametrize("key", ["rejected", "adversarial"])
def test_several_rejected_responses_give_a_pair_each(tmp_path, key):
    row = without(ROW, "rejected") | {key: ["Blue.", "Green."]}
    pairs = read_pairs(write(tmp_path / "pairs.jsonl", row))
    assert [(p.id, p.chosen, p.rejected) for p in pairs] == [
        ("a1#0", "Red.", "Blue."),
        ("a1#1", "Red.", "Green."),
    ]


def test_ids_of_rows_without_one_follow_the_content(tmp_path):
    rows = [without(ROW, "id"), without(ROW, "id") | {"rejected": "Green."}]
    first = [p.id for p in read_pairs(write(tmp_path / "pairs.jsonl", *rows))]
    (tmp_path / "moved").mkdir()
    again = [p.id for p in read_pairs(write(tmp_path / "moved" / "pairs.jsonl", *rows[::-1]))]
    assert first == again[::-1] and len(set(first)) == 2


def test_a_number_is_an_id(tmp_path):
    assert one_pair(tmp_path, ROW | {"id": 0}).id == "0"


def test_a_default_mode_is_for_rows_without_one(tmp_path):
    assert one_pair(tmp_path, without(ROW, "mode"), mode="spatial").mode == "spatial"
    assert one_pair(tmp_path, ROW, mode="spatial").mode == "temporal"


def test_relative_videos_are_looked_up_in_the_given_folder(tmp_path):
    row = ROW | {"video": "a/b/../v.mp4"}
    assert one_pair(tmp_path, row, video_root="/data").video == "/data/a/b/../v.mp4"


def test_absolute_videos_are_taken_as_they_are(tmp_path):
    assert one_pair(tmp_path, ROW | {"video": "/d/v.mp4"}, video_root="/data").video == "/d/v.mp4"


BAD = {
    "mode is 'sideways'; expected one of spatial, temporal, cross_frame": {"mode": "sideways"},
    "mode is 3": {"mode": 3},
    "mode is None; .*or --mode for all rows": {"mode": None},
    "mode is None; .*--mode for all": {"mode": None, "type": "qa"},
    "chosen and rejected are both 'Red.'": {"rejected": " Red."},
    "chosen is ''": {"chosen": ""},
    "rejected is ' '": {"rejected": " "},
    "query is 3": {"query": 3},
    "query is ''": {"query": []},
    "query is '<video>' alone": {"query": "<video>"},
    "query is '<image>' alone": {"query": "<image>"},
    "chosen is by 'user'": {"chosen": {"role": "user", "content": "Red."}},
    "chosen is by \\['gpt'\\]": {"chosen": {"from": ["gpt"], "value": "Red."}},
    "chosen is {'text': 'Red.'}|chosen is None": {"chosen": {"text": "Red."}},
    "query is \\[.*image": {"query": [{"type": "image"}, {"type": "text", "text": "Q"}]},
    "rejected is 3": {"rejected": ["Blue.", 3]},
    "has 2 columns for the chosen: chosen, preferred; .*del\\(.preferred\\)": {"preferred": "Red."},
    "has 2 columns for the video: video, videos": {"videos": ["v.mp4"]},
    "has two columns video; expected one": {"Video": "w.mp4"},
    "has no column for the query": {"query": None},
    "has no column for the chosen": {"chosen": None},
    "has no column for the rejected": {"rejected": None},
    "has no column for the video": {"video": None},
    "video is \\['a', 'b'\\]": {"video": ["a", "b"]},
    "video is ''": {"video": ""},
    "video is '../v.mp4'": {"video": "../v.mp4"},
    "video is 'a/../../v.mp4'": {"video": "a/../../v.mp4"},
    "rejected_videos differ from videos": {"rejected_videos": ["w.mp4"]},
    "id is 1.5": {"id": 1.5},
    "recipe is 'x'": {"recipe": "x"},
    "is a dialogue of 3 turns; expected one question and one answer": {
        "query": None,
        "messages": [TURN, RED, TURN],
    },
    "has a history of 1 turns; expected one question": {"history": [["What?", "This."]]},
    "has an answer in the dialogue and chosen": {"query": None, "messages": [TURN, RED]},
    "has a system prompt, 'Be good.'.*del\\(.system\\)": {"system": "Be good."},
    "has a system prompt.*jq -c '.messages .= map.select..role != \"system\"..'": {
        "query": None,
        "messages": [{"role": "system", "content": "Be good."}, TURN],
    },
    "has a system prompt.*jq -c '.conversations .= map.select..from != \"system\"..'": {
        "query": None,
        "conversations": [{"from": "system", "value": "Be good."}],
    },
    "rejected is a dialogue of 2 turns about 'What is last": {
        "rejected": [{"role": "user", "content": "What is last?"}, BLUE]
    },
    "rejected is a dialogue of 3 turns": {"rejected": [TURN, BLUE, TURN]},
    "has a history of 5; expected one question": {"history": 5},
    r"chosen holds '.ud83d'; expected no half of a surrogate pair": {"chosen": "red \ud83d"},
    r"query holds '.udc00'; expected": {"query": "Which?\udc00"},
    r"video is 'v.x00.mp4'; expected the name of a file": {"video": "v\0.mp4"},
    r"video is '.udc00.mp4'; expected the name of a file": {"video": "\udc00.mp4"},
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_pair_names_file_line_and_fault(tmp_path, message):
    path = write(tmp_path / "pairs.jsonl", ROW, ROW | {"id": "a2"} | BAD[message])
    with pytest.raises(ValueError, match=f"(?s)pairs.jsonl:2: ({message})"):
        read_pairs(path)


def test_an_id_given_twice_names_both_lines(tmp_path):
    with pytest.raises(
        ValueError, match="(?s)pairs.jsonl:2: id 'a1' is also at .*pairs.jsonl:1; .*jq"
    ):
        read_pairs(write(tmp_path / "pairs.jsonl", ROW, ROW))


def test_an_empty_list_of_rejected_is_no_silent_drop(tmp_path):
    with pytest.raises(ValueError, match="pairs.jsonl:1: rejected"):
        read_pairs(write(tmp_path / "pairs.jsonl", ROW | {"rejected": []}))


def test_an_empty_file_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match="holds no pairs; `python make_pairs.py"):
        read_pairs(write(tmp_path / "pairs.jsonl"))


def test_a_row_of_llava_hound_is_a_pair_about_a_folder_of_frames(tmp_path):
    """Columns: RifleZhang/LLaVA-Hound-DPO dpo_experiment/dpo_scripts/run_dpo.py reads video, prompt
    (without its tag), chosen and rejected, LLaVA-VL/LLaVA-NeXT llava/train/train_dpo.py also
    answer; the scores: verl-project/verl-omni, llava_hound_dpo_multisource.py."""
    frames = tmp_path / "train_300k" / "v_abc-Scene-001"
    frames.mkdir(parents=True)
    (frames / "1.jpeg").touch()
    row = {
        "id": "v_abc-Scene-001_0",
        "video": "v_abc-Scene-001",
        "prompt": "<video>\nWhat is first?",
        "answer": "The red one.",
        "chosen": "Red.",
        "rejected": "Blue.",
        "chosen_score": 5,
        "rejected_score": 2,
    }
    pair = one_pair(tmp_path, row, mode="temporal", video_root=tmp_path / "train_300k")
    assert said(pair) == SAID and pair.id == row["id"] and pair.video == str(frames)


def test_a_row_of_llava_hound_in_turns_is_the_same_pair(tmp_path):
    """verl-project/verl-omni examples/dpo_trainer/qwen3_omni/llava_hound_dpo_dataset.md."""
    row = {
        "id": "video_id__0",
        "video": "relative/v.mp4",
        "conversations": [{"from": "human", "value": "<video>\nWhat is first?"}],
        "chosen": {"from": "gpt", "value": "Red."},
        "rejected": {"from": "gpt", "value": "Blue."},
    }
    pair = one_pair(tmp_path, row, mode="temporal")
    assert said(pair) == SAID and pair.id == "video_id__0"


def test_a_row_of_ms_swift_may_end_in_rejected_messages(tmp_path):
    """modelscope/ms-swift docs/source_en/Customization/Custom-dataset.md, since version 3.8."""
    row = {"messages": [TURN, RED], "videos": ["v.mp4"], "rejected_messages": [TURN, BLUE]}
    assert said(one_pair(tmp_path, row | {"rejected_videos": ["v.mp4"]}, mode="temporal")) == SAID


def test_a_row_of_ms_swift_may_hold_query_and_response(tmp_path):
    """modelscope/ms-swift docs/source_en/Customization/Custom-dataset.md, Query-Response format."""
    row = {"query": "What is first?", "response": "Red.", "rejected_response": "Blue."}
    row |= {"videos": ["v.mp4"], "history": [], "system": ""}
    assert said(one_pair(tmp_path, row, mode="temporal")) == SAID


def test_instruction_and_input_make_one_query(tmp_path):
    """hiyouga/LLaMA-Factory data/README.md, alpaca: the prompt is instruction, newline, input."""
    row = {"instruction": "<video>What is first?", "input": "One word.", "videos": ["v.mp4"]}
    row |= {"chosen": "Red.", "rejected": "Blue."}
    query = one_pair(tmp_path, row, mode="temporal").query
    assert query == "What is first?\nOne word."
    assert said(one_pair(tmp_path, row | {"input": ""}, mode="temporal")) == SAID


@pytest.mark.parametrize(
    ("column", "name", "mode"),
    [
        ("category", "Spatial Misalignment", "spatial"),
        ("type", "temporal incoherence", "temporal"),
        ("failure_mode", "Cross-Frame Disconnection", "cross_frame"),
        ("mode", "cross-frame", "cross_frame"),
        ("subset", "cross_frame", "cross_frame"),
    ],
)
def test_the_papers_names_of_the_failures_are_modes(tmp_path, column, name, mode):
    """The columns of VideoPASTA-7k are not documented; the names are those of the paper."""
    row = without(ROW, "mode") | {column: name}
    assert one_pair(tmp_path, row, mode="temporal").mode == mode


def test_a_category_of_something_else_leaves_the_mode_to_the_flag(tmp_path):
    row = without(ROW, "mode") | {"type": "open-ended"}
    assert one_pair(tmp_path, row, mode="spatial").mode == "spatial"


def test_an_unknown_layout_is_told_with_what_it_has_and_what_is_needed(tmp_path):
    path = write(tmp_path / "new.jsonl", {"clip": "v.mp4", "Q": "What?", "good": "A", "bad": "B"})
    with pytest.raises(ValueError) as error:
        read_pairs(path)
    first, *needed, cure = str(error.value).splitlines()
    assert first == (
        f"{path}:1: has no column for the video: its columns are clip, Q, good, bad; "
        "expected one of each:"
    )
    assert [line.split()[0] for line in needed[:5]] == "video query chosen rejected mode".split()
    assert "preferred_response" in needed[2] and "failure_mode" in needed[4]
    assert cure.endswith("> NEW.jsonl")


def test_a_video_id_counts_where_no_path_is_given(tmp_path):
    (tmp_path / "v_1.webm").touch()
    row = without(ROW, "video") | {"video_id": "v_1"}
    assert one_pair(tmp_path, row).video == str(tmp_path / "v_1.webm")
    assert one_pair(tmp_path, ROW | {"video_id": "v_1"}).video == str(tmp_path / "v.mp4")


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("indent", [None, 2])
def test_one_json_list_is_read(tmp_path, indent):
    rows = [ROW, ROW | {"id": "a2"}]
    (tmp_path / "d.json").write_text("\n" + json.dumps(rows, indent=indent))
    assert [pair.id for pair in read_pairs(tmp_path / "d.json")] == ["a1", "a2"]


def test_a_bad_row_of_a_json_list_is_named_by_its_number(tmp_path):
    (tmp_path / "d.json").write_text(json.dumps([ROW, ROW | {"id": "a2", "query": 3}]))
    with pytest.raises(ValueError, match="d.json: row 2: query is 3"):
        read_pairs(tmp_path / "d.json")


def test_what_is_no_object_in_a_json_list_is_named_by_its_number(tmp_path):
    (tmp_path / "d.json").write_text(json.dumps([ROW, "text"]))
    with pytest.raises(ValueError, match="d.json: row 2: 'text'; expected an object"):
        read_pairs(tmp_path / "d.json")


def test_a_json_list_cut_short_names_the_line(tmp_path):
    (tmp_path / "d.json").write_text("[\n" + json.dumps(ROW) + ",\n")
    with pytest.raises(ValueError, match="d.json: .*line 3.*expected one JSON list, or one object"):
        read_pairs(tmp_path / "d.json")


def test_a_json_list_that_is_no_utf8_is_refused(tmp_path):
    (tmp_path / "d.json").write_bytes(json.dumps([ROW]).encode().replace(b"Red", b"R\xe9d"))
    with pytest.raises(ValueError, match="d.json: .*utf-8.*expected one JSON list"):
        read_pairs(tmp_path / "d.json")


def converted(path):
    """What the command in the refusal of a file makes of it."""
    with pytest.raises(ValueError, match="expected .jsonl or .json; convert it: ") as error:
        read_pairs(path)
    command = (
        str(error.value).split("convert it: ")[1].removeprefix("pip install pandas pyarrow && ")
    )
    command = command.replace("python -c", f"{shlex.quote(sys.executable)} -c", 1)
    subprocess.run(command, shell=True, check=True)
    return read_pairs(path.with_name("data set.jsonl"), mode="temporal")


@pytest.mark.parametrize(("suffix", "between"), [(".csv", ","), (".tsv", "\t")])
def test_a_table_is_refused_with_the_command_that_converts_it(tmp_path, suffix, between):
    """ruili0/LongVA-TPO-10k is one dataset.csv (ruili33/TPO, issue 4)."""
    names = between.join(["video", "prompt", "chosen", "rejected"])
    cells = between.join(["v.mp4", '"What is\nfirst, ""red""?"', '"Réd, then."', "Blue."])
    (tmp_path / f"data set{suffix}").write_text(f"{names}\n{cells}\n", encoding="utf-8-sig")
    (pair,) = converted(tmp_path / f"data set{suffix}")
    assert said(pair) == ("temporal", 'What is\nfirst, "red"?', "Réd, then.", "Blue.")


def test_a_parquet_file_is_refused_with_the_command_that_converts_it(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pandas.DataFrame([without(ROW, "recipe")]).to_parquet(tmp_path / "data set.parquet")
    assert said(converted(tmp_path / "data set.parquet")[0]) == SAID


def test_a_packed_file_is_refused_with_the_command_that_unpacks_it(tmp_path):
    subprocess.run(["gzip", str(write(tmp_path / "data set.jsonl", ROW))], check=True)
    assert said(converted(tmp_path / "data set.jsonl.gz")[0]) == SAID


# ---------------------------------------------------------------- videos


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi", ".mov"])
def test_a_video_named_without_suffix_is_found_with_it(tmp_path, suffix):
    (tmp_path / f"v_1.5s{suffix}").touch()
    row = ROW | {"video": "v_1.5s"}
    assert one_pair(tmp_path, row).video == str(tmp_path / f"v_1.5s{suffix}")


def test_a_folder_without_frames_does_not_hide_the_file(tmp_path):
    (tmp_path / "v_1").mkdir()
    (tmp_path / "v_1.mp4").touch()
    assert one_pair(tmp_path, ROW | {"video": "v_1"}).video == str(tmp_path / "v_1.mp4")


def test_an_id_does_not_hang_on_where_the_video_is(tmp_path):
    row = without(ROW, "id") | {"video": "v_1"}
    before = one_pair(tmp_path, row).id
    (tmp_path / "v_1.mp4").touch()
    assert one_pair(tmp_path, row).id == before


@pytest.mark.parametrize("name", ["link.mp4", "link", "folder/v.mp4"])
def test_a_link_may_not_lead_out_of_the_root(tmp_path, name):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "v.mp4").touch()
    (root / "link.mp4").symlink_to(outside / "v.mp4")
    (root / "folder").symlink_to(outside)
    with pytest.raises(ValueError, match="pairs.jsonl:1: video .* is a link to .*outside/v.mp4"):
        one_pair(tmp_path, ROW | {"video": name}, video_root=root)


def test_links_inside_the_root_and_a_root_that_is_a_link_are_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "v.mp4").touch()
    (tmp_path / "disk" / "link.mp4").symlink_to("v.mp4")
    (tmp_path / "root").symlink_to("disk")
    pair = one_pair(tmp_path, ROW | {"video": "link.mp4"}, video_root=tmp_path / "root")
    assert pair.video == str(tmp_path / "root" / "link.mp4")


def shown(*flags):
    """What `python -m pasta.datasets` prints, and its exit status."""
    command = [sys.executable, "-m", "pasta.datasets", *map(str, flags)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout, done.stderr, done.returncode


def test_looking_at_a_file_tells_modes_videos_and_the_first_pair(tmp_path):
    (tmp_path / "videos").mkdir()
    write_videos(tmp_path / "videos", 1, seed=0)
    names = ["00000", "x.mp4", "x.mp4", "y.mp4"]
    modes = ["spatial", "cross-frame", None, None]
    rows = [ROW | {"id": k, "video": name, "mode": mode}
            for k, (name, mode) in enumerate(zip(names, modes, strict=True))]  # fmt: skip
    path = write(tmp_path / "pairs.jsonl", *rows)
    out, _, status = shown(path, "--video_root", tmp_path / "videos", "--mode", "spatial")
    report, first = out.split("\n", 1)
    assert report == (
        f"4 pairs (3 spatial, 1 cross_frame) about 3 videos: 1 found under {tmp_path}/videos, "
        "2 not, such as x.mp4, y.mp4"
    )
    assert json.loads(first)["video"] == str(tmp_path / "videos" / "00000.avi")
    assert status == 0


def test_looking_at_a_file_that_cannot_be_read_exits_with_1(tmp_path):
    _, error, status = shown(write(tmp_path / "pairs.jsonl", {"a": 1}))
    assert status == 1 and error.startswith(f"{tmp_path}/pairs.jsonl:1: has no column for the vid")


def test_looking_at_no_file_says_so(tmp_path):
    with pytest.raises(SystemExit, match="No such file or directory: .*gone.jsonl"):
        main([str(tmp_path / "gone.jsonl")])


def test_no_video_found_says_where_it_looked_and_what_to_change(tmp_path, capsys):
    path = write(tmp_path / "pairs.jsonl", ROW)
    with pytest.raises(SystemExit, match=f"would be {tmp_path}/v.mp4, .*begin in {tmp_path}: .*"
                       "with --video_root"):  # fmt: skip
        main([str(path)])
    assert "1 pairs (1 temporal) about 1 videos: 0 found under" in capsys.readouterr().out


# ---------------------------------------------------------------- queries


def test_own_queries_become_rows_and_a_video_that_is_not_there_is_named(tmp_path):
    row = {"video": "a.mp4", "mode": "spatial", "query": " Where? "}
    rows = [row, row | {"video": "a", "query": "And what?", "topic": "depth"}]
    rows += [row | {"video": "x.mp4"}, row | {"mode": "temporal"}]
    path, video = write(tmp_path / "q.jsonl", *rows), str(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").touch()
    found, missing = own_queries(path, [video], tmp_path)
    made = {"video": video, "mode": "spatial", "topic": None, "asker": str(path)}
    assert found == [
        made | {"n": 0, "query": "Where?"},
        made | {"n": 1, "query": "And what?", "topic": "depth"},
        made | {"n": 0, "query": "Where?", "mode": "temporal"},
    ]
    [(name, reason)] = missing.items()
    assert name == str(tmp_path / "x.mp4") and f"{path}:3" in reason


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"video": "a.mp4", "mode": "spatial"}, "q.jsonl:1: query is missing; expected str"),
        ({"video": "a.mp4", "mode": "depth", "query": "?"}, "mode is 'depth'; expected one of"),
        ({"video": "../a.mp4", "mode": "spatial", "query": "?"}, "q.jsonl:1: video is"),
    ],
)
def test_an_own_query_that_lacks_something_is_refused_with_its_line(tmp_path, row, said):
    with pytest.raises(ValueError, match=said):
        own_queries(write(tmp_path / "q.jsonl", row), [], tmp_path)


def test_a_json_list_nested_too_deep_is_refused_by_name(tmp_path):
    (tmp_path / "d.json").write_text("[" * 10**5)
    with pytest.raises(ValueError, match="d.json: .*expected one JSON list"):
        read_pairs(tmp_path / "d.json")


@pytest.mark.parametrize("change", [{"topic": {"kind": "order"}}, {"query": "Where?\ud83d"}])
def test_own_queries_that_nothing_can_be_made_of_are_named_with_their_line(tmp_path, change):
    row = {"video": "v.mp4", "mode": "spatial", "query": "Where?"}
    with pytest.raises(ValueError, match=r"q.jsonl:1: (topic is|query holds) .*expected"):
        own_queries(write(tmp_path / "q.jsonl", row | change), [], tmp_path)
