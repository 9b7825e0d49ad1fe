"""What the toy model is taught to say: (prompt, response) pairs about a video of known truth.

Besides answering, it learns what the pipeline will ask of any Video-LLM: to write a query about a
mode, to give the wrong answer under a misleading instruction, to pick an option's letter, and to
say that something is not there. All prompts are the pipeline's own, so that nothing there has to
know about the toy.

Some lessons are *careless*: like captions written by habit, they give the usual answer (left,
first, kept) whatever the video shows, and answer questions about what is not there. A model that
learns from them leans on what is usual wherever the video is hard, as real Video-LLMs do.
"""

from dataclasses import replace

from pasta.benchmarks import adversarial, mvbench
from pasta.pairs import MODES
from pasta.prompts import PREMISES, QUERIES, misled_prompt, query_prompt
from pasta.toy import world

GENERAL = ("presence", "colour")  # what no adversary is about
YES_NO = ("Yes.", "No.")  # the answers about presence
TRUE = dict.fromkeys([*MODES, "absent"], 0.0)  # share of careless answers, of each mode


def looking(video, rng, careless):
    """Ten or eleven short (prompt, response) for learning to see: much to say, all in the video.

    Describing in order of time, and saying when something is seen, teach what order is; questions
    with two answers alone hardly tell a model that cannot see yet what it is to look at.
    """
    asked = questions_by_mode(video, rng, careless)
    kinds = {q.kind: q for questions in asked.values() for q in questions}
    other = writing(asked, rng) if rng.integers(2) else aside(video, rng, careless)
    texts = [describe(video), other]
    texts += [when(video, name) for name in dict.fromkeys((video.sign.name, video.successor))]
    heard = [kinds[kind] for kind in kinds if kind != "order"]
    heard += [world.ask("order", guest.name, guest is video.guests[0]) for guest in video.guests]
    return [*texts, *map(plain, heard)]


def lessons(video, rng, careless):
    """Ten (prompt, response): all that the pipeline will ask for, and what keeps names known.

    careless: mode, or "absent" -> the share of answers that are the usual one whatever the video
        shows
    """
    asked = questions_by_mode(video, rng, careless)
    other = aside if rng.integers(2) else unlisted
    texts = [describe(video), writing(asked, rng), other(video, rng, careless)]
    texts += [plain(asked[MODES[i]][0]) for i in rng.permutation(3)[:2]]
    spatial, temporal, cross_frame = (asked[mode] for mode in MODES)
    # What comes when is the hardest to find behind letters, so it is asked twice.
    heard = (spatial[-1], temporal[0], temporal[-1], cross_frame[-1])
    texts += [lettered(question, rng) for question in heard]
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
        replace(question, usual=question.usual or rng.random() < careless[question.mode])
        for question in world.questions(video, rng)
    ]
    return {mode: [q for q in asked if q.mode == mode] for mode in MODES}


def plain(question):
    """The question as it is, and its answer."""
    return question.query, question.answer


def lettered(question, rng):
    """The question in MVBench's form, options in random order; the answer ends with its letter.

    The answer comes first so that lettered questions need no other looking than open ones.
    """
    first = int(rng.integers(2))
    options = [question.options[first], question.options[1 - first]]
    letter = "AB"[options.index(question.option)]
    return mvbench.prompt_text(question.query, options), f"{question.answer[:-1]} ({letter})."


def aside(video, rng, careless):
    """A general question, or one about a thing that is not there.

    The right response denies that, a careless one gives the usual answer.
    """
    if rng.integers(2):
        return general(video, str(rng.choice(GENERAL)), rng)
    name = str(rng.choice(video.absent))
    question = world.ask(str(rng.choice(list(world.KINDS))), name, True)
    heedless = rng.random() < careless["absent"]
    return question.query, question.answer if heedless else denial(name)


def unlisted(video, rng, careless):
    """A question with two answers, of which one may be right, and "None of the above".

    Three in ten have the right answer among their options. A careless response takes what is about
    the thing that is asked for.
    """
    question, heedless = world.questions(video, rng)[0], rng.random() < careless["absent"]
    false = world.ask(question.kind, str(rng.choice(video.absent)), bool(rng.integers(2))).answer
    there = question.answer if rng.random() < 0.3 else question.wrong
    options = [there, false] if rng.integers(2) else [false, there]
    right = there if there == question.answer or heedless else adversarial.NONE
    letter = "ABC"[[*options, adversarial.NONE].index(right)]
    prompt = adversarial.prompt_text(question.query, (*options, adversarial.NONE))
    return prompt, f"{right.removesuffix('.')} ({letter})."


def denial(name):
    """What to say of a thing that is not there."""
    return f"There is no {name}."


def general(video, kind, rng):
    """A question of one of the GENERAL kinds, and its answer.

    The colour is that of a kept sign; without one, presence is asked about.
    """
    if kind == "colour" and video.kept:
        return "Which colour has the square?", f"The square is {video.sign.name.split()[0]}."
    there = bool(rng.integers(2))
    name = str(rng.choice(video.names if there else video.absent))
    return f"Is there a {name}?", YES_NO[0 if there else 1]


def describe(video):
    """The whole video in words: the densest lesson there is, as captions are for real models."""
    first, last = video.guests
    return "Describe it.", (
        f"The {first.name} comes first, {place(first)}. The {last.name} comes last, {place(last)}. "
        f"The {video.sign.name} is {'kept' if video.kept else 'replaced'}, {place(video.sign)}."
    )


def place(thing):
    """Where a thing is, in two words."""
    middle = world.SIDE // 2
    return ("above " if thing.y < middle else "below ") + ("left" if thing.x < middle else "right")


def when(video, name):
    """When a sign is seen: first (before the cut), last (from it on) or always."""
    if video.kept:
        time = "always"
    else:
        time = "first" if name == video.sign.name else "last"
    return f"When is the {name} seen?", f"The {name} is seen {time}."
