"""Which pairs make up each update, and their packs, decoded ahead of the model.

An update is a list of videos with about `batch_pairs` pairs together; each video with all its
pairs is one Pack, so it is decoded once. The plan depends on the seed alone and not on the number
of processes: the same updates are dealt to one process or to several.
"""

from dataclasses import dataclass

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from pasta.packs import pack_responses
from pasta.pairs import Appender
from pasta.video import VideoError


@dataclass(frozen=True)
class VideoPairs:
    """All the pairs of one video."""

    video: str
    pairs: tuple

    def texts(self):
        """(query, response) of every chosen response, then of every rejected one."""
        chosen = [(pair.query, pair.chosen) for pair in self.pairs]
        return chosen + [(pair.query, pair.rejected) for pair in self.pairs]


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


class PackReader(Dataset):
    """VideoPairs read and packed. The video is opened where it is read: in a worker process."""

    def __init__(self, groups, processor, read):
        self.groups, self.processor, self.read = groups, processor, read

    def __len__(self):
        return len(self.groups)

    def __getitem__(self, index):
        """(VideoPairs, Pack, segment of each text), or (VideoPairs, None, what is wrong)."""
        group = self.groups[index]
        try:
            inputs = self.processor.prepare(*self.read(group.video))
            return group, *pack_responses(self.processor, inputs, group.texts())
        except (VideoError, ValueError) as error:  # ValueError: what the model cannot take
            return group, None, error.args[-1]


def read_packs(groups, processor, read, workers, skipped):
    """Read and pack videos ahead of the caller, in order.

    groups:  list of VideoPairs; one may be there several times
    read:    path -> (frames, timestamps); raises VideoError
    workers: processes that decode; 0 decodes in this one
    skipped: path of a .jsonl file, which gets a row for each video that cannot be read
    Yields (VideoPairs, Pack, segment of each of VideoPairs.texts()); for a video that cannot be
    read, after it is named on screen and in the file, (VideoPairs, None, None).
    """
    reader = PackReader(groups, processor, read)
    for group, pack, where in DataLoader(reader, batch_size=None, num_workers=workers):
        if pack is None:
            ids, reason, where = [pair.id for pair in group.pairs], where, None
            with Appender(skipped) as out:  # opened here, for most runs skip nothing
                out.write({"video": group.video, "pairs": ids, "reason": reason})
            tqdm.write(f"skipped {len(ids)} pairs of {group.video}: {reason}")
        yield group, pack, where
