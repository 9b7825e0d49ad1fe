"""Benchmarks, one short file each, which holds a `Benchmark` named BENCHMARK."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase as LETTERS

from pasta.benchmarks import tables
from pasta.benchmarks.scoring import by_label, by_task
from pasta.run.schema import ABSENT

NAMES = (
    "mvbench",
    "videomme",
    "longvideobench",
    "mlvu",
    "nextqa",
    "tempcompass",
    "perceptiontest",
    "vinoground",
    "adversarial",
)

# The schema of rows of answers.py when they are read again: for scores, and for everything else.
SCORED = {"id": str, "task": str, "response": str, "correct": bool}
ANSWER = SCORED | {
    "video": str,
    "prompt": str,
    "answer": str,
    "predicted": str | None,
    "text": str | ABSENT,
}


@dataclass(frozen=True)
class Item:
    """One question about one video.

    id: unique in the benchmark. task: the group it is scored in. name: the video inside the data
    folder; video: its absolute path. start, end: seconds, None for the whole video. options: their
    texts, () if they have no letters. answer: the letter of the right option, or the right
    response if there are no letters, or "" if none is right. folder_fps: frame rate of a folder of
    frames. labels: more groups that it belongs to, such as "dim=order".
    """

    id: str
    task: str
    name: str
    video: Path
    prompt: str
    options: tuple[str, ...]
    answer: str
    start: float | None = None
    end: float | None = None
    folder_fps: float = 3.0
    labels: tuple[str, ...] = ()

    @property
    def letters(self):
        return LETTERS[: len(self.options)]


def read_tables(bench, data):
    """The items of all tables of a benchmark, in order; see `Benchmark`."""

    def find(name):
        return tables.video_fields(data, bench.folders, name)

    found = []
    for name, stems in bench.tables.items():
        paths = tables.find_tables(data, bench.fetch, stems, bench.may_lack)
        found += tables.read_items(paths, bench.item, bench.columns, find, name)
    if not found:  # only where each of the tables may be missing
        tables.find_tables(data, bench.fetch, sum(bench.tables.values(), ()))
    return found


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: where its data is, what it asks, and how it is scored.

    fetch: the command that downloads the data, without the name of the folder, which comes last
    tasks: the groups it is scored in, in order
    columns: what a row must have, for messages
    item: function (row, find, table, number) -> Item. find(name) -> {"name", "video"}, fields of
        the Item; table: key of `tables`; number: of the row in its table, from 0
    parse: function (response, item, parser) -> what a response names, in the form of item.answer,
        or None. parser: "head", or "v0.5" for the rules of lmms-eval before April 2026
    counts: {task or "all": number of items of the published set, or a tuple of right numbers}
    tables: {name: paths inside the data folder, without suffix; the first that is there is read}
    folders: where videos may be inside the data folder, in order
    may_lack: a table that is missing is left out
    max_new_tokens: length of an answer
    macro: True if the score is the mean of the tasks, False if of the items, None if there is none
    draws: lmms-eval draws one of item.letters when a response names none or is empty
    empty: what an empty response becomes, "wrong" or "not counted"
    aggregate: function rows -> {group: {unit: score}}, see scoring.py
    breakdown: function (rows, items) -> the same by label; an item may be in several groups
    read: function (benchmark, data folder) -> list of Item
    """

    fetch: str
    tasks: tuple[str, ...]
    columns: str
    item: Callable
    parse: Callable
    counts: dict
    tables: dict
    folders: tuple[str, ...] = (".",)
    may_lack: bool = False
    max_new_tokens: int = 16
    macro: bool | None = False
    draws: bool = False
    empty: str = "wrong"
    aggregate: Callable = by_task
    breakdown: Callable = by_label
    read: Callable = read_tables

    def items(self, data) -> list[Item]:
        """Every question of a data folder, task by task.

        Raises FileNotFoundError for missing tables and videos, with the command that fetches them,
        and ValueError "FILE: item N: ..." for a malformed row, a name that leaves the folder, and
        an id that comes twice.
        """
        data = Path(data).absolute()
        return tables.checked(self.read(self, data), data, self.fetch, self.tasks)

    def absent(self, items):
        """The tasks that have no items. None are absent from data that has other tasks only."""
        present = {item.task for item in items}
        return [x for x in self.tasks if x not in present] if present & {*self.tasks} else []


def benchmark(name) -> Benchmark:
    """The benchmark of a name, one of NAMES."""
    return importlib.import_module(f"pasta.benchmarks.{name}").BENCHMARK
