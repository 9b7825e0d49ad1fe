"""Cache of reference log-probabilities on disk, keyed by content.

The reference never changes, so its log-probability of a response depends only on model, video,
query, response and numeric settings (dtype, device, versions). Each is a row of a .jsonl file:

    {"key": sha256 of everything that can change it, "logps": float32 nats,
     "tokens": [of the prompt up to the end of the video, of query and response], "check": crc32}

Moving a video or the weights keeps the key, changing their bytes does not.
"""

import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import torch

from pasta.models.files import model_setting
from pasta.packs import check_length, pairs_logps
from pasta.run import ranks
from pasta.run.config import package_versions
from pasta.run.digest import digest
from pasta.run.locks import wait_for_lock
from pasta.run.rows import Appender, numbered_rows
from pasta.video import VideoError, file_digest


class Known(NamedTuple):
    logps: float
    tokens: list[int]


@dataclass(frozen=True)
class ReferenceCache:
    """The known values in `path` and the files of other ranks. setting: JSON, part of every key."""

    path: Path
    setting: dict

    @cached_property
    def setting_text(self):  # cached: the part of a key that takes longest to write
        return json.dumps(self.setting, sort_keys=True)

    def key(self, video_digest, query, response):
        """sha256 of everything that can change the log-probability of one response."""
        return digest(f"[{self.setting_text}, {json.dumps([video_digest, query, response])[1:]}")

    def keys(self, group):
        """(query, response) -> key of a VideoPairs; {} if its video cannot be read."""
        try:
            video_digest = file_digest(group.video)
        except VideoError:
            return {}  # the loader meets the same error and names it
        return {text: self.key(video_digest, *text) for text in group.texts()}

    def read(self):
        """key -> Known. Raises ValueError for a damaged row."""
        known = {}
        for path in ranks.rank_paths(self.path):
            for number, row in numbered_rows(path, appended=True):
                key, value = row.get("key"), Known(row.get("logps"), row.get("tokens"))
                if row.get("check") != (crc := check(key, value)):
                    cure = f"expected check {crc}; delete this line to compute its value again"
                    raise ValueError(f"{path}:{number}: damaged; {cure}")
                known[key] = value
        return known

    def appender(self):
        path = ranks.rank_path(self.path)
        try:
            return Appender(path)
        except OSError as error:
            cure = "copy the pairs file into a folder that you can write, and set --video_root"
            raise OSError(f"cannot write {path}: {error.strerror}; {cure}") from error


def open_cache(config, vlm, n_frames):
    """The ReferenceCache next to the pairs of a training run, for its model and arithmetic."""
    device = vlm.model.device  # another GPU rounds differently
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    setting = {"n_frames": n_frames, "shard": config.shard, "device": name}
    setting |= {"dtype": config.dtype, "weights_dtype": str(vlm.model.dtype)}
    setting |= model_setting(config.model, vlm.processor) | {"versions": package_versions()}
    return ReferenceCache(config.pairs.with_name("reference.jsonl"), setting)


def cache_row(key, value):
    return {"key": key, **value._asdict(), "check": check(key, value)}


def check(key, value):
    """crc32 of a row's key and numbers, so that a flipped digit is found."""
    return zlib.crc32(f"{key} {value.logps!r} {value.tokens!r}".encode(errors="backslashreplace"))


def reference_logps(cache, groups, loader, policy):
    """The reference's log-probability of every response, from the cache or computed.

    loader: PackLoader. policy: the reference, packs -> (S,) logps of their S segments, nats.
    Returns ({(video, query, response): nats}, {video: tokens of all its texts in one pack}).
    Videos that cannot be read are in neither. Raises ValueError if none can be read, and TooLong.
    """
    with wait_for_lock(cache.path):  # without it, two runs would compute and write the same rows
        known, keys, n_found, n_computed = complete(cache, groups, loader, policy)
    readable = [group for group in groups if is_known(keys[group.video], known)]
    lost = sum(len(g.pairs) for g in groups) - sum(len(g.pairs) for g in readable)
    found = f"{n_computed} log-probs computed, {n_found} found in {cache.path}"
    left_out = f"{lost} pairs left out, {len(groups) - len(readable)} of {len(groups)} videos"
    ranks.say(f"reference: {found}; {left_out}")
    if not readable:
        raise ValueError("no video of the pairs can be read (reasons above): check --video_root")
    logps, tokens = {}, {}
    for group in readable:
        texts = {text: known[key] for text, key in keys[group.video].items()}
        prefix = next(iter(texts.values())).tokens[0]
        for pair in group.pairs:  # checked now, not after days of training
            two = {(pair.query, pair.chosen), (pair.query, pair.rejected)}
            n = sum(texts[text].tokens[1] for text in two)
            check_length(group.video, pair, prefix, n, loader.max_length)
        logps |= {(group.video, *text): value.logps for text, value in texts.items()}
        tokens[group.video] = prefix + sum(value.tokens[1] for value in texts.values())
    return logps, tokens


def complete(cache, groups, loader, policy):
    """(key -> Known, video -> its keys, number of keys found, number computed and appended)."""
    known, computed = cache.read(), {}
    mine = ranks.progress(ranks.share(groups), "hashing videos", unit="videos")
    keys = [(group.video, cache.keys(group)) for group in mine]
    # Also a barrier: no rank writes before all have read, so all agree on what is missing.
    keys = dict(ranks.gather(keys))
    n_found = len(known.keys() & {key for of_video in keys.values() for key in of_video.values()})
    missing = [group for group in groups if not is_known(keys[group.video], known)]
    if missing:
        ranks.say(f"reference: scores the responses of {len(missing)} videos")
        with cache.appender() as out:
            for items in loader.rounds(missing, "reference"):
                for item, logps in zip(items, pairs_logps(policy, items), strict=True):
                    for key, value in known_texts(keys, item, logps.tolist()).items():
                        if key not in known:
                            known[key] = computed[key] = value
                            out.write(cache_row(key, value))
    computed = dict(ranks.gather(list(computed.items())))
    return known | computed, keys, n_found, len(computed)


def known_texts(keys, item, logps):
    """key -> Known of the texts of a PackedPairs. logps: (2B,) nats. Raises ValueError."""
    group, (prefix, *segments) = item.group, item.pack.lengths
    if not all(map(isfinite, logps)):
        text = f"{group.video}: the reference gives pairs {[p.id for p in group.pairs]}"
        raise ValueError(f"{text} {logps} nats: are the weights of --model damaged?")
    values = zip(group.texts(), logps, item.where, strict=True)
    return {keys[group.video][t]: Known(x, [prefix, segments[place]]) for t, x, place in values}


def is_known(keys, known):
    return bool(keys) and all(key in known for key in keys.values())
