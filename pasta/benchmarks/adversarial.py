"""Adversarial QA, after the paper's Table 6: does a model refuse what a video does not show?

A data folder holds items.jsonl, whose videos are inside the folder or absolute paths:

    {"id", "video", "mode", "kind": "question", "query"}             its premise is false
    {"id", "video", "mode", "kind": "options", "query", "options"}   none of the options is right

A question is handled rightly when the response rejects its premise, by the rules of `rejects` or a
model that evaluate.py --judge names; of options, when it names "None of the above", which is added
as the last one, in words or by letter.
`make_pairs.py --adversarial_qa` writes such items; the toy world writes them from its known truth.

Departs from the paper: its items and its way to tell a rejection are not public.
"""

import os
import re
from pathlib import Path

from pasta.benchmarks import LETTERS, Item, inside, unlinked
from pasta.benchmarks.groups import by_task, lacking
from pasta.benchmarks.scoring import lettered_text
from pasta.benchmarks.tables import letter_at, one_of, text, texts
from pasta.judge import plain, words
from pasta.pairs import MODES
from pasta.run.rows import numbered_rows

DATA = Path("data/adversarial")
FETCH = "python make_pairs.py --adversarial_qa --responder MODEL --videos HELD_OUT --out"
MAX_NEW_TOKENS = 64
MACRO, RANDOM = True, False
EMPTY = "wrong"
COUNTS = {}
KINDS = ("question", "options")
TASKS = tuple(f"{mode} {kind}" for mode in MODES for kind in KINDS)
NONE = "None of the above"
REJECTED, ACCEPTED = "rejected", "accepted"

JUDGE = (
    "A question about a video takes for granted what is not so: {query}\nAn answer: {response}\n"
    "Does the answer say that it is not so? Reply with yes or no."
)

# "There is no red circle", "it is not shown", "the premise is false", and what else refuses.
REJECTIONS = re.compile(
    r"\b(?:no|not|never|none|neither|nothing|cannot|\w+n't|incorrect|false|wrong|untrue|contrary"
    r"|mistaken|premise|misleading|actually|absent|impossible|unable)\b"
)


def items(data) -> list[Item]:
    """Every item of a data folder, task by task.

    Raises FileNotFoundError for missing files, ValueError "FILE:LINE: ..." for a malformed row.
    """
    data = Path(data).absolute()
    path = data / "items.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; `{FETCH} {data}` makes it")
    found, seen = [], {}
    for number, row in numbered_rows(path):
        try:
            item = item_of(row, data)
            if item.id in seen:
                raise ValueError(f"id {item.id!r} is also on line {seen[item.id]}")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}:{number}: {error!r}; expected id, video, mode, query, kind (question or "
                "options) and, for options, two or more of them"
            ) from None
        seen[item.id] = number
        found.append(item)
    missing = [item.video for item in found if not os.path.exists(item.video)]
    if missing:
        raise FileNotFoundError(f"{path}: {len(missing)} videos are missing, such as {missing[0]}")
    return sorted(found, key=lambda item: TASKS.index(item.task))


def item_of(row, data):
    """The Item of one row of items.jsonl."""
    mode, kind = one_of(row["mode"], MODES, "mode"), one_of(row["kind"], KINDS, "kind")
    name, query, options, answer = text(row, "video"), text(row, "query"), (), REJECTED
    if kind == "options":
        options = (*texts(row["options"]), NONE)
        answer = letter_at(len(options) - 1, options)
    return Item(
        id=text(row, "id"),
        task=f"{mode} {kind}",
        name=name,
        video=Path(name) if Path(name).is_absolute() else unlinked(inside(data, name), data),
        prompt=prompt_text(query, options),
        options=options,
        answer=answer,
    )


def prompt_text(query, options) -> str:
    """The text behind the video: the bare question, or options in MVBench's form."""
    if not options:
        return query
    lines = [f"({letter}) {option}\n" for letter, option in zip(LETTERS, options, strict=False)]
    return f"Question:{query}\nOption:\n{''.join(lines)}Only give the best option.\n"


def absent(questions) -> list[str]:
    """The tasks that have no items."""
    return lacking(questions, TASKS)


def rejects(response) -> bool:
    """Whether a response denies anything at all, or calls the question wrong.

    A rule of thumb: who accepts a false premise mostly has nothing to deny.
    """
    return bool(REJECTIONS.search(plain(response)))


def parse(response, item, parser="head"):
    """A letter, or for a question "rejected" or "accepted"; None is undecided: no word, or "yes".

    "Yes." alone may accept the premise or the doubt, and an empty response says nothing.
    """
    if item.options:
        if NONE.lower() in response.lower():
            return item.answer
        named = lettered_text(response)
        return named if len(named) == 1 and named in item.letters else None
    if re.sub(r"\W+", "", response.lower()) in ("", "yes"):
        return None
    return REJECTED if rejects(response) else ACCEPTED


def judge_prompt(row):
    """What a judge is asked about a row of answers.jsonl; "" for one that needs no judge."""
    if row["task"].endswith("options") or not row["response"]:
        return ""
    return JUDGE.format(query=row["prompt"], response=row["response"])


def judged_row(row, reply):
    """A row as a judge decides it: yes is a rejection, and neither yes nor no leaves it open."""
    predicted = {True: REJECTED, False: ACCEPTED, None: None}[verdict_word(reply)]
    return row | {"predicted": predicted, "correct": predicted == row["answer"], "judge": reply}


def breakdown(rows, questions):
    """{kind: {id: score}} over all modes."""
    scores = {}
    for row in rows:
        kind = row["task"].rpartition(" ")[2]
        scores.setdefault(f"all {kind}", {})[row["id"]] = float(row["correct"])
    return scores


aggregate = by_task


def verdict_word(reply):
    """True for yes, False for no, None for neither: the first word, or the only one of the two."""
    found = [word for word in words(reply) if word in ("yes", "no")]
    if found and (words(reply)[0] == found[0] or len(set(found)) == 1):
        return found[0] == "yes"
    return None
