"""Appended files after a kill or a power cut: whole rows are kept, the damaged end is done again.

    python -m pytest -q tests/test_rows.py
"""

import json
import warnings
from pathlib import Path

import pytest
from test_fuzz import answers, metrics, pairs, queries_of_ones_own, reference, replies, skipped

from pasta.run.rows import Appender, numbered_rows, read_rows
from pasta.training.loop import Log

ROWS = [{"step": 1, "text": "é视"}, {"step": 2, "text": "x" * 50}, {"step": 3, "text": "ü"}]
LINES = [json.dumps(row, ensure_ascii=False).encode() for row in ROWS]
WHOLE = b"".join(line + b"\n" for line in LINES)
TWO = b"".join(line + b"\n" for line in LINES[:2])
# What follows two rows -> how many rows there are, and whether the end is named.
ENDS = {
    "nothing": (b"", 2, False),
    "blank lines": (b"\n\r\n", 2, False),
    "a whole row without newline": (LINES[2], 3, False),
    "a row that is cut short": (LINES[2][:9], 2, True),
    "a row that is cut inside a letter": (LINES[2][: LINES[2].index("ü".encode()) + 1], 2, True),
    "NULs": (b"\0" * 4096, 2, True),
    "part of a row, then NULs": (LINES[2][:12] + b"\0" * 100, 2, True),
    "a row, then NULs": (LINES[2] + b"\n" + b"\0" * 100, 3, True),
    "a row without newline, then NULs": (LINES[2] + b"\0" * 100, 3, True),
    "NULs inside the row": (LINES[2][:12] + b"\0" * 9 + LINES[2][21:] + b"\n", 2, True),
    "other bytes": (b"\xff\x07{]\xfe" * 30, 2, True),
    "other bytes in lines": (b"\xff\x07\n{]\xfe\n\n\x80" * 30, 2, True),
    "part of another file": (b'eed": 3}\n', 2, True),
    "half a UTF-16 row": (LINES[0].decode().encode("utf-16-le"), 2, True),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_damaged_end_is_named_and_rows_are_appended_after_the_last_whole_one(tmp_path, end):
    path, (tail, n, named) = tmp_path / "rows.jsonl", ENDS[end]
    path.write_bytes(TWO + tail)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert read_rows(path) == ROWS[:n]
    line = 3 if tail.startswith(LINES[2] + b"\0") else n + 1
    text = f"{path}:{line}: left out the end of the file, which is cut short or damaged"
    assert [str(warning.message) for warning in seen] == [text] * named
    with Appender(path) as out:
        out.write({"step": 9})
    assert read_rows(path) == [*ROWS[:n], {"step": 9}]
    assert path.read_bytes().startswith(TWO) and b"\0" not in path.read_bytes()


@pytest.mark.parametrize("length", range(len(WHOLE) + 1))
def test_cut_at_any_byte_only_the_last_row_is_lost(tmp_path, length):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(WHOLE[:length])
    ends = [WHOLE.index(line) + len(line) for line in LINES]
    whole = [row for row, end in zip(ROWS, ends, strict=True) if end <= length]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_rows(path) == whole
        Appender(path).write(ROWS[0])
    assert [row for _, row in numbered_rows(path, appended=True)] == [*whole, ROWS[0]]


MIDDLES = {
    "NULs": b"\0" * 40,
    "NULs before a row": b"\0" * 40 + LINES[1],
    "a cut row": LINES[1][:20],
    "other bytes": b"\xff\xfe\x80",
    "a list": b"[1, 2]",
    "deeply nested": b"[" * 10**5,
}


@pytest.mark.parametrize("middle", MIDDLES)
def test_damage_before_an_undamaged_row_is_an_error_and_nothing_is_cut_off(tmp_path, middle):
    path = tmp_path / "rows.jsonl"
    content = b"\n".join([LINES[0], MIDDLES[middle], LINES[2], b""])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path}:2: .*expected one JSON object a line"):
        read_rows(path)
    Appender(path).file.close()
    assert path.read_bytes() == content


@pytest.mark.parametrize("text", ['{\n  "a": 1\n}\n', "not ours\n", "[]\n", "<html>", "a,b\n1,2"])
def test_a_file_without_any_row_is_of_another_program_and_kept(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"{path}:1: .*expected one JSON object a line"):
        read_rows(path)
    Appender(path).file.close()
    assert path.read_text().startswith(text)


OURS = {f.__name__: f for f in (answers, metrics, reference, replies, skipped)}


@pytest.mark.parametrize("file", OURS)
@pytest.mark.parametrize("end", [e for e, (_, n, named) in ENDS.items() if named and n == 2])
def test_every_reader_of_an_appended_file_continues(tmp_path, file, end):
    path, read = OURS[file](tmp_path)
    rows = read_rows(path)
    with open(path, "ab") as out:
        out.write(ENDS[end][0])
    with pytest.warns(UserWarning, match=rf"{path}:{len(rows) + 1}: left out the end"):
        read()
    if file != "metrics":  # which is written anew
        Appender(path).file.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_rows(path) == rows[: 1 if file == "metrics" else None]
        Log(path, 0, 1).file.file.close() if file == "metrics" else read()


@pytest.mark.parametrize("file", ["pairs", "queries"])
@pytest.mark.parametrize("end", [e for e, (_, _, named) in ENDS.items() if named])
def test_data_of_the_user_is_read_strictly(tmp_path, file, end):
    path, read = {"pairs": pairs, "queries": queries_of_ones_own}[file](tmp_path)
    n = len(Path(path).read_bytes().splitlines())
    with open(path, "ab") as out:
        out.write(ENDS[end][0])
    with pytest.raises(ValueError, match=rf"{path}:{n + 1}: .*expected"):
        read()
