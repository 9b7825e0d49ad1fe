"""From the questions of a benchmark to answers.jsonl, one row an answer:

    {"id", "task", "video", "prompt", "answer", "response", "predicted", "correct", "seconds",
     "fingerprint"}; "letter_logps" if letters were scored, "error" if the video did not decode

Rows are appended one by one, so a stopped run goes on where it was. A fingerprint tells which rows
still hold: it covers what decides the answer. A row with another one stays in the file, counts
nowhere, and its question is asked again.
"""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pasta.ask import Request, ask, letter_logps
from pasta.pairs import read_rows
from pasta.scoring import likeliest_letter
from pasta.video import VideoError, read_frames, uniform


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
    rows = read_rows(path) if Path(path).exists() else []
    return {
        row["id"]: row
        for row in rows
        if row["fingerprint"] == fingerprints.get(row["id"]) and "error" not in row
    }


def answered(vlm, bench, items, n_frames, scoring, batch_size):
    """Yield each item's row, without its fingerprint, in order.

    bench: a module of pasta.benchmarks. scoring: "generate" or "letter".
    The next batch is decoded while the model answers this one. An item whose video does not decode
    is not asked: its row has an error, no response, and is wrong.
    """
    batches = [items[i : i + batch_size] for i in range(0, len(items), batch_size)]
    load = partial(video_inputs, processor=vlm.processor, n_frames=n_frames)
    before = time.perf_counter()
    for batch, videos in zip(batches, loaded_ahead(load, batches), strict=True):
        pairs = list(zip(batch, videos, strict=True))
        asked = [pair for pair in pairs if not isinstance(pair[1], VideoError)]
        replies = iter(replied(vlm, bench, asked, scoring))
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
    """Yield [load(item) for item in batch], the next batch loading while this one is in use."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        coming = pool.map(load, batches[0])
        for batch in [*batches[1:], []]:
            current, coming = coming, pool.map(load, batch)
            yield list(current)


def replied(vlm, bench, asked, scoring):
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
        {"response": text, "predicted": bench.parse(text, item)}
        for text, (item, _) in zip(texts, asked, strict=True)
    ]
