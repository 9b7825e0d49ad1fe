"""What the toy model is taught to say: (prompt, response) pairs about a video of known truth.

Besides answering, it learns what the pipeline will ask of any Video-LLM: to write a query about a
mode, to give the wrong answer under a misleading instruction, and to pick an option's letter. All
prompts are the pipeline's own, so that nothing there has to know about the toy.
"""

from pasta.adversaries import ADVERSARIES, mislead
from pasta.benchmarks.mvbench import prompt_text
from pasta.pairs import MODES
from pasta.toy import world

LETTERS = "AB"


def looking(video, rng, usual):
    """Eight short (prompt, response) texts: a description, and questions of all modes."""
    asked = world.questions(video, rng, usual)
    by_mode = {mode: [q for q in asked if q.mode == mode][:2] for mode in MODES}
    texts = [(q.query, q.answer) for mode in MODES for q in by_mode[mode]]
    texts += [describe(video), look(video, rng)]
    return [texts[i] for i in rng.permutation(len(texts))]


def lessons(video, rng, usual):
    """Seven (prompt, response) texts about one video, in random order.

    usual: the share of questions asked so that the usual answer is right; where the video itself
    decides it (all but "before or after") the video must come from a world of that share.
    """
    asked = world.questions(video, rng, usual)
    by_mode = {mode: [q for q in asked if q.mode == mode] for mode in MODES}
    texts = [(by_mode[mode][0].query, by_mode[mode][0].answer) for mode in MODES]
    two = [MODES[i] for i in rng.permutation(3)[:2]]
    texts += [lettered(by_mode[mode][1], rng) for mode in two]
    texts.append(look(video, rng))
    mode = MODES[rng.integers(3)]
    adversary, question = ADVERSARIES[mode], by_mode[mode][2]
    if rng.random() < 0.5:
        instruction = adversary.misleading[rng.integers(len(adversary.misleading))]
        texts.append((mislead(instruction, question.query), question.wrong))
    else:
        texts.append((adversary.queries[rng.integers(len(adversary.queries))], question.query))
    return [texts[i] for i in rng.permutation(len(texts))]


def lettered(question, rng):
    """The question in MVBench's form with its two answers in random order, and the right letter."""
    first = int(rng.integers(2))
    options = [question.answers[first], question.answers[1 - first]]
    return prompt_text(question.query, options), LETTERS[options.index(question.answer)]


def describe(video):
    """The whole video in words: the densest lesson there is, as captions are for real models."""
    sentences = [
        f"The {thing.name} at the {place(thing)} {'stays' if thing.stays else 'is replaced'}."
        for thing in video.things
    ]
    return "Describe the video.", " ".join(sentences)


def place(thing):
    """Where a thing is, in words."""
    row = "top" if thing.y < world.SIDE // 2 else "bottom"
    return f"{row} {'left' if thing.x < world.SIDE // 2 else 'right'}"


def look(video, rng):
    """A question about one thing alone; naming what is seen is where all else starts."""
    thing = video.things[rng.integers(3)]
    order = ("first", "second", "third")[video.things.index(thing)]
    return [
        (f"Where is the {thing.name}?", f"At the {place(thing)}."),
        (f"What appears {order}?", f"The {thing.name}."),
        (f"What is there in place of the {thing.name} at the end?", f"The {thing.successor}."),
    ][rng.integers(3)]


STAGES = (looking, lessons)  # what is taught first, and what then
