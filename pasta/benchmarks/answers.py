"""From the questions of a benchmark to answers.jsonl, one row per answer:

    {"id", "task", "video", "prompt", "answer", "response", "predicted", "correct", "seconds",
     "fingerprint"}; "letter_logps" if letters were scored, "error" if the video did not decode,
     "drawn" if a response names no letter, and one was drawn,
     "score" if an answer can be right in part, "text" with the reasoning,
     "sound" if lmms-eval's rule has faults: the score without them

Rows are appended one by one, so a stopped run continues where it was. Rows with another fingerprint
than the question now has are not scored, and the question is asked again.
"""

import json
import random
import time
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from pasta.benchmarks import ANSWER
from pasta.benchmarks.parsers import stated
from pasta.benchmarks.scoring import likeliest_letter
from pasta.models.generate import Request, ask, in_halves, letter_logps
from pasta.run import flags, ranks
from pasta.run.ahead import prefetch
from pasta.run.digest import digest
from pasta.run.reasoning import without_reasoning
from pasta.run.rows import rows_of
from pasta.sampling import uniform
from pasta.video import VideoError, file_digest, read_frames


def video_digests(items) -> dict:
    """{video: sha256 of its bytes}; each rank reads its share; all ranks call."""
    # Reading all bytes costs little next to decoding: 1,000 files of 1 MiB take 2.5 s.
    videos, found = ranks.share(list(dict.fromkeys(item.video for item in items))), []
    for video in ranks.progress(videos, "hashing videos", unit="videos"):
        with suppress(VideoError):  # its questions are asked anew in any case
            found.append((video, file_digest(video)))
    return dict(ranks.gather(found))


def fingerprint(item, video, **settings) -> str:
    """A hash of everything that decides the answer to an item, with the digest of its video."""
    facts = [item.id, item.name, video, item.prompt, item.answer, settings, *(item.clip or ())]
    return digest(json.dumps(facts, sort_keys=True))[:16]


def earlier_rows(path, fingerprints) -> dict:
    """{id: row} of the valid answers in a file, by {id: fingerprint}; failed videos are retried."""
    rows = [row for row in rows_of(Path(path), ANSWER | {"fingerprint": str}) if "error" not in row]
    valid = {x["id"]: x for x in rows if x["fingerprint"] == fingerprints.get(x["id"])}
    if other := {row["id"] for row in rows} & fingerprints.keys() - valid.keys():
        why = "the video's bytes, prompt or settings changed, or an older version wrote them"
        print(f"{path}: {len(other)} answers are not reused but asked anew: {why}")
    return valid


def with_inputs(load, items, workers):
    """Yield (item, load(item)), clip by clip in order; a clip is loaded once, for its items."""
    groups = {}
    for item in items:
        groups.setdefault((item.video, item.clip), []).append(item)
    loaded = prefetch(load, [group[0] for group in groups.values()], workers)
    for group, inputs in zip(groups.values(), loaded, strict=True):
        for item in group:
            yield item, inputs


def answered(vlm, bench, items, n_frames, scoring, batch_size, parser="head"):
    """Yield each item's row, video by video; it has an error if the video does not decode."""
    load = partial(video_inputs, processor=vlm.processor, n_frames=n_frames)
    # no more threads than questions in a batch, so that a smaller batch also prefetches less
    pairs = with_inputs(load, items, workers=min(flags.WORKERS, batch_size))
    before = time.perf_counter()
    while batch := list(islice(pairs, batch_size)):
        asked = [pair for pair in batch if not isinstance(pair[1], VideoError)]
        replies = iter(replied(vlm, bench, asked, scoring) if asked else ())
        seconds = (time.perf_counter() - before) / len(batch)  # with waiting for the video
        for item, video in batch:
            failed = isinstance(video, VideoError)
            row = {"id": item.id, "task": item.task, "video": item.name, "prompt": item.prompt}
            row |= {"answer": item.answer, "seconds": round(seconds, 3)}
            row |= {"response": "", "error": str(video)} if failed else next(replies)
            yield reread(bench, row, item, parser)
        before = time.perf_counter()


def video_inputs(item, processor, n_frames):
    """The VideoInputs of an item's video, or the VideoError if it cannot be used."""

    def sample(timestamps):
        start, end = np.add(item.clip or (-np.inf, np.inf), timestamps[0])
        shown = np.flatnonzero((start <= timestamps) & (timestamps <= end))
        if not len(shown):
            raise ValueError(f"no frame from {start} to {end} seconds")
        return shown[uniform(shown, n_frames)]

    try:
        return processor.prepare(*read_frames(item.video, sample, processor.family.fit))
    except (VideoError, ValueError) as error:  # a family refuses some sizes by ValueError
        return VideoError(item.video, getattr(error, "reason", str(error)))


def replied(vlm, bench, asked, scoring):
    """The response to each (item, VideoInputs), as fields of its row."""
    requests = [Request(inputs, item.prompt) for item, inputs in asked]
    if scoring == "letter":
        letters = [list(item.letters) for item, _ in asked]
        both = list(zip(requests, letters, strict=True))
        found = in_halves(lambda part: letter_logps(vlm, *zip(*part, strict=True)), both)
        scored = zip(letters, found, strict=True)
        return [{"response": likeliest_letter(*x), "letter_logps": x[1]} for x in scored]
    answers = in_halves(lambda part: ask(vlm, part, bench.max_new_tokens), requests)
    return [{"response": x.text} | ({"error": x.error} if x.error else {}) for x in answers]


def reread(bench, row, item, parser):
    """A row, which may be of an earlier run, with its response read by this run's parser."""
    kept = {key: value for key, value in row.items() if key not in ("drawn", "score", "text")}
    if "letter_logps" in row or "error" in row:
        kept["predicted"] = row["response"] or None
    else:
        text = row.get("text", row["response"])
        kept["response"] = without_reasoning(text)
        kept["predicted"] = bench.parse(kept["response"], item, parser)
        if kept["response"] != text:
            kept["text"] = text
        if kept["predicted"] is None and bench.draws:
            # as lmms-eval, but each item has its own generator: earlier items do not change it
            kept |= {"predicted": random.Random(item.id).choice(item.letters), "drawn": True}
    if bench.repaired:
        named, right = stated(kept["response"], item), item.right or item.answer
        kept["sound"] = bench.credit(named, right) if bench.credit else named == right
    if bench.credit:
        kept["score"] = bench.credit(kept["predicted"], item.answer)
    return kept | {"correct": kept["predicted"] == item.answer}
