"""Which candidates become pairs: is an adversarial answer wrong in the targeted way, and the
preferred one sound?

The judge reads text alone. By `rules` an adversarial response is kept if it takes the other side of
one of its mode's opposites ("left" against "right"), or says no where the preferred one says yes; a
model as judge is asked the same in words. Both first drop what no judge need look at: queries that
ask nothing; and answers that are empty, cut off or refusals, repeat the query, copy the preferred
one, or speak of the premise that they were given.
"""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

from pasta.prompts import ABOUT, JUDGE, JUDGE_AGAIN

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
        ("both", "one once"),
    ),
}
DENIALS = {"not", "no", "never", "none", "nothing", "cannot"}
REFUSALS = re.compile(  # only where a sentence begins: people in a video refuse things, too
    r"(?:^|[.!?:] +)(?:unfortunately,? |(?:based on|from) the video,? |i'm sorry,? but )?(?:"
    r"sorry\b|i(?: am|'m) (?:sorry|unable|not able)|i (?:cannot|can not|can't)|unable to\b"
    r"|i (?:do not|don't) (?:know|have)|as an? (?:ai|language)\b|no information\b"
    r"|(?:it is |it's )?(?:impossible|not possible|unclear)\b"
    r"|there is (?:no|not enough|insufficient) (?:way|information|video)"
    r"|(?:this|it) cannot be (?:determined|answered)"
    r"|the video (?:does not|doesn't) (?:provide|contain|give|show) (?:any|enough|sufficient))"
)
LEAKS = re.compile(  # of a misled answer: it speaks of its premise, or of having been given one
    r"\b(?:as (?:you|i was) (?:asked|instructed|requested|told|stated)"
    r"|as (?:requested|instructed)\b(?! by)|(?:by|per|under|given|following) the instructions?"
    r"|(?:i|we|i'll|let's|let us)(?: will| shall)? pretend|hypothetical\w*|your instructions?"
    r"|(?:the|your|this|that) (?:premise|assumption)|assum(?:e|ing) that"
    r"|tak(?:e|ing) (?:it |that )?for granted)\b"
)
TOKEN = re.compile(r"<[|/]?\w+[|/]?>|<\|")  # a model's own tokens, which no prompt may hold
COMMON = set("a an the is are was were be".split())  # and no "in" or "on": they tell where
ALIKE = 0.95  # share of telling words in common, in order, above which two texts are alike


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


def telling(text):
    """The words of a text but the most common ones, which copies exchange for each other."""
    return [word for word in words(text) if word not in COMMON]


def alike(one, other):
    """Whether two texts are near-duplicates: the same words tell, in the same order.

    All of them in a short text; of more than twenty, one may be another.
    """
    one, other = telling(one), telling(other)
    return one == other or SequenceMatcher(None, one, other, autojunk=False).ratio() > ALIKE


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
            return tuple(opposite[side].split()[0] for side, *_ in (one, two))
    first = tuple("".join(words(text)[:1]) for text in (chosen, rejected))
    return first if set(first) == {"yes", "no"} else None


def flaw(answer, query):
    """What is wrong with an answer on its own, or an empty string.

    answer: {"response", "finished"}, and "instruction" if it was given a premise.
    """
    response = answer["response"]
    if not words(response):
        return "empty"
    if not answer["finished"]:
        return "cut off"
    if TOKEN.search(response):
        return "holds a model's own token"
    if REFUSALS.search(re.sub(r'"[^"]*"|“[^”]*”', "", plain(response))):
        return "refuses"
    if "instruction" in answer and LEAKS.search(plain(response)):
        return "speaks of its premise"
    if words(response) == words(query):
        return "repeats the query"
    return ""


def judge_by_rules(mode, query, preferred, adversarial):
    """Verdict on one adversarial response. preferred, adversarial: as the answer of `flaw`."""
    if "?" not in query:
        return Verdict(False, "query asks nothing")
    if problem := flaw(preferred, query):
        return Verdict(False, f"preferred {problem}")
    if problem := flaw(adversarial, query):
        return Verdict(False, f"adversarial {problem}")
    if telling(preferred["response"]) == telling(adversarial["response"]):
        return Verdict(False, "same as preferred")
    taken = sides(mode, preferred["response"], adversarial["response"])
    if taken is None:
        return Verdict(False, f"no contradiction about {ABOUT[mode]}")
    return Verdict(True, sides=taken)


class ModelJudge:
    """The same with a language model's word in place of the opposites.

    replies: prompt -> the model's reply, as far as it was asked
    unknown: the prompts to which a reply is missing; their verdict waits, and is not kept. Ask for
        them and call again, until there are none: so a judge is asked in batches.
    What the rules can see without it (flaws, copies) is dropped first. A reply that cannot be read
    is asked for once more, in stricter words.
    """

    def __init__(self, replies):
        self.replies, self.unknown = replies, {}

    def __call__(self, mode, query, preferred, adversarial):
        ruled = judge_by_rules(mode, query, preferred, adversarial)
        if not ruled.kept and not ruled.reason.startswith("no contradiction"):
            return ruled
        texts = {"preferred": preferred["response"], "adversarial": adversarial["response"]}
        for prompt in (JUDGE, JUDGE_AGAIN):
            prompt = prompt.format(query=query, about=ABOUT[mode], **texts)
            if prompt not in self.replies:
                self.unknown[prompt] = None
                return Verdict(False, "not judged yet")
            if verdict := read_verdict(self.replies[prompt]):
                break
        if not verdict:
            return Verdict(False, "judge's replies cannot be read")
        if not verdict["fits"]:
            return Verdict(False, "judge says that preferred does not fit the query")
        if not verdict["contradicts"]:
            return Verdict(False, f"judge sees no contradiction about {ABOUT[mode]}")
        return Verdict(True, sides=ruled.sides)

    def learn(self, prompts, replies):
        """Take the model's replies to prompts, which are unknown no longer."""
        self.replies.update(zip(prompts, replies, strict=True))
        self.unknown.clear()


def read_verdict(reply):
    """{"fits": bool, "contradicts": bool} of a judge's reply; None unless each is said once.

    A line is `fits: yes`, in any case, perhaps with stars around it. `fits: yes or no` is none.
    """
    said, reply = {}, plain(reply).rpartition("</think>")[2]
    for field in ("fits", "contradicts"):
        found = re.findall(rf"^\W*{field}\W*(yes|no)\W*$", reply, re.M)
        if len(found) != 1:
            return None
        said[field] = found[0] == "yes"
    return said
