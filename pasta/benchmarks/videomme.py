"""Video-MME (arXiv 2405.21075) without subtitles, as lmms-eval prompts and scores it."""

from functools import partial

from pasta.benchmarks import Benchmark, Item
from pasta.benchmarks.parsers import GLUED_PREFIXES, by_version, first_capital
from pasta.benchmarks.tables import letter_in, one_of, text, texts

TASKS = ("short", "medium", "long")
# lmms-eval's prompt mentions subtitles although it gives none (tasks/videomme/utils.py).
QUESTION = (
    "Select the best answer to the following multiple-choice question based on the video and the "
    "subtitles. Respond with only the letter (A, B, C, or D) of the correct option.\n{}\n{}\n"
)
PROMPT = QUESTION + "\nAnswer with the option's letter from the given choices directly."
PROMPTS = {  # of videomme.yaml, by lmms-eval's --model; other models get PROMPT
    "llava_vid": QUESTION + "The best answer is:",
    "qwen3_vl": "Question: {}\nOptions:\n{}\nAnswer with the option letter only.",
}


def item(row, find, table, number):
    options = texts(row["options"])  # they begin with their letters
    id_, task = text(row, "question_id"), one_of(row["duration"], TASKS, "duration")
    asked = (text(row, "question"), "\n".join(options))
    prompts = {name: form.format(*asked) for name, form in PROMPTS.items()}
    answer = letter_in(row["answer"], options)
    video, prompt = find(text(row, "videoID")), PROMPT.format(*asked)
    return Item(id_, task, *video, prompt, options, answer, prompts=prompts)


BENCHMARK = Benchmark(
    fetch="hf download lmms-eval/Video-MME --repo-type dataset --local-dir",
    size="101 GB",
    tasks=TASKS,
    columns="videoID, question_id, duration, question, options (a list) and answer (a letter)",
    item=item,
    parse=partial(by_version, partial(first_capital, letters="ABCD", prefixes=GLUED_PREFIXES)),
    counts=dict.fromkeys(TASKS, 900),
    tables={"": ("videomme/test", "test")},
    folders=("data", "videos", "video"),  # videos/ is Qwen's name for it
    # model_type: lmms-eval's --model for it; our other families get the default prompt
    models={"qwen3_vl": "qwen3_vl", "llava_next_video": "llava_vid"},
)
