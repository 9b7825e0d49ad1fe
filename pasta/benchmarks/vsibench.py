"""VSI-Bench (arXiv 2412.14171), questions about rooms, some for a number, as in lmms-eval."""

import numpy as np

from pasta.benchmarks import LETTERS, Benchmark, Item
from pasta.benchmarks.parsers import first_number
from pasta.benchmarks.scoring import by_task
from pasta.benchmarks.tables import integer, letter_in, one_of, text, texts

TYPES = """
    object_counting object_abs_distance object_size_estimation room_size_estimation
    object_rel_distance object_rel_direction_easy object_rel_direction_medium
    object_rel_direction_hard route_planning obj_appearance_order
""".split()
NUMBERS = TYPES[:4]
BRIEF = "Please answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."


def item(row, find, table, number):
    task, right = one_of(row["question_type"], TYPES, "question_type"), row["ground_truth"]
    options = () if task in NUMBERS else texts(row["options"])  # they begin with their letters
    answer = letter_in(right, options) if options else str(float(right))
    rest = ["Options:", *options, LETTER] if options else [BRIEF]
    prompt = "\n".join(["These are frames of a video.", text(row, "question"), *rest])
    video = find(f"{text(row, 'dataset')}/{text(row, 'scene_name')}")
    return Item(str(integer(row, "id")), task, *video, prompt, options, answer)


def parse(response, item, parser="head"):
    """The letter before the first space, with periods at most; or the first number, as a text."""
    if not item.options:
        return first_number(response)
    word = response.strip().partition(" ")[0].rstrip(".").strip().upper()
    return word if word in list(item.letters) else None


def credit(named, answer):
    """Of a number, the share of ten limits (5, 10 .. 50 %) that its relative error is within."""
    if named is None or answer in (*LETTERS, "0.0"):
        return float(named == answer)
    # computed as in lmms-eval: at a limit, rounding decides
    error = abs(float(named) - float(answer)) / float(answer)
    return float(np.mean(error <= 1 - np.linspace(0.5, 0.95, 10)))


def aggregate(rows):
    """by_task with one group of direction. Its types weigh the same, so a score may exceed 1."""
    scores = by_task(rows)
    types = [scores.pop(x) for x in TYPES if "direction" in x and x in scores]
    n = sum(map(len, types))
    weighted = {x: units[x] * n / len(units) / len(types) for units in types for x in units}
    return scores | ({"object_rel_direction": weighted} if types else {})


BENCHMARK = Benchmark(
    fetch="hf download nyu-visionx/VSI-Bench --repo-type dataset --local-dir",
    size="5.7 GB",
    tasks=tuple(TYPES),
    columns="id, dataset, scene_name, question_type, question, ground_truth and options (a list)",
    item=item,
    parse=parse,
    credit=credit,
    counts={"all": 5130},
    tables={"": ("test",)},
    macro=True,
    aggregate=aggregate,
    repaired='letters are read in all usual forms, ".5" as 0.5 and "1,200" as 1200',
)
