"""What the toy model is taught to say: (prompt, response) pairs about a video of known truth.

Besides answering, it learns what the pipeline will ask of any Video-LLM: to write a query about a
mode, to give the wrong answer under a misleading instruction, and to pick an option's letter. All
prompts are the pipeline's own, so that nothing there has to know about the toy.
"""

from pasta.adversaries import ADVERSARIES, mislead
from pasta.benchmarks.mvbench import prompt_text
from pasta.pairs import MODES
from pasta.toy import world


def looking(video, rng, usual):
    """Nine or ten texts for learning to see: much to say, all of it in the video.

    Describing in order of time, and saying when something is seen, teach what order is; questions
    with two answers alone hardly tell a model that cannot see yet what it is to look at.
    """
    asked = questions_by_mode(video, rng, usual)
    texts = [describe(video)]
    texts += [when(video, name) for name in dict.fromkeys((video.sign.name, video.successor))]
    texts += [(q.query, q.answer) for q in (*asked["spatial"][:2], asked["cross_frame"][0])]
    for i, option in enumerate(("first", "last")):
        q = world.ask("temporal", video.guests[i].name, ("first", "last"), option == "first")
        texts.append((q.query, q.answer))
    other = asked[MODES[rng.integers(2)]][-1]
    return [*texts, lettered(asked["cross_frame"][0], rng), lettered(other, rng)]


def lessons(video, rng, usual):
    """Six texts, of the kinds that the pipeline will ask for.

    usual: the share of questions asked so that the usual answer is right; where the video itself
    decides it (all but "first or last") the video must come from a world of that share.
    """
    asked = questions_by_mode(video, rng, usual)
    texts = [(asked[mode][0].query, asked[mode][0].answer) for mode in MODES]
    texts += [lettered(asked[MODES[i]][-1], rng) for i in rng.permutation(3)[:2]]
    mode = MODES[rng.integers(3)]
    adversary, question = ADVERSARIES[mode], asked[mode][-1]
    if rng.random() < 0.5:
        instruction = adversary.misleading[rng.integers(len(adversary.misleading))]
        texts.append((mislead(instruction, question.query), question.wrong))
    else:
        texts.append((adversary.queries[rng.integers(len(adversary.queries))], question.query))
    return texts


def questions_by_mode(video, rng, usual):
    """mode -> its questions about a video, in random order."""
    asked = world.questions(video, rng, usual)
    return {mode: [q for q in asked if q.mode == mode] for mode in MODES}


def lettered(question, rng):
    """The question in MVBench's form, options in random order; the answer ends with its letter.

    The answer comes first so that lettered questions need no other looking than open ones.
    """
    first = int(rng.integers(2))
    options = [question.options[first], question.options[1 - first]]
    letter = "AB"[options.index(question.options[0 if question.usual else 1])]
    return prompt_text(question.query, options), f"{question.answer[:-1]} ({letter})."


def describe(video):
    """The whole video in words: the densest lesson there is, as captions are for real models."""
    first, last = video.guests
    return "Describe it.", (
        f"The {first.name} comes first, {side(first)}. The {last.name} comes last, {side(last)}. "
        f"The {video.sign.name} is {'kept' if video.kept else 'replaced'}, {side(video.sign)}."
    )


def side(thing):
    """Where a thing is, in a word."""
    return "left" if thing.x < world.SIDE // 2 else "right"


def when(video, name):
    """When a sign is seen: first (before the cut), last (from it on) or always."""
    if video.kept:
        time = "always"
    else:
        time = "first" if name == video.sign.name else "last"
    return f"When is the {name} seen?", f"The {name} is seen {time}."
