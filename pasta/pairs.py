"""Preference pairs and the files they live in: the seam where anyone's pairs may enter.

A file holds one JSON object a line. Writers append whole lines and flush each one, so a killed
writer leaves at most one torn line, and that one at the end: readers leave it out, and the next
writer cuts it off. `read_pairs` takes our own rows,

    {"id": "a1", "video": "v.mp4", "mode": "temporal", "query": "Which shape comes first?",
     "chosen": "The red square.", "rejected": "The blue disc.", "recipe": {...}}

and the row shapes of LLaVA-Hound, TRL (conversational), LLaMA-Factory (ShareGPT) and ms-swift.
"""

import codecs
import hashlib
import json
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

MODES = ("spatial", "temporal", "cross_frame")  # the failure modes, in the paper's order

QUERY = ("query", "question", "prompt", "conversations", "messages")  # the last is a dialogue
CHOSEN = ("chosen", "preferred")
REJECTED = ("rejected", "adversarial", "rejected_response")
SPEAKERS = {"user": ("user", "human"), "assistant": ("assistant", "gpt")}  # and ShareGPT's names


@dataclass(frozen=True)
class Pair:
    """Two responses to one query about one video; `chosen` is the one to prefer.

    video: path of a file or a frame folder. mode: one of MODES, what `rejected` gets wrong.
    recipe: how the pair was made; nothing reads it but people.
    """

    id: str
    video: str
    mode: str
    query: str
    chosen: str
    rejected: str
    recipe: dict = field(default_factory=dict)


def pair_id(video, mode, query, chosen, rejected) -> str:
    """The id of a pair that came without one: a hash of what it says."""
    text = json.dumps([video, mode, query, chosen, rejected])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_torn(line):
    """Whether a last line without newline is the beginning of a row, and not a whole one.

    No proper beginning of a JSON object is itself JSON, so only a missing newline is no loss.
    """
    try:
        json.loads(line)
    except ValueError:
        return line.startswith(b"{")
    return False


def numbered_rows(path):
    """(line number, row) of every line that is not blank. Raises ValueError at FILE:LINE."""
    lines = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    if is_torn(lines[-1]):
        warnings.warn(f"{path}:{len(lines)}: left out a last line that is cut short", stacklevel=2)
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            text = line[:60].decode(errors="replace")
            hint = f"; from a JSON list: jq -c '.[]' {path}" if text.startswith("[") else ""
            raise ValueError(f"{path}:{number}: {text!r}; expected one JSON object a line{hint}")
        yield number, row


def read_rows(path) -> list[dict]:
    """The rows of a .jsonl file, in order; blank lines and a torn last line are left out.

    Raises ValueError "FILE:LINE: ..." for any other line that is not a JSON object.
    """
    return [row for _, row in numbered_rows(path)]


class Appender:
    """Adds rows to the end of a .jsonl file, each at once and whole. One writer a file.

        with Appender("candidates.jsonl") as out:
            out.write({"video": "v.mp4", ...})

    Opening makes missing folders and cuts off the torn line of a killed writer.
    """

    def __init__(self, path):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "a+b")
        self.file.seek(0)
        before = self.file.read()
        tail = before.rpartition(b"\n")[2]
        if is_torn(tail):
            self.file.truncate(len(before) - len(tail))
        elif tail:
            self.file.write(b"\n")

    def write(self, row):
        # A lone surrogate cannot be UTF-8; backslashreplace writes it as JSON's own escape.
        line = json.dumps(row, ensure_ascii=False) + "\n"
        self.file.write(line.encode("utf-8", errors="backslashreplace"))
        self.file.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def write_rows(path, rows):
    """Write a whole .jsonl file, so that `path` is at every moment absent, the old or the new."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with Appender(part) as out:
        for row in rows:
            out.write(row)
    os.replace(part, path)


def pick(row, names):
    """The value under the one of `names` that the row has; null counts as absent."""
    found = [name for name in names if row.get(name) is not None]
    if len(found) != 1:
        raise ValueError(f"has {len(found)} of {', '.join(names)}; expected exactly one")
    return row[found[0]]


def is_part(value):
    """Whether this is one part of a conversational content; the video's place is a part too."""
    known = isinstance(value, dict) and value.get("type") in ("text", "video")
    return known and isinstance(value.get("text", ""), str)


def text_of(value, speaker, what):
    """The text of a message in any of the field's shapes, without the blanks around it.

    value: str, {"role", "content"}, {"from", "value"}, our candidates' {"response"}, or a list of
    one of them; a content may be a list of {"type": "text", "text"} and {"type": "video"} parts.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        role = value.get("role", value.get("from", speaker))
        if role not in SPEAKERS[speaker]:
            raise ValueError(f"{what} is by {role!r}; expected {speaker}")
        value = next((value[k] for k in ("content", "value", "response") if k in value), None)
    if isinstance(value, list) and all(map(is_part, value)):
        value = "".join(part.get("text", "") for part in value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} is {value!r:.80}; expected one text that is not empty")
    return value.strip()


def video_of(row, videos):
    """(as the row names it, where it is): absolute paths are as they are, others under `videos`."""
    name = pick(row, ("video", "videos"))
    if isinstance(name, list) and len(name) == 1:
        name = name[0]
    if not isinstance(name, str) or not name:
        raise ValueError(f"video is {name!r:.80}; expected the path of one video")
    if os.path.normpath(name).split(os.sep)[0] == "..":
        raise ValueError(f"video is {name!r}; expected an absolute path or one inside {videos}")
    return name, str(Path(videos) / name)


def pairs_of(row, mode, videos):
    """The pairs of one row, one for each rejected response. Raises ValueError without FILE:LINE."""
    name, path = video_of(row, videos)
    mode = row.get("mode") or mode
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    query = pick(row, QUERY)
    if row.get("messages") is None:
        chosen = pick(row, CHOSEN)
    elif isinstance(query, list) and len(query) == 2:  # ms-swift: chosen closes the dialogue
        query, chosen = query
    else:
        raise ValueError(f"messages is {query!r:.80}; expected a user turn and an assistant turn")
    query = text_of(query, "user", "query").replace("<video>", "").strip()
    if not query:
        raise ValueError("query is '<video>' alone; expected a text that is not empty")
    chosen = text_of(chosen, "assistant", "chosen")
    given, recipe = row.get("id"), row.get("recipe") or {}
    if not isinstance(given, str | int | None):
        raise ValueError(f"id is {given!r:.80}; expected a name or a whole number")
    if not isinstance(recipe, dict):
        raise ValueError(f"recipe is {recipe!r:.80}; expected an object")
    rejected = pick(row, REJECTED)
    rejected = rejected if isinstance(rejected, list) else [rejected]
    if not rejected:
        raise ValueError("rejected is an empty list; expected one response or more")
    pairs = []
    for k, one in enumerate(rejected):
        one = text_of(one, "assistant", "rejected")
        if one == chosen:
            raise ValueError(f"chosen and rejected are both {one!r}; expected two different texts")
        if given is None:
            id_ = pair_id(name, mode, query, chosen, one)
        else:
            id_ = str(given) if len(rejected) == 1 else f"{given}#{k}"
        pairs.append(Pair(id_, path, mode, query, chosen, one, recipe))
    return pairs


def read_pairs(path, mode=None, videos=None) -> list[Pair]:
    """The pairs of a file, in order.

    mode: the mode of rows that name none; without it such a row is an error.
    videos: folder in which relative video paths are looked up; None is the folder of the file.
        A relative path may not leave it; an absolute path is taken as it is.
    A list of rejected responses gives one pair each, with ids "ID#0", "ID#1", ... Rows without an
    id get a hash of their content. <video> tags are taken out of queries.
    Raises ValueError "FILE:LINE: what it got; what is expected", and when the file holds no pairs.
    """
    videos = Path(path).parent if videos is None else videos
    pairs, seen = [], {}
    for number, row in numbered_rows(path):
        try:
            for pair in pairs_of(row, mode, videos):
                if pair.id in seen:
                    raise ValueError(
                        f"id {pair.id!r} is also on line {seen[pair.id]}; expected every id once"
                    )
                seen[pair.id] = number
                pairs.append(pair)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    if not pairs:
        raise ValueError(
            f"{path} holds no pairs; `python make_pairs.py --help` shows how to make some"
        )
    return pairs
