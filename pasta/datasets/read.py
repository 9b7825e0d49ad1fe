"""Reads a preference data set as our pairs, in the layouts of several publishers.

docs/pairs.md lists the layouts; all are two dialogues with the same question. So every column is
read as a list of turns, (speaker, text), and columns that hold the same turn must agree. Names are
likely ones for the undocumented VideoPASTA-7k and LongVA-TPO-10k; a message lists them all.
"""

import functools
import re
from pathlib import Path

from pasta.pairs import GROUPS, OTHER, Pair, pair_id
from pasta.run import ranks
from pasta.run.rows import numbered_rows, once, read_utf8
from pasta.run.schema import ABSENT, read_json, schema_error, valid_text
from pasta.video.find import describe, find_video, listing, missing

ENDS = ("", "_response", "_responses", "_answer", "_messages")
COLUMNS = {  # a row must have exactly one name of each, but the query may be in several
    "video": ("video", "videos", "video_path", "video_file", "video_name"),
    "query": ("query", "question", "prompt", "instruction", "conversation", "conversations",
              "messages"),
    "chosen": [by + end for end in ENDS for by in ("chosen", "preferred")],
    "rejected": [by + end for end in ENDS for by in ("rejected", "adversarial", "dispreferred")],
    "mode": ("mode", "failure_mode"),
}  # fmt: skip
ELSE = {"video": ("video_id",), "chosen": ("response", "answer", "output")}  # without the above
# Columns that change what is asked.
REFUSED = "history system system_prompt tools image images rejected_images audio audios".split()
SINGLE = "expected one question about one video, without history, system, tools, images or sound"
MODE_NAMES = {  # letters only: the paper's names of the failures
    "spatialmisalignment": "spatial",
    "temporalincoherence": "temporal",
    "crossframedisconnection": "cross_frame",
} | {mode.replace("_", ""): mode for mode in GROUPS}
SPEAKERS = {"system": "system", "user": "user", "human": "user"}
SPEAKERS |= dict.fromkeys(("assistant", "gpt", "bot", "model"), "assistant")
# A turn of a dialogue in one text.
HH = re.compile(r"(?s)\n\n(Human|Assistant):(.*?)(?=\n\n(?:Human|Assistant):|\Z)")
TEXT_KEYS = ("text", "value", "content", "response")  # of a part or of a message
VIDEO_KEYS = ("video", "video_url", "path", "url", "value")  # of a part, or of a struct in it
TAGS = re.compile("<(?:video|image|audio)>")  # where a trainer puts them
# A tag, and the blanks on one side of it: a line break is kept.
VIDEO_TAG = re.compile(r"(?<!\s)\s*<video>(?=\s*\n|[.,;:?!)])|(?<=\s)<video>\s*|<video>")


def read_pairs(path, mode=None, video_root=None) -> list[Pair]:
    """The pairs of a .jsonl file, or of a .json file with one list, in order.

    mode: of rows that name none; None: OTHER. video_root: folder of relative video paths, which may
    not leave it; None: the file's. Several rejected responses give a pair each, with ids "ID#0",
    "ID#1", ... Rows without an id get a hash of their content.
    Raises ValueError "FILE:LINE: ...; expected ...", and when the file has no pairs.
    """
    find = functools.cache(functools.partial(find_video, root=video_root or Path(path).parent))
    pairs, seen = [], {}
    for place, row in placed_rows(path):
        try:
            for pair in pairs_of(row, mode, find):
                if pair.id in seen:
                    cure = "expected every id once, or none: jq -c 'del(.id)' OLD.jsonl > NEW.jsonl"
                    raise ValueError(f"id {pair.id!r} is also at {seen[pair.id]}; {cure}")
                seen[pair.id] = place
                pairs.append(pair)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place}: {error}") from None
    if not pairs:
        raise ValueError(f"{path} holds no pairs; dropped.jsonl next to it may say why")
    return pairs


def placed_rows(path):
    """(place, row) of every row: the place is FILE:3, or FILE: row 3 in a JSON list."""
    listing.cache_clear()
    if read_utf8(path).lstrip().startswith(b"["):
        rows = enumerate(read_json(path, [dict], object_pairs_hook=once), start=1)
        return ((f"{path}: row {number}", row) for number, row in rows)
    return ((f"{path}:{number}", row) for number, row in numbered_rows(path))


def open_pairs(path, mode, video_root) -> list[Pair]:
    """`read_pairs`; prints how many videos are found. SystemExit without the file or any video."""
    if not Path(path).exists():
        raise SystemExit(f"no pairs at {path}; `python make_pairs.py` makes some, or name --pairs")
    pairs, root = read_pairs(path, mode, video_root), video_root or Path(path).parent
    ranks.say(describe(pairs, root))
    lost = missing(pairs)
    if len(lost) == len({pair.video for pair in pairs}):
        text = f"no video is found: the first would be {lost[0]}, or with another suffix; relative"
        raise SystemExit(f"{text} names begin in {root}: give another folder with --video_root")
    return pairs


def pairs_of(row, mode, find):
    """The pairs of one row, one for each rejected response. Raises ValueError without FILE:LINE.

    mode: for rows without one, or None. find: a video's name -> its path; may raise ValueError.
    """
    row = simple(row)
    for column in REFUSED:
        if row.get(column, "") not in ("", "[]", [], {}, False):
            raise ValueError(f"has a column {column}, {row[column]!r:.80}; {SINGLE}")
    name, mode, dialogue = video_name(row), mode_of(row, mode), chosen_dialogue(row)
    query, chosen = texts_of(dialogue, "chosen")
    if wrong := schema_error(row, {"id": str | int | ABSENT, "recipe": dict | ABSENT}):
        raise ValueError(wrong)
    path, others, pairs = find(name), rejected_of(row), []
    for k, other in enumerate(others):
        _, rejected = texts_of(joined(dialogue[:1], other, "assistant", "rejected"), "rejected")
        if rejected == chosen:
            raise ValueError(f"chosen and rejected are both {chosen!r}; expected different texts")
        id_ = pair_id(name, mode, query, chosen, rejected)
        if "id" in row:
            id_ = str(row["id"]) if len(others) == 1 else f"{row['id']}#{k}"
        pairs.append(Pair(id_, path, mode, query, chosen, rejected, row.get("recipe", {})))
    return pairs


def simple(value):
    """A row or a part of it without nulls, with simple names: "Video ID" becomes video_id."""
    if not isinstance(value, dict):
        return [simple(part) for part in value] if isinstance(value, list) else value
    found = {}
    for name, part in value.items():
        short = re.sub("[ -]", "_", name.strip().lower())
        part = part if short == "recipe" else simple(part)
        # `datasets` writes null for each field that another row's object has
        if part is not None and found.setdefault(short, part) != part:
            raise ValueError(f"has two columns {short}; expected one")
    return found


def columns_of(row, what):
    names = [name for name in COLUMNS[what] if name in row]
    return names or [name for name in ELSE.get(what, ()) if name in row]


def pick(row, what):
    """The value of the one column for `what`."""
    names = columns_of(row, what)
    if not names:
        known = "\n".join(f"  {key:9}{', '.join(names)}" for key, names in COLUMNS.items())
        text = f"has no column for the {what}: its columns are {', '.join(row) or 'none'}; expected"
        cure = "jq -c '{id, mode, video: .A, query: .B, chosen: .C, rejected: .D}' OLD > NEW.jsonl"
        raise ValueError(f"{text} one of each, except mode:\n{known}\nrename them: {cure}")
    if len(names) > 1:
        raise ValueError(f"has several columns for the {what}: {', '.join(names)}; expected one")
    return row[names[0]]


def mode_of(row, default):
    value = next((row[x] for x in COLUMNS["mode"] if row.get(x, "") != ""), default or OTHER)
    letters = re.sub("[^a-z]", "", value.lower()) if isinstance(value, str) else None
    if letters not in MODE_NAMES:
        raise ValueError(f"mode is {value!r:.80}; expected one of {', '.join(GROUPS)}, or none")
    return MODE_NAMES[letters]


def video_name(row):
    """The one video of the row, in its columns and in the parts of its dialogues."""
    columns = [name for name in (*COLUMNS["video"], "rejected_videos") if row.get(name)]
    texts = [row[x] for what in ("query", "chosen", "rejected") for x in columns_of(row, what)]
    found = [file_name(value) for value in [row[name] for name in columns] + videos_in(texts)]
    found = list(dict.fromkeys(found)) or [file_name(pick(row, "video"))]
    if len(found) > 1:
        raise ValueError(f"its videos are {found!r:.200}; expected one, for both responses")
    return found[0]


def videos_in(value):
    if kind_of(value) == "video":
        return [value] * any(key in value for key in VIDEO_KEYS)
    value = list(value.values()) if isinstance(value, dict) else value
    return [x for part in value for x in videos_in(part)] if isinstance(value, list) else []


def kind_of(part):
    """The type of a part of a content, such as {"type": "text", "text": "Q"}; None of others."""
    if not isinstance(part, dict) or part.keys() & {"role", "from", *TEXT_KEYS[2:]}:
        return None
    kind = part.get("type") or next((key for key in ("video", "text") if key in part), None)
    return "video" if kind == "video_url" else kind


def file_name(value):
    """The path of a video: a text, a list of one, or an object that holds it."""
    if isinstance(value, list) and len(value) == 1:
        return file_name(value[0])
    if isinstance(value, dict) and (keys := [key for key in VIDEO_KEYS if key in value]):
        return file_name(value[keys[0]])
    if not isinstance(value, str) or not value:
        raise ValueError(f"video is {value!r:.80}; expected the path of one video")
    return value.removeprefix("file://")


def chosen_dialogue(row):
    """The turns of the columns of the query and of the chosen response."""
    dialogue, columns = [], columns_of(row, "query")
    for name in columns:
        value = row[name]
        if name == "instruction" and row.get("input"):
            value = [{"text": text} for text in (value, "\n", row["input"])]
        dialogue = joined(dialogue, value, "user", name)
    if "assistant" not in dict(dialogue) or any(name in row for name in COLUMNS["chosen"]):
        dialogue = joined(dialogue, pick(row, "chosen"), "assistant", "chosen")
    if not columns and "user" not in dict(dialogue):
        pick(row, "query")  # raises
    return dialogue


def rejected_of(row):
    """The rejected responses, each a text, a message or a dialogue."""
    value = pick(row, "rejected")
    if not isinstance(value, list) or is_parts(value):
        return [value]
    if not value:
        raise ValueError("rejected is an empty list; expected one response or more")
    speakers = [by for by, _ in turns_of(value[0], "assistant", "rejected")]
    return [value] if isinstance(value[0], dict) and speakers != ["assistant"] else value


def joined(dialogue, value, by, what):
    """A dialogue with the turns of one more column, which may repeat it."""
    turns = turns_of(value, by, what)
    if turns and turns[0][0] == "assistant":
        turns = [turn for turn in dialogue if turn[0] != "assistant"] + turns
    for (speaker, old), (by, new) in zip(dialogue, turns, strict=False):
        if speaker == by and old != new:
            got = f"{what} has {new!r:.80} where another column has {old!r:.80}"
            raise ValueError(f"{got}; expected the same turn in both")
    return max(dialogue, turns, key=len)


def texts_of(dialogue, what):
    speakers, texts = [by for by, _ in dialogue], [text for _, text in dialogue]
    if speakers != ["user", "assistant"]:
        got = f"{what} is a dialogue of {len(texts)} turns, by {', '.join(speakers)}: {texts!r:.80}"
        raise ValueError(f"{got}; {SINGLE}")
    return texts


def turns_of(value, by, what):
    """The turns of a text, a message, a content in parts, or a list of these.

    by: the speaker of a text or content without one.
    """
    if isinstance(value, str) and HH.match(value):
        value = [{"role": who, "content": text} for who, text in HH.findall(value) if text.strip()]
    if isinstance(value, dict) and not {"role", "from"} & value.keys():
        names = [name for name in SPEAKERS if name in value]  # ShareGPT's {"human", "assistant"}
        value = [{"role": name, "content": value[name]} for name in names] or value
    if isinstance(value, list) and value and not is_parts(value):
        return [turn for one in value for turn in turns_of(one, by, what)]
    if isinstance(value, dict) and not is_parts([value]):
        by = value.get("role", value.get("from", by))
        value = next((value[key] for key in TEXT_KEYS if key in value), value)
    if not (speaker := SPEAKERS.get(str(by).lower())):
        raise ValueError(f"{what} has a turn by {by!r:.80}; expected user and assistant")
    text = text_of(value, speaker, what)
    return [(speaker, text)] if text or speaker != "system" else []


def is_parts(value):
    return isinstance(value, list) and bool(value) and all(map(kind_of, value))


def text_of(content, by, what):
    """The text of a content, stripped; parts are joined, and the tag of the video is taken out."""
    text, parts = "", [content] if isinstance(content, dict) else content
    for part in parts if is_parts(parts) else [{"text": content}]:
        kind, more = kind_of(part), next((part[key] for key in TEXT_KEYS if key in part), "")
        is_video = kind == "video" and by == "user"
        if not is_video and (kind != "text" or not isinstance(more, str)):
            raise ValueError(f"{what} is {content!r:.80}; expected a text, and in a query a video")
        text += "<video>" if is_video else more
    if by == "user":
        if (tags := TAGS.findall(text)) not in ([], ["<video>"]):
            raise ValueError(f"{what} has {', '.join(tags)}; {SINGLE}")
        text = VIDEO_TAG.sub("", text)
    if not text.strip() and by != "system":
        raise ValueError(f"{what} is {content!r:.80}; expected a text that is not empty")
    return valid_text(text, what).strip()
