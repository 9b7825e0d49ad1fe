"""The plan of a training run: its updates, each rank's share of them, and their packs.

An update is a list of videos that have at least `batch_pairs` pairs together. All pairs of a video
are one Pack (several, if they exceed --max_length), so a video is decoded once an epoch. The
updates depend on the seed alone, not on the number of processes.
"""

import json
import math
from contextlib import closing
from functools import partial
from itertools import chain, islice

import numpy as np
from tqdm import tqdm

from pasta.packs import PackedPairs, TooLong, VideoPairs, check_length, pack_responses
from pasta.pairs import MODES
from pasta.run import ranks
from pasta.run.ahead import prefetch
from pasta.run.config import out_of_range
from pasta.run.digest import digest
from pasta.run.rows import Appender, read_rows
from pasta.run.schema import printable
from pasta.video import VideoError


def check_config(config):
    """Raise SystemExit for flags that no run can start with."""
    if wrong := out_of_range(type(config), vars(config)):
        raise SystemExit(wrong)
    weights = config.mode_weights
    if len(weights) != len(MODES) or not sum(weights):
        text = f"--mode_weights takes {len(MODES)} numbers, of {', '.join(MODES)}"
        raise SystemExit(f"{text}; got {weights}; expected some above 0")


class Plan:
    """What a run trains on: the `groups` of VideoPairs that `reference_logps` has results for."""

    def __init__(self, config, groups, reference, tokens, loader):
        self.reference, self.loader = reference, loader
        readable = [group for group in groups if group.video in tokens]
        self.groups, self.held_out = hold_out(readable, config.holdout, config.seed)
        updates = plan_updates(self.groups, config.epochs, config.batch_pairs, config.seed)
        costs = [[tokens[self.groups[i].video] for i in update] for update in updates]
        self.shares = list(map(ranks.balance, updates, costs))  # this rank's part of each update
        self.fingerprint = fingerprint(self.groups, updates, self.held_out, reference)

    def batches(self, done):
        """Yield this rank's PackedPairs of each update after `done`, a list; to be closed."""
        shares = self.shares[done:]
        ahead = max(map(len, shares), default=0)  # the next update is read while one is computed
        with closing(self.loader.packs([self.groups[i] for i in chain(*shares)], ahead)) as packs:
            for share in shares:
                yield list(chain.from_iterable(islice(packs, len(share))))


def hold_out(groups, share, seed):
    """(groups to train on, held-out groups): above a share of 0, at least one, but never all."""
    n = min(max(1, round(share * len(groups))), len(groups) - 1) if share else 0
    order = np.random.default_rng(seed).permutation(len(groups)).tolist()
    return [groups[i] for i in sorted(order[n:])], [groups[i] for i in sorted(order[:n])]


def plan_updates(groups, epochs, batch_pairs, seed):
    """Lists of indices into `groups`: batch_pairs pairs or more, less at the end of an epoch."""
    rng, updates = np.random.default_rng(seed), []
    for _ in range(epochs):
        n_pairs = batch_pairs
        for i in rng.permutation(len(groups)).tolist():
            if n_pairs >= batch_pairs:
                updates.append([])
                n_pairs = 0
            updates[-1].append(i)
            n_pairs += len(groups[i].pairs)
    return updates


def fingerprint(groups, updates, held_out, reference):
    """sha256 of the data of a run. reference: it changes if the videos or the weights change."""
    data = [
        [(pair.id, pair.mode) for pair in group.pairs]
        + [(text, reference[group.video, *text]) for text in group.texts()]
        for group in (*groups, *held_out)
    ]
    return digest(json.dumps([data, len(groups), updates]))


def read_packs(processor, read, max_length, group):
    """Read and pack a video. Returns (VideoPairs, its packs as of `split_packs`, or the error)."""
    try:
        inputs = processor.prepare(*read(group.video))
        return group, split_packs(processor, inputs, group, max_length)
    except (VideoError, ValueError) as error:  # ValueError: input that the model cannot take
        return group, error  # returned: raised here, it would end the prefetching


def split_packs(processor, inputs, group, max_length):
    """PackedPairs of a video, at most max_length tokens each: the video and whole pairs, uncut."""
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


def without_own_tokens(groups, processor, skipped):
    """The groups without the pairs with a token of the model in a text: those are named."""
    usable = []
    for group in groups:
        kept = []
        for pair in group.pairs:
            texts = ("query", "chosen", "rejected")
            found = {name: processor.own.search(getattr(pair, name)) for name in texts}
            held = [f"{name} contains {token[0]}" for name, token in found.items() if token]
            if not held:
                kept.append(pair)
            elif ranks.rank() == 0:
                reason = f"pair {pair.id}: {', '.join(held)}, a token of the model"
                skipped.add(VideoPairs(group.video, (pair,)), reason, readable=True)
        usable += [VideoPairs(group.video, tuple(kept))] if kept else []
    if not usable:
        raise SystemExit("no pair is left; take the tokens of the model out of the texts")
    return usable


class Skipped:
    """What is left out: printed, recorded in `path`; of unreadable videos at most `limit`."""

    def __init__(self, path, limit, resume=False):
        self.path, self.limit, self.reasons = ranks.rank_path(path), limit, {}
        if not resume:  # else an earlier row counts only if its video fails again
            self.path.unlink(missing_ok=True)  # left by a run that made no update
        rows = read_rows(self.path, {"video": str, "pairs": [str]}) if self.path.is_file() else []
        self.written = {(row["video"], *row["pairs"]) for row in rows}

    def add(self, group, reason, readable=False):
        if not readable:
            self.reasons[group.video] = reason
        ids = [pair.id for pair in group.pairs]
        if (group.video, *ids) not in self.written:
            self.written.add((group.video, *ids))
            with Appender(self.path) as out:  # opened here because most runs skip nothing
                out.write({"video": group.video, "pairs": ids, "reason": reason})
            tqdm.write(printable(f"skipped {len(ids)} pairs of {group.video}: {reason}"))

    def check(self):
        """Raise SystemExit, with the list, if all ranks skipped more than `limit`; all call."""
        reasons = dict(ranks.gather(list(self.reasons.items())))
        if len(reasons) > self.limit:
            text = f"{len(reasons)} videos cannot be read, and --max_skipped is {self.limit}"
            listed = [f"  {video}: {reason}" for video, reason in reasons.items()]
            raise SystemExit("\n".join([f"{text} (check --video_root):", *listed]))


class PackLoader:
    """Reads and packs videos in `workers` threads, ahead of the model.

    config: max_length, workers and batch_packs. read: path -> (frames, timestamps) or VideoError.
    dummy: an empty pack that keeps ranks in step: every rank enters every backward pass.
    """

    def __init__(self, config, processor, read, skipped):
        self.read = partial(read_packs, processor, read, config.max_length)
        self.config, self.max_length, self.skipped = config, config.max_length, skipped
        inputs = processor.prepare(np.zeros((2, 56, 56, 3), np.uint8), np.array([0.0, 0.5]))
        pack, _ = pack_responses(processor, inputs, [("", "")])
        self.dummy = PackedPairs(VideoPairs("", ()), pack, [])

    def packs(self, groups, ahead=0):
        """Yield the packs of each group, [] if skipped, read `ahead`; to be closed; or TooLong."""
        workers = self.config.workers
        for group, packs in prefetch(self.read, groups, workers, max(ahead, 2 * workers)):
            if isinstance(packs, TooLong):
                raise packs
            if isinstance(packs, Exception):
                self.skipped.add(group, packs.args[-1])
                packs = []
            yield packs

    def batched(self, items):
        """Yield lists of at most batch_packs items."""
        items = iter(items)
        while batch := list(islice(items, self.config.batch_packs)):
            yield batch

    def rounds(self, groups, name=None):
        """Yield this rank's share of `groups` as lists of PackedPairs; each rank gets as many."""
        n_rounds = math.ceil(len(groups) / ranks.size())
        with closing(self.packs(ranks.share(groups))) as packs:
            bar = ranks.progress(range(n_rounds), name, unit="videos")
            padded = (ranks.pad(next(packs, []), self.dummy) for _ in bar)
            yield from self.batched(chain.from_iterable(padded))
