"""pasta/datasets against rows written by hand, as their publishers document them.

python -m pytest -q tests/test_datasets.py
"""

import codecs
import json
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from pasta.datasets.read import open_pairs, read_pairs
from pasta.making.queries import own_queries
from pasta.pairs import Pair
from pasta.toy.files import write_videos
from pasta.video.find import SUFFIXES

ROOT = Path(__file__).parent.parent
TEXTS = {"query": "What is first?", "chosen": "Red.", "rejected": "Blue."}
ROW = {"id": "a1", "video": "v.mp4", "mode": "temporal"} | TEXTS | {"recipe": {"seed": 0}}
BARE = {"id": "a1", "mode": "temporal"}
TURN = {"role": "user", "content": "<video>What is first?"}
PARTS = [{"type": "video", "video": "v.mp4"}, {"type": "text", "text": "What is first?"}]
LF_PARTS = [{"type": "video_url", "value": "v.mp4"}, {"type": "text", "value": "What is first?"}]
RED, BLUE = ({"role": "assistant", "content": text} for text in ("Red.", "Blue."))


def user(content):
    return {"role": "user", "content": content}


PART_TURN, LF_TURN = user(PARTS), user(LF_PARTS) | {"loss_weight": 0.0}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def one_pair(tmp_path, row, **kwargs):
    (pair,) = read_pairs(write(tmp_path / "pairs.jsonl", row), **kwargs)
    return pair


def without(row, *names):
    return {name: value for name, value in row.items() if name not in names}


SHAPES = {
    "ours": ROW,
    "paper's words": BARE
    | {"video": "v.mp4", "question": "What is first?"}
    | {"preferred": "Red.", "adversarial": "Blue."},
    # hiyouga/LLaMA-Factory data/README.md
    "LLaMA-Factory": BARE
    | {"conversations": [{"from": "human", "value": "<video>What is first?"}], "videos": ["v.mp4"]}
    | {"chosen": {"from": "gpt", "value": "Red."}, "rejected": {"from": "gpt", "value": "Blue."}},
    "LLaMA-Factory, OpenAI's turns": BARE
    | {"messages": [TURN], "chosen": RED, "rejected": BLUE, "videos": ["v.mp4"]},
    "LLaMA-Factory, alpaca": BARE
    | {"instruction": "<video>What is first?", "input": "", "videos": ["v.mp4"]}
    | {"chosen": "Red.", "rejected": "Blue."},
    # modelscope/ms-swift docs/source_en/Customization/Custom-dataset.md
    "ms-swift": BARE | {"messages": [TURN, RED], "rejected_response": "Blue.", "videos": ["v.mp4"]},
    "ms-swift, rejected messages": BARE
    | {"messages": [TURN, RED], "rejected_messages": [TURN, BLUE]}
    | {"videos": ["v.mp4"], "rejected_videos": ["v.mp4"]},
    "ms-swift, query and response": BARE
    | {"query": "What is first?", "response": "Red.", "rejected_response": "Blue."}
    | {"videos": ["v.mp4"], "history": [], "system": ""},
    "TRL": BARE
    | {"video": "v.mp4", "rejected": [BLUE]}
    | {"chosen": [{"role": "assistant", "content": [{"type": "text", "text": "Red."}]}]}
    | {"prompt": [{"role": "user", "content": [
        {"type": "video"}, {"type": "text", "text": "What is first?"}
    ]}]},
    # verl-project/verl-omni examples/dpo_trainer/qwen3_omni/llava_hound_dpo_dataset.md
    "LLaVA-Hound in turns": BARE
    | {"video": "v.mp4", "conversations": [{"from": "human", "value": "<video>\nWhat is first?"}]}
    | {"chosen": {"from": "gpt", "value": "Red."}, "rejected": {"from": "gpt", "value": "Blue."}},
    # huggingface/trl docs/source/dataset_formats.md: the prompt is what chosen and rejected share
    "TRL, implicit prompt": BARE
    | {"video": "v.mp4", "chosen": [TURN, RED], "rejected": [TURN, BLUE]},
    "TRL, implicit prompt, a path in each part": BARE
    | {"chosen": [PART_TURN, RED], "rejected": [PART_TURN, BLUE]},
    "TRL, path in a struct": BARE
    | {"videos": [{"path": "v.mp4", "bytes": None}], "prompt": [TURN], "chosen": [RED]}
    | {"rejected": [BLUE]},
    "Qwen's utilities": BARE
    | {"messages": [user([{"video": "file://v.mp4", "fps": 1.0}, {"text": "What is first?"}]), RED]}
    | {"rejected_response": "Blue."},
    "OpenAI's parts": BARE
    | {"messages": [user([{"type": "video_url", "video_url": {"url": "v.mp4"}},
                          {"type": "text", "text": "What is first?"}])]}
    | {"chosen": RED, "rejected": BLUE},
    # HuggingFaceH4/ultrafeedback_binarized
    "UltraFeedback": BARE
    | {"video": "v.mp4", "prompt": "What is first?", "messages": [TURN, RED]}
    | {"chosen": [TURN, RED], "rejected": [TURN, BLUE], "score_chosen": 8.5},
    "a dialogue in chosen alone": BARE
    | {"video": "v.mp4", "prompt": [TURN], "chosen": [TURN, RED], "rejected": "Blue."},
    # Anthropic/hh-rlhf
    "HH": BARE
    | {"video": "v.mp4", "chosen": "\n\nHuman: What is first?\n\nAssistant: Red."}
    | {"rejected": "\n\nHuman: What is first?\n\nAssistant: Blue."},
    "HH with a prompt": BARE
    | {"video": "v.mp4", "prompt": "\n\nHuman: What is first?\n\nAssistant:"}
    | {"chosen": " Red.", "rejected": " Blue."},
    # hiyouga/LLaMA-Factory data/v1_dpo_demo.jsonl, data/v1_multimodal_demo.jsonl
    "LLaMA-Factory v1": BARE
    | {"chosen_messages": [LF_TURN, {"role": "assistant", "loss_weight": 1.0,
                                     "content": [{"type": "text", "value": "Red."}]}]}
    | {"rejected_messages": [LF_TURN, {"role": "assistant", "loss_weight": 1.0,
                                       "content": [{"type": "text", "value": " Blue."}]}]},
    "ms-swift, ShareGPT": BARE
    | {"conversation": [{"human": "<video>What is first?", "assistant": "Red."}]}
    | {"rejected_response": "Blue.", "videos": "v.mp4"},
    "ms-swift, query and answer": BARE
    | {"query": "What is first?", "answer": "Red.", "rejected_response": "Blue."}
    | {"videos": ["v.mp4"]},
    "ms-swift, with the right answer": BARE
    | {"messages": [TURN, RED], "rejected_response": "Blue.", "videos": ["v.mp4"], "answer": "Red"},
    "ms-swift, alpaca": BARE
    | {"instruction": "What is first?", "input": "", "output": "Red.", "video": "v.mp4"}
    | {"rejected_response": "Blue.", "images": [], "tools": "[]"},
    "candidates": BARE
    | {"video": "v.mp4", "query": "What is first?", "preferred": "Red."}
    | {"adversarial": [{"kind": "reverse", "instruction": None, "response": "Blue."}]},
    "nulls of a merged data set": ROW | {"question": None, "videos": None, "messages": None},
    "spreadsheet": {"ID": "a1", "Video-Path": "v.mp4", "Failure Mode": "temporal"}
    | {"Question": "What is first?", "Chosen Response": "Red.", "Rejected Response": "Blue."},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_of_the_field_is_the_same_pair(tmp_path, shape):
    pair = one_pair(tmp_path, SHAPES[shape])
    assert replace(pair, recipe={}) == Pair("a1", str(tmp_path / "v.mp4"), "temporal", **TEXTS)


def assistant(text):
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [user(PARTS)], "chosen": [assistant("Red.")], "rejected": [assistant("Blue.")]},
        {"chosen": [PART_TURN, assistant("Red.")], "rejected": [PART_TURN, assistant("Blue.")]},
        SHAPES["OpenAI's parts"],
    ],
)
def test_rows_that_arrow_wrote_are_read(tmp_path, row):
    """`datasets` gives each object the fields of all others, with null."""
    rows = [BARE | row | {"recipe": {"seed": 1}}, BARE | row | {"id": "a2", "recipe": None}]
    pytest.importorskip("datasets").Dataset.from_list(rows).to_json(tmp_path / "arrow.jsonl")
    written = (tmp_path / "arrow.jsonl").read_text()
    assert '"text":null' in written and '"recipe":null' in written
    pairs = read_pairs(tmp_path / "arrow.jsonl")
    expected = Pair("a1", str(tmp_path / "v.mp4"), "temporal", **TEXTS, recipe={"seed": 1})
    assert pairs == [expected, replace(expected, id="a2", recipe={})]


def test_nulls_in_a_recipe_are_kept(tmp_path):
    assert one_pair(tmp_path, ROW | {"recipe": {"corruption": None}}).recipe == {"corruption": None}


@pytest.mark.parametrize(
    ("query", "read"),
    [
        ("Watch <video> and say: Q", "Watch and say: Q"),
        ("Watch\n<video>\nQ", "Watch\nQ"),
        ("Watch this <video>\nQ", "Watch this\nQ"),
        ("Watch\n<video> Q", "Watch\nQ"),
        ("Watch <video>, then: Q", "Watch, then: Q"),
        ("<video>\nQ", "Q"),
        ("Q\n<video>", "Q"),
        ("Two  blanks <video> of one's own", "Two  blanks of one's own"),
        ([{"text": "Watch "}, {"type": "video"}, {"text": " and say: Q"}], "Watch and say: Q"),
    ],
)
def test_the_tag_of_the_video_leaves_no_gap(tmp_path, query, read):
    assert one_pair(tmp_path, ROW | {"query": query}).query == read


def test_a_row_of_llava_hound_is_a_pair_about_a_folder_of_frames(tmp_path):
    """Columns: RifleZhang/LLaVA-Hound-DPO run_dpo.py, LLaVA-VL/LLaVA-NeXT train_dpo.py (answer),
    verl-project/verl-omni llava_hound_dpo_multisource.py (scores)."""
    frames = tmp_path / "train_300k" / "v_abc-Scene-001"
    frames.mkdir(parents=True)
    (frames / "1.jpeg").touch()
    row = {"id": "v_abc-Scene-001_0", "video": "v_abc-Scene-001", "answer": "The red one."}
    row |= {"prompt": "<video>\nWhat is first?", "chosen": "Red.", "rejected": "Blue."}
    row |= {"chosen_score": 5, "rejected_score": 2}
    pair = one_pair(tmp_path, row, mode="temporal", video_root=tmp_path / "train_300k")
    assert pair == Pair(row["id"], str(frames), "temporal", **TEXTS)


def test_instruction_and_input_make_one_query(tmp_path):
    """hiyouga/LLaMA-Factory data/README.md, alpaca: the prompt is instruction, newline, input."""
    row = SHAPES["LLaMA-Factory, alpaca"] | {"input": "One word."}
    assert one_pair(tmp_path, row).query == "What is first?\nOne word."


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


def test_an_id_does_not_depend_on_where_the_video_is_and_may_be_a_number(tmp_path):
    row = without(ROW, "id") | {"video": "v_1"}
    before = one_pair(tmp_path, row).id
    (tmp_path / "v_1.mp4").touch()
    assert one_pair(tmp_path, row).id == before
    assert one_pair(tmp_path, ROW | {"id": 0}).id == "0"


@pytest.mark.parametrize(
    ("column", "name", "mode"),
    [
        ("Mode", "Spatial Misalignment", "spatial"),
        ("mode", "temporal incoherence", "temporal"),
        ("failure_mode", "Cross-Frame Disconnection", "cross_frame"),
        ("mode", "cross-frame", "cross_frame"),
        ("mode", "other", "other"),
        ("type", "spatial", "temporal"),  # a category of something else: the flag decides
    ],
)
def test_the_papers_names_of_the_failures_are_modes(tmp_path, column, name, mode):
    """The columns of VideoPASTA-7k are not documented; the names are those of the paper."""
    row = without(ROW, "mode") | {column: name}
    assert one_pair(tmp_path, row, mode="temporal").mode == mode


@pytest.mark.parametrize("nothing", [{}, {"mode": None}, {"mode": ""}, {"failure_mode": None}])
def test_a_row_without_a_mode_is_in_the_group_other(tmp_path, nothing):
    assert one_pair(tmp_path, without(ROW, "mode") | nothing).mode == "other"


BAD = {  # message: what is different in the row
    "query has <image>, <video>; expected one question": {"query": "<image><video>What is first?"},
    "query has <video>, <audio>; expected one question": {"query": "<video><audio>What is first?"},
    "query has <video>, <video>; expected one question": {"query": "<video><video>What is first?"},
    "has a column images, .*i.jpg.*; expected one question": {"images": ["i.jpg"]},
    "has a column audio, 'a.wav'; expected one question": {"audio": "a.wav"},
    "has a column tools, .*; expected one question": {"tools": [{"name": "search"}]},
    "has a column system_prompt, .*; expected one question": {"system_prompt": "Be good."},
    "query is .*audio.*; expected a text, and in a": {"query": [{"type": "audio"}, *PARTS]},
    "chosen is .*video.*; expected a text, ": {"chosen": [PARTS[0], {"type": "text", "text": "A"}]},
    "video is 'https://a.com/v.mp4'; expected a path: download": {"video": "https://a.com/v.mp4"},
    "video is 's3://a/v.mp4'; expected a path: download": {"video": "s3://a/v.mp4"},
    "video is 'data:video/mp4;base64,AA'; expected a path": {"video": "data:video/mp4;base64,AA"},
    "video is '.*'; expected a path: download": {
        "video": b64encode(b"\0\0\0 ftypisom" * 3).decode()
    },
    "video is 'A{79}; expected a path: down": {"video": b64encode(bytes(4000)).decode()},
    "video is 'http.*; expected a path": {
        "video": None,
        "query": [{"type": "video", "video": "http://a.com/v.mp4"}, {"type": "text", "text": "Q"}],
    },
    "its videos are .*v.mp4.*other.mp4": {
        "query": [{"type": "video", "video": "other.mp4"}, {"type": "text", "text": "Q"}]
    },
    "video is .*1.jpg.*2.jpg.*; expected the path of one video": {
        "video": None,
        "query": [{"type": "video", "video": ["1.jpg", "2.jpg"]}, {"type": "text", "text": "Q"}],
    },
    "rejected has 'What is last.' where": {
        "chosen": [TURN, RED],
        "rejected": [user("What is last?"), BLUE],
    },
    "chosen is a dialogue of 4 turns, by user, assistant, user, assistant": {
        "query": None,
        "chosen": [TURN, RED, user("Why?"), BLUE],
        "rejected": [TURN, RED, user("Why?"), RED],
    },
    "rejected is a dialogue of 4 turns": {"rejected": [TURN, BLUE, user("Why?"), RED]},
    "chosen is a dialogue of 3 turns, by system, user, assistant: .*Be good": {
        "chosen": [{"role": "system", "content": "Be good."}, TURN, RED]
    },
    "messages has a turn by 'tool'": {"messages": [TURN, {"role": "tool", "content": "x"}]},
    "has no column for the query": {"query": None, "chosen": "It is red.", "rejected": "It is"},
    "id is True; expected str": {"id": True},
    "mode is 'sideways'; expected one of spatial, temporal, cross_frame": {"mode": "sideways"},
    "mode is 0; expected one of .*other": {"mode": 0},
    "chosen and rejected are both 'Red.'": {"rejected": " Red."},
    "chosen is ''": {"chosen": ""},
    "query is 3": {"query": 3},
    "query is '<video>'; expected a text that is not empty": {"query": "<video>"},
    "chosen has 'Red.' where another column has 'What is": {
        "chosen": {"role": "user", "content": "Red."}
    },
    "chosen is a dialogue of 1 turns, by user": {"query": None, "chosen": [TURN]},
    "query is \\[.*image": {"query": [{"type": "image"}, {"type": "text", "text": "Q"}]},
    "rejected is an empty list": {"rejected": []},
    "has several columns for the chosen: chosen, preferred; expected one": {"preferred": "Red."},
    "has two columns video; expected one": {"Video": "w.mp4"},
    "has no column for the chosen": {"chosen": None},
    "video is \\['a', 'b'\\]": {"video": ["a", "b"]},
    "video is '../v.mp4'": {"video": "../v.mp4"},
    "its videos are .*v.mp4.*w.mp4.*; expected one": {"rejected_videos": ["w.mp4"]},
    "id is 1.5": {"id": 1.5},
    "recipe is 'x'": {"recipe": "x"},
    "chosen has 'Red.' where another column has 'Blue.'": {"messages": [TURN, BLUE]},
    "has a column history, \\[.*; expected one question": {"history": [["What?", "This."]]},
    "has a column system, 'Be good.'; expected one question": {"system": "Be good."},
    "chosen is a dialogue of 3 turns, by system, .*Be good.*; expected .* system, tools": {
        "query": None,
        "conversations": [{"from": "system", "value": "Be good."}, TURN],
    },
    "rejected has 'What is last.' where another column has 'What is first": {
        "rejected": [{"role": "user", "content": "What is last?"}, BLUE]
    },
    r"chosen holds '.ud83d'; expected no half of a surrogate pair": {"chosen": "red \ud83d"},
    r"video is 'v.x00.mp4'; expected a path: download": {"video": "v\0.mp4"},
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_pair_names_file_line_and_fault(tmp_path, message):
    path = write(tmp_path / "pairs.jsonl", ROW, ROW | {"id": "a2"} | BAD[message])
    with pytest.raises(ValueError, match=f"(?s)pairs.jsonl:2: ({message})"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, ROW], "pairs.jsonl:2: id 'a1' is also at .*pairs.jsonl:1; .*jq"),
        ([], "holds no pairs; dropped.jsonl next to it may say why"),
    ],
)
def test_an_id_given_twice_and_an_empty_file_are_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        read_pairs(write(tmp_path / "pairs.jsonl", *rows))


def test_the_message_about_an_unknown_layout_lists_what_it_has_and_what_is_needed(tmp_path):
    path = write(tmp_path / "new.jsonl", {"clip": "v.mp4", "Q": "What?", "good": "A", "bad": "B"})
    with pytest.raises(ValueError) as error:
        read_pairs(path)
    first, *needed, cure = str(error.value).splitlines()
    assert first == (
        f"{path}:1: has no column for the video: its columns are clip, q, good, bad; "
        "expected one of each, except mode:"
    )
    assert [line.split()[0] for line in needed[:5]] == "video query chosen rejected mode".split()
    assert "preferred_response" in needed[2] and "failure_mode" in needed[4]
    assert cure.endswith("> NEW.jsonl")


# ---------------------------------------------------------------- files


FORMS = {  # bytes of lines of a text, as other tools write it
    "\\r alone": lambda text: text.replace("\n", "\r").encode(),
    "\\r\\n and a mark": lambda text: codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
    "PowerShell's >": lambda text: (
        codecs.BOM_UTF16_LE + text.replace("\n", "\r\n").encode("utf-16-le")
    ),
    "UTF-16, big-endian": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "no last line end": lambda text: text.rstrip("\n").encode(),
}


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_all_line_ends_and_unicode_encodings_are_read(tmp_path, form, as_list):
    rows = [ROW | {"chosen": "Où ? 左"}, ROW | {"id": "a2"}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text = json.dumps(rows, ensure_ascii=False, indent=1) + "\n" if as_list else text
    (tmp_path / "d.jsonl").write_bytes(FORMS[form](text))
    pairs = read_pairs(tmp_path / "d.jsonl")
    assert [(pair.id, pair.chosen) for pair in pairs] == [("a1", "Où ? 左"), ("a2", "Red.")]


LINE = json.dumps(ROW)
TWICE = "comes twice in one object, .*chosen.*chosen"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{LINE}\n{LINE[:-9]}", "d.jsonl:2: .*expected one JSON object"),  # cut short
        (f"{LINE}\n{LINE[:-1]},}}", "d.jsonl:2: .*expected one JSON object"),  # a typo
        (f"{LINE}\r{{'id': 1}}\r", "d.jsonl:2: .*expected one JSON object"),
        (f'{LINE}\n{LINE[:-1]}, "chosen": "Blue."}}\n', f"d.jsonl:2: .*{TWICE}"),
        (f'[{LINE}, {LINE[:-1]}, "chosen": "Blue."}}]', f"d.jsonl is not JSON: .*{TWICE}"),
        (f'{LINE[:-1]}, "recipe": {{"a": 1, "b": 2, "a": 3}}}}', "d.jsonl:1: .*comes twice"),
        (f"{LINE}\n".encode("utf-16") + b"x", "d.jsonl:2: .*expected one JSON object"),
        (LINE.replace("Red", "R\xe9d").encode("latin-1"), "d.jsonl:1: .*utf-8"),
        ('{"video": ' + "[" * 5000 + "]" * 5000 + "}", "d.jsonl:1: .*; expected"),
    ],
)
def test_a_damaged_line_of_the_users_own_file_is_an_error(tmp_path, content, message):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "d.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read_pairs(tmp_path / "d.jsonl")


@pytest.mark.parametrize("indent", [None, 2])
def test_one_json_list_is_read(tmp_path, indent):
    rows = [ROW, ROW | {"id": "a2"}]
    (tmp_path / "d.json").write_text("\n" + json.dumps(rows, indent=indent))
    assert [pair.id for pair in read_pairs(tmp_path / "d.json")] == ["a1", "a2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps([ROW, ROW | {"id": "a2", "query": 3}]), "d.json: row 2: query is 3"),
        (json.dumps([ROW, "text"]), r"d.json: \[1\] is 'text'; expected an object"),
        ("[\n" + json.dumps(ROW) + ",\n", "d.json is not JSON: .*line 3.*expected list"),
        ("[" * 10**5, "d.json is not JSON: .*expected list"),
        ("video,prompt,chosen,rejected\nv.mp4,What?,A,B\n", "d.json:1: .*expected one JSON object"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_the_place(tmp_path, content, message):
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path / "d.json")


# ---------------------------------------------------------------- videos


def test_relative_videos_are_looked_up_in_the_given_folder(tmp_path):
    row = ROW | {"video": "a/b/../v.mp4"}
    assert one_pair(tmp_path, row, video_root="/data").video == "/data/a/b/../v.mp4"
    assert one_pair(tmp_path, ROW | {"video": "/d/v.mp4"}, video_root="/data").video == "/d/v.mp4"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_video_named_without_suffix_is_found_with_it(tmp_path, suffix):
    (tmp_path / "v_1.5s").mkdir()  # a folder without frames does not hide the file
    (tmp_path / f"v_1.5s{suffix}").touch()
    row = ROW | {"video": "v_1.5s"}
    assert one_pair(tmp_path, row).video == str(tmp_path / f"v_1.5s{suffix}")


def test_a_video_id_counts_where_no_path_is_given(tmp_path):
    (tmp_path / "v_1.webm").touch()
    row = without(ROW, "video") | {"video_id": "v_1"}
    assert one_pair(tmp_path, row).video == str(tmp_path / "v_1.webm")
    assert one_pair(tmp_path, ROW | {"video_id": "v_1"}).video == str(tmp_path / "v.mp4")


def test_the_pairs_of_each_mode_and_the_videos_that_are_found_are_counted(tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    write_videos(tmp_path / "videos", 1, seed=0)
    names = ["00000", "x.mp4", "x.mp4", "y.mp4"]
    modes = ["spatial", "cross-frame", "other", None]
    rows = [ROW | {"id": k, "video": name, "mode": mode}
            for k, (name, mode) in enumerate(zip(names, modes, strict=True))]  # fmt: skip
    path = write(tmp_path / "pairs.jsonl", *rows)
    pairs = open_pairs(path, "spatial", tmp_path / "videos")
    assert capsys.readouterr().out == (
        "4 pairs (2 spatial, 1 cross_frame, 1 other) about 3 videos: "
        f"1 found under {tmp_path}/videos, 2 not, such as x.mp4, y.mp4\n"
    )
    assert pairs[0].video == str(tmp_path / "videos" / "00000.avi")


def test_rows_without_modes_are_counted_as_one_group(tmp_path, capsys):
    (tmp_path / "v.mp4").touch()
    rows = [without(ROW, "mode") | {"id": i} for i in range(3)]
    pairs = open_pairs(write(tmp_path / "pairs.jsonl", *rows), None, None)
    report = f"3 pairs (3 other) about 1 videos: 1 found under {tmp_path}\n"
    assert capsys.readouterr().out == report
    assert [pair.mode for pair in pairs] == ["other"] * 3


def test_training_exits_with_1_for_a_file_that_cannot_be_read(tmp_path):
    path = write(tmp_path / "pairs.jsonl", {"a": 1})
    command = [sys.executable, "train_dpo.py", "--pairs", str(path), "--dry_run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and f"{path}:1: has no column for the video" in done.stderr
    with pytest.raises(SystemExit, match="no pairs at .*gone.jsonl"):
        open_pairs(tmp_path / "gone.jsonl", None, None)


def test_when_no_video_is_found_the_message_names_the_folder_and_the_flag(tmp_path, capsys):
    path = write(tmp_path / "pairs.jsonl", ROW)
    with pytest.raises(SystemExit, match=f"would be {tmp_path}/v.mp4, .*begin in {tmp_path}: .*"
                       "with --video_root"):  # fmt: skip
        open_pairs(path, None, None)
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
    ("change", "message"),
    [
        ({"query": None}, "q.jsonl:1: query is None; expected str"),
        ({"mode": "depth"}, "q.jsonl:1: mode is 'depth'; expected one of"),
        ({"video": "../a.mp4"}, "q.jsonl:1: video is"),
        ({"topic": {"kind": "order"}}, "q.jsonl:1: topic is .*expected"),
        ({"query": "Where?\ud83d"}, "q.jsonl:1: query holds .*expected"),
    ],
)
def test_a_bad_own_query_is_refused_with_its_line(tmp_path, change, message):
    row = {"video": "a.mp4", "mode": "spatial", "query": "Where?"}
    with pytest.raises(ValueError, match=message):
        own_queries(write(tmp_path / "q.jsonl", row | change), [], tmp_path)
