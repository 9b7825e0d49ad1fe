"""MMVU (arXiv 2501.12380), its multiple-choice questions, as lmms-eval prompts and scores them."""

import re
from string import punctuation

from pasta.benchmarks import Benchmark, Item
from pasta.benchmarks.tables import letter_in, lettered, one_of, text, texts

KINDS = ("multiple-choice", "open-ended")
AFTER = (
    "Visual Information: processed video\nDo not generate any intermediate reasoning process. "
    "Answer directly with the option letter from the\ngiven choices.\n"
)


def item(row, find, table, number):
    if one_of(row["question_type"], KINDS, "question_type") == "open-ended":
        return None  # lmms-eval asks a judge
    options, video = texts([row["choices"][x] for x in "ABCDE"]), find(text(row, "video_path"))
    lines = ["", f"Question:{text(row, 'question')}", *lettered(options, "{}: {}"), AFTER]
    answer = letter_in(row["answer"], options)
    return Item(text(row, "id"), KINDS[0], *video, "\n".join(lines), options, answer)


def parse(response, item, parser="head"):
    """The right letter if it is a word, its option is there, or both in part; else "", any."""
    said, letter = response.lower(), item.answer.lower()
    option = item.options[item.letters.index(item.answer)].strip().lower()
    words = (word.strip(punctuation) for word in option.split())
    part = letter in said and any(len(word) > 2 and word in said for word in words)
    return item.answer if part or option in said or re.search(rf"\b{letter}\b", said) else ""


BENCHMARK = Benchmark(
    fetch="hf download lmms-eval/MMVU --repo-type dataset --local-dir",
    size="0.9 GB",
    tasks=KINDS[:1],
    columns="id, video_path, question_type, question, choices (A to E) and answer",
    item=item,
    parse=parse,
    counts={"all": 625},
    tables={"": ("data/validation", "validation")},
    max_new_tokens=1024,
    repaired='one letter must be stated; for lmms-eval "A, B, C, D or E" is always right',
)
