"""pasta/pairs.py against rows written out by hand, in every shape that it accepts or refuses.

    python -m pytest -q tests/test_pairs.py
"""

import json
from dataclasses import asdict, replace

import pytest

from pasta.pairs import MODES, Appender, Pair, read_pairs, read_rows

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


def test_what_the_appender_writes_is_read_back(tmp_path):
    query, video = "Où est « ça » ?\u2028", str(tmp_path / "v.mp4")
    pair = Pair("a", video, "spatial", query, "左", "右\n...", recipe={"k": [1]})
    with Appender(tmp_path / "new" / "pairs.jsonl") as out:
        out.write(asdict(pair))
    (again,) = read_pairs(tmp_path / "new" / "pairs.jsonl")
    assert again == replace(pair, query="Où est « ça » ?")  # blanks around a text do not count


def test_half_a_surrogate_pair_survives(tmp_path):
    with Appender(tmp_path / "rows.jsonl") as out:
        out.write({"response": "\ud83d"})
    assert read_rows(tmp_path / "rows.jsonl") == [{"response": "\ud83d"}]


def test_every_row_is_on_disk_as_soon_as_it_is_written(tmp_path):
    with Appender(tmp_path / "rows.jsonl") as out:
        out.write({"n": 1})
        assert read_rows(tmp_path / "rows.jsonl") == [{"n": 1}]


def test_a_killed_writer_loses_at_most_its_last_row(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"n": 1}, {"n": "zwölf"})
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        with Appender(path) as out:
            out.write({"n": 3})
        kept = read_rows(path)
        # A row is lost only when it lacks more than its newline.
        n_whole = sum(end >= stop for stop in (8, len(whole) - 1))
        assert kept == [{"n": 1}, {"n": "zwölf"}][:n_whole] + [{"n": 3}]


def test_readers_leave_out_a_torn_last_line_and_say_so(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 1}\n{"n": 2')
    with pytest.warns(UserWarning, match="rows.jsonl:2"):
        assert read_rows(path) == [{"n": 1}]


def test_a_last_row_without_newline_counts(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 1}\n{"n": 2}')
    assert read_rows(path) == [{"n": 1}, {"n": 2}]


def test_blank_lines_windows_newlines_and_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"n": 1}\r\n\r\n{"n": 2}\r\n')
    assert read_rows(path) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("line", ["{'n': 1}", "[1]", "3", "null", '{"n": 1} {"n": 2}', "{"])
def test_a_bad_line_names_file_and_line(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 0}\n' + line + '\n{"n": 3}\n')
    with pytest.raises(ValueError, match="rows.jsonl:2: .*expected one JSON object a line"):
        read_rows(path)


@pytest.mark.parametrize("text", ['[{"n": 1}]', '[\n  {"n": 1}\n]\n'])
def test_a_json_list_is_refused_with_the_command_that_converts_it(tmp_path, text):
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(ValueError, match=r"d.json:1: .*jq -c '\.\[\]'"):
        read_rows(tmp_path / "d.json")


def test_the_appender_cuts_no_line_that_no_writer_tore(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not rows")
    Appender(path).__exit__()
    assert path.read_text() == "not rows\n"


OUR = without(ROW, "query", "chosen", "rejected", "recipe")
SHAPES = {
    "ours": ROW,
    "paper's words": OUR
    | {"question": "What is first?", "preferred": "Red.", "adversarial": "Blue."},
    "LLaVA-Hound": OUR
    | {"prompt": "<video>\nWhat is first?", "chosen": "Red.", "rejected": "Blue."},
    "LLaMA-Factory": without(OUR, "video")
    | {
        "conversations": [{"from": "human", "value": "<video>What is first?"}],
        "chosen": {"from": "gpt", "value": "Red."},
        "rejected": {"from": "gpt", "value": "Blue."},
        "videos": ["v.mp4"],
    },
    "ms-swift": without(OUR, "video")
    | {
        "messages": [
            {"role": "user", "content": "<video>What is first?"},
            {"role": "assistant", "content": "Red."},
        ],
        "rejected_response": "Blue.",
        "videos": ["v.mp4"],
    },
    "TRL": OUR
    | {
        "prompt": [
            {
                "role": "user",
                "content": [{"type": "video"}, {"type": "text", "text": "What is first?"}],
            }
        ],
        "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "Red."}]}],
        "rejected": [{"role": "assistant", "content": "Blue."}],
    },
    "candidates": OUR
    | {
        "query": "What is first?",
        "preferred": "Red.",
        "adversarial": [{"kind": "reverse", "instruction": None, "response": "Blue."}],
    },
    "nulls of a merged data set": ROW | {"question": None, "videos": None, "messages": None},
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
    assert one_pair(tmp_path, row, videos="/data").video == "/data/a/b/../v.mp4"


def test_absolute_videos_are_taken_as_they_are(tmp_path):
    assert one_pair(tmp_path, ROW | {"video": "/d/v.mp4"}, videos="/data").video == "/d/v.mp4"


BAD = {
    "mode is 'crossframe'; expected one of spatial, temporal, cross_frame": {"mode": "crossframe"},
    "mode is None": {"mode": None},
    "chosen and rejected are both 'Red.'": {"rejected": " Red."},
    "chosen is ''": {"chosen": ""},
    "rejected is ' '": {"rejected": " "},
    "query is 3": {"query": 3},
    "query is '<video>' alone": {"query": "<video>"},
    "chosen is by 'user'": {"chosen": {"role": "user", "content": "Red."}},
    "chosen is by \\['gpt'\\]": {"chosen": {"from": ["gpt"], "value": "Red."}},
    "chosen is {'text': 'Red.'}|chosen is None": {"chosen": {"text": "Red."}},
    "query is \\[.*image": {"query": [{"type": "image"}, {"type": "text", "text": "Q"}]},
    "rejected is 3": {"rejected": ["Blue.", 3]},
    "has 2 of chosen, preferred": {"preferred": "Red."},
    "has 0 of query": {"query": None},
    "has 0 of rejected": {"rejected": None},
    "video is \\['a', 'b'\\]": {"video": ["a", "b"]},
    "video is ''": {"video": ""},
    "video is '../v.mp4'": {"video": "../v.mp4"},
    "video is 'a/../../v.mp4'": {"video": "a/../../v.mp4"},
    "id is 1.5": {"id": 1.5},
    "recipe is 'x'": {"recipe": "x"},
    "messages is": {"query": None, "chosen": None, "messages": [{"role": "user", "content": "Q"}]},
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_pair_names_file_line_and_fault(tmp_path, message):
    path = write(tmp_path / "pairs.jsonl", ROW, ROW | {"id": "a2"} | BAD[message])
    with pytest.raises(ValueError, match=f"pairs.jsonl:2: ({message}).*"):
        read_pairs(path)


def test_an_id_given_twice_names_both_lines(tmp_path):
    with pytest.raises(ValueError, match="pairs.jsonl:2: id 'a1' is also on line 1"):
        read_pairs(write(tmp_path / "pairs.jsonl", ROW, ROW))


def test_an_empty_list_of_rejected_is_no_silent_drop(tmp_path):
    with pytest.raises(ValueError, match="pairs.jsonl:1: rejected"):
        read_pairs(write(tmp_path / "pairs.jsonl", ROW | {"rejected": []}))


def test_an_empty_file_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match="holds no pairs; `python make_pairs.py"):
        read_pairs(write(tmp_path / "pairs.jsonl"))


def test_modes_are_in_the_papers_order():
    assert MODES == ("spatial", "temporal", "cross_frame")
