"""One row of a preference data set, in anybody's columns and shapes, as our pairs.

Read besides our own rows, each as its publisher's reader or document has it:

    LLaVA-Hound    id, video, prompt, answer, chosen, rejected and their scores, say the readers
                   (RifleZhang/LLaVA-Hound-DPO dpo_experiment/dpo_scripts/run_dpo.py, LLaVA-VL/
                   LLaVA-NeXT llava/train/train_dpo.py); id, video, conversations and two turns,
                   says verl-project/verl-omni examples/dpo_trainer/qwen3_omni/
                   llava_hound_dpo_dataset.md; `answer`, the true one, is not used
    ms-swift       messages, videos, rejected_response or rejected_messages; or query, response
                   (modelscope/ms-swift docs/source_en/Customization/Custom-dataset.md)
    LLaMA-Factory  conversations, chosen, rejected, videos; or instruction, input, chosen, rejected
                   (hiyouga/LLaMA-Factory data/README.md)
    TRL            prompt, chosen, rejected as messages (huggingface/trl dataset_formats.md)
    VideoPASTA-7k, LongVA-TPO-10k: undocumented; these aliases, or a message with all names

Names of columns are compared without case, and with _ for a blank and for -.
"""

import re
from functools import lru_cache

from pasta.pairs import MODES, Pair, pair_id
from pasta.run.schema import valid_text

COLUMNS = {  # each is expected under one of its names
    "video": ("video", "videos", "video_path", "video_file", "video_name"),
    "query": ("query", "question", "prompt", "instruction", "conversations", "messages"),
    "chosen": ("chosen", "preferred", "chosen_response", "preferred_response", "chosen_answer"),
    "rejected": ("rejected", "adversarial", "dispreferred", "rejected_response",
                 "adversarial_response", "dispreferred_response", "rejected_answer",
                 "adversarial_responses", "rejected_responses", "rejected_messages"),
    "mode": ("mode", "failure_mode"),
}  # fmt: skip
ELSE = {  # looked at when there is none of the above
    "video": ("video_id", "vid"),
    "chosen": ("response", "output"),
    "mode": ("category", "type", "subset"),  # of something else, as often as not
}
MODE_NAMES = {  # letters alone: the paper's names of the failures
    "spatialmisalignment": "spatial",
    "temporalincoherence": "temporal",
    "crossframedisconnection": "cross_frame",
} | {mode.replace("_", ""): mode for mode in MODES}
SPEAKERS = {"user": ("user", "human"), "assistant": ("assistant", "gpt")}  # and ShareGPT's names
TAGS = re.compile("<(video|image)>")  # where a trainer is to put the video
SINGLE = "expected one question and one answer, since a pair is about a single query"
SYSTEM = """has a system prompt, {!r:.80}; expected none: the model's own is used; \
leave it out: jq -c '{}' OLD.jsonl > NEW.jsonl"""


class NoColumn(ValueError):
    """A row has none of the columns for what it names."""


def pairs_of(row, mode, find):
    """The pairs of one row, one for each rejected response.

    mode: of a row that names none, or None. find: a video's name -> its path; may raise ValueError.
    Raises ValueError without FILE:LINE.
    """
    try:
        return read_row(simple_names(row), mode, find)
    except NoColumn as lacking:
        raise ValueError(layout(row, str(lacking))) from None


def read_row(row, mode, find):
    """As pairs_of; the names of the columns are simple. Raises NoColumn, too."""
    name, mode = video_name(row), mode_of(row, mode)
    query, chosen = query_and_chosen(row)
    chosen = text_of(chosen, "assistant", "chosen")
    given, recipe = row.get("id"), row.get("recipe") or {}
    if not isinstance(given, str | int | None):
        raise ValueError(f"id is {given!r:.80}; expected a name or a whole number")
    if not isinstance(recipe, dict):
        raise ValueError(f"recipe is {recipe!r:.80}; expected an object")
    path, pairs = find(name), []
    rejected = rejected_of(row, query)
    for k, one in enumerate(rejected):
        if one == chosen:
            raise ValueError(f"chosen and rejected are both {one!r}; expected two different texts")
        if given is None:
            id_ = pair_id(name, mode, query, chosen, one)
        else:
            id_ = str(given) if len(rejected) == 1 else f"{given}#{k}"
        pairs.append(Pair(id_, path, mode, query, chosen, one, recipe))
    return pairs


def simple_names(row):
    """The row under simple names, without what is null: "Video ID" is video_id."""
    simple = {}
    for name, value in row.items():
        short = simple_name(name)
        if value is not None and short in simple:
            raise ValueError(f"has two columns {short}; expected one")
        if value is not None:
            simple[short] = value
    return simple


@lru_cache(maxsize=1024)  # the same few in every row
def simple_name(name):
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def layout(row, what):
    """What to tell about a row without a column for `what`: its columns, and those needed."""
    needed = "\n".join(
        f"  {key:9}{', '.join(names + ELSE.get(key, ()))}" for key, names in COLUMNS.items()
    )
    return (
        f"has no column for the {what}: its columns are {', '.join(row) or 'none'}; "
        f"expected one of each:\n{needed} (or --mode for all rows)\nrename them, such as: "
        "jq -c '{id, mode, video: .A, query: .B, chosen: .C, rejected: .D}' OLD.jsonl > NEW.jsonl"
    )


def held(row, what):
    """The names of the columns that hold `what`."""
    names = [name for name in COLUMNS[what] if name in row]
    return names or [name for name in ELSE.get(what, ()) if name in row][:1]


def pick(row, what):
    """The value of the one column that holds `what`. Raises ValueError for several, NoColumn."""
    names = held(row, what)
    if not names:
        raise NoColumn(what)
    if len(names) > 1:
        raise ValueError(
            f"has {len(names)} columns for the {what}: {', '.join(names)}; expected one; "
            f"leave the others out: jq -c 'del(.{names[-1]})' OLD.jsonl > NEW.jsonl"
        )
    return row[names[0]]


def video_name(row):
    """The video, as the row names it."""
    name = pick(row, "video")
    if isinstance(name, list) and len(name) == 1:
        name = name[0]
    if not isinstance(name, str) or not name:
        raise ValueError(f"video is {name!r:.80}; expected the path of one video")
    if row.get("rejected_videos") not in (None, [], [name]):
        raise ValueError("rejected_videos differ from videos; expected both responses about one")
    return name


def mode_of(row, default):
    """The mode that the row names, or `default`."""
    for name in [name for name in COLUMNS["mode"] + ELSE["mode"] if row.get(name)]:
        letters = re.sub("[^a-z]", "", row[name].lower()) if isinstance(row[name], str) else None
        if letters in MODE_NAMES:
            return MODE_NAMES[letters]
        if name in COLUMNS["mode"]:
            raise ValueError(f"mode is {row[name]!r:.80}; expected one of {', '.join(MODES)}")
    if default not in MODES:
        raise ValueError(
            f"mode is {default!r}; expected one of {', '.join(MODES)}, in a column "
            f"{', '.join(COLUMNS['mode'] + ELSE['mode'])}, or --mode for all rows that name none"
        )
    return default


def query_and_chosen(row):
    """The query, a text, and the chosen response in any shape; it may close the dialogue."""
    query = pick(row, "query")
    if history := row.get("history"):
        n = f"{len(history)} turns" if isinstance(history, list) else f"{history!r:.80}"
        raise ValueError(f"has a history of {n}; {SINGLE}")
    if row.get("system"):
        raise ValueError(SYSTEM.format(row["system"], "del(.system)"))
    if is_dialogue(query):
        if speaker(query[0]) == "system":
            key, name = "role" if "role" in query[0] else "from", held(row, "query")[0]
            cure = f'.{name} |= map(select(.{key} != "system"))'
            raise ValueError(SYSTEM.format(query[0], cure))
        if len(query) > 2:
            raise ValueError(f"is a dialogue of {len(query)} turns; {SINGLE}")
    if is_dialogue(query) and len(query) == 2:
        if names := held(row, "chosen"):
            raise ValueError(f"has an answer in the dialogue and {', '.join(names)}; expected one")
        query, chosen = query
    else:
        chosen = pick(row, "chosen")
    query = text_of(query, "user", "query")
    if "instruction" in row and row.get("input"):
        query += "\n" + text_of(row["input"], "user", "input")
    text = TAGS.sub("", query).strip()
    if not text:
        raise ValueError(f"query is {query!r} alone; expected a text that is not empty")
    return text, chosen


def rejected_of(row, query):
    """The texts of the rejected responses. A dialogue that ends with one must ask the query."""
    rejected = pick(row, "rejected")
    if is_dialogue(rejected) and speaker(rejected[0]) in SPEAKERS["user"]:
        asked = TAGS.sub("", text_of(rejected[0], "user", "rejected question")).strip()
        if len(rejected) != 2 or asked != query:
            raise ValueError(
                f"rejected is a dialogue of {len(rejected)} turns about {asked!r:.80}; expected "
                "the query and one answer"
            )
        rejected = rejected[1:]
    rejected = rejected if isinstance(rejected, list) else [rejected]
    if not rejected:
        raise ValueError("rejected is an empty list; expected one response or more")
    return [text_of(one, "assistant", "rejected") for one in rejected]


def is_dialogue(value):
    """Whether this is a list of turns, each with its speaker."""
    turns = isinstance(value, list) and all(isinstance(turn, dict) for turn in value)
    return turns and bool(value) and all("role" in turn or "from" in turn for turn in value)


def speaker(turn):
    """Who speaks a turn, in its own word."""
    return turn.get("role", turn.get("from"))


def is_part(value):
    """Whether this is one part of a conversational content; the video's place is a part too."""
    known = isinstance(value, dict) and value.get("type") in ("text", "video")
    return known and isinstance(value.get("text", ""), str)


def text_of(value, by, what):
    """The text of a message in any of the field's shapes, without the blanks around it.

    value: str, {"role", "content"}, {"from", "value"}, our candidates' {"response"}, or a list of
    one of them; a content may be a list of {"type": "text", "text"} and {"type": "video"} parts.
    by: "user" or "assistant". what: for messages.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        role = value.get("role", value.get("from", by))
        if role not in SPEAKERS[by]:
            raise ValueError(f"{what} is by {role!r}; expected {by}")
        value = next((value[k] for k in ("content", "value", "response") if k in value), None)
    if isinstance(value, list) and all(map(is_part, value)):
        value = "".join(part.get("text", "") for part in value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} is {value!r:.80}; expected one text that is not empty")
    return valid_text(value, what).strip()
