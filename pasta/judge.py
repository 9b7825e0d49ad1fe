"""Which candidates become pairs: is r- wrong in the targeted way, and is r+ sound?

The judge reads text alone. By `rules` an adversarial response is kept if it takes the other side of
one of its mode's opposites ("left" against "right"), or says no where the preferred one says yes; a
model as judge is asked the same in words. Both first drop what no judge need look at: queries that
are none, empty, cut-off and refusing answers, echoes, copies, and answers that speak of the premise
they were given.
"""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

from pasta.prompts import JUDGE, JUDGE_AGAIN, TOPIC

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
REFUSALS = re.compile(
    r"\bi(?: am|'m) (?:sorry|unable|not able)|\bi (?:cannot|can not|can't)"
    r"|\bas an? (?:ai|language)\b|\bi (?:do not|don't) (?:know|have)\b"
    r"|\b(?:im|not )possible to (?:tell|say|determine|answer)"
    r"|\bcannot be (?:determined|answered)|\bno (?:video|information) (?:is|was|about)\b"
)
LEAKS = re.compile(  # answers that speak of the premise, or of having been given one
    r"\b(?:as if|pretend\w*|as (?:you )?(?:asked|instructed|requested|stated|told)|hypothetical\w*"
    r"|(?:the|your|this|that) (?:instructions?|premise|assumption)|assum(?:e|ing) that"
    r"|tak(?:e|ing) (?:it |that )?for granted)\b"
)
ALIKE = 0.9  # share of words in common, in order, above which two texts are near-duplicates


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


def alike(one, other):
    """Whether two texts are near-duplicates: nearly all words are the same, in the same order."""
    return SequenceMatcher(None, words(one), words(other), autojunk=False).ratio() > ALIKE


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
        return "speaks of its premise"
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
    if taken is None and alike(preferred["response"], adversarial["response"]):
        return Verdict(False, "copy of preferred")
    if taken is None:
        return Verdict(False, f"no contradiction about {TOPIC[mode]}")
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
            prompt = prompt.format(query=query, topic=TOPIC[mode], **texts)
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
            return Verdict(False, f"judge sees no contradiction about {TOPIC[mode]}")
        return Verdict(True, sides=ruled.sides)

    def learn(self, prompts, replies):
        """Take the model's replies to prompts, which are unknown no longer."""
        self.replies.update(zip(prompts, replies, strict=True))
        self.unknown.clear()


def read_verdict(reply):
    """{"fits": bool, "contradicts": bool} of a judge's reply; None unless each is said once.

    A line is `fits: yes`, in any case, perhaps with stars around it. `fits: yes or no` is none.
    """
    said = {}
    for field in ("fits", "contradicts"):
        found = re.findall(rf"^\W*{field}\W*(yes|no)\W*$", plain(reply), re.M)
        if len(found) != 1:
            return None
        said[field] = found[0] == "yes"
    return said
