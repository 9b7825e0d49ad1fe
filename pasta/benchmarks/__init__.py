"""Benchmarks: each is a module with the same few names, and evaluate.py needs no others.

DATA             where its data is looked for when no folder is given
FETCH            the command that fetches it, up to the name of the folder
MAX_NEW_TOKENS   length of an answer
MACRO            True: the benchmark's number is the mean of its groups; False: of its items; None:
                 lmms-eval gives no single number
RANDOM           whether lmms-eval draws one of item.letters when a response names none, which it
                 does for an empty one too; the draw is the caller's, and `parse` returns None there
EMPTY            what becomes of an empty response: "wrong" or "not counted"
COUNTS           {task, or "all": how many items there are, or a tuple of the right numbers}
items(data)      the questions of a data folder: list of Item, those of a task side by side.
                 FileNotFoundError and ValueError say what was looked for and how to get it
absent(items)    the tasks of the benchmark that these items lack
parse(response, item, parser)   what a response names, in the form of item.answer, or None.
                 parser: "head", or "v0.5" for the rules of lmms-eval before April 2026
aggregate(rows)  rows of answers.py -> {group: {unit: score}} of scoring.py: what makes
                 the benchmark's own number
breakdown(rows, items)   the same for the further groups that labels name; an item may be in several
"""

import importlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import ascii_uppercase as LETTERS

from pasta.run.schema import ABSENT
from pasta.video.find import check_links

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


def benchmark(name):
    """The module of a benchmark, one of NAMES."""
    return importlib.import_module(f"pasta.benchmarks.{name}")


# What is relied on in rows of answers.py that are read again: for scores, and for all else.
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
    """One multiple-choice question about one video.

    id: unique in the benchmark. task: the group it is scored in. name: the video inside the data
    folder; video: the same, absolute. start, end: seconds, None for the whole video. options: their
    texts, () if they have no letters; answer: the letter of the right one, or else what it says; ""
    if none is right. folder_fps: frame rate of a folder of frames. labels: the further groups it
    belongs to, such as "dim=order".
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


def inside(folder, name) -> Path:
    """folder/name for a name that comes out of a file. Raises ValueError when it would leave."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or Path(name).is_absolute():
        raise ValueError(f"{name!r} is no path inside {folder}; expected one relative to it")
    return Path(folder) / name


def unlinked(video, folder) -> Path:
    """A video that `inside` gave for a folder. Raises ValueError for a link that leads out of it.

    The folder may be a link, or lie behind one: large data is often on another disk.
    """
    if os.path.exists(video):
        check_links(video, folder, "or let the folder itself be the link")
    return video
