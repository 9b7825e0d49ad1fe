"""Benchmarks, one short file each, which holds a `Benchmark` named BENCHMARK."""

import glob
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from string import ascii_uppercase as LETTERS

from pasta.benchmarks import tables
from pasta.benchmarks.scoring import by_task
from pasta.run.schema import ABSENT, NUMBER
from pasta.video.find import SUFFIXES

NAMES = ("mvbench", "videomme", "longvideobench", "mlvu", "nextqa", "tempcompass", "vinoground",
         "perceptiontest", "tvbench", "tomato", "vsibench", "video_holmes", "mmvu", "videommmu",
         "adversarial")  # fmt: skip
SUITES = {  # the paper's Table 1, and what speaks to one failure mode
    "paper": NAMES[:8],
    "spatial": ("vsibench",),
    "temporal": ("tvbench", "tomato", "tempcompass", "vinoground"),
    "cross_frame": ("video_holmes",),
}

# The schema of rows of answers.py when they are read again: for scores, and for everything else.
SCORED = {"id": str, "task": str, "response": str, "correct": bool, "score": NUMBER | ABSENT}
ANSWER = SCORED | {"video": str, "prompt": str, "answer": str, "predicted": str | None,
                   "text": str | ABSENT}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One question about one video."""

    id: str  # unique in the benchmark
    task: str  # the group it is scored in
    name: str  # of the video, inside the data folder
    video: Path  # the same, absolute
    prompt: str
    options: tuple[str, ...]  # their texts; () if they have no letters
    answer: str  # the right letter, or the right response if there are none; "" if none is right
    right: str = ""  # the right letter, if `answer` is a wrong one of lmms-eval
    prompts: dict = field(default_factory=dict, compare=False)  # {name: prompt of some models}
    clip: tuple | None = None  # the seconds from and to which the video is shown, None: all

    @property
    def letters(self):
        return LETTERS[: len(self.options)]


def read_tables(bench, data):
    find, found = partial(tables.video_fields, data, bench.folders), []
    for name, stems in bench.tables.items():
        paths = tables.find_tables(data, bench.to_fetch(data), stems)
        found += tables.read_items(paths, bench.item, bench.columns, find, name)
    return found


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: where its data is, what it asks, and how it is scored.

    item: (row, find, key of `tables`, number of the row from 0) -> Item, or None for a row that is
        not asked; find(name) gives the Item's name and video
    parse: (response, item, parser) -> what a response names, in the form of item.answer, or None;
        parser: "head", or "v0.5" for the rules of lmms-eval before April 2026
    """

    fetch: str  # the command that downloads the data, up to the name of the folder
    tasks: tuple[str, ...]  # the groups it is scored in, in order
    columns: str  # what a row must have, for messages
    item: Callable
    parse: Callable
    size: str = ""  # of the download; "" if it is not known
    counts: dict = field(default_factory=dict)  # {task or "all": items of the published set}
    tables: dict = field(default_factory=dict)  # {name: paths in the data folder without suffix}
    folders: tuple[str, ...] = (".",)  # of videos inside the data folder, in order; (): any path
    max_new_tokens: int = 16  # length of an answer
    macro: bool | None = False  # whether the score is the mean of tasks or of items; None: no score
    draws: bool = False  # whether lmms-eval draws a letter if a response names none
    empty: str = "wrong"  # what an empty response is otherwise, or "not counted"
    credit: Callable | None = None  # (named, answer) -> 0.0 to 1.0, if it can be right in part
    aggregate: Callable = by_task  # rows -> {group: {unit: score}}, see scoring.py
    read: Callable = read_tables  # (benchmark, data folder) -> list of Item
    models: dict = field(default_factory=dict)  # {model_type: name of its prompt in Item.prompts}
    repaired: str = ""  # the faults of lmms-eval's rule, which `sound` scores do not have

    def items(self, data) -> list[Item]:
        """Every question of a data folder, task by task.

        Raises FileNotFoundError with the command that fetches it; ValueError "FILE: item N: ...".
        """
        data = Path(data).absolute()
        items = self.read(self, data)
        videos = dict.fromkeys(item.video for item in items)
        if missing := [video for video in videos if not os.path.exists(video)]:
            text = f"{len(missing)} of {len(videos)} videos are missing, such as {missing[0]}"
            # "[.]" makes a pattern of it: a name may be too long to look for
            names = [f"{glob.escape(missing[0].stem)}[.]{suffix[1:]}" for suffix in SUFFIXES]
            hint = tables.next_command(data, names, missing[0].parent)
            hint = hint or f"unpack any archives in {data}, or "
            raise FileNotFoundError(f"{text}; {hint}{self.to_fetch(data)}")
        order = list(dict.fromkeys([*self.tasks, *(item.task for item in items)]))
        return sorted(items, key=lambda item: order.index(item.task))

    def to_fetch(self, data):
        return f"fetch {self.size or 'it'} with: {self.fetch} {data}"

    def absent(self, items):
        """The tasks that have no items. None are absent from data that has other tasks only."""
        present = {item.task for item in items}
        return [x for x in self.tasks if x not in present] if present & {*self.tasks} else []


def benchmark(name) -> Benchmark:
    return importlib.import_module(f"pasta.benchmarks.{name}").BENCHMARK
