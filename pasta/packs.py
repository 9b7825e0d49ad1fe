"""One video, one row: a shared prefix and the segments that attend to it.

    [ system + video ] [ query 1 + chosen ] [ query 2 + chosen ] ... [ query 1 + rejected ] ...
       prefix, P tokens      segments of n_0, n_1, n_2, ... tokens

A video has thousands of tokens and a response about a hundred, so the prefix is computed once.
The positions of every segment start after the prefix, as if it were alone in its row. Only response
tokens are scored: each from the token before it.

Shapes: P prefix tokens, L tokens of the row, S segments, R response tokens of all segments.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segment:
    """A query and a response: token ids; the last `n_response` are scored."""

    ids: tuple[int, ...]
    n_response: int


@dataclass(frozen=True)
class Pack:
    """A packed row, ready for `Policy`; all tensors are int64."""

    inputs: object  # the video's VideoInputs, None for a prompt without video
    input_ids: Tensor  # (L,)
    position_ids: Tensor  # (3, L), M-RoPE (time, height, width), or (1, L) in a family without it
    lengths: tuple[int, ...]  # (P, n_0, n_1, ...) with sum L
    keep: Tensor  # (R,), the positions whose logits predict a response token
    targets: Tensor  # (R,), those response tokens
    owner: Tensor  # (R,), the segment each belongs to, 0..S-1

    @property
    def n_segments(self):
        return len(self.lengths) - 1

    @property
    def response_lengths(self):
        """(S,) int64, the scored tokens of each segment."""
        return self.owner.bincount(minlength=self.n_segments)

    def rows(self):
        """Yield a Pack of each segment alone, for models that cannot share the prefix."""
        whole = torch.cat([self.input_ids[None], self.position_ids])
        prefix, *segments = whole.split(self.lengths, dim=1)
        start = 0  # of the segment among the segments
        for i, segment in enumerate(segments):
            row, mine = torch.cat([prefix, segment], dim=1), self.owner == i
            lengths, owner = (prefix.shape[1], segment.shape[1]), torch.zeros_like(self.owner[mine])
            scored = self.keep[mine] - start, self.targets[mine], owner
            yield Pack(self.inputs, row[0], row[1:], lengths, *scored)
            start += segment.shape[1]


def segment_of(processor, query, response, with_video=True):
    """The segment of one query and one response; the end token is scored, too."""
    response_ids = processor.response_ids(response)
    return Segment((*processor.query_ids(query, with_video), *response_ids), len(response_ids))


def pack(processor, inputs, segments):
    """The Pack of the prefix of one video (inputs) or none (None), and of a list of Segment."""
    prefix = processor.prefix_ids(inputs)
    ids, positions = list(prefix), [processor.positions(prefix, inputs)]  # (3 or 1, P)
    start = int(positions[0].max()) + 1  # every segment starts after the prefix
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
    lengths = (len(prefix), *(len(segment.ids) for segment in segments))
    scored = map(torch.tensor, (keep, targets, owner))
    return Pack(inputs, torch.tensor(ids), torch.cat(positions, dim=1), lengths, *scored)


def pack_responses(processor, inputs, texts):
    """(Pack, segment index of each text) of (query, response) texts; equal ones share a segment."""
    distinct = list(dict.fromkeys(texts))
    segments = [segment_of(processor, *text, with_video=inputs is not None) for text in distinct]
    where = {text: i for i, text in enumerate(distinct)}
    return pack(processor, inputs, segments), [where[text] for text in texts]


class TooLong(ValueError):
    """A pair alone has more tokens than a pack may have."""


@dataclass(frozen=True)
class VideoPairs:
    """The pairs of one video, or those in one of its packs."""

    video: str
    pairs: tuple

    def texts(self):
        """(query, response) of every chosen response, then of every rejected one."""
        chosen = [(pair.query, pair.chosen) for pair in self.pairs]
        return chosen + [(pair.query, pair.rejected) for pair in self.pairs]


class PackedPairs(NamedTuple):
    """The pairs of `group` in one pack; where: the segment of each of group.texts(), in order."""

    group: VideoPairs
    pack: Pack
    where: list[int]

    def modes(self):
        return [pair.mode for pair in self.group.pairs]


def pairs_logps(policy, items):
    """The log-probabilities of each PackedPairs, (2B,) nats, from one forward pass."""
    parts = policy(*(item.pack for item in items)).split([x.pack.n_segments for x in items])
    return [part[item.where] for part, item in zip(parts, items, strict=True)]


def by_video(pairs):
    """List of VideoPairs, in order of first appearance."""
    groups = {}
    for pair in pairs:
        groups.setdefault(pair.video, []).append(pair)
    return [VideoPairs(video, tuple(group)) for video, group in groups.items()]


def check_length(video, pair, n_prefix, n_texts, max_length):
    """Raise TooLong, with the flags to change, if a pair alone does not fit."""
    if n_prefix + n_texts > max_length:
        size = f"{n_prefix + n_texts} tokens long, {n_prefix} of them of the video"
        cure = "nothing is cut: raise it, or lower --n_frames or --max_pixels"
        raise TooLong(f"pair {pair.id} of {video} is {size}; --max_length is {max_length}, {cure}")
