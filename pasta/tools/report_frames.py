"""The frames that a response was said of, at the size at which the vision tower got them.

What make_pairs.py writes down is enough to see them again: the sampling, the corruption, and the
seeds, which are hashes of what a row is. Nothing is asked, and no weights are loaded.

Shapes: F frames, H, W pixels. Frames are (F, H, W, 3) uint8, timestamps (F,) seconds.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pasta.adversaries import ADVERSARIES
from pasta.candidates import broken_frames
from pasta.making.reader import Reader
from pasta.making.server import Server, is_address, png
from pasta.making.stages import CANDIDATE
from pasta.models.family import resized
from pasta.models.load import load_processor
from pasta.prompts import PREMISES, PROMPT_VERSION, misled_prompt
from pasta.run.config import read_config
from pasta.run.rows import rows_of
from pasta.sampling import uniform
from pasta.selection import query_key
from pasta.tools.report_page import WIDTH
from pasta.video import VideoError, list_videos, read_frames

SHOWN = 16  # frames of a picture at most
ROW = 8  # of them beside each other at most
WIDEST = 224  # pixels of a frame in a picture; wider ones are shrunk
GAP = 2  # white pixels around a frame
RECIPE = {"responder": str, "seed": int, "n_frames": int, "sparse_frames": int, "max_pixels": int,
          "prompt_version": int, "twins": bool}  # fmt: skip


class View(NamedTuple):
    """Frames, their times, and in words how they were sampled and what was done to them."""

    frames: np.ndarray
    timestamps: np.ndarray
    words: str


def candidates_of(folder):
    """Query key -> row of candidates.jsonl of a folder; {} where there is none."""
    rows = rows_of(Path(folder) / "candidates.jsonl", CANDIDATE | {"recipe": RECIPE})
    return {query_key(row): row for row in rows}


def reader_of(folder, recipe, model):
    """The Reader with which a candidate's frames were read, without weights.

    folder: of pairs, whose config.json names the folder of videos. recipe: the candidate's.
    model: where its responder is now, if that is no server; None: where it was.
    Raises OSError, ValueError, and VideoError when the folder of videos is gone.
    """
    root = Path(read_config(folder, {"videos": str})["videos"]).absolute()
    videos = [str(path) for path in list_videos(root)]
    name, max_pixels = recipe["responder"], recipe["max_pixels"]
    if is_address(name):  # with any model behind it the server itself is not asked
        eyes = Server(f"{name.partition('#')[0]}#any", max_pixels)
    else:
        eyes = load_processor(model or name, max_pixels)
    return Reader(videos, root, eyes, recipe["n_frames"], recipe["sparse_frames"])


def origins(candidate, response):
    """What a response was said of: "preferred", if it was, and rows of `adversarial`."""
    preferred = [{"kind": "preferred"}] * (candidate["preferred"]["response"] == response)
    return preferred + [bad for bad in candidate["adversarial"] if bad["response"] == response]


def is_clean(how):
    return how["kind"] in ("preferred", "sample")


def told(how, mode):
    """In words what the responder was shown and told."""
    kind, sampling = how["kind"], ADVERSARIES[mode].sampling
    return {
        "preferred": f"the clean frames, {sampling} sampling",
        "sample": f"the clean frames, {sampling} sampling, drawn at random",
        "frames": f"sparse frames (1 fps), broken by {how.get('corruption')}",
        "prompt": f"sparse frames (1 fps), behind the false premise {how.get('instruction')!r}",
    }.get(kind, kind)


def prompt_of(how, candidate):
    """The misled prompt of a `prompt` adversary; "" when the query was asked as it is."""
    known = candidate["recipe"]["prompt_version"] == PROMPT_VERSION
    premise, mode = how.get("instruction"), candidate["mode"]
    if how["kind"] != "prompt" or not known or premise not in PREMISES[mode]:
        return ""
    return misled_prompt(mode, premise, candidate["query"])


def view_of(reader, candidate, how):
    """The View that a response was said of. Raises VideoError, ValueError."""
    mode, video = candidate["mode"], candidate["video"]
    check_below(video, reader.root)
    sampling = ADVERSARIES[mode].sampling if is_clean(how) else "sparse"
    frames, timestamps = reader.frames(video)[sampling]
    if how["kind"] == "frames":
        frames = broken(frames, reader, candidate, how.get("corruption"))
    return as_seen(reader.processor, frames, timestamps, told(how, mode))


def twins_of(reader, candidate):
    """The broken twins of the clean frames, on which --select contrast scores: list of View."""
    adversary = ADVERSARIES[candidate["mode"]]
    frames, timestamps = reader.frames(candidate["video"])[adversary.sampling]
    found = []
    for name in adversary.twins if candidate["recipe"]["twins"] else ():
        pictures = broken(frames, reader, candidate, name)
        words = f"the clean frames, broken by {name}: what log-probabilities are compared on"
        found.append(as_seen(reader.processor, pictures, timestamps, words))
    return found


def broken(frames, reader, candidate, name):
    """Frames as the corruption of that name leaves them. Raises ValueError for an unknown one."""
    corruptions, seed = ADVERSARIES[candidate["mode"]].corruptions, candidate["recipe"]["seed"]
    if name not in corruptions:
        raise ValueError(f"corruption is {name!r}; expected one of {', '.join(corruptions)}")
    return broken_frames(frames, candidate["video"], corruptions[name], reader, seed)


def check_below(video, root):
    """Raise VideoError for a video that is not below the root: its name makes the seeds."""
    if not Path(video).is_relative_to(root):
        raise VideoError(video, f"not in {root}; start where make_pairs.py was started")


def uniform_view(processor, n_frames, path, **clip):
    """The View of training and of evaluation: n frames, spread evenly over the clip.

    clip: start, end, folder_fps of read_frames. Raises VideoError.
    """
    sample, fit = partial(uniform, n=n_frames), processor.family.fit
    frames, timestamps = read_frames(path, sample, fit, **clip)
    return as_seen(processor, frames, timestamps, "the clean frames, uniform sampling")


def as_seen(processor, frames, timestamps, words):
    """A View at the size at which the vision tower gets it."""
    size = processor.fit(len(frames), *frames.shape[1:3])
    return View(resized(frames, size).permute(0, 2, 3, 1).numpy(), timestamps, words)


def sheet(view):
    """(a PNG file, bytes, of at most SHOWN frames, spread evenly; its caption)."""
    shown = np.linspace(0, len(view.frames) - 1, min(SHOWN, len(view.frames))).round().astype(int)
    _, height, width, _ = view.frames.shape
    shrink = -(-width // WIDEST)
    tiles = view.frames[shown][:, : height // shrink * shrink, : width // shrink * shrink]
    tiles = tiles.reshape(len(tiles), height // shrink, shrink, width // shrink, shrink, 3)
    tiles = tiles.mean((2, 4)).round().astype(np.uint8)
    tiles = np.pad(tiles, ((0, 0), (GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
    most = min(ROW, WIDTH // tiles.shape[2])
    lines, row = [], -(-len(tiles) // -(-len(tiles) // most))  # rows of one length, or nearly
    for start in range(0, len(tiles), row):
        line = np.concatenate(tiles[start : start + row], axis=1)
        more = row * tiles.shape[2] - line.shape[1]
        lines.append(np.pad(line, ((0, 0), (0, more), (0, 0)), constant_values=255))
    times = ", ".join(f"{seconds:.1f}" for seconds in view.timestamps[shown])
    count = f"{len(shown)} of {len(view.frames)}" * (len(shown) < len(view.frames))
    size = f"{width} x {height} pixels" + f", shown at 1/{shrink}" * (shrink > 1)
    caption = f"{view.words}; {count or len(shown)} frames of {size}, sampled at {times} s"
    return png(np.concatenate(lines)), caption
