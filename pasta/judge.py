"""Which candidates become pairs: is r- wrong in the targeted way, and is r+ sound?

The judge reads text alone. By `rules` an adversarial response is kept if it takes the other side of
one of its mode's opposites ("left" against "right"), or says no where the preferred one says yes; a
model as judge is asked the same in words. Both first drop what no judge need look at: queries that
are none, empty, cut-off and refusing answers, echoes, and answers that speak of the instruction.
"""

import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pasta.pairs import Appender, read_rows

OPPOSITES = {  # the words of two sides that contradict each other; a side is called by its first
    "spatial": (
        ("left leftmost", "right rightmost"),
        ("top above over upper up", "bottom below under lower down"),
        ("front foreground before", "behind back background"),
        ("near nearer close closer", "far farther further distant"),
        ("hidden occluded covered obscured", "visible uncovered unobstructed seen"),
        ("inside within", "outside"),
        ("same equal equally", "different unequal"),
    ),
    "temporal": (
        ("before earlier", "after later afterwards"),
        ("first start starts begin begins", "last end ends finally"),
        ("then next followed", "simultaneously together simultaneous"),
        ("forwards forward", "backwards backward flashback"),
    ),
    "cross_frame": (
        (
            "kept stay stays stayed remain remains remained unchanged",
            "replaced replaces changes changed gone disappears disappeared",
        ),
        ("same related continues", "different another unrelated new"),
        ("again returns reappears", "absent vanishes vanished"),
    ),
}
DENIALS = {"not", "no", "never", "none", "nothing", "cannot"}
REFUSALS = re.compile(r"\bi(?: am|'m) (?:sorry|unable)|\bi (?:cannot|can not|can't)|\bas an ai\b")
LEAKS = re.compile(
    r"\b(?:as if|pretend|as (?:you )?(?:asked|instructed)|your instructions?|the instruction"
    r"|hypothetical)\b"
)
TOPIC = {
    "spatial": "where things are",
    "temporal": "the order of events",
    "cross_frame": "what stays the same or changes between scenes",
}
PROMPT = (
    "A question about a video: {query}\nAnswer 1: {preferred}\nAnswer 2: {adversarial}\n"
    "Does answer 1 fit the question, and does answer 2 contradict it about {topic}? "
    "Reply with yes or no."
)


@dataclass(frozen=True)
class Verdict:
    """Whether a response is kept, why not, and the sides (chosen's, rejected's) it turns on."""

    kept: bool
    reason: str = ""
    sides: tuple[str, str] | None = None


def plain(text):
    """Lower case, straight apostrophes."""
    return text.lower().replace("’", "'")


def words(text):
    """The words of a text, in lower case; "isn't" gives "is" and "not"."""
    return re.findall(r"\w+", plain(text).replace("n't", " not"))


def stance(text, opposite):
    """The side that a text takes first, 0 or 1, and the words before and after it in its clause.

    A denial in the clause turns the side round: "not left" is right. None if it takes no side.
    """
    for clause in re.split(r"[.,;:!?\n]+", text):
        found = words(clause)
        for at, word in enumerate(found):
            for side, names in enumerate(opposite):
                if word in names.split():
                    denied = not DENIALS.isdisjoint(found)
                    return side ^ denied, set(found[:at]), set(found[at + 1 :])
    return None


def turned_round(one, two):
    """Whether two stances swap what they speak of, as "A before B" and "B after A".

    They do when words change places both ways; those that stand in both places tell nothing.
    """
    (_, before, after), (_, before_too, after_too) = one, two
    there = (before - after) & (after_too - before_too)
    back = (after - before) & (before_too - after_too)
    return bool(there and back)


def sides(mode, chosen, rejected):
    """The first opposite on which two responses disagree, as (chosen's side, rejected's side).

    None if they never do.
    """
    for opposite in OPPOSITES[mode]:
        one, two = stance(chosen, opposite), stance(rejected, opposite)
        if one and two and (one[0] != two[0]) != turned_round(one, two):
            return tuple(opposite[stance[0]].split()[0] for stance in (one, two))
    first = tuple("".join(words(text)[:1]) for text in (chosen, rejected))
    return first if set(first) == {"yes", "no"} else None


def flaw(response, query, finished):
    """What is wrong with a response on its own, or an empty string."""
    if not words(response):
        return "empty"
    if not finished:
        return "cut off"
    if REFUSALS.search(plain(response)):
        return "refuses"
    if LEAKS.search(plain(response)):
        return "speaks of the instruction"
    if words(response) == words(query):
        return "repeats the query"
    return ""


def judge_by_rules(mode, query, preferred, adversarial):
    """Verdict on one adversarial response. preferred, adversarial: {"response", "finished"}."""
    if "?" not in query:
        return Verdict(False, "query asks nothing")
    if problem := flaw(preferred["response"], query, preferred["finished"]):
        return Verdict(False, f"preferred {problem}")
    if problem := flaw(adversarial["response"], query, adversarial["finished"]):
        return Verdict(False, f"adversarial {problem}")
    if words(preferred["response"]) == words(adversarial["response"]):
        return Verdict(False, "same as preferred")
    taken = sides(mode, preferred["response"], adversarial["response"])
    if taken is None:
        return Verdict(False, f"no contradiction about {TOPIC[mode]}")
    return Verdict(True, sides=taken)


def judge_by_model(mode, query, preferred, adversarial, ask):
    """The same with a language model in place of the opposites; `ask`: prompt -> reply.

    What the rules can see without it (flaws, copies) is dropped first.
    """
    ruled = judge_by_rules(mode, query, preferred, adversarial)
    if not ruled.kept and not ruled.reason.startswith("no contradiction"):
        return ruled
    texts = {"preferred": preferred["response"], "adversarial": adversarial["response"]}
    answer = verdict_word(ask(PROMPT.format(query=query, topic=TOPIC[mode], **texts)))
    if answer is None:
        return Verdict(False, "judge says neither yes nor no")
    if not answer:
        return Verdict(False, f"judge sees no contradiction about {TOPIC[mode]}")
    return Verdict(True, sides=ruled.sides)


@contextmanager
def model_judge(ask, path, name):
    """`judge_by_model` that keeps the replies of the model `name` in a file, and asks none twice.

    Each reply is a row {judge, prompt, reply}, appended at once.
    """
    rows = read_rows(path) if path.exists() else []
    known = {row["prompt"]: row["reply"] for row in rows if row["judge"] == name}

    def reply(prompt):
        if prompt not in known:
            known[prompt] = ask(prompt)
            out.write({"judge": name, "prompt": prompt, "reply": known[prompt]})
        return known[prompt]

    with Appender(path) as out:
        yield partial(judge_by_model, ask=reply)


def verdict_word(reply):
    """True for yes, False for no, None for neither: the first word, or the only one of the two."""
    found = [word for word in words(reply) if word in ("yes", "no")]
    if found and (words(reply)[0] == found[0] or len(set(found)) == 1):
        return found[0] == "yes"
    return None
