"""Video-MMMU (arXiv 2501.13826), its multiple-choice questions about lectures, as in lmms-eval."""

from pasta.benchmarks import Benchmark, Item
from pasta.benchmarks.parsers import mmmu_letter, ranked_letter
from pasta.benchmarks.tables import letter_in, lettered, one_of, text, texts

KINDS = ("multiple-choice", "open", "", None)  # all but the first are open
IGNORE = "\nPlease ignore the Quiz question in last frame of the video."
ADAPT = (
    "You should watch and learn the video content. Then apply what you learned to answer the "
    "following multi-choice question. The image for this question is at the end of the video.\n"
)
LEADERBOARD = (("{}.", "{}."), ("{}:", "{}:"), ("({})", "({})"), ("{} ", " {} "))
AROUND = {"Perception": ("", IGNORE), "Comprehension": ("", IGNORE), "Adaptation": (ADAPT, "")}


def item(row, find, task, number):
    if one_of(row["question_type"], KINDS, "question_type") != KINDS[0]:
        return None
    options, id_, (before, after) = texts(row["options"]), text(row, "id"), AROUND[task]
    marked = all(map(str.startswith, options, lettered([""] * len(options), "{}.{}")))
    lines = [text(row, "question"), *(options if marked else lettered(options))]
    answer, prompt = letter_in(row["answer"], options), before + "\n".join(lines) + after
    return Item(f"{task}/{id_}", task, *find(id_), prompt, options, answer)


def parse(response, item, parser="head"):
    """The letter in the place of the highest rank; for "v0.5" by the rule of the leaderboard."""
    if parser == "v0.5":
        return mmmu_letter(response, item.options, LEADERBOARD)
    return ranked_letter(response, item.letters)


BENCHMARK = Benchmark(
    fetch="hf download lmms-eval/VideoMMMU --repo-type dataset --local-dir",
    size="13.4 GB",
    tasks=tuple(AROUND),
    columns="id, question, question_type, options (a list) and answer (a letter)",
    item=item,
    parse=parse,
    counts={"Perception": 300, "Comprehension": 300, "Adaptation": 279},
    tables={task: (f"{task}/test",) for task in AROUND},
    folders=("Art", "Science", "Humanities", "Engineering", "Medicine", "Business"),
    max_new_tokens=1024,
    macro=True,
    repaired="the letter that is stated counts, not one in a word, an article, or I",
)
