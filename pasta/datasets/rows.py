"""Reads one row of a preference data set, in the layouts of several publishers, as our pairs.

    LLaVA-Hound    id, video, prompt, chosen, rejected (RifleZhang/LLaVA-Hound-DPO run_dpo.py,
                   LLaVA-VL/LLaVA-NeXT train_dpo.py); or id, video, conversations and two turns
                   (verl-project/verl-omni llava_hound_dpo_dataset.md)
    ms-swift       messages, videos, rejected_response or rejected_messages; or query, response
                   (modelscope/ms-swift docs/source_en/Customization/Custom-dataset.md)
    LLaMA-Factory  conversations, chosen, rejected, videos; or instruction, input, chosen, rejected
                   (hiyouga/LLaMA-Factory data/README.md)
    TRL            prompt, chosen, rejected as messages (huggingface/trl dataset_formats.md)
    VideoPASTA-7k, LongVA-TPO-10k: undocumented; these names, or a message that lists all names

Column names are compared without case, and with _ for a blank and for -.
"""

import re

from pasta.pairs import MODES, Pair, pair_id
from pasta.run.schema import ABSENT, schema_error, valid_text

COLUMNS = {  # a row must have exactly one name of each
    "video": ("video", "videos", "video_path", "video_file", "video_name"),
    "query": ("query", "question", "prompt", "instruction", "conversations", "messages"),
    "chosen": ("chosen", "preferred", "chosen_response", "preferred_response", "chosen_answer"),
    "rejected": ("rejected", "adversarial", "dispreferred", "rejected_response",
                 "adversarial_response", "dispreferred_response", "rejected_answer",
                 "adversarial_responses", "rejected_responses", "rejected_messages"),
    "mode": ("mode", "failure_mode"),
}  # fmt: skip
ELSE = {"video": ("video_id",), "chosen": ("response",)}  # used if there is none of the above
MODE_NAMES = {  # letters only: the paper's names of the failures
    "spatialmisalignment": "spatial",
    "temporalincoherence": "temporal",
    "crossframedisconnection": "cross_frame",
} | {mode.replace("_", ""): mode for mode in MODES}
SPEAKERS = {"user": ("user", "human"), "assistant": ("assistant", "gpt")}  # and ShareGPT's names
PARTS = [{"type": ("text", "video"), "text": str | ABSENT}]  # the parts of a message's content
TAGS = re.compile("<(video|image)>")  # where a trainer puts the video
SINGLE = "expected one question and one answer, without history or system prompt"


def pairs_of(row, mode, find):
    """The pairs of one row, one for each rejected response. Raises ValueError without FILE:LINE.

    mode: for rows without one, or None. find: a video's name -> its path; may raise ValueError.
    """
    row = simple_names(row)
    name, mode = video_name(row), mode_of(row, mode)
    query, chosen = query_and_chosen(row)
    if wrong := schema_error(row, {"id": str | int | ABSENT, "recipe": dict | ABSENT}):
        raise ValueError(wrong)
    path, pairs, responses = find(name), [], rejected_of(row, query)
    for k, rejected in enumerate(responses):
        if rejected == chosen:
            raise ValueError(f"chosen and rejected are both {chosen!r}; expected different texts")
        id_ = pair_id(name, mode, query, chosen, rejected)
        if "id" in row:
            id_ = str(row["id"]) if len(responses) == 1 else f"{row['id']}#{k}"
        pairs.append(Pair(id_, path, mode, query, chosen, rejected, row.get("recipe", {})))
    return pairs


def simple_names(row):
    """The row without nulls, and with simple column names: "Video ID" becomes video_id."""
    simple = {}
    for name, value in row.items():
        short = re.sub("[ -]", "_", name.strip().lower())
        if value is not None and simple.setdefault(short, value) is not value:
            raise ValueError(f"has two columns {short}; expected one")
    return simple


def columns_of(row, what):
    names = [name for name in COLUMNS[what] if name in row]
    return names or [name for name in ELSE.get(what, ()) if name in row]


def pick(row, what):
    """The value of the one column for `what`."""
    names = columns_of(row, what)
    if not names:
        known = "\n".join(f"  {key:9}{', '.join(names)}" for key, names in COLUMNS.items())
        got = f"has no column for the {what}: its columns are {', '.join(row) or 'none'}"
        cure = "jq -c '{id, mode, video: .A, query: .B, chosen: .C, rejected: .D}' OLD > NEW.jsonl"
        raise ValueError(f"{got}; expected one of each, or --mode:\n{known}\nrename them: {cure}")
    if len(names) > 1:
        raise ValueError(f"has several columns for the {what}: {', '.join(names)}; expected one")
    return row[names[0]]


def video_name(row):
    """The one video of the row."""
    name = pick(row, "video")
    if isinstance(name, list) and len(name) == 1:
        name = name[0]
    if not isinstance(name, str) or not name:
        raise ValueError(f"video is {name!r:.80}; expected the path of one video")
    if row.get("rejected_videos") not in (None, [], [name]):
        raise ValueError("rejected_videos differ from videos; expected both responses about one")
    return name


def mode_of(row, default):
    value = next(filter(None, map(row.get, COLUMNS["mode"])), default)
    letters = re.sub("[^a-z]", "", value.lower()) if isinstance(value, str) else None
    if letters not in MODE_NAMES:
        cure = f"in a column {', '.join(COLUMNS['mode'])}, or --mode for all rows without"
        raise ValueError(f"mode is {value!r:.80}; expected one of {', '.join(MODES)}, {cure}")
    return MODE_NAMES[letters]


def query_and_chosen(row):
    """The texts of the query and the chosen response, which may be the dialogue's last turn."""
    query = pick(row, "query")
    for name in ("history", "system"):
        if row.get(name):
            raise ValueError(f"has a column {name}, {row[name]!r:.80}; {SINGLE}")
    if is_dialogue(query) and (len(query) > 2 or speaker(query[0]) == "system"):
        raise ValueError(f"is a dialogue of {len(query)} turns, {query[0]!r:.80}, ...; {SINGLE}")
    if is_dialogue(query) and len(query) == 2:
        if names := columns_of(row, "chosen"):
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
    return text, text_of(chosen, "assistant", "chosen")


def rejected_of(row, query):
    """The texts of the rejected responses; a dialogue that ends with one must ask the query."""
    rejected = pick(row, "rejected")
    if is_dialogue(rejected) and speaker(rejected[0]) in SPEAKERS["user"]:
        asked = TAGS.sub("", text_of(rejected[0], "user", "rejected question")).strip()
        if len(rejected) != 2 or asked != query:
            got = f"rejected is a dialogue of {len(rejected)} turns about {asked!r:.80}"
            raise ValueError(f"{got}; expected the query and one answer")
        rejected = rejected[1:]
    rejected = rejected if isinstance(rejected, list) else [rejected]
    if not rejected:
        raise ValueError("rejected is an empty list; expected one response or more")
    return [text_of(one, "assistant", "rejected") for one in rejected]


def is_dialogue(value):
    turns = isinstance(value, list) and all(isinstance(turn, dict) for turn in value)
    return turns and bool(value) and all("role" in turn or "from" in turn for turn in value)


def speaker(turn):
    return turn.get("role", turn.get("from"))


def text_of(value, by, what):
    """The text of a message in any of the known layouts, stripped.

    value: str, {"role", "content"}, {"from", "value"}, our candidates' {"response"}, or a list of
        one of them; a content may be a list of PARTS. by: "user" or "assistant".
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        role = value.get("role", value.get("from", by))
        if role not in SPEAKERS[by]:
            raise ValueError(f"{what} is by {role!r}; expected {by}")
        value = next((value[k] for k in ("content", "value", "response") if k in value), None)
    if not schema_error(value, PARTS):
        value = "".join(part.get("text", "") for part in value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} is {value!r:.80}; expected one text that is not empty")
    return valid_text(value, what).strip()
