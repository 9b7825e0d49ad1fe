"""From the questions of a benchmark to answers.jsonl, one row an answer:

    {"id", "task", "video", "prompt", "answer", "response", "predicted", "correct", "seconds",
     "fingerprint"}; "letter_logps" if letters were scored, "error" if the video did not decode,
     "drawn" if the response named no letter and the benchmark has one drawn, "text" if reasoning
     was taken out of it

Rows are appended one by one, so a stopped run goes on where it was. A fingerprint tells which rows
still hold: it covers what decides the answer. A row with another one stays in the file, counts
nowhere, and its question is asked again.
"""

import hashlib
import json
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path

from pasta.benchmarks import ANSWER
from pasta.benchmarks.scoring import likeliest_letter
from pasta.models.generate import Request, ask, letter_logps
from pasta.run.rows import rows_of
from pasta.sampling import uniform
from pasta.video import VideoError, read_frames


def fingerprint(item, **settings) -> str:
    """A hash of all that decides the answer to an item.

    settings: what all items of a run share, such as the model's digest and the number of frames.
    """
    # The size stands in for the bytes of the video: reading all of them would take as long as
    # decoding, and a file that is made anew hardly ever keeps its size.
    size = item.video.stat().st_size if item.video.is_file() else None
    facts = [item.id, item.name, size, item.start, item.end, item.prompt, item.answer, settings]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def earlier_rows(path, fingerprints) -> dict:
    """{id: row} of the answers in a file that still hold; a video that failed is tried again.

    fingerprints: {id: fingerprint} of the questions that are asked now.
    """
    return {
        row["id"]: row
        for row in rows_of(Path(path), ANSWER | {"fingerprint": str})
        if row["fingerprint"] == fingerprints.get(row["id"]) and "error" not in row
    }


def clip(item):
    """What the model sees of an item: questions about one clip share its video and its prefix."""
    return item.video, item.start, item.end


def clip_by_clip(items):
    """The items in the order in which their clips appear first, those about one clip together."""
    groups = {}
    for item in items:
        groups.setdefault(clip(item), []).append(item)
    return list(chain(*groups.values()))


def answered(vlm, bench, items, n_frames, scoring, batch_size, parser="head"):
    """Yield each item's row, without its fingerprint, clip by clip.

    bench: a module of pasta.benchmarks. scoring: "generate" or "letter". parser: as its `parse`.
    The next batch is decoded while the model answers this one, and every clip once. An item whose
    video does not decode is not asked: its row has an error, no response, and is wrong.
    """
    items = clip_by_clip(items)
    batches = [items[i : i + batch_size] for i in range(0, len(items), batch_size)]
    load = partial(video_inputs, processor=vlm.processor, n_frames=n_frames)
    before = time.perf_counter()
    for batch, videos in zip(batches, loaded_ahead(load, batches), strict=True):
        pairs = list(zip(batch, videos, strict=True))
        asked = [pair for pair in pairs if not isinstance(pair[1], VideoError)]
        replies = iter(replied(vlm, bench, asked, scoring, parser))
        seconds = (time.perf_counter() - before) / len(batch)  # with waiting for the video
        for item, video in pairs:
            if isinstance(video, VideoError):
                reply = {"response": "", "predicted": None, "error": str(video)}
            else:
                reply = next(replies)
            yield answer_row(item, seconds, **reply)
        before = time.perf_counter()


def answer_row(item, seconds, response, predicted, **extra):
    """One row of answers.jsonl; `correct` is what the benchmark's own parser makes of it."""
    return {
        "id": item.id,
        "task": item.task,
        "video": item.name,
        "prompt": item.prompt,
        "answer": item.answer,
        "response": response,
        "predicted": predicted,
        "correct": predicted == item.answer,
        "seconds": round(seconds, 3),
    } | extra


def video_inputs(item, processor, n_frames):
    """What the model is to see of an item's video, or the VideoError that came instead."""
    sample, fit = partial(uniform, n=n_frames), processor.family.fit
    try:
        return processor.prepare(
            *read_frames(item.video, sample, fit, item.start, item.end, folder_fps=item.folder_fps)
        )
    except (VideoError, ValueError) as error:  # a family refuses some sizes by ValueError
        return VideoError(item.video, getattr(error, "reason", str(error)))


def loaded_ahead(load, batches):
    """Yield [load(item) for item in batch], the next batch loading while this one is in use.

    Items about one clip get the same object, loaded once, also where two batches meet.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:

        def begin(batch, before):
            futures = {}
            for item in batch:
                key = clip(item)
                if key not in futures:
                    futures[key] = before.get(key) or pool.submit(load, item)
            return futures

        current = begin(batches[0], {})
        for batch, following in zip(batches, [*batches[1:], []], strict=True):
            coming = begin(following, current)
            yield [current[clip(item)].result() for item in batch]
            current = coming


def replied(vlm, bench, asked, scoring, parser):
    """Response and predicted letter of each (item, VideoInputs), as fields of its row."""
    if not asked:
        return []
    requests = [Request(inputs, item.prompt) for item, inputs in asked]
    if scoring == "letter":
        letters = [list(item.letters) for item, _ in asked]
        scored = zip(letters, letter_logps(vlm, requests, letters), strict=True)
        best = [(likeliest_letter(texts, logps), logps) for texts, logps in scored]
        return [{"response": x, "predicted": x, "letter_logps": logps} for x, logps in best]
    texts = [answer.text for answer in ask(vlm, requests, bench.MAX_NEW_TOKENS)]
    return [
        reading(bench, text, item, parser) for text, (item, _) in zip(texts, asked, strict=True)
    ]


def without_reasoning(text):
    """A response without its <think> and <analysis> blocks, as lmms-eval takes them out.

    When a block was begun by the chat template, what follows the last closing tag is left.
    """
    for tag in ("think", "analysis"):
        text = re.sub(rf"<{tag}>.*?</{tag}>", "", text, flags=re.DOTALL)
        text = text.rpartition(f"</{tag}>")[2]
    return text.strip()


def reread(bench, row, item, parser):
    """A row, perhaps of an earlier run, as this run's parser reads its response."""
    if "letter_logps" in row or "error" in row:
        return row
    kept = {key: value for key, value in row.items() if key not in ("drawn", "text")}
    row = kept | reading(bench, row.get("text", row["response"]), item, parser)
    return row | {"correct": row["predicted"] == item.answer}


def reading(bench, text, item, parser):
    """What a benchmark reads in a response, as fields of its row.

    Where lmms-eval draws a letter for a response that names none, so do we, but by a generator of
    the item's own: the draw does not depend on which other items were asked before.
    """
    response = without_reasoning(text)
    predicted = bench.parse(response, item, parser)
    row = {"response": response, "predicted": predicted}
    if response != text:
        row["text"] = text
    if predicted is None and bench.RANDOM:
        row |= {"predicted": random.Random(item.id).choice(item.letters), "drawn": True}
    return row
