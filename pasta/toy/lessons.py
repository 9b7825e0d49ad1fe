"""What the toy model is taught to say: (prompt, response) pairs about a video of known truth.

Besides answering, it learns what the pipeline will ask of any Video-LLM: to write a query about a
mode, to give the wrong answer under a misleading instruction, and to pick an option's letter. All
prompts are the pipeline's own, so that nothing there has to know about the toy.
"""

from pasta.adversaries import ADVERSARIES, mislead
from pasta.benchmarks.mvbench import prompt_text
from pasta.pairs import MODES
from pasta.toy import world


def still(video, rng, usual):
    """Three texts about the last picture of the first scene, things from left to right."""
    things = sorted(video.things, key=lambda thing: thing.x)
    asked = [q for q in world.questions(video, rng) if q.mode == "spatial"][:2]
    return [describe(things), *((q.query, q.answer) for q in asked)]


def looking(video, rng, usual):
    """Five texts: the description of the video, in order of appearance, and questions."""
    asked = questions_by_mode(video, rng, usual)
    texts = [describe(video.things)]
    texts += [(asked[mode][0].query, asked[mode][0].answer) for mode in MODES]
    return [*texts, lettered(asked[MODES[rng.integers(3)]][-1], rng)]


def questions_by_mode(video, rng, usual):
    """mode -> its questions about a video, in random order."""
    asked = world.questions(video, rng, usual)
    return {mode: [q for q in asked if q.mode == mode] for mode in MODES}


def lessons(video, rng, usual):
    """Six (prompt, response) texts about one video.

    usual: the share of questions asked so that the usual answer is right; where the video itself
    decides it (all but "before or after") the video must come from a world of that share.
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


def lettered(question, rng):
    """The question in MVBench's form, options in random order; the answer ends with its letter.

    The answer comes first so that lettered questions need no other looking than open ones.
    """
    first = int(rng.integers(2))
    options = [question.options[first], question.options[1 - first]]
    letter = "AB"[options.index(question.options[0 if question.usual else 1])]
    return prompt_text(question.query, options), f"{question.answer} ({letter})"


def describe(things):
    """Things in words: the densest lesson there is, as captions are for real models."""
    sentences = [
        f"The {t.name} is {place(t)} and {'kept' if t.stays else 'replaced'}." for t in things
    ]
    return "Describe it.", " ".join(sentences)


def place(thing):
    """Where a thing is, in words."""
    row = "top" if thing.y < world.SIDE // 2 else "bottom"
    return f"{row} {'left' if thing.x < world.SIDE // 2 else 'right'}"


LESSONS = (still, looking, lessons)  # in the order of the school
