"""Perception Test (arXiv 2305.13786), multiple choice, validation, as in lmms-eval."""

from pasta.benchmarks import Benchmark, Item
from pasta.benchmarks.parsers import first_match
from pasta.benchmarks.tables import integer, letter_at, lettered, one_of, text, texts

TASKS = ("memory", "abstraction", "physics", "semantics")
AFTER = "Answer with the option's letter from the given choices directly."


def item(row, find, table, number):
    name = text(row, "video_name")
    options = texts(row["options"], 3, 3)  # lmms-eval would give a fourth one a second C
    task = one_of(text(row, "area").lower(), TASKS, "area")
    prompt = "\n".join([text(row, "question"), *lettered(options), AFTER])  # tasks/perceptiontest
    answer = letter_at(integer(row, "answer_id"), options)
    return Item(f"{name}/{integer(row, 'question_id')}", task, *find(name), prompt, options, answer)


BENCHMARK = Benchmark(
    fetch="hf download lmms-eval/PerceptionTest_Val --repo-type dataset "
    "--exclude valid_audios.zip --local-dir",
    size="75 GB",
    tasks=TASKS,
    columns="video_name, question_id, question, options (three), answer_id (0 to 2) and area",
    item=item,
    parse=lambda response, item, parser="head": first_match(r"\b([A-D])\b", response),  # also D
    counts={"all": 19140},
    tables={"": ("mc_question_val/validation", "validation")},
    folders=("videos", "video"),
    max_new_tokens=128,  # lmms-eval leaves it to the wrapper of the model
)
