"""MLVU (arXiv 2406.04264), the multiple-choice tasks of its dev set, as in lmms-eval."""

import re
from functools import partial

from pasta.benchmarks import Benchmark, Item
from pasta.benchmarks.parsers import before_parenthesis, by_version
from pasta.benchmarks.tables import letter_at, letter_in, lettered, one_of, text, texts

TASKS = ("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning")
NONE_RIGHT = ("needle_4.mp4", "needle_5.mp4")  # the answer of these two questions is no candidate
AFTER = "\nOnly give the best option.\nBest option: ("  # tasks/mlvu/mlvu_dev.yaml


def item(row, find, table, number):
    task = one_of(row["task_type"].replace("findNeedle", "needle"), TASKS, "task_type")
    name, video = find(text(row, "video_name"))
    question, answer = text(row, "question"), row["answer"]  # a candidate or its letter
    lettered_part = question.partition("(A)")[2]
    found = [x.strip() for x in re.split(r"\([B-Z]\)", lettered_part)]
    options = texts(row.get("candidates") or found)
    if answer in options:
        if not lettered_part:  # the authors' row; lmms-eval asks those of the hub as they are
            question = "\n".join([question, *lettered(options, "({}) {}")])
        answer = letter_at(options.index(answer), options)
    elif len(answer) > 1 and video.name in NONE_RIGHT:
        answer = ""
    else:
        answer = letter_in(answer, options)
    return Item(f"{task}/{number}", task, name, video, question + AFTER, options, answer)


BENCHMARK = Benchmark(
    fetch="hf download sy1998/MLVU_dev --repo-type dataset --local-dir",
    size="285 GB",
    tasks=TASKS,
    columns="video_name, question, candidates (a list), answer (one of them) and task_type",
    item=item,
    parse=partial(by_version, before_parenthesis),
    counts={"all": 2174},
    tables={"": ("mlvu/test", "test")},
    folders=(".", "mlvu", "videos", "video"),
    macro=True,
)
