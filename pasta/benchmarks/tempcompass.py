"""TempCompass (arXiv 2403.00476) as lmms-eval prompts and scores it, by rules alone."""

import re

from pasta.benchmarks import LETTERS, Benchmark, Item, parsers
from pasta.benchmarks.tables import letter_in, one_of, text

BEST = "\nPlease directly give the best option:"
AFTER = {"multi-choice": BEST, "yes_no": "\nPlease answer yes or no:", "caption_matching": BEST}


def item(row, find, task, number):
    question, answer = text(row, "question"), text(row, "answer")
    options = ()
    if task == "multi-choice":
        lines = re.findall(r"(?m)^([A-D])\. *(.*)", question)
        letters = "".join(letter for letter, _ in lines)
        if len(lines) < 2 or letters != LETTERS[: len(lines)]:
            raise ValueError(f"options are {letters!r}; expected lines from 'A. ' on")
        options = tuple(option for _, option in lines)
        answer = letter_in(answer[0], options)
    elif task == "yes_no":
        one_of(answer, ("yes", "no"), "answer")
    else:  # its lines are captions, such as "Option 1: It rises."
        labels = [parsers.caption_parts(line)[0] for line in question.split("\n")[1:]]
        if len(labels) < 2:
            raise ValueError(f"{len(labels)} captions; expected two or more")
        one_of(parsers.caption_parts(answer)[0], labels, "the answer's label")
    video, prompt = find(text(row, "video_id")), question + AFTER[task]
    return Item(f"{task}/{number}", task, *video, prompt, options, answer)


def parse(response, item, parser="head"):
    """What a response names: a letter, yes or no, or the whole line of a caption; or None."""
    if item.task == "multi-choice":
        return parsers.first_match(r"\A([A-D])(?:[.)]|\Z)", response)
    if item.task == "yes_no":
        return parsers.first_match(r"\A(yes|no)", response.lower())  # "Not sure" is no
    lines = item.prompt.removesuffix(AFTER[item.task]).split("\n")[1:]
    return parsers.matched_caption(response, lines, item.answer)


BENCHMARK = Benchmark(
    fetch="hf download lmms-eval/TempCompass --repo-type dataset --local-dir",
    size="0.4 GB",
    tasks=tuple(AFTER),
    columns="video_id, question and answer (a candidate)",
    item=item,
    parse=parse,
    counts={"multi-choice": 1580, "yes_no": 2453, "caption_matching": 1503},
    tables={task: (f"{task}/test",) for task in AFTER},
    folders=("videos", "video"),
    max_new_tokens=128,  # lmms-eval leaves it to the wrapper of the model
    macro=None,
)
