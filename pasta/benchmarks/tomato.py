"""TOMATO (arXiv 2410.23266), six types of questions about motion, as in lmms-eval."""

from pasta.benchmarks import LETTERS, Benchmark, Item
from pasta.benchmarks.parsers import mmmu_letter
from pasta.benchmarks.tables import integer, letter_at, text, texts

CAPITAL = (("{}", "({})"),)  # any one is a letter; of several, the last in parentheses
TYPES = ("direction", "count", "rotation", "shape&trend", "velocity&frequency", "visual cues")
PROMPT = (
    "You will be provided with frames uniformly sampled from a video, the frames are provided in "
    "chronological order of the video. Analyze these frames and provide the answer to the question "
    "about the video content. Answer the multiple-choice question about the video content.\n\n"
    "You must use these frames to answer the multiple-choice question; do not rely on any externel "
    "knowledge or commonsense. \n\n<question> \n{} \n</question>\n\n<options> \n{} \n</options>\n\n"
    "Even if the information in these separate frames is not enough to answer the question, PLEASE "
    "TRY YOUR BEST TO GUESS AN ANSWER WHICH YOU THINK WOULD BE THE MOST POSSIBLE ONE BASED ON THE "
    "QUESTION. \n\nDO NOT GENERATE ANSWER SUCH AS 'NOT POSSIBLE TO DETERMINE.' \n"
)


def item(row, find, table, number):
    options, task = texts(row["options"]), text(row, "reason_type")
    prompt = PROMPT.format(text(row, "question"), dict(zip(LETTERS, options, strict=False)))
    answer, video = letter_at(integer(row, "answer"), options), find(text(row, "video_path"))
    return Item(f"{task}/{number}", task, *video, prompt, options, answer)


BENCHMARK = Benchmark(
    fetch="hf download lmms-eval/TOMATO --repo-type dataset --local-dir",
    size="11.5 GB",
    tasks=TYPES,
    columns="video_path, question, options (a list), answer (from 0) and reason_type",
    item=item,
    parse=lambda response, item, parser="head": mmmu_letter(response, item.options, CAPITAL) or "A",
    counts={"all": 1484},
    tables={"": ("data/test", "test")},
    max_new_tokens=1024,
    empty="read as A",
    repaired="a letter inside a word is none; no letter is not A",
)
