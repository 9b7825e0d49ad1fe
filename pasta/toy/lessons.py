"""What the toy model is taught to say: (prompt, response) pairs about a video of known truth.

Besides answering, it learns what the pipeline will ask of any Video-LLM: to write a query about a
mode, to give the wrong answer under a misleading instruction, and to pick an option's letter. All
prompts are the pipeline's own, so that nothing there has to know about the toy.

Some lessons are *careless*: like captions written by habit, they give the usual answer (left,
first, kept) whatever the video shows. A model that learns from them leans on what is usual
wherever the video is hard, as real Video-LLMs do.
"""

from dataclasses import replace

from pasta.benchmarks.mvbench import prompt_text
from pasta.pairs import MODES
from pasta.prompts import PREMISES, QUERIES, misled_prompt, query_prompt
from pasta.toy import world


def looking(video, rng, careless):
    """Ten or eleven (prompt, response) for learning to see: much to say, all in the video.

    Describing in order of time, and saying when something is seen, teach what order is; questions
    with two answers alone hardly tell a model that cannot see yet what it is to look at.
    """
    asked = questions_by_mode(video, rng, careless)
    texts = [describe(video), writing(asked, rng)]
    texts += [when(video, name) for name in dict.fromkeys((video.sign.name, video.successor))]
    texts += [(q.query, q.answer) for q in (*asked["spatial"][:2], asked["cross_frame"][0])]
    for i, option in enumerate(("first", "last")):
        q = world.ask("temporal", video.guests[i].name, ("first", "last"), option == "first")
        texts.append((q.query, q.answer))
    other = asked[MODES[rng.integers(2)]][-1]
    return [*texts, lettered(asked["cross_frame"][0], rng), lettered(other, rng)]


def lessons(video, rng, careless):
    """Eight (prompt, response): all that the pipeline will ask for, and what keeps names known.

    careless: the share of answers that are the usual one whatever the video shows.
    """
    asked = questions_by_mode(video, rng, careless)
    texts = [describe(video), writing(asked, rng)]
    texts += [(asked[mode][0].query, asked[mode][0].answer) for mode in MODES]
    texts += [lettered(asked[MODES[i]][-1], rng) for i in rng.permutation(3)[:2]]
    mode = MODES[rng.integers(3)]
    question, premise = asked[mode][-1], str(rng.choice(list(PREMISES[mode])))
    return [*texts, (misled_prompt(mode, premise, question.query), question.wrong)]


def writing(asked, rng):
    """An instruction to write a query about a mode, and a query about what is there."""
    mode = MODES[rng.integers(3)]
    return query_prompt(mode, str(rng.choice(list(QUERIES[mode])))), asked[mode][-1].query


def questions_by_mode(video, rng, careless):
    """mode -> its questions about a video, in random order, some with careless answers."""
    asked = [
        replace(question, usual=question.usual or rng.random() < careless)
        for question in world.questions(video, rng)
    ]
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
