"""NExT-QA (CVPR 2021), multiple choice, test, as lmms-eval prompts and scores it."""

from pasta.benchmarks import Benchmark, Item
from pasta.benchmarks.parsers import mmmu_letter
from pasta.benchmarks.tables import integer, letter_at, lettered, one_of, text, texts

TYPES = {"CW": "causal", "CH": "causal", "TN": "temporal", "TP": "temporal", "TC": "temporal",
         "DC": "descriptive", "DL": "descriptive", "DO": "descriptive"}  # fmt: skip


def item(row, find, table, number):
    # the hub's ids of videos are numbers
    name = str(row["video"]) if isinstance(row["video"], int) else text(row, "video")
    options = tuple(a.strip() for a in texts([row[f"a{i}"] for i in range(5)]))
    id_, task = f"{name}_{integer(row, 'qid')}", TYPES[one_of(row["type"], TYPES, "type")]
    prompt = "\n".join([text(row, "question").strip(), *lettered(options)])  # asks for no letter
    answer = letter_at(integer(row, "answer"), options)
    return Item(id_, task, *find(name), prompt, options, answer)


BENCHMARK = Benchmark(
    fetch="hf download lmms-eval/NExTQA --repo-type dataset --local-dir",
    size="6.5 GB",
    tasks=tuple(dict.fromkeys(TYPES.values())),
    columns="video, question, a0 to a4, answer (0 to 4), qid and type",
    item=item,
    parse=lambda response, item, parser="head": mmmu_letter(response, item.options),
    counts={"all": 8564, "causal": 4502, "temporal": 2657, "descriptive": 1405},
    tables={"": ("MC/test", "test")},
    folders=("NExTVideo", "videos", "video"),
    max_new_tokens=128,  # lmms-eval leaves it to the wrapper of the model
    draws=True,
)
