"""The pairs of a report: how many were kept and dropped, and what each response was given on.

Pairs that make_pairs.py did not write have no candidates: their clean frames are shown.
"""

import os
import re
from base64 import b64encode
from collections import Counter
from contextlib import suppress
from difflib import SequenceMatcher
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from pasta.adversaries import ADVERSARIES
from pasta.candidates import corrupted_frames
from pasta.making.audit import audit_of
from pasta.making.reader import Reader
from pasta.making.server import Server, is_address, png
from pasta.making.stages import CANDIDATE
from pasta.models.family import resized
from pasta.models.load import load_processor
from pasta.pairs import GROUPS, MODES, OTHER
from pasta.prompts import PROMPT_VERSION, misled_prompt
from pasta.run.digest import digest
from pasta.run.rows import rows_of
from pasta.sampling import uniform
from pasta.selection import query_key
from pasta.tools.report_run import FAULTS, attempt, missing, moved
from pasta.video import VideoError, list_videos, read_frames

RECIPE = {"responder": str, "seed": int, "n_frames": int, "sparse_frames": int, "max_pixels": int,
          "prompt_version": int, "twins": bool}  # fmt: skip
SPARSE = ("frames", "prompt")  # kinds of adversarial responses with sparse sampling
HOW = ("kind", "corruption", "instruction")  # fields of a recipe and of an adversarial response
SHOWN = 16  # frames of a strip, at most
WIDEST = 192  # pixels of a frame in a strip; wider frames are shrunk
SMALL = 112  # pixels: frames up to this width are enlarged, and stay PNG


def pairs_section(run):
    """The number of pairs by mode and reason, and examples. Raises OSError, ValueError."""
    if not run.pairs_file.is_file():
        return missing(run.pairs_file, run.next["pairs"])
    candidates, reader, note = making_of(run)
    rows = [row | {"reason": "kept"} for row in run.pairs] + run.dropped
    total = Counter(row["reason"] for row in rows)
    groups = {(mode, reason): [] for mode in GROUPS for reason in total}
    for row in rows:
        groups[row["mode"], row["reason"]].append(row)
    reasons = sorted(total, key=lambda reason: (reason != "kept", -total[reason], reason))
    modes = [*MODES, OTHER][: len(GROUPS) if any(row["mode"] == OTHER for row in rows) else -1]
    examples = [
        example_of(run, row, candidates.get(query_key(row)), reader)
        for reason, mode in product(reasons, modes)
        for row in run.examples(groups[mode, reason])
    ]
    return {"modes": modes, "reasons": reasons, "groups": groups, "total": total,
            "note": note, "examples": examples}  # fmt: skip


def audit_section(run):
    """The audit, and the videos that were left out. Raises OSError, ValueError."""
    path = run.pairs_file.with_name("dropped.jsonl")
    if not path.is_file():
        return missing(f"{path}, which only make_pairs.py writes", run.next["pairs"])
    skipped = rows_of(path.with_name("skipped.jsonl"), {"video": str, "reason": str})
    return {"modes": audit_of(path.parent), "skipped": skipped}


def making_of(run):
    """(candidates by query key, the Reader of their frames or None, what is missing or None)."""
    path, candidates, of = run.pairs_file.with_name("candidates.jsonl"), {}, run.making
    try:
        rows = rows_of(path, CANDIDATE | {"recipe": RECIPE})
        if not rows or not of:
            path = path.with_name("config.json") if rows else path
            return {}, None, missing(f"{path}, so only clean frames are shown", run.next["pairs"])
        root = Path(run.args.videos or moved(path.parent, of, "videos")).absolute()
        before = f"/{os.path.normpath(of['videos']).strip('/')}/"
        for row in rows:
            _, found, name = row["video"].partition(before)
            candidates[query_key(row)] = row | ({"video": str(root / name)} if found else {})
        model = run.args.model or moved(path.parent, of, "responder")
        return candidates, reader_of(root, rows[0]["recipe"], model), None
    except FAULTS as error:
        needed = "videos" if isinstance(error, VideoError) else "model" if candidates else "pairs"
        return candidates, None, missing(error, run.next[needed])


def example_of(run, row, candidate, reader):
    """A pair for the page: marked texts, log-probabilities, all answers and `views`."""
    texts, next_command = {x: row[x] for x in ("chosen", "rejected")}, run.next["videos"]
    example = row | dict(zip(texts, marked(*texts.values()), strict=True)) | {"views": []}
    if not candidate:
        if run.trained:
            show = (show_uniform, run.processor, run.config["frames_used"], row["video"])
            example["views"] = [{"side": "video", "strip": attempt(next_command, *show)}]
        return example
    answers = [{"kind": "preferred"} | candidate["preferred"], *candidate["adversarial"]]
    sources = [("chosen", source_of(answers, row["chosen"], {}))]
    if row["rejected"]:
        sources.append(("rejected", source_of(answers, row["rejected"], row["recipe"])))
    twins = ADVERSARIES[row["mode"]].twins if candidate["recipe"]["twins"] else ()
    sources += [("counterfactual", {"kind": "twin", "corruption": name}) for name in twins]
    for side, source in sources:
        strip = reader and attempt(next_command, strip_of, reader, candidate, source)
        reader = reader if strip and "data" in strip else None  # one message is enough
        prompt, sampling = prompt_of(candidate, source), sampling_of(row["mode"], source)
        view = {"side": side, "strip": strip, "prompt": prompt, "sampling": sampling}
        example["views"].append(source | view)
    logps = {scored["response"]: scored for scored in candidate["logps"]}
    example["logps"] = {side: logps[text] for side, text in texts.items() if text in logps}
    return example | {"answers": [a | {"logps": logps.get(a["response"], {})} for a in answers]}


def marked(chosen, rejected):
    """Both texts in pieces: lists of (text, whether the other text differs there)."""
    a, b = (re.findall(r"\w+|\W", text) for text in (chosen, rejected))
    codes = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    left = [("".join(a[i:j]), kind != "equal") for kind, i, j, _, _ in codes if i < j]
    right = [("".join(b[i:j]), kind != "equal") for kind, _, _, i, j in codes if i < j]
    return left, right


def source_of(answers, text, recipe):
    """The answer with this text: of equal ones, that of the recipe, or the first."""
    same = [answer for answer in answers if answer["response"] == text]
    return max(same, key=lambda answer: all(answer.get(k) == recipe.get(k) for k in HOW))


def prompt_of(candidate, source):
    """What the responder was asked; older versions of a false premise are no longer known."""
    mode, query, name = candidate["mode"], candidate["query"], source.get("instruction")
    known = name and candidate["recipe"]["prompt_version"] == PROMPT_VERSION
    return misled_prompt(mode, name, query) if known else query


def sampling_of(mode, source):
    return "sparse" if source["kind"] in SPARSE else ADVERSARIES[mode].sampling


def reader_of(root, recipe, model):
    """The Reader of a candidate's frames. model: the responder's folder now."""
    videos, size = [str(path) for path in list_videos(root)], recipe["max_pixels"]
    name = recipe["responder"]
    server = f"{name.partition('#')[0]}#any"  # naming any model avoids a request
    processor = Server(server, size) if is_address(name) else load_processor(model, size)
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


def show_uniform(processor, n_frames, video):
    """The strip of the frames of training and evaluation. Raises VideoError."""
    return strip(processor, *read_frames(video, partial(uniform, n=n_frames), processor.fit))


def strip(processor, frames, timestamps):
    """At most SHOWN of the frames, at the processor's size, side by side in one picture.

    Returns its `data` address, a `name` for CSS, the `seconds` of the frames, their size in the
    picture (`width`, `height`), and in `caption` the number and size of all frames.
    """
    n = len(frames)
    height, width = processor.fit(n, *frames.shape[1:3])
    shown, shrink = np.linspace(0, n - 1, min(SHOWN, n)).round().astype(int), -(-width // WIDEST)
    tiles = resized(frames[shown], (height // shrink, width // shrink)).permute(0, 2, 3, 1).numpy()
    picture = np.concatenate(tiles, axis=1)
    kind, data = "png", png(picture)
    with suppress(ModuleNotFoundError):  # JPEG needs matplotlib; it is ten times smaller
        if width > SMALL:
            from pasta.tools.figures import jpeg

            kind, data = "jpeg", jpeg(picture)
    caption = f"{n} frames of {width} × {height} pixels"
    caption += f"; {len(shown)} are shown" * (len(shown) < n)
    data = f"data:image/{kind};base64,{b64encode(data).decode()}"
    return {"data": data, "name": f"s{digest(data)[:16]}", "seconds": timestamps[shown].tolist(),
            "width": tiles.shape[2], "height": tiles.shape[1], "small": width <= SMALL,
            "caption": caption}  # fmt: skip
