"""Benchmarks: each is a module with the same few names, and evaluate.py needs no others.

DATA             where its data is looked for when no folder is given
FETCH            the command that fetches it, up to the name of the folder
MAX_NEW_TOKENS   length of an answer
MACRO            True: the benchmark's number is the mean of its groups; False: of its items
items(data)      the questions of a data folder: list of Item. FileNotFoundError and ValueError
                 say what was looked for and how to get it
absent(items)    the tasks of the benchmark that these items lack
parse(response, item)   the letter that a response names, or None
aggregate(rows)  rows of pasta/answers.py -> {group: {unit: score}} of pasta/scoring.py
"""

import importlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import ascii_uppercase as LETTERS

NAMES = ("mvbench",)


def benchmark(name):
    """The module of a benchmark, one of NAMES."""
    return importlib.import_module(f"pasta.benchmarks.{name}")


@dataclass(frozen=True)
class Item:
    """One multiple-choice question about one video.

    id: unique in the benchmark. task: the group it is scored in. name: the video inside the data
    folder; video: the same, absolute. start, end: seconds, None for the whole video. options: their
    texts; answer: the letter of the right one. folder_fps: frame rate of a folder of frames.
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

    @property
    def letters(self):
        return LETTERS[: len(self.options)]


def inside(folder, name) -> Path:
    """folder/name for a name that comes out of a file. Raises ValueError when it would leave."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or Path(name).is_absolute():
        raise ValueError(f"{name!r} is no path inside {folder}; expected one relative to it")
    return Path(folder) / name
