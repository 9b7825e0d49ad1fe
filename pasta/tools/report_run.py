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
# config.json has them, but a new command must not
NOT_FLAGS = {*FACTS, "data_used", "dry_run", "prompt_version", "resume", "weights"}
FAULTS = (OSError, ValueError, VideoError)  # of missing or damaged files


@dataclass(frozen=True)
class Run:
    """A training run. args: the command line of its report. config: its config.json."""

    args: Namespace
    config: dict

    @property
    def pairs_file(self):
        return Path(self.config["pairs"])

    @cached_property
    def pairs(self):
        return read_pairs(self.pairs_file, self.config["mode"], self.config["video_root"])

    @cached_property
    def processor(self):
        return load_processor(self.args.model or self.config["model"], self.config["max_pixels"])

    def examples(self, items):
        """At most --pairs of the items, chosen at random by --seed, in their order."""
        order = np.random.default_rng(self.args.seed).permutation(len(items))
        return [items[i] for i in sorted(order[: self.args.pairs])]

    @cached_property
    def next(self):
        """{what may be missing: the command to run next}."""
        args, config, pairs = self.args, self.config, self.pairs_file
        n, model = config["processes"], args.model or config["model"]
        start = ["torchrun", "--nproc_per_node", n] if n > 1 else ["python"]
        train = command(*start, "train_dpo.py", **config | {"out": args.run})
        root, mode = config["video_root"], config["mode"]
        videos = command("python", "-m", "pasta.datasets", pairs, video_root=root, mode=mode)
        try:
            making = read_config(pairs.parent, {"responder": str})
        except FAULTS:  # the pairs are gone, or they are from elsewhere
            making = None if pairs.is_file() else {"responder": model, "videos": "FOLDER"}
        again = {"out": pairs.parent, "stage": "all"}
        trained = {"model": model, "adapter": args.run / "adapter"}
        if not config["lora_rank"]:
            trained = {"model": args.run / "model"}
        if args.eval.name in NAMES:
            trained |= {"bench": args.eval.name, "out": args.eval.parent}
        trained |= {name: config.get(name) for name in ("n_frames", "max_pixels", "dtype")}
        report = vars(args) | {"run": None, "model": "FOLDER"}
        return {
            "train": train,
            "resume": f"{train} --resume",
            "videos": videos,
            "pairs": command("python", "make_pairs.py", **making | again) if making else videos,
            "model": command("python", "-m", "pasta.tools.report", args.run, **report),
            "scores": command("python", "evaluate.py", **trained),
        }


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


def attempt(next_command, function, *args, **options):
    """The function's result, or what the page shows when its files are missing or damaged."""
    try:
        return function(*args, **options)
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
