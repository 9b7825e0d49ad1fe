"""Which pairs make up each update, and their packs, decoded ahead of the model.

An update is a list of videos with about `batch_pairs` pairs together; a video with all its pairs
is one Pack (several, if they exceed --max_length), so it is decoded once an epoch. The plan depends
on the seed alone and not on the number of processes: the same updates are dealt to one or several.
"""

import hashlib
import json
import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pasta import ranks
from pasta.disk.rows import Appender, read_rows
from pasta.packs import Pack, pack_responses
from pasta.video import VideoError


class TooLong(ValueError):
    """A single pair has more tokens than a pack may have."""


@dataclass(frozen=True)
class VideoPairs:
    """All the pairs of one video, or those that one pack of it holds."""

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
        """The mode of every pair."""
        return [pair.mode for pair in self.group.pairs]


def by_video(pairs):
    """Group pairs by video, in order of first appearance. Returns a list of VideoPairs."""
    groups = {}
    for pair in pairs:
        groups.setdefault(pair.video, []).append(pair)
    return [VideoPairs(video, tuple(group)) for video, group in groups.items()]


def plan(groups, epochs, batch_pairs, seed):
    """The updates of a whole run: lists of indices into `groups`, every group once an epoch.

    An update is full when it holds at least batch_pairs pairs; the last of an epoch may be
    smaller, and its loss is a mean over what it holds.
    """
    rng, updates = np.random.default_rng(seed), []
    for _ in range(epochs):
        update, held = [], 0
        for i in rng.permutation(len(groups)).tolist():
            update.append(i)
            held += len(groups[i].pairs)
            if held >= batch_pairs:
                updates.append(update)
                update, held = [], 0
        if update:
            updates.append(update)
    return updates


def fingerprint(groups, updates, held_out, reference):
    """sha256 hex of the pairs of every update and of those held out: the data of a whole run.

    reference: (video, query, response) -> nats, of all texts; it depends on videos, weights.
    """
    known = [
        [(pair.id, pair.mode) for pair in group.pairs]
        + [(text, reference[group.video, *text]) for text in group.texts()]
        for group in (*groups, *held_out)
    ]
    data = json.dumps([known, len(groups), updates])
    return hashlib.sha256(data.encode()).hexdigest()


def check_length(video, pair, n_prefix, n_texts, max_length):
    """Raise TooLong, with the flags to change, when a pair does not fit even alone."""
    if n_prefix + n_texts > max_length:
        raise TooLong(
            f"pair {pair.id} of {video} is {n_prefix + n_texts} tokens long, {n_prefix} of them "
            f"the video's; --max_length is {max_length}, and nothing is cut: raise it, or lower "
            "--n_frames or --max_pixels"
        )


def split_packs(processor, inputs, group, max_length):
    """The packs of one video: one, or several when its pairs make more than `max_length` tokens.

    Nothing is ever cut: a pair stays whole, in one pack with the video.
    Returns a list of PackedPairs.
    Raises TooLong when a pair does not fit even alone.
    """
    n_prefix = len(processor.prefix_ids(inputs))
    parts, lengths = [], {}
    for pair in group.pairs:
        texts = {(pair.query, pair.chosen), (pair.query, pair.rejected)}
        size = {t: len(processor.query_ids(t[0]) + processor.response_ids(t[1])) for t in texts}
        check_length(group.video, pair, n_prefix, sum(size.values()), max_length)
        if not parts or n_prefix + sum((lengths | size).values()) > max_length:
            parts.append([])
            lengths = {}
        parts[-1].append(pair)
        lengths |= size
    groups = [VideoPairs(group.video, tuple(part)) for part in parts]
    return [PackedPairs(g, *pack_responses(processor, inputs, g.texts())) for g in groups]


def read_packs(processor, read, max_length, group):
    """Read and pack a video: (VideoPairs, packs as of split_packs).

    (VideoPairs, the error) where that fails: for the caller.
    """
    try:
        inputs = processor.prepare(*read(group.video))
        return group, split_packs(processor, inputs, group, max_length)
    except (VideoError, ValueError) as error:  # ValueError: what the model cannot take
        return group, error


def in_order(function, items, workers):
    """Yield function(item) of every item, in order; `workers` threads are up to two each ahead.

    Threads, for a process forked beside threads of torch.distributed may find locked for ever what
    one of them had locked. Video is decoded in processes of its own, see decoding/worker.py.
    """
    if not workers:
        yield from map(function, items)
        return
    pool, coming = ThreadPoolExecutor(workers), deque()
    try:
        for item in items:
            coming.append(pool.submit(function, item))
            if len(coming) > 2 * workers:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Skipped:
    """The videos that could not be read: named on screen, kept in a file, and at most `limit`.

    path: of a .jsonl file, with one more for each process.
    resume: keep the rows of a run that goes on; what they name counts when it fails again.
    """

    def __init__(self, path, limit, resume=False):
        self.path, self.limit, self.reasons = ranks.named(path), limit, {}
        if not resume:
            self.path.unlink(missing_ok=True)  # of a run that never made an update
        rows = read_rows(self.path, {"video": str}) if self.path.is_file() else []
        self.written = {row["video"] for row in rows}

    def add(self, group, reason):
        """Name a video and its pairs, once."""
        if group.video in self.reasons:
            return
        self.reasons[group.video] = reason
        if group.video in self.written:
            return
        ids = [pair.id for pair in group.pairs]
        with Appender(self.path) as out:  # opened here, for most runs skip nothing
            out.write({"video": group.video, "pairs": ids, "reason": reason})
        tqdm.write(f"skipped {len(ids)} pairs of {group.video}: {reason}")

    def check(self):
        """Stop, with the list, when all processes have skipped more than `limit`; all must call."""
        reasons = dict(ranks.gather(list(self.reasons.items())))
        if len(reasons) > self.limit:
            listed = "\n".join(f"  {video}: {reason}" for video, reason in reasons.items())
            raise SystemExit(
                f"{len(reasons)} videos cannot be read, and --max_skipped is {self.limit}:\n"
                f"{listed}\n--video_root is the folder that relative paths begin in"
            )


class PackLoader:
    """Reads and packs videos ahead of whoever uses the packs.

    read:       path -> (frames, timestamps); raises VideoError
    max_length: of a pack, in tokens
    workers:    videos read at once, ahead of the model; 0: each when it is its turn
    skipped:    a Skipped, which is told of every video that cannot be read
    idle:       PackedPairs of no pairs and a video as small as can be, with which a process keeps
                step while others have more to do
    """

    def __init__(self, processor, read, max_length, workers, skipped):
        self.read = partial(read_packs, processor, read, max_length)
        self.max_length = max_length
        self.workers, self.skipped = workers, skipped
        inputs = processor.prepare(np.zeros((2, 56, 56, 3), np.uint8), np.array([0.0, 0.5]))
        pack, _ = pack_responses(processor, inputs, [("", "")])
        self.idle = PackedPairs(VideoPairs("", ()), pack, [])

    def packs(self, groups):
        """For each VideoPairs of a list, in order, its packs as of split_packs; [] when skipped.

        Whoever does not take them all must close it, or a traceback would keep it reading.
        Raises TooLong as split_packs does.
        """
        for group, packs in in_order(self.read, groups, self.workers):
            if isinstance(packs, TooLong):
                raise packs
            if isinstance(packs, Exception):
                self.skipped.add(group, packs.args[-1])
                packs = []
            yield packs

    def rounds(self, groups, name=None):
        """The packs of this process's share of `groups`, as many as every other process gets.

        name: of a progress bar. Yields PackedPairs, one by one.
        """
        quiet = True if ranks.rank() or not name else None  # None: a bar where there is a terminal
        n_rounds = math.ceil(len(groups) / ranks.size())
        with closing(self.packs(ranks.share(groups))) as packs:
            for _ in tqdm(range(n_rounds), name, disable=quiet):
                yield from ranks.fill(next(packs, []), self.idle)
