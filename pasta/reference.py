"""The reference's log-probabilities: computed once, kept on disk, found again by content.

The reference never changes, so its log-probability of a response is a constant of (model, video,
query, response) and of how they are turned into numbers. Each is one row of a .jsonl file,

    {"key": sha256 of all that can change it, "logps": float32 nats,
     "tokens": [of the prompt up to the video's end, of query and response], "check": crc32}

appended as soon as it is known, so a killed run goes on where it was. A key holds the bytes of the
video and of the weights, not their names or dates: a moved file still hits, a changed one misses.
What cannot change a log-probability, such as the learning rate, is not in it.
"""

import hashlib
import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from pasta.models.files import model_setting
from pasta.packs import check_length
from pasta.run import ranks
from pasta.run.config import package_versions
from pasta.run.locks import wait_for_lock
from pasta.run.rows import Appender, no_search_for_cycles, numbered_rows
from pasta.video import VideoError, file_digest


class Known(NamedTuple):
    """What a row holds: a log-probability, in nats, and how long a pack with it would be."""

    logps: float
    tokens: list[int]  # of the prompt up to the video's end, of query and response


@dataclass(frozen=True)
class ReferenceCache:
    """Keys, and the files that hold what is known: reference.jsonl, one more for each process.

    path: of the first file. setting: what is the same for all rows, as plain JSON: weights,
    processor, frames, types, versions.
    """

    path: Path
    setting: dict

    def key(self, video_digest, query, response):
        """sha256 hex of everything that can change the log-probability of one response."""
        text = json.dumps([video_digest, query, response])
        return hashlib.sha256(f"[{self.said}, {text[1:]}".encode()).hexdigest()

    @cached_property
    def said(self):
        """The setting as text, the part of every key that takes longest to write."""
        return json.dumps(self.setting, sort_keys=True)

    def keys(self, group):
        """(query, response) -> key of a VideoPairs; {} when its video cannot be read."""
        try:
            digest = file_digest(group.video)
        except VideoError:
            return {}  # the loader meets the same error, and names it
        return {text: self.key(digest, *text) for text in group.texts()}

    @no_search_for_cycles()
    def read(self):
        """key -> Known. Raises ValueError for a row that is not as written."""
        known = {}
        for path in ranks.rank_paths(self.path):
            for number, row in numbered_rows(path):
                key, value = row.get("key"), Known(row.get("logps"), row.get("tokens"))
                if row.get("check") != check(key, value):
                    raise ValueError(
                        f"{path}:{number}: damaged: its check is {row.get('check')!r}, expected "
                        f"{check(key, value)}; delete this line, and what it held is computed again"
                    )
                known[key] = value
        return known

    def appender(self):
        """The Appender of this process's file; it takes what `cache_row` makes."""
        path = ranks.rank_path(self.path)
        try:
            return Appender(path)
        except OSError as error:
            raise OSError(
                f"cannot write {path}: {error.strerror}. The reference's log-probabilities are "
                "kept beside the pairs: copy the pairs into a folder of your own, and give "
                "--video_root"
            ) from error


def open_cache(config, vlm, n_frames):
    """The ReferenceCache beside the pairs of a training, for its model, frames and arithmetic."""
    setting = {"n_frames": n_frames, "shard": config.shard, "device": vlm.model.device.type}
    setting |= {"dtype": config.dtype, "weights_dtype": str(vlm.model.dtype)}
    setting |= model_setting(config.model, vlm.processor) | {"versions": package_versions()}
    return ReferenceCache(config.pairs.with_name("reference.jsonl"), setting)


def cache_row(key, value):
    """One row of the file; `value` is a Known, whose float32 survives the text exactly."""
    return {"key": key, **value._asdict(), "check": check(key, value)}


def check(key, value):
    """crc32 over a row's key and numbers: a flipped digit is found, not trained on."""
    return zlib.crc32(f"{key} {value.logps!r} {value.tokens!r}".encode(errors="backslashreplace"))


def reference_logps(cache, groups, loader, score):
    """The reference's log-probability of every response, from the cache where it is there.

    groups:   list of VideoPairs; each process computes its share of what is missing
    loader:   an updates.PackLoader, or what has its `rounds` and `max_length`
    score:    Pack -> (S,) logps of its S segments, nats, of the reference
    Returns ({(video, query, response): nats}, {video: tokens of all its texts in one pack}); a
    video that cannot be read is in neither. Each row is on disk as soon as it is known.
    Raises ValueError when no video can be read, and for a damaged cache; TooLong for a pair that
    is longer than a pack may be.
    """
    with wait_for_lock(cache.path):  # or two runs would compute, and write, the same
        known, keys, n_found, n_computed = complete(cache, groups, loader, score)
    readable = [g for g in groups if is_known(keys[g.video], known)]
    if ranks.rank() == 0:
        lost = sum(len(g.pairs) for g in groups) - sum(len(g.pairs) for g in readable)
        print(
            f"reference: {n_computed} log-probs computed, {n_found} found in {cache.path}; "
            f"{lost} pairs left out, {len(groups) - len(readable)} of {len(groups)} videos"
        )
    if not readable:
        raise ValueError(
            "no video of the pairs can be read; the reasons are above. "
            "--video_root is the folder that relative paths begin in"
        )
    logps, tokens = {}, {}
    for group in readable:
        texts = {text: known[key] for text, key in keys[group.video].items()}
        prefix = next(iter(texts.values())).tokens[0]
        for pair in group.pairs:  # now, and not when it is its turn after days
            two = {(pair.query, pair.chosen), (pair.query, pair.rejected)}
            n = sum(texts[text].tokens[1] for text in two)
            check_length(group.video, pair, prefix, n, loader.max_length)
        logps |= {(group.video, *text): value.logps for text, value in texts.items()}
        tokens[group.video] = prefix + sum(value.tokens[1] for value in texts.values())
    return logps, tokens


@no_search_for_cycles()
def keys_of(cache, groups):
    """(video, its keys) of this process's share of the videos, a list."""
    mine = ranks.progress(ranks.share(groups), "hashing videos")
    return [(group.video, cache.keys(group)) for group in mine]


def complete(cache, groups, loader, score):
    """Compute, and add to the cache, what is missing there; arguments as of reference_logps.

    Returns (key -> Known, video -> its keys, how many keys were found, how many computed).
    """
    known = cache.read()
    # Also a barrier: no process writes before all have read, so all see the same as missing.
    keys = dict(ranks.gather(keys_of(cache, groups)))
    found = len(known.keys() & {key for of in keys.values() for key in of.values()})
    missing = [g for g in groups if not is_known(keys[g.video], known)]
    computed = {}
    if missing:
        with cache.appender() as out:
            for group, pack, where in loader.rounds(missing, "reference"):
                logps = score(pack)[where].tolist()
                check_finite(group, logps)
                for text, value, segment in zip(group.texts(), logps, where, strict=True):
                    key = keys[group.video][text]
                    if key not in known:
                        tokens = [pack.lengths[0], pack.lengths[1 + segment]]
                        known[key] = computed[key] = Known(value, tokens)
                        out.write(cache_row(key, known[key]))
    computed = dict(ranks.gather(list(computed.items())))
    return known | computed, keys, found, len(computed)


def check_finite(group, logps):
    """Raise ValueError that names the pairs, when the reference's logps of them are no numbers."""
    if not all(map(isfinite, logps)):
        told = f"gives pairs {[pair.id for pair in group.pairs]} {logps} nats; expected numbers"
        raise ValueError(f"{group.video}: the reference {told}: is --model broken?")


def is_known(keys, known):
    """Whether a video has keys, and all of them are known."""
    return bool(keys) and all(key in known for key in keys.values())
