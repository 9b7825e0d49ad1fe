"""A training run as its report shows it: the commands to run next, and its pairs with frames.

The frames of each response are those that the vision tower got: candidates.jsonl has the sampling,
the corruption and the seed, so no weights are needed.
Shapes: F frames, H, W pixels. Frames are (F, H, W, 3) uint8, timestamps (F,) seconds.
"""

import re
import shlex
from argparse import Namespace
from base64 import b64encode
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from pasta.adversaries import ADVERSARIES
from pasta.benchmarks import NAMES
from pasta.candidates import corrupted_frames
from pasta.datasets.read import read_pairs
from pasta.making.reader import Reader
from pasta.making.server import Server, is_address, png
from pasta.making.stages import CANDIDATE
from pasta.models.family import resized
from pasta.models.load import load_processor
from pasta.pairs import MODES, OTHER
from pasta.prompts import PREMISES, PROMPT_VERSION
from pasta.run.config import read_config
from pasta.run.rows import rows_of
from pasta.sampling import uniform
from pasta.selection import query_key
from pasta.video import VideoError, list_videos, read_frames

FACTS = ("frames_used", "processes", "commit", "versions")
# config.json has them, but a new command must not
NOT_FLAGS = {*FACTS, "data_used", "dry_run", "prompt_version", "resume", "script", "weights"}
FAULTS = (OSError, ValueError, VideoError)  # of missing or damaged files
RECIPE = {"responder": str, "seed": int, "n_frames": int, "sparse_frames": int, "max_pixels": int,
          "prompt_version": int, "twins": bool}  # fmt: skip
SPARSE = ("frames", "prompt")  # kinds of adversarial responses with sparse sampling
SHOWN, ROW = 16, 8  # frames of a picture, and of its row, at most
WIDEST = 224  # pixels of a frame in a picture; wider frames are shrunk


@dataclass(frozen=True)
class Run:
    """A training run. args: the command line of its report. config: its config.json."""

    args: Namespace
    config: dict

    @cached_property
    def pairs(self):
        return read_pairs(self.config["pairs"], self.config["mode"], self.config["video_root"])

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
        args, config, pairs = self.args, self.config, Path(self.config["pairs"])
        n, model = config["processes"], args.model or config["model"]
        start = ["torchrun", "--nproc_per_node", n] if n > 1 else ["python"]
        train = command(*start, "train_dpo.py", **config | {"out": args.run})
        of_pairs = {name: config[name] for name in ("video_root", "mode")}
        videos = command("python", "-m", "pasta.datasets", pairs, **of_pairs)
        try:
            making = read_config(pairs.parent, {"responder": str})
        except FAULTS:  # the pairs are gone, or they are from elsewhere
            making = None if pairs.is_file() else {"responder": model, "videos": "FOLDER"}
        again = {"out": pairs.parent, "stage": "all"}
        adapter = {"model": model, "adapter": args.run / "adapter"}
        trained = adapter if config["lora_rank"] else {"model": args.run / "model"}
        if args.eval.name in NAMES:
            out, toy = args.eval.parent, {"data": "toy"}
            where = toy | {"out": out.parent} if out.name == "toy" else {"out": out}
            trained |= {"bench": args.eval.name, **where}
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


def pairs_section(run):
    """The number of pairs, and examples of each mode. Raises OSError, ValueError."""
    examples, counts, (candidates, reader, note) = [], {}, making_of(run)
    for mode in MODES + (OTHER,) * any(pair.mode == OTHER for pair in run.pairs):
        pairs = [pair for pair in run.pairs if pair.mode == mode]
        counts[mode] = len(pairs)
        for k, pair in enumerate(run.examples(pairs), start=1):
            path, row = run.args.out / f"pair-{mode}-{k}", candidates.get(query_key(vars(pair)))
            sides = {"chosen": pair.chosen, "rejected": pair.rejected}
            example = vars(pair) | dict(zip(sides, marked(*sides.values()), strict=True))
            if row:
                logps = {scored["response"]: scored for scored in row["logps"]}
                example["logps"] = {side: logps[x] for side, x in sides.items() if x in logps}
            if reader or not row:
                look = (run, reader, pair, row, path)
                example["frames"] = attempt(run.next["videos"], frames_of, *look)
            examples.append(example)
    counts |= {"all": len(run.pairs), "videos": len({pair.video for pair in run.pairs})}
    return {"counts": counts, "note": note, "examples": examples}


def making_of(run):
    """(candidates by query key, the Reader of their frames or None, what is missing or None)."""
    path, candidates = Path(run.config["pairs"]).with_name("candidates.jsonl"), {}
    try:
        rows = rows_of(path, CANDIDATE | {"recipe": RECIPE})
        if not rows:
            return {}, None, missing(f"{path}, so only clean frames are shown", run.next["pairs"])
        videos = read_config(path.parent, {"videos": str})["videos"]
        candidates = {query_key(row): row for row in rows}
        return candidates, reader_of(videos, rows[0]["recipe"], run.args.model), None
    except FAULTS as error:
        needed = "videos" if isinstance(error, VideoError) else "model" if candidates else "pairs"
        return candidates, None, missing(error, run.next[needed])


def marked(chosen, rejected):
    """Both texts in pieces: lists of (text, whether the other text differs there)."""
    a, b = (re.findall(r"\w+|\W", text) for text in (chosen, rejected))
    codes = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    left = [("".join(a[i:j]), kind != "equal") for kind, i, j, _, _ in codes if i < j]
    right = [("".join(b[i:j]), kind != "equal") for kind, _, _, i, j in codes if i < j]
    return left, right


def frames_of(run, reader, pair, candidate, path):
    """{part: `show`} of clean frames, rejected ones, twins. Without a candidate: of training."""
    if not candidate:
        n_frames, path = run.config["frames_used"], f"{path}-clean.png"
        return {"clean": show_uniform(path, run.processor, n_frames, pair.video)}
    parts = {"clean": {"kind": "preferred"}}
    for row in candidate["adversarial"]:
        if row["response"] == pair.rejected and row["kind"] in SPARSE:
            parts.setdefault("rejected", row)
    if pair.recipe.get("kind") == "contrast" and candidate["recipe"]["twins"]:
        for k, name in enumerate(ADVERSARIES[pair.mode].twins, start=1):
            parts[f"twin{k}"] = {"kind": "twin", "corruption": name}
    return {
        part: show(f"{path}-{part}.png", reader.processor, *view_of(reader, candidate, source))
        for part, source in parts.items()
    }


def reader_of(folder, recipe, model):
    """The Reader of a candidate's frames. model: the responder's folder, if it has moved."""
    root = Path(folder).absolute()
    videos = [str(path) for path in list_videos(root)]
    name, size = recipe["responder"], recipe["max_pixels"]
    server = f"{name.partition('#')[0]}#any"  # naming any model avoids a request
    processor = Server(server, size) if is_address(name) else load_processor(model or name, size)
    return Reader(videos, root, processor, recipe["n_frames"], recipe["sparse_frames"])


def view_of(reader, candidate, source):
    """(frames, timestamps, description) of what a response was given on. Raises VideoError.

    source: {"kind": "preferred"}, a row of `adversarial`, or {"kind": "twin", "corruption": name}.
    """
    video, mode, recipe = candidate["video"], candidate["mode"], candidate["recipe"]
    if not Path(video).is_relative_to(reader.root):  # the seeds need its name below the root
        raise VideoError(video, f"not in {reader.root}; start where make_pairs.py was started")
    sampling = "sparse" if source["kind"] in SPARSE else ADVERSARIES[mode].sampling
    (frames, timestamps), text = reader.frames(video)[sampling], f"{sampling} sampling"
    if name := source.get("corruption"):
        corrupt = ADVERSARIES[mode].corruptions[name]
        frames = corrupted_frames(frames, video, corrupt, reader, recipe["seed"])
        text += f", corrupted by {name}"
    if premise := source.get("instruction"):
        texts = PREMISES[mode] if recipe["prompt_version"] == PROMPT_VERSION else {}
        text += f", misled by the premise: {texts.get(premise, premise)}"
    return frames, timestamps, text


def show_uniform(path, processor, n_frames, video):
    """`show` the frames of training and evaluation. Raises VideoError."""
    frames, timestamps = read_frames(video, partial(uniform, n=n_frames), processor.fit)
    return show(path, processor, frames, timestamps, "uniform sampling")


def show(path, processor, frames, timestamps, description):
    """Write at most SHOWN of the frames, at the processor's size, as one PNG file.

    Returns frames as (PNG in base64, seconds), their width on the page in pixels, and the caption.
    """
    n = len(frames)
    height, width = processor.fit(n, *frames.shape[1:3])
    shown, shrink = np.linspace(0, n - 1, min(SHOWN, n)).round().astype(int), -(-width // WIDEST)
    tiles = resized(frames[shown], (height // shrink, width // shrink)).permute(0, 2, 3, 1).numpy()
    encoded = [b64encode(png(tile)).decode() for tile in tiles]
    columns = min(ROW, len(tiles))
    space = [(0, -len(tiles) % columns), (2, 2), (2, 2), (0, 0)]  # at the end and around a frame
    tiles = np.pad(tiles, space, constant_values=255)
    rows = tiles.reshape(-1, columns, *tiles.shape[1:]).swapaxes(1, 2)
    Path(path).write_bytes(png(rows.reshape(-1, columns * tiles.shape[2], 3)))
    caption = f"{len(shown)} of {n} frames of {width} x {height} pixels"
    caption += f", shown at 1/{shrink}" * (shrink > 1) + f"; {description}"
    page_width = width // shrink * max(1, WIDEST // 2 // width)  # enlarge small frames
    timed = list(zip(encoded, timestamps[shown], strict=True))
    return {"frames": timed, "width": page_width, "caption": caption}
