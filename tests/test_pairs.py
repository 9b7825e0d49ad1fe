"""pasta/pairs.py, pasta/run/rows.py: .jsonl files survive a kill, readers say what is wrong.

    python -m pytest -q tests/test_pairs.py
"""

import hashlib
from dataclasses import asdict, replace

import pytest

from pasta.datasets.read import read_pairs
from pasta.pairs import Pair, pair_id
from pasta.run.rows import Appender, read_rows


def test_what_the_appender_writes_is_read_back(tmp_path):
    query, video = "Où est « ça » ?\u2028", str(tmp_path / "v.mp4")
    pair = Pair("a", video, "spatial", query, "左", "右\n...", recipe={"k": [1]})
    with Appender(tmp_path / "new" / "pairs.jsonl") as out:
        out.write(asdict(pair))
    (again,) = read_pairs(tmp_path / "new" / "pairs.jsonl")
    assert again == replace(pair, query="Où est « ça » ?")  # blanks around a text do not count


def test_the_id_of_a_pair_is_a_hash_of_its_fields():
    text = '["v.mp4", "spatial", "O\\u00f9 ?", "left", "right"]'
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert pair_id("v.mp4", "spatial", "Où ?", "left", "right") == expected


def test_every_row_is_on_disk_as_soon_as_it_is_written(tmp_path):
    with Appender(tmp_path / "rows.jsonl") as out:
        out.write({"half a surrogate pair": "\ud83d"})
        assert read_rows(tmp_path / "rows.jsonl") == [{"half a surrogate pair": "\ud83d"}]


def test_a_killed_writer_loses_at_most_its_last_row(tmp_path):
    path, whole = tmp_path / "rows.jsonl", '{"n": 1}\n{"n": "zwölf"}\n'.encode()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        with Appender(path) as out:
            out.write({"n": 3})
        # A row is lost only when it lacks more than its newline.
        n_whole = sum(end >= stop for stop in (8, len(whole) - 1))
        assert read_rows(path) == [{"n": 1}, {"n": "zwölf"}][:n_whole] + [{"n": 3}]


def test_readers_leave_out_a_torn_last_line_and_warn(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 1}\n{"n": 2')
    with pytest.warns(UserWarning, match="rows.jsonl:2"):
        assert read_rows(path) == [{"n": 1}]


@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_a_byte_order_mark_blank_lines_and_any_line_ends_are_read(tmp_path, end):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"n": 1}\r\n\r\n{"n": 2}' + end)
    assert read_rows(path) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("line", ["{'n': 1}", "3", '{"n": 1} {"n": 2}'])
def test_a_bad_line_names_file_and_line(tmp_path, line):
    (tmp_path / "rows.jsonl").write_text('{"n": 0}\n' + line + '\n{"n": 3}\n')
    with pytest.raises(ValueError, match="rows.jsonl:2: .*expected one JSON object a line"):
        read_rows(tmp_path / "rows.jsonl")


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
