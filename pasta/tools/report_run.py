"""A training run as the sections of its report share it, and the commands to run next."""

import shlex
from argparse import Namespace
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pasta.benchmarks import NAMES
from pasta.datasets.read import read_pairs
from pasta.models.load import load_processor
from pasta.run.config import read_config
from pasta.video import VideoError

FACTS = ("frames_used", "processes", "commit", "versions")
NOT_FLAGS = {*FACTS, "data_used", "dry_run", "prompt_version", "weights"}  # in config.json files
FAULTS = (OSError, ValueError, VideoError)  # of missing or damaged files


@dataclass(frozen=True)
class Run:
    """A training run. args: the command line of the report. config: the run's config.json."""

    args: Namespace
    config: dict

    @property
    def pairs_file(self):
        return Path(self.config["pairs"])

    @cached_property
    def pairs(self):
        """The Pairs of the run. Raises OSError, ValueError."""
        return read_pairs(self.pairs_file, self.config["mode"], self.config["video_root"])

    @property
    def model(self):
        return self.args.model or self.config["model"]

    @cached_property
    def processor(self):
        """The Processor of the run's model. Raises OSError, ValueError."""
        return load_processor(self.model, self.config["max_pixels"])

    def examples(self, items):
        """At most --pairs of the items, chosen at random by --seed, in their order."""
        order = np.random.default_rng(self.args.seed).permutation(len(items))
        return [items[i] for i in sorted(order[: self.args.pairs])]

    @property
    def again(self):
        """The command of the report for a model that has moved."""
        flags = {**vars(self.args), "run": None, "model": "FOLDER"}
        return command("python", "-m", "pasta.tools.report", self.args.run, **flags)

    def train(self, **changes):
        """The command of the run with all its flags. changes: {flag: value}."""
        n = self.config["processes"]
        start = ["torchrun", "--nproc_per_node", n] if n > 1 else ["python"]
        return command(*start, "train_dpo.py", **self.config | {"out": self.args.run} | changes)

    @property
    def find_videos(self):
        """The command that lists which videos of the pairs are there."""
        flags = {name: self.config[name] for name in ("video_root", "mode")}
        return command("python", "-m", "pasta.datasets", self.pairs_file, **flags)

    @property
    def make_pairs(self):
        """The command that makes the pairs again; for pairs from elsewhere, `find_videos`."""
        folder = self.pairs_file.parent
        try:
            config = read_config(folder, {"responder": str})
        except FAULTS:
            if self.pairs_file.is_file():
                return self.find_videos
            config = {"responder": self.model, "videos": "FOLDER"}
        return command("python", "make_pairs.py", **config | {"out": folder, "stage": "all"})

    @property
    def evaluate(self):
        """The command that scores the trained model."""
        adapter, scores = self.args.run / "adapter", self.args.eval
        flags = {"model": self.model, "adapter": adapter}
        if not self.config["lora_rank"]:
            flags = {"model": self.args.run / "model"}
        if scores.name in NAMES:
            flags |= {"bench": scores.name, "out": scores.parent}
        flags |= {name: self.config.get(name) for name in ("n_frames", "max_pixels", "dtype")}
        return command("python", "evaluate.py", **flags)


def command(*words, **flags):
    """A command line with the flags of a config.json; None and [] leave a flag out."""
    words = [*words]
    for name, value in flags.items():
        if value in (None, []) or name in NOT_FLAGS:
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", *(value if isinstance(value, list) else [value])]
    return shlex.join(map(str, words))


def attempt(next_command, function, *args):
    """The function's result, or what the page shows when its files are missing or damaged."""
    try:
        return function(*args)
    except FAULTS as error:
        return missing(error, next_command)
    except (AttributeError, LookupError, TypeError) as error:
        return missing(ValueError(f"a file has an unexpected form: {error!r}"), next_command)


def missing(what, next_command):
    """What the page shows in place of a part. what: an error, or what is not there."""
    if isinstance(what, FileNotFoundError) and what.filename:
        what = what.filename
    start = "not shown" if isinstance(what, Exception) else "not there"
    return {"missing": f"{start}: {what}", "next": next_command}
