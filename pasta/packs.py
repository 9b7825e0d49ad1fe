"""One video, one row: the shared prefix and the segments that read it.

    [ system + video ] [ query 1 + chosen ] [ query 2 + chosen ] ... [ query 1 + rejected ] ...
       prefix, P tokens      segments of n_0, n_1, n_2, ... tokens

A video is thousands of tokens and a response about a hundred, so the prefix is computed once.
Every segment goes on at the position after the prefix, as if it were alone in its row, and only
its response tokens are scored: each from the token before it.

Shapes: P prefix tokens, L tokens of the row, S segments, R response tokens of all segments.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segment:
    """A query with a response: token ids, of which the last `n_response` are scored."""

    ids: tuple[int, ...]
    n_response: int


@dataclass(frozen=True)
class Pack:
    """A packed row, ready for `Policy`.

    inputs:       the video's VideoInputs, None for a prompt without video
    input_ids:    (L,) int64
    position_ids: (3, L) int64, M-RoPE (time, height, width), or (1, L) in a family without it
    lengths:      (P, n_0, n_1, ...) with sum L
    keep:         (R,) int64, the positions whose logits predict a response token
    targets:      (R,) int64, those response tokens
    owner:        (R,) int64, the segment each belongs to, 0..S-1
    """

    inputs: object
    input_ids: Tensor
    position_ids: Tensor
    lengths: tuple[int, ...]
    keep: Tensor
    targets: Tensor
    owner: Tensor

    @property
    def n_segments(self):
        return len(self.lengths) - 1

    @property
    def response_lengths(self):
        """(S,) int64, the scored tokens of each segment."""
        return self.owner.bincount(minlength=self.n_segments)


def segment_of(processor, query, response, with_video=True):
    """The segment of one query and one response, the end token included in what is scored."""
    query_ids = processor.query_ids(query, with_video)
    response_ids = processor.response_ids(response)
    return Segment(tuple(query_ids + response_ids), len(response_ids))


def pack(processor, inputs, segments):
    """Lay the segments behind the prefix of one video.

    processor: gives `prefix_ids(inputs)` and `positions(ids, inputs)`
    inputs:    VideoInputs, or None for a prompt without video
    segments:  list of Segment
    Returns a Pack. Raises ValueError for a segment without response tokens.
    """
    prefix = processor.prefix_ids(inputs)
    ids, positions = list(prefix), [processor.positions(prefix, inputs)]  # (3 or 1, P)
    start = int(positions[0].max()) + 1  # every segment goes on where the prefix ended
    keep, targets, owner = [], [], []
    for i, segment in enumerate(segments):
        n = len(segment.ids)
        if not 0 < segment.n_response < n:
            raise ValueError(f"segment {i} has {segment.n_response} response tokens of {n}")
        first = len(ids) + n - segment.n_response
        keep += range(first - 1, len(ids) + n - 1)
        targets += segment.ids[n - segment.n_response :]
        owner += [i] * segment.n_response
        ids += segment.ids
        positions.append(torch.arange(start, start + n).expand(len(positions[0]), n))
    return Pack(
        inputs,
        torch.tensor(ids),
        torch.cat(positions, dim=1),
        (len(prefix), *(len(s.ids) for s in segments)),
        torch.tensor(keep),
        torch.tensor(targets),
        torch.tensor(owner),
    )


def pack_responses(processor, inputs, texts):
    """Pack (query, response) texts; equal ones share a segment.

    Returns (Pack, list of the segment index of each text).
    """
    distinct = list(dict.fromkeys(texts))
    with_video = inputs is not None
    segments = [segment_of(processor, query, text, with_video) for query, text in distinct]
    where = {text: i for i, text in enumerate(distinct)}
    return pack(processor, inputs, segments), [where[text] for text in texts]
