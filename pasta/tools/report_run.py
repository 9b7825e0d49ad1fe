"""A folder of make_pairs.py or train_dpo.py for a report: its files, and the next commands."""

import os
import shlex
from argparse import Namespace
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pasta import toy
from pasta.benchmarks import NAMES
from pasta.datasets.read import read_pairs
from pasta.making.audit import DROPPED, PAIR
from pasta.making.stages import QUERY
from pasta.run.config import read_config
from pasta.run.rows import read_rows, rows_of
from pasta.video import VideoError

# config.json has them, but a new command must not
NOT_FLAGS = {"frames_used", "processes", "commit", "versions", "data_used", "dry_run",
             "prompt_version", "prompts_used", "resume", "script", "weights"}  # fmt: skip
FAULTS = (OSError, ValueError, VideoError)  # of missing or damaged files
ROW = PAIR | {"video": str, "query": str}


@dataclass(frozen=True)
class Run:
    """args: the command line of the report. config: the config.json of args.folder."""

    args: Namespace
    config: dict
    trained: bool  # whether train_dpo.py wrote it

    @cached_property
    def pairs_file(self):
        folder = self.args.folder
        return Path(moved(folder, self.config, "pairs") if self.trained else folder / "pairs.jsonl")

    @cached_property
    def pairs(self):
        """The pairs, as rows. Raises OSError, ValueError."""
        if not self.trained:
            return read_rows(self.pairs_file, ROW)
        root = self.config["video_root"] and moved(self.args.folder, self.config, "video_root")
        return [vars(x) for x in read_pairs(self.pairs_file, self.config["mode"], root)]

    @cached_property
    def dropped(self):
        """The rows that became no pair, with their `reason`; queries with a flaw among them."""
        rows = rows_of(self.pairs_file.with_name("dropped.jsonl"), ROW | DROPPED)
        queries = rows_of(self.pairs_file.with_name("queries.jsonl"), QUERY)
        none = {"chosen": "", "rejected": "", "recipe": {}}
        return rows + [q | none | {"reason": f"query {q['flaw']}"} for q in queries if "flaw" in q]

    @cached_property
    def making(self):
        """The config.json of make_pairs.py next to the pairs; {} without one."""
        with suppress(*FAULTS):
            return read_config(self.pairs_file.parent, {"responder": str, "videos": str})
        return {}

    @property
    def model(self):
        return self.args.model or moved(self.args.folder, self.config, "model")

    def examples(self, items):
        """--pairs of the items, evenly spread over them."""
        n = max(0, min(self.args.pairs, len(items)))
        return [items[i * len(items) // n] for i in range(n)]

    @cached_property
    def next(self):
        """{what may be missing: the command to run next}."""
        args, config, pairs = self.args, self.config, self.pairs_file
        report = ("python", "-m", "pasta.tools.report", args.folder)
        flags = vars(args) | {"folder": None}
        found = {x: command(*report, **flags | {x: "FOLDER"}) for x in ("model", "videos")}
        making = self.making or {"responder": config.get("model"), "videos": "FOLDER"}
        again = {"out": pairs.parent, "stage": "all"}
        found["pairs"] = command("python", "make_pairs.py", **making | again)
        if not self.trained:
            return found
        if not self.making:
            of_pairs = {name: config[name] for name in ("video_root", "mode")}
            found["videos"] = command("python", "-m", "pasta.datasets", pairs, **of_pairs)
            found["pairs"] = found["videos" if pairs.is_file() else "pairs"]
        n = config["processes"]
        start = ["torchrun", "--nproc_per_node", n] if n > 1 else ["python"]
        train = command(*start, "train_dpo.py", **config | {"out": args.folder})
        in_toy = toy.is_toy(self.model)
        scored = {"adapter": args.folder / "adapter", "model": None if in_toy else self.model}
        if not config["lora_rank"]:  # only the shipped toy model has the toy benchmark as default
            scored = {"model": args.folder / "model", "data": "toy" if in_toy else None}
        scored |= {name: config.get(name) for name in ("n_frames", "max_pixels", "dtype")}
        if args.eval and args.eval.name in NAMES:
            out = args.eval.parent
            where = {"data": "toy", "out": out.parent} if out.name == "toy" else {"out": out}
            scored |= {"bench": args.eval.name, **where}
        scores = command("python", "evaluate.py", **scored)
        return found | {"train": train, "resume": f"{train} --resume", "scores": scores}


def moved(folder, config, name):
    """A path of folder/config.json: as written, or where it is if both were moved together."""
    path, out = Path(config[name]), Path(config.get("out") or "")
    if not path.exists() and config.get("out") and path.is_absolute() == out.is_absolute():
        now = folder / os.path.relpath(path, out)
        if now.exists():
            return os.path.normpath(now)
    return config[name]


def command(*words, **flags):
    """A command line with the flags of a config.json; None and [] leave a flag out."""
    for name, value in flags.items():
        if value not in (None, []) and name not in NOT_FLAGS:
            values = value if isinstance(value, list) else [value] * (type(value) is not bool)
            words += (f"--{'no-' * (value is False)}{name}", *values)
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
