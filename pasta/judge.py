"""Which candidates become pairs: is r- wrong in the targeted way, and is r+ sound?

The judge reads text alone. By `rules` an adversarial response is kept if it takes the other side of
one of its mode's opposites ("left" against "right"), or denies what the preferred one affirms; a
model as judge is asked the same in words. Both first drop what no judge need look at: empty,
cut-off and refusing answers, echoes of the query, and answers that speak of the instruction.
"""

import re
from dataclasses import dataclass

YES, NO = {"yes"}, {"no"}
OPPOSITES = {  # the two sides of each contradiction; words of a side count as the same
    "spatial": (
        ({"left", "leftmost"}, {"right", "rightmost"}),
        ({"top", "above", "over", "upper", "up"}, {"bottom", "below", "under", "lower", "down"}),
        ({"front", "foreground", "before"}, {"behind", "back", "background"}),
        ({"near", "nearer", "close", "closer"}, {"far", "farther", "further", "distant"}),
        ({"hidden", "occluded", "covered", "obscured"}, {"visible", "uncovered", "unobstructed"}),
        ({"inside", "within"}, {"outside"}),
        ({"same", "equal", "equally"}, {"different", "unequal"}),
    ),
    "temporal": (
        ({"before", "earlier"}, {"after", "later", "afterwards"}),
        ({"first", "start", "starts", "begin", "begins"}, {"last", "end", "ends", "finally"}),
        ({"then", "next", "followed"}, {"simultaneously", "together", "simultaneous"}),
        ({"forwards", "forward"}, {"backwards", "backward", "flashback"}),
    ),
    "cross_frame": (
        (
            {"stay", "stays", "stayed", "remain", "remains", "remained", "unchanged", "kept"},
            {"replaced", "replaces", "changes", "changed", "gone", "disappears", "disappeared"},
        ),
        ({"same", "related", "continues"}, {"different", "another", "unrelated", "new"}),
        ({"again", "returns", "reappears"}, {"never"}),
    ),
}
DENIALS = {"not", "no", "never", "none", "nothing", "cannot"}
REFUSALS = re.compile(r"\b(i (can ?not|can't|am unable|'m sorry|am sorry)|as an ai)\b", re.I)
LEAKS = re.compile(
    r"\b(as if|pretend|as you (asked|instructed)|the instruction|hypothetical|mirrored)\b", re.I
)
TOPIC = {
    "spatial": "where things are",
    "temporal": "the order of events",
    "cross_frame": "what stays the same or changes between scenes",
}
PROMPT = (
    "A question about a video: {query}\nAnswer 1: {preferred}\nAnswer 2: {adversarial}\n"
    "Does answer 2 contradict answer 1 about {topic}? Reply with yes or no."
)


@dataclass(frozen=True)
class Verdict:
    """Whether a response is kept, why not, and the sides (chosen's, rejected's) it turns on."""

    kept: bool
    reason: str = ""
    sides: tuple[str, str] | None = None


def words(text):
    """The lower-case words of a text; "isn't" gives "is" and "not"."""
    return re.findall(r"[a-z]+", text.lower().replace("n't", " not"))


def sides(mode, chosen, rejected):
    """The first opposite on which two responses disagree, as (chosen's word, rejected's word).

    A response takes a side when it has words of that side alone. None if they never disagree.
    """
    one, two = set(words(chosen)), set(words(rejected))
    for pair in (*OPPOSITES[mode], (YES, NO)):
        for here, there in (pair, pair[::-1]):
            if one & here and not one & there and two & there and not two & here:
                return min(here), min(there)
    if bool(one & DENIALS) != bool(two & DENIALS):
        return ("denied", "affirmed") if one & DENIALS else ("affirmed", "denied")
    return None


def flaw(response, query, finished):
    """What is wrong with a response on its own, or an empty string."""
    if not words(response):
        return "empty"
    if not finished:
        return "cut off"
    if REFUSALS.search(response):
        return "refuses"
    if LEAKS.search(response):
        return "speaks of the instruction"
    if words(response) == words(query):
        return "repeats the query"
    return ""


def judge_by_rules(mode, query, preferred, adversarial):
    """Verdict on one adversarial response. preferred, adversarial: {"response", "finished"}."""
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
    reply = ask(
        PROMPT.format(
            query=query,
            preferred=preferred["response"],
            adversarial=adversarial["response"],
            topic=TOPIC[mode],
        )
    )
    answer = verdict_word(reply)
    if answer is None:
        return Verdict(False, f"judge's reply is neither yes nor no: {reply[:40]!r}")
    if not answer:
        return Verdict(False, f"judge sees no contradiction about {TOPIC[mode]}")
    return Verdict(True, sides=ruled.sides)


def verdict_word(reply):
    """True for yes, False for no, None when the reply has neither or both."""
    said = set(words(reply))
    return None if bool(said & YES) == bool(said & NO) else bool(said & YES)
