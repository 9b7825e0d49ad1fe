"""Which pairs make up each update, and their packs, decoded ahead of the model.

An update is a list of videos with about `batch_pairs` pairs together; a video with all its pairs
is one Pack (several, if they exceed --max_length), so it is decoded once an epoch. The plan depends
on the seed alone and not on the number of processes: the same updates are dealt to one or several.
"""

import hashlib
import json
import math
from contextlib import closing
from functools import partial

import numpy as np
from tqdm import tqdm

from pasta.packs import PackedPairs, TooLong, VideoPairs, pack_responses, split_packs
from pasta.run import ranks
from pasta.run.ahead import prefetch
from pasta.run.rows import Appender, read_rows
from pasta.video import VideoError


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


def read_packs(processor, read, max_length, group):
    """Read and pack a video: (VideoPairs, packs as of split_packs).

    (VideoPairs, the error) where that fails: for the caller.
    """
    try:
        inputs = processor.prepare(*read(group.video))
        return group, split_packs(processor, inputs, group, max_length)
    except (VideoError, ValueError) as error:  # ValueError: what the model cannot take
        return group, error


class Skipped:
    """The videos that could not be read: named on screen, kept in a file, and at most `limit`.

    path: of a .jsonl file, with one more for each process.
    resume: keep the rows of a run that goes on; what they name counts when it fails again.
    """

    def __init__(self, path, limit, resume=False):
        self.path, self.limit, self.reasons = ranks.rank_path(path), limit, {}
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
        for group, packs in prefetch(self.read, groups, self.workers):
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
        n_rounds = math.ceil(len(groups) / ranks.size())
        with closing(self.packs(ranks.share(groups))) as packs:
            for _ in ranks.progress(range(n_rounds), name):
                yield from ranks.pad(next(packs, []), self.idle)
