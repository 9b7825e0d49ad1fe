"""Who sees whom in the pack of one video: the shared prefix and its segments, as a picture.

Shapes: P prefix tokens, S segments, C cells of the picture's side.
"""

from functools import partial

import numpy as np

from pasta.attention import dense_mask
from pasta.packs import VideoPairs, by_video, pack_responses
from pasta.tools.report_frames import uniform_view
from pasta.tools.report_page import block, table
from pasta.tools.report_run import tried

CELLS = 48  # of a piece at most: a prefix of thousands of tokens is drawn in blocks
PAIRS = 3  # of the video, whose pack it is, at most


def attention_section(run):
    """The pack of the video with the most pairs. Raises OSError, ValueError."""
    group = max(by_video(run.pairs), key=lambda group: len(group.pairs))
    group = VideoPairs(group.video, group.pairs[:PAIRS])
    return tried(partial(pack_of, run, group, run.processor), run.look_for_videos)


def pack_of(run, group, processor):
    """The picture of a VideoPairs' pack, and what its segments say. Raises VideoError."""
    view = uniform_view(processor, run.config["frames_used"], group.video)
    inputs = processor.prepare(view.frames, view.timestamps)
    pack, _ = pack_responses(processor, inputs, group.texts())
    names = ["prefix: system + video", *segment_names(group)]
    pattern = cells(pack.lengths, pack.keep.tolist())
    caption = (
        f"The pack of {group.video}: {pack.lengths[0]} tokens of prefix, {inputs.n_tokens} of them "
        f"the video's, and {pack.n_segments} segments. A row shows what its token sees; the column "
        "at the right, from which tokens a response token is predicted and scored."
    )
    picture = run.draw("attention", caption, names, pack.lengths, *pattern)
    texts = dict.fromkeys(group.texts())
    rows = [[name, *words] for name, words in zip(names[1:], texts, strict=True)]
    return picture + table(["segment", "query", "response"], rows) + block(layout(pack))


def segment_names(group):
    """What each distinct text of a VideoPairs is: "query 1 + chosen", in the pack's order."""
    queries = list(dict.fromkeys(pair.query for pair in group.pairs))
    parts = dict.fromkeys(group.texts(), ())
    sides = ["chosen"] * len(group.pairs) + ["rejected"] * len(group.pairs)
    for said, side in zip(group.texts(), sides, strict=True):
        parts[said] += (side,) * (side not in parts[said])
    return [f"query {queries.index(q) + 1} + {' and '.join(of)}" for (q, _), of in parts.items()]


def cells(lengths, keep, most=CELLS):
    """The pattern of `dense_mask` in cells: a piece of more than `most` tokens in blocks.

    What a block sees of itself is drawn as all that is before it and itself.
    lengths: (P, n_0, n_1, ...). keep: the positions that predict response tokens.
    Returns starts, the first cell of every piece and C behind them; seen, (C, C) bool; scored,
    (C,) bool, whether a token of the cell predicts.
    """
    steps = [-(-n // most) for n in lengths]
    counts = [-(-n // step) for n, step in zip(lengths, steps, strict=True)]
    starts = np.cumsum([0, *counts])
    pieces = zip(lengths, steps, starts, strict=False)
    cell = np.concatenate([start + np.arange(n) // step for n, step, start in pieces])
    scored = np.zeros(starts[-1], bool)
    scored[cell[keep]] = True
    return starts, dense_mask(counts)[0, 0].numpy(), scored


def layout(pack):
    """The lengths of a pack, and what rows of their own would take."""
    prefix, *segments = pack.lengths
    packed, alone = sum(pack.lengths), sum(prefix + n for n in segments)
    lengths = " + ".join(map(str, pack.lengths))
    return f"{lengths} = {packed} tokens in one row; {alone} in {len(segments)} rows of their own"
