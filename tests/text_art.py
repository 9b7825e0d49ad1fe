"""Tensors as text, for docs/walkthrough.md: frames, tokens, positions and masks."""

from itertools import groupby, zip_longest
from textwrap import fill

import numpy as np

from pasta.attention import dense_mask
from pasta.toy.world import COLOURS

LETTERS = {rgb: name[0] for name, rgb in COLOURS.items()}
HIGH, WIDE = 4, 2  # pixels of one character


def pictures(*frames):
    """Frames (H, W, 3) side by side: the first letter of a colour, a point for the background."""

    def letter(block):
        found = (LETTERS.get(tuple(rgb)) for rgb in block.reshape(-1, 3).tolist())
        return next(filter(None, found), ".")

    def line(pixels):  # (HIGH, W, 3)
        return "".join(letter(pixels[:, x : x + WIDE]) for x in range(0, pixels.shape[1], WIDE))

    starts = range(0, len(frames[0]), HIGH)
    return "\n".join("     ".join(line(f[y : y + HIGH]) for f in frames) for y in starts)


def columns_of(frame, colour):
    """The first and the last column of a frame (H, W, 3) that have a colour."""
    columns = np.where((frame == COLOURS[colour]).all(-1))[1]
    return int(columns.min()), int(columns.max())


def word(processor, token):
    """The text of one token, without the space before it."""
    return processor.tokenizer.decode([token]).strip()


def spelled(processor, ids):
    """Token ids with their texts; a run of equal tokens is shown once, with its length."""
    runs = [(i, len(list(run))) for i, run in groupby(map(int, ids))]
    texts = [f"{i} {word(processor, i)}" + (f" x {n}" if n > 1 else "") for i, n in runs]
    lines = " | ".join(text.replace(" ", "\0") for text in texts)  # no line break within a text
    return fill(lines, 94, break_long_words=False).replace("\0", " ")


def two_columns(processor, pack, token_logps):
    """The targets of a pack of two segments with their token_logps (R,), in two columns."""
    pairs = zip(pack.targets.tolist(), token_logps.tolist(), strict=True)
    rows = [f"{word(processor, token):>12} {value:8.3f}" for token, value in pairs]
    first = int(pack.response_lengths[0])
    return "\n".join(map("     ".join, zip_longest(rows[:first], rows[first:], fillvalue="")))


def aligned(*rows):
    """Rows of (name, integers), one below the other, three characters per integer."""
    width = max(len(name) for name, _ in rows)
    lines = (f"{name:<{width}} " + "".join(f"{int(x):3d}" for x in row) for name, row in rows)
    return "\n".join(lines)


def mask_picture(processor, pack):
    """The attention mask of a Pack: one line per query token, # for each key token that it sees."""
    video = processor.ids(processor.family.token)[0]
    ids = pack.input_ids.tolist()
    # only the first of the video's tokens: all of them see the same segments
    drawn = [i for i in range(len(ids)) if ids[i] != video or ids[i - 1] != video]
    starts = np.cumsum(pack.lengths)[:-1].tolist()  # of the segments
    mask, lines = dense_mask(pack.lengths)[0, 0].tolist(), []
    for i in drawn:
        seen = (" " * (j in starts) + ".#"[mask[i][j]] for j in drawn)
        lines.append("\n" * (i in starts) + f"{word(processor, ids[i]):>16} {''.join(seen)}")
    return "\n".join(lines)
