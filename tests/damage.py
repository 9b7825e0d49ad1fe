"""Damages files for tests of their readers: one value, row or stretch of bytes is different.

PASTA_FUZZ=50 tries fifty times as many damages; pytest's --hypothesis-seed=N tries others.
"""

import contextlib
import io
import json
import math
import os
import re
import warnings

from hypothesis import HealthCheck, core, given, settings
from hypothesis import strategies as st

TIMES = float(os.environ.get("PASTA_FUZZ", 1))
NESTED = "nested deeply"  # replaced by lists in lists when written
TEXTS = ["", " ", "\0", "\ud83d", "\u202e", "\x1b[2J", "../x", "/", ".", "x" * 300, "x" * 5000, "A",
         "nan", "1e999", "<video>", "[1, 2]", "[" * 5000, NESTED]  # fmt: skip
NUMBERS = [0, -1, 1, 27, 2**31, -(2**63), 10**400, 0.5, 1e308, -0.0, math.nan, math.inf, -math.inf]
simple = (st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS)
          | st.text(max_size=4))  # fmt: skip
odd = simple | st.lists(simple, max_size=3) | st.dictionaries(st.text(max_size=3), simple)
chunks = st.binary(min_size=1, max_size=4) | st.sampled_from(
    [b"\0", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n", b",", b'"', b"{}\n", b"[" * 10**5]
)


def examples(n):
    """hypothesis settings for n examples, times PASTA_FUZZ; without a seed always the same."""
    return settings(
        max_examples=max(1, int(n * TIMES)),
        derandomize=core.global_force_seed is None,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def fuzz(n, check):
    """Call check(data) for n examples, times PASTA_FUZZ; `data` draws the damage."""
    examples(n)(given(st.data())(check))()


@st.composite
def damaged(draw, content, suffix):
    """The bytes of a file with one damage; .jsonl and .json are also damaged as JSON."""
    if suffix not in (".json", ".jsonl") or draw(st.integers(0, 3)) == 0:
        return draw(with_other_bytes(content))
    if suffix == ".json":
        return written(draw(with_other_value(json.loads(content))), draw)
    rows = draw(with_other_rows([json.loads(line) for line in content.splitlines()]))
    return b"".join(written(row, draw) + b"\n" for row in rows)


def written(value, draw):
    n = draw(st.sampled_from([1, 300, 800, 10**5]))
    nested = b"[" * n + b"]" * n
    return json.dumps(value).encode().replace(json.dumps(NESTED).encode(), nested)


@st.composite
def with_other_rows(draw, rows):
    """The rows with one changed, doubled, removed or moved."""
    at, kind = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, 6))
    before, row, after = rows[:at], rows[at], rows[at + 1 :]
    if kind > 2:
        return [*before, draw(with_other_value(row)), *after]
    return ([*before, row, row, *after], before + after, [*after, row, *before])[kind]


@st.composite
def with_other_value(draw, value):
    """The JSON value with one value in it replaced, removed or added."""
    keys = list(value) if isinstance(value, dict) else []
    keys = range(len(value)) if isinstance(value, list) else keys
    kind = draw(st.sampled_from(["below"] * 6 + ["here", "out", "in"]))
    if not keys or kind == "here":
        return draw(odd)
    key, other = draw(st.sampled_from(keys)), value.copy()
    if kind == "out":
        del other[key]
    elif kind == "below":
        other[key] = draw(with_other_value(value[key]))
    elif isinstance(value, list):
        other.insert(key, draw(odd))
    else:
        other[draw(st.text(max_size=3))] = draw(odd)
    return other


@st.composite
def with_other_bytes(draw, content):
    """The bytes cut short, with one changed, with some added, or with Windows newlines."""
    at, kind = draw(st.integers(0, len(content))), draw(st.integers(0, 4))
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content.replace(b"\n", b"\r\n")
    if kind == 2:
        return draw(chunks) + content
    put, gone = (draw(chunks), 0) if kind == 3 else (draw(st.binary(min_size=1, max_size=1)), 1)
    return content[:at] + put + content[at + gone :]


def names_place(path, error):
    """Whether a message names the file, in a .jsonl the line, and what was expected."""
    begin = b"" if path.is_dir() else path.read_bytes().removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    # a .jsonl that begins with "[" is read as one list
    line = r":\d+" if path.suffix == ".jsonl" and begin != b"[" else r"\b"
    return bool(re.search(f"{re.escape(str(path))}{line}.*expected", str(error), re.DOTALL))


def typed(value, *kinds):
    assert isinstance(value, kinds), value


@contextlib.contextmanager
def in_silence():
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def survives(data, path, read, *refusals, at=None):
    """A damaged file is read or refused with its place; afterwards the file is restored.

    refusals: what else may be raised. at: what the message names instead of the file.
    """
    whole = path.read_bytes()
    path.write_bytes(data.draw(damaged(whole, path.suffix)))
    try:
        with in_silence():
            read()
    except refusals as error:
        typed(error, FileNotFoundError)
    except ValueError as error:
        empty = f"{path} holds no" in str(error) or f"{path} holds nothing" in str(error)
        assert type(error) is ValueError and (empty or names_place(at or path, error)), error
    finally:
        path.write_bytes(whole)
