"""Tensors as text: what docs/walkthrough.md prints of frames, tokens, positions and masks.

Shapes: H, W pixels, L tokens of a row, P of them the prefix's, R response tokens.
"""

from itertools import groupby, zip_longest
from textwrap import fill

import numpy as np

from pasta.attention import dense_mask
from pasta.toy.world import COLOURS

LETTERS = {rgb: name[0] for name, rgb in COLOURS.items()}
BLOCK = (4, 2)  # pixels, high and wide, of one character
WIDTH = 94  # characters of a line


def picture(frame):
    """A frame (H, W, 3) as lines of text: a letter for a thing's colour, a point for no thing."""
    high, wide = frame.shape[0] // BLOCK[0], frame.shape[1] // BLOCK[1]
    blocks = frame.reshape(high, BLOCK[0], wide, BLOCK[1], 3).swapaxes(1, 2)
    return ["".join(letter(block.reshape(-1, 3)) for block in row) for row in blocks]


def letter(pixels):
    """The letter of the first thing that some pixels (N, 3) show, or a point."""
    found = (LETTERS.get(tuple(rgb)) for rgb in pixels.tolist())
    return next(filter(None, found), ".")


def side_by_side(*pictures):
    """Several pictures of one height as one text."""
    return "\n".join("     ".join(lines) for lines in zip(*pictures, strict=True))


def columns_of(frame, colour):
    """The first and the last column of a frame (H, W, 3) with a colour in it."""
    columns = np.where((frame == COLOURS[colour]).all(-1))[1]
    return int(columns.min()), int(columns.max())


def spelled(processor, ids):
    """Token ids as text, each with what it stands for; a run of one token is told once."""
    runs = [(i, len(list(run))) for i, run in groupby(map(int, ids))]
    told = [f"{i} {word(processor, i)}" + (f" x {n}" if n > 1 else "") for i, n in runs]
    lines = fill(" | ".join(t.replace(" ", "\0") for t in told), WIDTH, break_long_words=False)
    return lines.replace("\0", " ")


def word(processor, token):
    """The text of one token, without the blank before it."""
    return processor.tokenizer.decode([token]).strip()


def two_columns(processor, pack, token_logps):
    """The targets of a pack of two segments, and a number of each, in two columns.

    token_logps: (R,).
    """
    told = [
        f"{word(processor, token):>12} {value:8.3f}"
        for token, value in zip(pack.targets.tolist(), token_logps.tolist(), strict=True)
    ]
    first = int(pack.response_lengths[0])
    return "\n".join(map("     ".join, zip_longest(told[:first], told[first:], fillvalue="")))


def aligned(*rows):
    """Rows of (name, integers) below each other, three characters an integer."""
    width = max(len(name) for name, _ in rows)
    lines = (f"{name:<{width}} " + "".join(f"{int(x):3d}" for x in row) for name, row in rows)
    return "\n".join(lines)


def mask_picture(processor, pack):
    """Who may look at whom in a Pack: a line for each token that looks, # for each that it sees.

    Of the video's tokens, which all look the same way, only the first is drawn.
    """
    video = processor.ids(processor.family.token)[0]
    ids = pack.input_ids.tolist()
    shown = [i for i in range(len(ids)) if ids[i] != video or ids[i - 1] != video]
    starts = np.cumsum(pack.lengths)[:-1].tolist()  # of the segments
    mask, lines = dense_mask(pack.lengths)[0, 0].tolist(), []
    for i in shown:
        gap = "\n" if i in starts else ""
        seen = ((" " if j in starts else "") + ".#"[mask[i][j]] for j in shown)
        lines.append(f"{gap}{word(processor, ids[i]):>16} {''.join(seen)}")
    return "\n".join(lines)
