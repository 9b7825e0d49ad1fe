"""The pairs of a report: how many were kept and dropped, and what each response was given on.

Pairs that make_pairs.py did not write have no candidates: their clean frames are shown.
"""

from base64 import b64encode
from collections import Counter, defaultdict
from contextlib import suppress
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np

from pasta.adversaries import ADVERSARIES
from pasta.candidates import corrupted_frames
from pasta.making.reader import Reader
from pasta.making.server import Server, is_address, png
from pasta.making.stages import CANDIDATE
from pasta.models.family import resized
from pasta.models.load import load_processor
from pasta.pairs import MODES
from pasta.run.config import read_config
from pasta.run.digest import digest
from pasta.run.ranks import progress
from pasta.run.rows import rows_of
from pasta.sampling import uniform
from pasta.selection import query_key
from pasta.video import VideoError, list_videos, read_frames

RECIPE = {"responder": str, "seed": int, "n_frames": int, "sparse_frames": int, "max_pixels": int,
          "prompt_version": int, "twins": bool}  # fmt: skip
FAULTS = (OSError, ValueError, VideoError)  # of missing or damaged files
SPARSE = ("frames", "prompt")  # kinds of adversarial responses with sparse sampling
SHOWN = 16  # frames of a strip, at most
WIDEST = 192  # pixels of a frame in a strip; wider frames are shrunk
SMALL = 112  # pixels: frames up to this width are enlarged, and stay PNG
processor_of = cache(load_processor)


def pairs_section(run):
    """The number of pairs by mode and reason, and examples. Raises OSError, ValueError."""
    groups, (candidates, reader, note) = defaultdict(list), making_of(run)
    for row in [row | {"reason": "kept"} for row in run.pairs] + run.dropped:
        groups[row["mode"], row["reason"]].append(row)
    modes = list(dict.fromkeys([*MODES, *(mode for mode, _ in groups)]))
    total = Counter(row["reason"] for rows in groups.values() for row in rows)
    reasons = sorted(total, key=lambda reason: (reason != "kept", -total[reason], reason))
    examples = [
        example_of(run, row, candidates.get(query_key(row)), reader)
        for key in progress(list(product(reasons, modes)), "report", unit="group")
        for row in run.examples(groups[key[::-1]])
    ]
    return {"modes": modes, "reasons": reasons, "groups": groups, "total": total,
            "note": note, "examples": examples}  # fmt: skip


def making_of(run):
    """(candidates by query key, the Reader of their frames or None, what is missing or None)."""
    path, candidates, of = run.pairs_file.with_name("candidates.jsonl"), {}, {}
    with suppress(*FAULTS):  # pairs of others have no config.json
        of = read_config(path.parent, {"responder": str, "videos": str})
    try:
        rows = rows_of(path, CANDIDATE | {"recipe": RECIPE})
        if not rows or not of:
            what = f"{path} with its config.json, so only clean frames are shown"
            return {}, None, missing(what)
        candidates |= {query_key(row): row for row in rows}
        root = Path(of["videos"]).absolute()
        return candidates, reader_of(root, rows[0]["recipe"], of["responder"]), None
    except FAULTS as error:
        return candidates, None, missing(error)


def example_of(run, row, candidate, reader):
    """A pair for the page: texts, log-probabilities, all answers and `views`."""
    texts, example = {x: row[x] for x in ("chosen", "rejected")}, row | {"views": []}
    if not candidate or "flaw" in row:
        if run.trained and "flaw" not in row:
            how = [run.config[name] for name in ("model", "max_pixels", "frames_used")]
            strip = attempt(show_uniform, *how, row["video"])
            example["views"] = [{"side": "video", "strip": strip}]
        return example
    answers = [{"kind": "preferred"} | candidate["preferred"], *candidate["adversarial"]]
    twins = ADVERSARIES[row["mode"]].twins if candidate["recipe"]["twins"] else ()
    sources = [("counterfactual", {"kind": "twin", "corruption": name}) for name in twins]
    sources.insert(0, ("rejected", source_of(answers, row["rejected"], row["recipe"])))
    sources.insert(0, ("chosen", source_of(answers, row["chosen"], {})))
    for side, source in sources:
        if source:
            strip = reader and attempt(strip_of, reader, candidate, source)
            reader = reader if strip and "data" in strip else None  # one message is enough
            view = {"side": side, "strip": strip, "sampling": sampling_of(row["mode"], source)}
            example["views"].append(source | view)
    logps = {scored["response"]: scored for scored in candidate["logps"]}
    example["logps"] = {side: logps[text] for side, text in texts.items() if text in logps}
    return example | {"answers": [a | {"logps": logps.get(a["response"], {})} for a in answers]}


def source_of(answers, text, recipe):
    """The answer with this text: of equal ones, that of the recipe, or the first; None if none."""
    same = [answer for answer in answers if answer["response"] == text]
    how = ("kind", "corruption", "instruction")  # how it was made
    return max(same, key=lambda x: all(x.get(k) == recipe.get(k) for k in how), default=None)


def sampling_of(mode, source):
    return "sparse" if source["kind"] in SPARSE else ADVERSARIES[mode].sampling


def reader_of(root, recipe, model):
    videos, size = [str(path) for path in list_videos(root)], recipe["max_pixels"]
    name = recipe["responder"]
    server = f"{name.partition('#')[0]}#any"  # naming any model avoids a request
    processor = Server(server, size) if is_address(name) else processor_of(model, size)
    return Reader(videos, root, processor, recipe["n_frames"], recipe["sparse_frames"])


def view_of(reader, candidate, source):
    """(frames, timestamps) that a response was given on. Raises VideoError.

    source: {"kind": "preferred"}, a row of `adversarial`, or {"kind": "twin", "corruption": name}.
    """
    video, mode, recipe = candidate["video"], candidate["mode"], candidate["recipe"]
    if not Path(video).is_relative_to(reader.root):  # the seeds need its name below the root
        raise VideoError(video, f"not in {reader.root}; start where make_pairs.py was started")
    frames, timestamps = reader.frames(video)[sampling_of(mode, source)]
    if name := source.get("corruption"):
        corrupt = ADVERSARIES[mode].corruptions[name]
        frames = corrupted_frames(frames, video, corrupt, reader, recipe["seed"])
    return frames, timestamps


def strip_of(reader, candidate, source):
    return strip(reader.processor, *view_of(reader, candidate, source))


def show_uniform(model, max_pixels, n_frames, video):
    processor = processor_of(model, max_pixels)
    return strip(processor, *read_frames(video, partial(uniform, n=n_frames), processor.fit))


def strip(processor, frames, timestamps):
    """A picture of at most SHOWN of the frames, side by side, at the processor's size or smaller.

    width, height: of a frame in the picture. n, size: of all frames.
    """
    n = len(frames)
    height, width = processor.fit(n, *frames.shape[1:3])
    shown, shrink = np.linspace(0, n - 1, min(SHOWN, n)).round().astype(int), -(-width // WIDEST)
    tiles = resized(frames[shown], (height // shrink, width // shrink)).permute(0, 2, 3, 1).numpy()
    kind, encode = "png", png
    with suppress(ModuleNotFoundError):  # JPEG needs matplotlib; it is ten times smaller
        if width > SMALL:
            from pasta.tools.figures import jpeg

            kind, encode = "jpeg", jpeg
    picture = encode(np.concatenate(tiles, axis=1))
    data = f"data:image/{kind};base64,{b64encode(picture).decode()}"
    return {"data": data, "name": f"s{digest(data)[:16]}", "seconds": timestamps[shown].tolist(),
            "width": tiles.shape[2], "height": tiles.shape[1], "small": width <= SMALL,
            "n": n, "size": f"{width} × {height}"}  # fmt: skip


def attempt(function, *args):
    """The function's result, or what the page shows when its files are missing or damaged."""
    try:
        return function(*args)
    except (*FAULTS, AttributeError, LookupError, TypeError) as error:
        if not isinstance(error, FAULTS):
            error = ValueError(f"a file has an unexpected form: {error!r}")
        return missing(error)


def missing(what):
    """What the page shows in place of a part. what: an error, or what is not there."""
    if isinstance(what, FileNotFoundError) and what.filename:
        what = what.filename
    start = "not shown" if isinstance(what, Exception) else "not there"
    return {"missing": f"{start}: {what}"}
