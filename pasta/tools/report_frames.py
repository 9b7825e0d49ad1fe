"""Examples of the pairs, with the frames of each response as the vision tower got them.

candidates.jsonl is enough to make the frames again: it has the sampling, the corruption and the
seed. No model is asked and no weights are loaded.

Shapes: F frames, H, W pixels. Frames are (F, H, W, 3) uint8, timestamps (F,) seconds.
"""

import re
from base64 import b64encode
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path

import numpy as np

from pasta.adversaries import ADVERSARIES
from pasta.candidates import broken_frames
from pasta.making.reader import Reader
from pasta.making.server import Server, is_address, png
from pasta.making.stages import CANDIDATE
from pasta.models.family import resized
from pasta.models.load import load_processor
from pasta.pairs import MODES
from pasta.prompts import PREMISES, PROMPT_VERSION
from pasta.run.config import read_config
from pasta.run.rows import rows_of
from pasta.sampling import uniform
from pasta.selection import query_key
from pasta.tools.report_run import FAULTS, attempt, missing
from pasta.video import VideoError, list_videos, read_frames

RECIPE = {"responder": str, "seed": int, "n_frames": int, "sparse_frames": int, "max_pixels": int,
          "prompt_version": int, "twins": bool}  # fmt: skip
CLEAN = ("preferred", "sample", "twin")  # kinds of source with the clean frames' sampling
SHOWN = 16  # frames of a picture at most
ROW = 8  # frames of a row at most
WIDEST = 224  # pixels of a frame in a picture; wider frames are shrunk


def pairs_section(run):
    """The number of pairs, and examples of each mode. Raises OSError, ValueError."""
    parts, counts, (candidates, reader, note) = [], {}, making_of(run)
    for mode in MODES:
        pairs = [pair for pair in run.pairs if pair.mode == mode]
        counts[mode], drawn = len(pairs), run.examples(pairs)
        for k, pair in enumerate(drawn, start=1):
            path, row = run.args.out / f"pair-{mode}-{k}", candidates.get(query_key(vars(pair)))
            parts.append(described(pair, row))
            if reader or not row:
                parts[-1] |= attempt(run.next["videos"], frames_of, run, reader, pair, row, path)
    counts |= {"all": len(run.pairs), "videos": len({pair.video for pair in run.pairs})}
    return {"counts": counts, "note": note, "examples": parts}


def making_of(run):
    """(candidates by query key, the Reader of their frames or None, what is missing or None)."""
    path, candidates = run.pairs_file.with_name("candidates.jsonl"), {}
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


def described(pair, candidate):
    """The text of an example. candidate: the row that the pair was selected from, or None."""
    found = {key: getattr(pair, key) for key in ("mode", "video", "query", "recipe")}
    found["chosen"], found["rejected"] = marked(pair.chosen, pair.rejected)
    if candidate:
        logps = {row["response"]: row for row in candidate["logps"]}
        sides = {"chosen": pair.chosen, "rejected": pair.rejected}
        found["logps"] = {side: logps[text] for side, text in sides.items() if text in logps}
        found["sources"] = {
            side: dict.fromkeys(source_text(x, candidate) for x in sources(candidate, text))
            for side, text in sides.items()
        }
    return found


def marked(chosen, rejected):
    """Both texts in pieces: lists of (text, whether the other text differs there)."""
    a, b = (re.findall(r"\w+|\W", text) for text in (chosen, rejected))
    codes = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    left = [("".join(a[i:j]), kind != "equal") for kind, i, j, _, _ in codes if i < j]
    right = [("".join(b[i:j]), kind != "equal") for kind, _, _, i, j in codes if i < j]
    return left, right


def sources(candidate, response):
    """How a response was made: "preferred", if it was, and rows of `adversarial`."""
    preferred = [{"kind": "preferred"}] * (candidate["preferred"]["response"] == response)
    return preferred + [row for row in candidate["adversarial"] if row["response"] == response]


def frames_of(run, reader, pair, candidate, path):
    """The clean frames, those of the rejected response, and the twins; {part: as `show`}.

    Without a candidate: the frames of training. Raises OSError, ValueError, VideoError.
    """
    if not candidate:
        view = uniform_view(run.processor, run.config["frames_used"], pair.video)
        return {"frames": {"clean": show(f"{path}-clean.png", *view)}}
    parts = {"clean": {"kind": "preferred"}}
    bad = [x for x in sources(candidate, pair.rejected) if x["kind"] not in CLEAN]
    if bad:
        parts["rejected"] = bad[0]
    if pair.recipe.get("kind") == "contrast" and candidate["recipe"]["twins"]:
        for k, name in enumerate(ADVERSARIES[pair.mode].twins, start=1):
            parts[f"twin{k}"] = {"kind": "twin", "corruption": name}
    frames = {
        part: show(f"{path}-{part}.png", *view_of(reader, candidate, source))
        for part, source in parts.items()
    }
    return {"frames": frames}


def reader_of(folder, recipe, model):
    """The Reader that read the frames of a candidate, without weights.

    folder: of the videos. recipe: the candidate's. model: the responder's folder, if it has moved.
    Raises OSError, ValueError, and VideoError when the folder of videos is gone.
    """
    root = Path(folder).absolute()
    videos = [str(path) for path in list_videos(root)]
    name, max_pixels = recipe["responder"], recipe["max_pixels"]
    if is_address(name):  # naming any model avoids a request to the server
        processor = Server(f"{name.partition('#')[0]}#any", max_pixels)
    else:
        processor = load_processor(model or name, max_pixels)
    return Reader(videos, root, processor, recipe["n_frames"], recipe["sparse_frames"])


def source_text(source, candidate):
    """What the responder got, in words. source: as in `view_of`."""
    kind, mode, premise = source["kind"], candidate["mode"], source.get("instruction")
    clean = f"clean frames, {ADVERSARIES[mode].sampling} sampling"
    if candidate["recipe"]["prompt_version"] == PROMPT_VERSION:  # other versions, other texts
        premise = PREMISES[mode].get(premise, premise)
    return {
        "preferred": clean,
        "sample": f"{clean}, another random answer",
        "frames": f"sparse frames (1 fps), corrupted by {source.get('corruption')}",
        "prompt": f"sparse frames (1 fps), misled by the premise: {premise}",
        "twin": f"{clean}, corrupted by {source.get('corruption')}",
    }.get(kind, kind)


def view_of(reader, candidate, source):
    """(frames, timestamps, description) of what a response was given on.

    source: {"kind": "preferred"}, a row of the candidate's `adversarial`, or {"kind": "twin",
    "corruption": name}: the corrupted clean frames that --select contrast scores.
    Raises VideoError, ValueError.
    """
    mode, video, kind = candidate["mode"], candidate["video"], source["kind"]
    if not Path(video).is_relative_to(reader.root):  # the seeds need its name below the root
        raise VideoError(video, f"not in {reader.root}; start where make_pairs.py was started")
    adversary, name = ADVERSARIES[mode], source.get("corruption")
    frames, timestamps = reader.frames(video)[adversary.sampling if kind in CLEAN else "sparse"]
    if kind in ("frames", "twin"):
        if name not in adversary.corruptions:
            known = ", ".join(adversary.corruptions)
            raise ValueError(f"corruption is {name!r}; expected one of {known}")
        seed = candidate["recipe"]["seed"]
        frames = broken_frames(frames, video, adversary.corruptions[name], reader, seed)
    return as_seen(reader.processor, frames), timestamps, source_text(source, candidate)


def uniform_view(processor, n_frames, path, **clip):
    """(frames, timestamps, description) of training and evaluation: n frames, spread evenly.

    clip: start, end, folder_fps of read_frames. Raises VideoError.
    """
    sample, fit = partial(uniform, n=n_frames), processor.family.fit
    frames, timestamps = read_frames(path, sample, fit, **clip)
    return as_seen(processor, frames), timestamps, "clean frames, uniform sampling"


def as_seen(processor, frames):
    size = processor.fit(len(frames), *frames.shape[1:3])
    return resized(frames, size).permute(0, 2, 3, 1).numpy()


def show(path, frames, timestamps, description):
    """Write at most SHOWN of the frames, spread evenly, as one PNG file.

    Returns what the page shows: frames as (PNG in base64, seconds), the width of a frame on the
    page in pixels, and facts for the caption.
    """
    n, (_, height, width, _) = len(frames), frames.shape
    shown, shrink = np.linspace(0, n - 1, min(SHOWN, n)).round().astype(int), -(-width // WIDEST)
    tiles = resized(frames[shown], (height // shrink, width // shrink)).permute(0, 2, 3, 1).numpy()
    encoded = [b64encode(png(tile)).decode() for tile in tiles]
    columns = min(ROW, len(tiles))
    space = [(0, -len(tiles) % columns), (2, 2), (2, 2), (0, 0)]  # at the end and around a frame
    tiles = np.pad(tiles, space, constant_values=255)
    rows = tiles.reshape(-1, columns, *tiles.shape[1:]).swapaxes(1, 2)
    Path(path).write_bytes(png(rows.reshape(-1, columns * tiles.shape[2], 3)))
    return {
        "frames": list(zip(encoded, timestamps[shown], strict=True)),
        "width": width // shrink * max(1, WIDEST // 2 // width),  # enlarge small frames
        "description": description,
        "total": n,
        "size": f"{width} x {height}",
        "shrink": shrink,
    }
