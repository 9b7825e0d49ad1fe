"""Training samples of the toy model: (prompt, response) pairs about a video of known truth.

Some have *noisy labels*: the majority answer (left, first, kept) whatever the video shows, or an
answer about an absent thing. So the model relies on the majority answers where the video is hard,
as real Video-LLMs do.
"""

from pasta.benchmarks import adversarial, mvbench
from pasta.prompts import PREMISES, QUERIES, misled_prompt, query_prompt
from pasta.toy import world

GENERAL = ("presence", "colour")  # kinds of questions that no adversary is about
YES_NO = ("Yes.", "No.")  # the answers about presence
NO_NOISE = dict.fromkeys([*world.MODES, "absent"], 0.0)  # share of noisy labels, of each mode


def caption_samples(video, rng, noise):
    """Ten or eleven (prompt, response) for learning to see."""
    # Two-choice questions alone give a model that cannot see yet almost no signal. A description
    # and the times of the markers teach it what order is.
    asked = questions_by_mode(video, rng, noise)
    kinds = {q.kind: q for questions in asked.values() for q in questions}
    other = query_sample(asked, rng) if rng.integers(2) else general_or_absent(video, rng, noise)
    samples = [describe(video), other]
    for name in dict.fromkeys((video.marker.name, video.successor)):
        time = "always" if video.kept else "first" if name == video.marker.name else "last"
        samples.append((f"When is the {name} seen?", f"The {name} is seen {time}."))
    short = [kinds[kind] for kind in kinds if kind != "order"]
    short += [world.ask("order", actor.name, actor is video.actors[0]) for actor in video.actors]
    return [*samples, *((question.query, question.answer) for question in short)]


def qa_samples(video, rng, noise):
    """Ten (prompt, response): everything that the pipeline asks. noise: as NO_NOISE."""
    asked = questions_by_mode(video, rng, noise)
    other = general_or_absent if rng.integers(2) else none_of_the_above
    samples = [describe(video), query_sample(asked, rng), other(video, rng, noise)]
    short = [asked[world.MODES[i]][0] for i in rng.permutation(3)[:2]]
    samples += [(question.query, question.answer) for question in short]
    spatial, temporal, cross_frame = (asked[mode] for mode in world.MODES)
    # Temporal questions are the hardest as multiple choice, so there are two of them.
    chosen = (spatial[-1], temporal[0], temporal[-1], cross_frame[-1])
    samples += [lettered(question, rng) for question in chosen]
    mode = world.MODES[rng.integers(3)]
    question, premise = asked[mode][-1], str(rng.choice(list(PREMISES[mode])))
    return [*samples, (misled_prompt(mode, premise, question.query), question.wrong)]


def query_sample(asked, rng):
    mode = world.MODES[rng.integers(3)]
    return query_prompt(mode, str(rng.choice(list(QUERIES[mode])))), asked[mode][-1].query


def questions_by_mode(video, rng, noise):
    """mode -> its questions about a video, in random order, some with noisy labels."""
    asked = [
        world.ask(q.kind, q.name, q.majority or rng.random() < noise[q.mode])
        for q in world.questions(video, rng)
    ]
    return {mode: [q for q in asked if q.mode == mode] for mode in world.MODES}


def lettered(question, rng):
    """The question in MVBench's form; first its answer as to an open question, then its letter."""
    options = question.options[::-1] if rng.integers(2) else question.options
    letter = "AB"[options.index(question.option)]
    return mvbench.prompt_text(question.query, options), f"{question.answer[:-1]} ({letter})."


def general_or_absent(video, rng, noise):
    """A general question, or one about an absent thing: denied, or with a noisy label answered."""
    if rng.integers(2):
        return general(video, str(rng.choice(GENERAL)), rng)
    name = str(rng.choice(video.absent))
    question = world.ask(str(rng.choice(list(world.KINDS))), name, True)
    return question.query, question.answer if rng.random() < noise["absent"] else denial(name)


def none_of_the_above(video, rng, noise):
    """A question with two answers and "None of the above", which is right in 70 %."""
    question, noisy = world.questions(video, rng)[0], rng.random() < noise["absent"]
    false = world.ask(question.kind, str(rng.choice(video.absent)), bool(rng.integers(2))).answer
    present = question.answer if rng.random() < 0.3 else question.wrong
    options = (present, false) if rng.integers(2) else (false, present)
    options = (*options, adversarial.NONE)
    # With a noisy label, the answer about the thing in the question, even if it is wrong.
    right = present if present == question.answer or noisy else adversarial.NONE
    answer = f"{right.removesuffix('.')} ({'ABC'[options.index(right)]})."
    return mvbench.prompt_text(question.query, options), answer


def denial(name):
    return f"There is no {name}."


def general(video, kind, rng):
    """A question of a GENERAL kind, and its answer. Presence if no marker is kept to ask about."""
    if kind == "colour" and video.kept:
        return "Which colour has the square?", f"The square is {video.marker.name.split()[0]}."
    present = bool(rng.integers(2))
    name = str(rng.choice(video.names if present else video.absent))
    return f"Is there a {name}?", YES_NO[0 if present else 1]


def describe(video):
    first, last = video.actors
    return "Describe it.", (
        f"The {first.name} comes first, {place(first)}. The {last.name} comes last, {place(last)}. "
        f"The {video.marker.name} is {'kept' if video.kept else 'replaced'}, {place(video.marker)}."
    )


def place(thing):
    """Where a thing is, such as "above left"."""
    middle = world.SIDE // 2
    return ("above " if thing.y < middle else "below ") + ("left" if thing.x < middle else "right")
