"""Video-Holmes (arXiv 2505.21374), clues joined across a short film, as in lmms-eval."""

from pasta.benchmarks import Benchmark, Item
from pasta.benchmarks.parsers import mmmu_letter
from pasta.benchmarks.tables import integer, letter_in, lettered, text, texts

AFTER = (
    "Select the best answer to the following multiple-choice question based on the video. Respond "
    "with only the letter (A, B, C, D, E, or F) of the correct option."
)


def item(row, find, table, number):
    options = texts([row["Options"][letter] for letter in "ABCDEF"])
    name, task = text(row, "video ID"), text(row, "Question Type")
    asked = "\n".join([f"Question: {text(row, 'Question')}", *lettered(options), ""])
    answer, id_ = letter_in(row["Answer"], options), f"{name}_{integer(row, 'Question ID')}"
    prompts = {"qwen3_vl": asked + "Answer with the option letter only."}
    return Item(id_, task, *find(name), asked + AFTER, options, answer, prompts=prompts)


BENCHMARK = Benchmark(
    fetch="hf download TencentARC/Video-Holmes --repo-type dataset --local-dir",
    size="5 GB",
    tasks=("SR", "IMC", "TCI", "TA", "MHR", "PAR", "CTI"),
    columns="video ID, Question ID, Question Type, Question, Options (A to F) and Answer",
    item=item,
    parse=lambda response, item, parser="head": mmmu_letter(response, item.options),
    counts={"all": 1837},
    tables={"": ("test_Video-Holmes",)},
    folders=("videos_cropped",),
    max_new_tokens=64,
    draws=True,
    models={"qwen3_vl": "qwen3_vl"},
    repaired="a letter is read in all usual forms; a response without one is wrong, none is drawn",
)
