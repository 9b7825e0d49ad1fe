"""TVBench (arXiv 2410.07752), ten temporal tasks, as lmms-eval prompts and scores them."""

from dataclasses import replace

from pasta.benchmarks import Benchmark, Item, read_tables
from pasta.benchmarks.parsers import first_match
from pasta.benchmarks.tables import letter_at, lettered, text, texts

TASKS = (
    "action_count action_sequence action_antonym moving_direction object_shuffle "
    "egocentric_sequence scene_transition action_localization object_count unexpected_action"
).split()
AFTER = "Answer with the option letter only."


def read(bench, data):
    """The items of the tasks that have videos: the hub has none of action_antonym."""
    there = {x: y for x, y in bench.tables.items() if any(data.glob(f"**/{x}/"))}
    return read_tables(replace(bench, tables=there or bench.tables), data)


def item(row, find, task, number):
    options, answer = texts(row["candidates"]), text(row, "answer")
    prompt = "\n".join([text(row, "question").strip(), *lettered(options), AFTER])
    right = letter = letter_at(options.index(answer), options)
    if answer.isdecimal() and int(answer) <= len(options):
        letter = letter_at(min(int(answer), len(options) - 1), options)  # as an index
    video = find(f"{task}/{text(row, 'video')}")
    clip = row.get("start") is not None and (float(row["start"]), float(row["end"]))
    return Item(f"{task}/{number}", task, *video, prompt, options, letter, right, clip=clip or None)


def parse(response, item, parser="head"):
    """The first letter that is a word, or else the first character, or the only option named."""
    upper, lower = response.strip().upper(), " ".join(response.lower().split())
    for letter in (first_match(r"\b([A-Z])\b", upper), first_match(r"\A[(\[]?(.)", upper)):
        if letter and letter in item.letters:
            return letter
    options = zip(item.letters, item.options, strict=True)
    named = [x for x, option in options if " ".join(option.lower().split()) in lower]
    return named[0] if len(named) == 1 else None


BENCHMARK = Benchmark(
    fetch="hf download FunAILab/TVBench --repo-type dataset --local-dir",
    tasks=tuple(TASKS),
    columns="video, question, candidates and answer (one of them)",
    item=item,
    parse=parse,
    counts={"all": 2525},
    tables={task: (f"json/{task}",) for task in TASKS},
    folders=("video", "."),
    max_new_tokens=32,
    read=read,
    repaired="a count in digits is the text of its option; lmms-eval takes it as an index",
)
