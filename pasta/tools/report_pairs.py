"""Some pairs of each mode: what the model saw and was told, and what it said.

`chosen` and `rejected` stand with the frames that each was said of, found again through
candidates.jsonl: with --select contrast either may be any of the answers to a query.
"""

from collections import Counter
from functools import partial

import numpy as np
from tqdm import tqdm

from pasta.pairs import MODES
from pasta.selection import query_key
from pasta.tools.report_frames import (
    candidates_of,
    is_clean,
    origins,
    prompt_of,
    reader_of,
    told,
    twins_of,
    uniform_view,
    view_of,
)
from pasta.tools.report_page import block, heading, marked, missing, paragraph, table
from pasta.tools.report_run import FAULTS, tried, words_of
from pasta.video import VideoError

VIEWS = ("clean", "broken", "blind")
NOT_OURS = (
    "How these pairs were made is not written beside them, in candidates.jsonl: they are shown "
    "with clean frames alone, as training shows them"
)


def pairs_section(run):
    """Examples of each mode, drawn by the run's seed. Raises OSError, ValueError."""
    shown, (candidates, reader, lacking) = drawn(run.pairs, run.n, run.seed), making_of(run)
    parts, numbers = [lacking], Counter()
    for pair in tqdm(shown, "pairs", leave=False, disable=None):
        candidate = candidates.get(query_key(vars(pair)))
        numbers[pair.mode] += 1
        name = f"pair-{pair.mode}-{numbers[pair.mode]}"
        parts += [heading(f"{pair.mode}: {pair.video}", pair.mode), *said(pair)]
        frames = partial(clean_frames, run, pair, name)
        if candidate:
            parts += [accounts(pair, candidate), logps(pair, candidate)]
            frames = partial(made_frames, run, reader, pair, candidate, name)
        parts += [tried(frames, run.look_for_videos), recipe_line(pair)]
    return "\n".join(parts)


def making_of(run):
    """(candidates by query key, their Reader or None, the sentence about what is not there)."""
    folder = run.pairs_file.parent
    try:
        candidates = candidates_of(folder)
    except FAULTS as error:
        return {}, None, missing(f"Clean frames alone: {words_of(error)}", run.look_for_videos)
    if not candidates:
        return {}, None, missing(NOT_OURS, "python make_pairs.py --help")
    recipe = next(iter(candidates.values()))["recipe"]
    try:
        return candidates, reader_of(folder, recipe, run.model), ""
    except FAULTS as error:
        command = run.look_for_videos if isinstance(error, VideoError) else run.again
        return candidates, None, missing(f"No frames: {words_of(error)}", command)


def drawn(pairs, n, seed):
    """n pairs of each mode, or as many as there are, in the order of MODES."""
    found = []
    for mode in MODES:
        here, rng = [pair for pair in pairs if pair.mode == mode], np.random.default_rng(seed)
        found += [here[i] for i in sorted(rng.permutation(len(here))[:n])]
    return found


def said(pair):
    """The query and both responses, with the words marked in which they differ."""
    chosen, rejected = marked(pair.chosen, pair.rejected)
    query = block(f"query: {pair.query}", "asked")
    return [query, f"<p>chosen: {chosen}</p>", f"<p>rejected: {rejected}</p>"]


def accounts(pair, candidate):
    """What each response was said of, in words."""
    parts = []
    for name, response in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        of = dict.fromkeys(told(how, pair.mode) for how in origins(candidate, response))
        parts.append(paragraph(f"{name} was said of {'; and of '.join(of) or 'something else'}."))
    return "".join(parts)


def made_frames(run, reader, pair, candidate, name):
    """The clean frames, those of the rejected response, and the twins. Raises VideoError.

    reader: None when there is none, and then no frames.
    """
    if reader is None:
        return ""
    good = {"kind": "preferred"}
    parts = [run.show(f"{name}-clean", view_of(reader, candidate, good))]
    bad = next((how for how in origins(candidate, pair.rejected) if not is_clean(how)), None)
    if bad:
        if prompt := prompt_of(bad, candidate):
            parts += [paragraph("Rejected was asked for with:"), block(prompt, "asked")]
        parts.append(run.show(f"{name}-rejected", view_of(reader, candidate, bad)))
    if pair.recipe.get("kind") == "contrast":
        for k, view in enumerate(twins_of(reader, candidate), start=1):
            parts.append(run.show(f"{name}-twin{k}", view))
    return "".join(parts)


def clean_frames(run, pair, name):
    """The frames that training shows. Raises OSError, ValueError, VideoError."""
    view = uniform_view(run.processor, run.config["frames_used"], pair.video)
    return run.show(f"{name}-clean", view)


def logps(pair, candidate):
    """The responses' log-probabilities on each view of the video: a table, or nothing."""
    found = {row["response"]: row for row in candidate["logps"]}
    texts = {"chosen": pair.chosen, "rejected": pair.rejected}
    rows = {name: found[said] for name, said in texts.items() if said in found}
    views = [view for view in VIEWS if rows and all(view in row for row in rows.values())]
    if not views:
        return ""
    lines = [[name, *(f"{row[view]:.2f}" for view in views)] for name, row in rows.items()]
    head = ["nats", *views]
    if {"clean", "broken"} <= {*views}:
        falls = [row["clean"] - row["broken"] for row in rows.values()]
        lines = [[*line, f"{fall:+.2f}"] for line, fall in zip(lines, falls, strict=True)]
        head.append("clean minus broken")
    return table(head, lines)


def recipe_line(pair):
    """How the pair was made, as its row has it."""
    facts = ", ".join(f"{name} {value}" for name, value in pair.recipe.items())
    return paragraph(f"recipe: {facts}") if facts else ""
