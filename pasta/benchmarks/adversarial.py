"""Adversarial QA, after the paper's Table 6: does a model refuse what a video does not show?

A question has a false premise; the right response rejects it, by the rule REJECTIONS or by the
model of evaluate.py --judge. Options are all wrong; "None of the above" is added as the last one.
Departs from the paper: its items and its rule for a rejection are not public.
"""

import re

from pasta.benchmarks import Benchmark, Item, mvbench
from pasta.benchmarks.tables import letter_at, one_of, text, texts
from pasta.judge import plain, words
from pasta.models.generate import Request
from pasta.pairs import MODES
from pasta.prompts import PREMISE_JUDGE
from pasta.run.schema import printable

KINDS = ("question", "options")
TASKS = tuple(f"{mode} {kind}" for mode in MODES for kind in KINDS)
NONE = "None of the above"
REJECTED, ACCEPTED = "rejected", "accepted"
JUDGE_TOKENS = 512  # room for reasoning, as make_pairs.py's judge has

# Denials: a response that accepts a false premise rarely holds one.
REJECTIONS = re.compile(
    r"\b(?:no|not|never|none|neither|nothing|cannot|\w+n't|incorrect|false|wrong|untrue|contrary"
    r"|mistaken|premise|misleading|actually|absent|impossible|unable)\b"
)


def item(row, find, table, number):
    mode, kind = one_of(row["mode"], MODES, "mode"), one_of(row["kind"], KINDS, "kind")
    query, options, answer = text(row, "query"), (), REJECTED
    if kind == "options":
        options = (*texts(row["options"]), NONE)
        answer = letter_at(len(options) - 1, options)
    id_, video = text(row, "id"), find(text(row, "video"))
    prompt = mvbench.prompt_text(query, options) if options else query
    return Item(id_, f"{mode} {kind}", *video, prompt, options, answer)


def parse(response, item, parser="head"):
    """A letter, or for a question "rejected" or "accepted", or None."""
    if item.options:
        if NONE.lower() in response.lower():
            return item.answer
        return mvbench.parse(response, item)
    if re.sub(r"\W+", "", response.lower()) in ("", "yes"):
        return None  # "Yes." alone may accept the premise or the doubt
    return REJECTED if REJECTIONS.search(plain(response)) else ACCEPTED


def judged(rows, ask):
    """Rows of answers.jsonl, read again by a judge model, which sees no video.

    ask: (list of Request, max_new_tokens) -> list of Answer, see `ask_once` of making/roles.py.
    Raises ValueError if no reply can be read.
    """
    asked = [row for row in rows if not row["task"].endswith("options") and row["response"]]
    prompts = [PREMISE_JUDGE.format(query=x["prompt"], response=x["response"]) for x in asked]
    answers, found = ask([Request(None, prompt) for prompt in prompts], JUDGE_TOKENS), {}
    for row, answer in zip(asked, answers, strict=True):
        read = {"predicted": verdict(answer.text), "judge": answer.text}
        found[row["id"]] = read | {"correct": read["predicted"] == row["answer"]}
    if unread := [a.error or repr(a.text) for a in answers if not verdict(a.text)]:
        text = f"the judge's replies cannot be read in {len(unread)} of {len(asked)}"
        text += f", such as {printable(unread[-1])[:200]}; expected yes or no"
        if len(unread) == len(asked):
            raise ValueError(f"{text}; all answers are kept: rerun with another --judge")
        print(f"{text}; these answers count as wrong")
    return [row | found.get(row["id"], {}) for row in rows]


def verdict(reply):
    """Of a judge's reply that begins with yes or no, or contains one of them alone; else None."""
    found = [word for word in words(reply) if word in ("yes", "no")]
    if found and (words(reply)[0] == found[0] or len(set(found)) == 1):
        return REJECTED if found[0] == "yes" else ACCEPTED
    return None


BENCHMARK = Benchmark(
    fetch="python make_pairs.py --adversarial_qa --responder MODEL --videos HELD_OUT --out",
    tasks=TASKS,
    columns="id, video, mode, query, kind (question or options) and, for options, two or more",
    item=item,
    parse=parse,
    tables={"": ("items",)},
    folders=(),
    max_new_tokens=64,
    macro=True,
)
