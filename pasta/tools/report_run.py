"""A training run, as the sections of its report share it: what it read, and where pictures go."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pasta.benchmarks import NAMES
from pasta.datasets.read import read_pairs
from pasta.models.load import load_processor
from pasta.tools.report_frames import sheet
from pasta.tools.report_page import figure, missing
from pasta.video import VideoError

CONFIG = {"model": str, "pairs": str, "video_root": str | None, "mode": str | None,
          "max_pixels": int, "frames_used": int, "processes": int, "lora_rank": int}  # fmt: skip
NO_FLAGS = ("frames_used", "processes", "commit", "versions")  # of config.json
FAULTS = (OSError, ValueError, VideoError)  # of files that are gone, or not as they were written


@dataclass(frozen=True)
class Run:
    """A training run and how its report is wanted.

    folder: of the run. config: its config.json. evaluated: folder of a benchmark's scores.
    out: folder of the report. n: examples of a kind. seed: by which they are drawn.
    model: where the model is now, for processors of both run and pairs; None: where it was.
    """

    folder: Path
    config: dict
    evaluated: Path
    out: Path
    n: int
    seed: int
    model: str | None

    @property
    def pairs_file(self):
        return Path(self.config["pairs"])

    @cached_property
    def pairs(self):
        """The Pairs that the run trained on. Raises OSError, ValueError."""
        return read_pairs(self.pairs_file, self.config["mode"], self.config["video_root"])

    @cached_property
    def processor(self):
        """The Processor of the run's model. Raises OSError, ValueError."""
        return load_processor(self.model or self.config["model"], self.config["max_pixels"])

    @property
    def again(self):
        """The command for a model that has moved."""
        return f"python -m pasta.tools.report {self.folder} --model FOLDER"

    @property
    def look_for_videos(self):
        """The command that tells which videos of the pairs are there."""
        flags = {"video_root": self.config["video_root"], "mode": self.config["mode"]}
        more = "".join(f" --{name} {value}" for name, value in flags.items() if value)
        return f"python -m pasta.datasets {self.pairs_file}{more}"

    @property
    def evaluate(self):
        """The command that scores what the run has trained."""
        bench = f"--bench {self.evaluated.name} " * (self.evaluated.name in NAMES)
        of = f"--model {self.config['model']} --adapter {self.folder / 'adapter'}"
        if not self.config["lora_rank"]:
            of = f"--model {self.folder / 'model'}"
        return f"python evaluate.py {bench}{of}"

    def train(self, **changes):
        """The command of the run, with all its flags. changes: {flag: value}."""
        n = self.config["processes"]
        words = [f"torchrun --nproc_per_node {n} train_dpo.py" if n > 1 else "python train_dpo.py"]
        for name, value in (self.config | changes).items():
            if name == "dry_run":
                continue
            if isinstance(value, bool):
                words.append(f"--{name}" if value else f"--no-{name}")
            elif name not in NO_FLAGS and value is not None:
                values = value if isinstance(value, list) else [value]
                words += [f"--{name}", *(shlex.quote(str(one)) for one in values)]
        return " ".join(words)

    def draw(self, name, caption, *data):
        """A picture of the data, as the function `name` of report_pictures.py draws it."""
        try:
            from pasta.tools import report_pictures
        except ModuleNotFoundError as error:
            return missing(f"no picture: {error}", "pip install -r requirements-dev.txt")
        path = self.out / f"{name}.png"
        getattr(report_pictures, name)(*data, path)
        return figure(path.read_bytes(), caption)

    def show(self, name, view):
        """The frames of a View as a picture."""
        data, caption = sheet(view)
        (self.out / f"{name}.png").write_bytes(data)
        return figure(data, caption, pixels=True)


def tried(make: Callable[[], str], command):
    """The HTML that `make` returns, or the sentence about what it lacks and the next command."""
    try:
        return make()
    except FAULTS as error:
        return missing(words_of(error), command)
    except (LookupError, TypeError) as error:
        return missing(f"a file is not as it was written: {error!r}", command)


def words_of(error):
    """What one of FAULTS says, in plain words."""
    gone = isinstance(error, FileNotFoundError) and error.filename
    return f"there is no {gone}" if gone else str(error)
