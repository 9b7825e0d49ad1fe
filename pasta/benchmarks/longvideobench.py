"""LongVideoBench (arXiv 2407.15754), validation, video without subtitles, as in lmms-eval."""

from pasta.benchmarks import Benchmark, Item
from pasta.benchmarks.parsers import PREFIXES, first_capital
from pasta.benchmarks.tables import integer, letter_at, lettered, one_of, text, texts

TASKS = ("15 s", "60 s", "600 s", "3600 s")  # up to 15 seconds, up to a minute, ...
AFTER = "Answer with the option's letter from the given choices directly.\n"


def item(row, find, table, number):
    options = texts(row["candidates"])
    task = one_of(f"{integer(row, 'duration_group')} s", TASKS, "duration_group")
    prompt = "\n".join([text(row, "question"), *lettered(options), AFTER])  # tasks/longvideobench
    answer = letter_at(integer(row, "correct_choice"), options)
    return Item(text(row, "id"), task, *find(text(row, "video_path")), prompt, options, answer)


BENCHMARK = Benchmark(
    fetch="hf download longvideobench/LongVideoBench --repo-type dataset --local-dir",
    size="162 GB",
    tasks=TASKS,
    columns="id, video_path, question, candidates, correct_choice (from 0) and duration_group",
    item=item,
    # a letter that the item lacks is wrong; None is a draw
    parse=lambda response, item, parser="head": first_capital(response, "ABCDE", PREFIXES),
    counts={"all": 1337},
    tables={"": ("lvb_val",)},
    folders=("videos",),
    max_new_tokens=32,
    draws=True,
)
