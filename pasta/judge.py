"""The judge: is an adversarial answer wrong in the targeted way, and the preferred one usable?

By `rules`, an adversarial answer is kept if it takes the other side of an opposite of its mode
("left" against "right"), or answers no where the preferred one answers yes. A language model is
asked the same in words. Both drop flawed answers and copies first.
"""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

from pasta.prompts import ABOUT, JUDGE_PAIR
from pasta.run.reasoning import final_answer

OPPOSITES = {  # mode -> pairs of contradicting sides; the first word of a side is its name
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
        ("both", "one once"),
    ),
}
DENIALS = {"not", "no", "never", "none", "nothing", "cannot"}
REFUSALS = re.compile(  # at the start of a sentence only: people in a video also refuse things
    r"(?:^|[.!?:] +)(?:unfortunately,? |(?:based on|from) the video,? |i'm sorry,? but )?(?:"
    r"sorry\b|i(?: am|'m) (?:sorry|unable|not able)|i (?:cannot|can not|can't)|unable to\b"
    r"|i (?:do not|don't) (?:know|have)|as an? (?:ai|language)\b|no information\b"
    r"|(?:it is |it's )?(?:impossible|not possible|unclear)\b"
    r"|there is (?:no|not enough|insufficient) (?:way|information|video)"
    r"|(?:this|it) cannot be (?:determined|answered)"
    r"|the video (?:does not|doesn't) (?:provide|contain|give|show) (?:any|enough|sufficient))"
)
LEAKS = re.compile(  # a misled answer that mentions its premise, or that it was given one
    r"\b(?:as (?:you|i was) (?:asked|instructed|requested|told|stated)"
    r"|as (?:requested|instructed)\b(?! by)|(?:by|per|under|given|following) the instructions?"
    r"|(?:i|we|i'll|let's|let us)(?: will| shall)? pretend|hypothetical\w*|your instructions?"
    r"|(?:the|your|this|that) (?:premise|assumption)|assum(?:e|ing) that"
    r"|tak(?:e|ing) (?:it |that )?for granted)\b"
)
TOKEN = re.compile(  # special tokens of models: <video>, </s>, <|im_end|>, <｜User｜>, [INST]
    r"<[|/]?\w+[|/]?>|<\||<｜|\[/?[A-Z_]{3,}\]"
)
COMMON = set("a an the is are was were be".split())  # not "in" and "on", which are about positions
ALIKE = 0.95  # share of content words in common, in order, above which two texts are alike


@dataclass(frozen=True)
class Verdict:
    """Whether a response is kept, why not, and the (chosen, rejected) sides of the opposite."""

    kept: bool
    reason: str = ""
    sides: tuple[str, str] | None = None


UNREADABLE = Verdict(False, "judge's replies cannot be read")


def plain(text):
    return text.lower().replace("’", "'")


def words(text):
    """The words of a text, in lower case; "isn't" gives "is" and "not"."""
    return re.findall(r"\w+", plain(text).replace("n't", " not"))


def content_words(text):
    return [word for word in words(text) if word not in COMMON]


def alike(one, other):
    """Whether two texts have the same content words in the same order; of over 20, 1 may differ."""
    one, other = content_words(one), content_words(other)
    return one == other or SequenceMatcher(None, one, other, autojunk=False).ratio() > ALIKE


def stance(text, opposite):
    """The side that a text takes first, 0 or 1, and the words before and after it in its clause.

    A denial in the clause flips the side: "not left" is right. None if the text takes no side.
    """
    for clause in re.split(r"[.,;:!?\n]+", text):
        found = words(clause)
        for at, word in enumerate(found):
            for side, names in enumerate(opposite):
                if word in names.split():
                    denied = not DENIALS.isdisjoint(found)
                    return side ^ denied, set(found[:at]), set(found[at + 1 :])
    return None


def swapped(one, two):
    """Whether words change places, as in "A before B" and "B after A"."""
    (_, before, after), (_, before_too, after_too) = one, two
    there = (before - after) & (after_too - before_too)
    back = (after - before) & (before_too - after_too)
    return bool(there and back)


def sides(mode, chosen, rejected):
    """(chosen's side, rejected's side) of the first opposite on which they disagree, or None."""
    for opposite in OPPOSITES[mode]:
        one, two = stance(chosen, opposite), stance(rejected, opposite)
        if one and two and (one[0] != two[0]) != swapped(one, two):
            return tuple(opposite[side].split()[0] for side, *_ in (one, two))
    first = tuple("".join(words(text)[:1]) for text in (chosen, rejected))
    return first if set(first) == {"yes", "no"} else None


def flaw(answer, query):
    """What is wrong with an answer, or "". It has an "instruction" if it was given a premise."""
    response = answer["response"]
    unquoted = re.sub(r'"[^"]*"|“[^”]*”', "", plain(response))
    flaws = {
        "empty": not words(response),
        "cut off": not answer["finished"],
        "contains a special token": TOKEN.search(response),
        "refuses": REFUSALS.search(unquoted),
        "mentions its premise": "instruction" in answer and LEAKS.search(plain(response)),
        "repeats the query": words(response) == words(query),
    }
    return next((name for name, found in flaws.items() if found), "")


def judge_by_rules(mode, query, preferred, adversarial):
    """Verdict on one adversarial answer. preferred, adversarial: answers as in `flaw`."""
    if "?" not in query:
        return Verdict(False, "query asks nothing")
    for name, answer in (("preferred", preferred), ("adversarial", adversarial)):
        if problem := flaw(answer, query):
            return Verdict(False, f"{name} {problem}")
    if content_words(preferred["response"]) == content_words(adversarial["response"]):
        return Verdict(False, "same as preferred")
    if not (found := sides(mode, preferred["response"], adversarial["response"])):
        return Verdict(False, f"no contradiction about {ABOUT[mode]}")
    return Verdict(True, sides=found)


def judge_by_model(cases, ask):
    """A language model's Verdicts on cases, a list of (mode, query, preferred, adversarial).

    ask: list of different prompts -> list of replies. A case that the rules drop for a flaw or as a
    copy is not asked about.
    """
    verdicts, prompts = [judge_by_rules(*case) for case in cases], {}
    for i, verdict in enumerate(verdicts):
        if verdict.kept or "no contradiction" in verdict.reason:
            mode, query, preferred, adversarial = cases[i]
            texts = {"preferred": preferred["response"], "adversarial": adversarial["response"]}
            prompts[i] = JUDGE_PAIR.format(query=query, about=ABOUT[mode], **texts)
    distinct = list(dict.fromkeys(prompts.values()))
    replies = dict(zip(distinct, ask(distinct), strict=True)) if distinct else {}
    for i, prompt in prompts.items():
        verdicts[i] = model_verdict(replies[prompt], cases[i][0], verdicts[i].sides)
    return verdicts


def model_verdict(reply, mode, sides):
    """The Verdict that a model's reply gives; UNREADABLE if it cannot be parsed."""
    fields = read_verdict(reply)
    if not fields:
        return UNREADABLE
    if not fields["fits"]:
        return Verdict(False, "judge says that preferred does not fit the query")
    if not fields["contradicts"]:
        return Verdict(False, f"judge sees no contradiction about {ABOUT[mode]}")
    return Verdict(True, sides=sides)


def read_verdict(reply):
    """{"fits": bool, "contradicts": bool} of lines like `fits: yes`; None unless each is once."""
    fields, reply = {}, plain(final_answer(reply)[0])
    for name in ("fits", "contradicts"):
        found = re.findall(rf"^\W*{name}\W*(yes|no)\W*$", reply, re.M)
        if len(found) != 1:
            return None
        fields[name] = found[0] == "yes"
    return fields
