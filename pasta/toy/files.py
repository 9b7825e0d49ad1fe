"""The toy world as files: uncompressed AVI videos, queries about them, and two benchmarks."""

import json
from itertools import count, islice
from pathlib import Path
from struct import pack

import numpy as np

from pasta.run.rows import write_rows
from pasta.toy import world


def write_avi(path, frames, fps=world.FPS):
    """Write frames (F, H, W, 3) uint8 RGB without an encoder; decord reads exactly these pixels.

    RIFF AVI 1.0 with one BGR24 stream, rows from the bottom up, each padded to four bytes.
    """
    n, height, width, _ = frames.shape
    rows = np.zeros((n, height, -(-width * 3 // 4) * 4), np.uint8)
    rows[:, :, : width * 3] = frames[:, ::-1, :, ::-1].reshape(n, height, width * 3)
    size = rows[0].size

    def chunk(tag, data):  # an even number of bytes: no padding
        return tag + pack("<I", len(data)) + data

    rate = int(fps * 1000)  # of 1000 frames
    avih = pack("<10I16x", int(1e6 / fps), int(size * fps), 0, 0x10, n, 0, 1, size, width, height)
    stream = b"vidsDIB " + pack("<12x5IiI4h", 1000, rate, 0, n, size, -1, 0, 0, 0, width, height)
    bitmap = pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, size, 0, 0, 0, 0)
    streams = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", bitmap))
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", avih) + streams)
    movie = b"movi" + b"".join(chunk(b"00db", row.tobytes()) for row in rows)
    # Without the index a decoder cannot find the length.
    index = b"".join(b"00db" + pack("<III", 0x10, 4 + i * (8 + size), size) for i in range(n))
    body = b"AVI " + header + chunk(b"LIST", movie) + chunk(b"idx1", index)
    Path(path).write_bytes(chunk(b"RIFF", body))


def drawn(seed):
    """Yield (video, its file name, the generator after drawing it) of a folder, without end."""
    for i in count():
        rng = np.random.default_rng([seed, i])
        yield world.draw_video(rng), f"{i:05d}.avi", rng


def write_videos(folder, n, seed):
    """n videos of a balanced world as FOLDER/00000.avi and so on, without their ground truth."""
    for video, name, _ in islice(drawn(seed), n):
        write_avi(folder / name, world.render(video))


def queries(n, seed):
    """Yield (file name, Question): one of each mode about each video of `write_videos`."""
    for video, name, rng in islice(drawn(seed), n):
        asked = world.questions(video, rng)
        for mode in world.MODES:
            yield name, next(q for q in asked if q.mode == mode)


def write_queries(folder, n, seed):
    """FOLDER/queries.jsonl, without the answers."""
    rows = [{"video": name, "mode": q.mode, "query": q.query} for name, q in queries(n, seed)]
    write_rows(folder / "queries.jsonl", rows)


def write_benchmark(folder, n, seed, blind=False):
    """n questions of each mode in MVBench's layout: json/MODE.json, test.json, video/shapes/.

    Each mode has as many questions of either kind, at most three a video. Within a kind the
    majority answer is right in half of the questions, and in half of these the right option is (A).
    """
    (folder / "json").mkdir()
    (folder / "video/shapes").mkdir(parents=True)
    items, videos = {mode: [] for mode in world.MODES}, drawn(seed)
    wanted = {(kind, majority): n // 4 for kind in world.KINDS for majority in (True, False)}
    while any(wanted.values()):
        video, name, rng = next(videos)
        asked = list({q.kind: q for q in world.questions(video, rng)}.values())[:3]
        used = [q for q in asked if wanted[q.kind, q.majority]]  # no two of one kind
        for q in used:
            wanted[q.kind, q.majority] -= 1
            options = q.options[::-1] if wanted[q.kind, q.majority] % 2 else q.options
            row = {"video": name, "question": q.query, "candidates": options, "answer": q.option}
            items[q.mode].append(row)
        if used:
            frames = world.render(video)
            write_avi(folder / "video/shapes" / name, 0 * frames if blind else frames)
    for mode, rows in items.items():
        (folder / "json" / f"{mode}.json").write_text(json.dumps(rows, indent=1))
    roots = {mode: "video/shapes" for mode in world.MODES}
    (folder / "test.json").write_text(json.dumps({"root": roots, "meta": items}))


def write_adversarial(folder, n, seed):
    """The layout of benchmarks/adversarial.py: n videos, two items about each in each mode.

    "question": a question of the world about an absent thing, so its premise is false.
    "options": an answer about an absent thing, and the wrong answer about a present one.
    """
    rows = []
    for i, (video, name, rng) in enumerate(islice(drawn(seed), n)):
        write_avi(folder / name, world.render(video))
        for mode in world.MODES:
            asked = next(q for q in world.questions(video, rng) if q.mode == mode)
            absent = str(rng.choice([n for n in video.absent if n[-6:] == asked.name[-6:]]))
            claim = world.ask(asked.kind, absent, bool(rng.integers(2)))
            row, options = {"video": name, "mode": mode}, [asked.wrong, claim.answer]
            rows.append({"id": f"{i}-{mode}-q", **row, "kind": "question", "query": claim.query})
            row |= {"kind": "options", "query": asked.query, "options": options}
            rows.append({"id": f"{i}-{mode}-o", **row})
    write_rows(folder / "items.jsonl", rows)
