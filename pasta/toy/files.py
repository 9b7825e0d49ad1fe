"""The toy world as files: uncompressed AVI videos, and a benchmark in MVBench's layout.

Uncompressed, so that no encoder is needed and decord returns exactly the pixels drawn.

Shapes: F frames, H, W pixels.
"""

import json
import struct

import numpy as np

from pasta.pairs import MODES
from pasta.toy import world


def write_avi(path, frames, fps=world.FPS):
    """Write frames (F, H, W, 3) uint8 RGB as an uncompressed AVI, which decord reads exactly.

    RIFF AVI 1.0 with one BGR24 stream: rows from the bottom up, each padded to four bytes, and an
    index, without which a decoder cannot tell the length.
    """
    n, height, width, _ = frames.shape
    rows = np.zeros((n, height, -(-width * 3 // 4) * 4), np.uint8)
    rows[:, :, : width * 3] = frames[:, ::-1, :, ::-1].reshape(n, height, width * 3)
    size = rows[0].size

    def chunk(tag, data):
        return tag + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    main_header = struct.pack(
        "<14I", int(1e6 / fps), int(size * fps), 0, 0x10, n, 0, 1, size, width, height, 0, 0, 0, 0
    )
    rate, scale = int(fps * 1000), 1000
    stream = b"vidsDIB " + struct.pack(
        "<IHHIIIIIIiI4h", 0, 0, 0, 0, scale, rate, 0, n, size, -1, 0, 0, 0, width, height
    )
    bitmap = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, size, 0, 0, 0, 0)
    streams = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", bitmap))
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", main_header) + streams)
    movie = b"movi" + b"".join(chunk(b"00db", row.tobytes()) for row in rows)
    index = b"".join(
        b"00db" + struct.pack("<III", 0x10, 4 + i * (8 + size + size % 2), size) for i in range(n)
    )
    body = b"AVI " + header + chunk(b"LIST", movie) + chunk(b"idx1", index)
    with open(path, "wb") as file:
        file.write(chunk(b"RIFF", body))


def write_videos(folder, n, seed):
    """n videos of a balanced world as FOLDER/00000.avi and so on; nothing tells their truth."""
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        write_avi(folder / f"{i:05d}.avi", world.render(world.draw_video(rng)))


def write_queries(path, n, seed):
    """Queries about the videos of `write_videos`, as somebody wrote them who saw what is there.

    One of each video and mode. Nothing tells the answers.
    """
    rows = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        asked = world.questions(world.draw_video(rng), rng)
        for mode in MODES:
            query = next(q.query for q in asked if q.mode == mode)
            rows.append({"video": f"{i:05d}.avi", "mode": mode, "query": query})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_benchmark(folder, n, seed, blind=False):
    """n questions of each mode in MVBench's layout: json/MODE.json, test.json, video/shapes/.

    Half of a mode's questions are of each of its kinds. Of each kind the usual answer is right in
    exactly half, and the right option is (A) in half of either. A video is asked three at
    most. blind: the videos are black.
    """
    (folder / "json").mkdir()
    (folder / "video/shapes").mkdir(parents=True)
    items = {mode: [] for mode in MODES}
    wanted = {(kind, usual): n // 4 for kind in world.KINDS for usual in (True, False)}
    i = 0
    while any(wanted.values()):
        rng = np.random.default_rng([seed, i])
        video, name, used = world.draw_video(rng), f"{i:05d}.avi", False
        for question in list({q.kind: q for q in world.questions(video, rng)}.values())[:3]:
            if wanted[question.kind, question.usual]:
                wanted[question.kind, question.usual] -= 1
                first = wanted[question.kind, question.usual] % 2
                items[question.mode].append({
                    "video": name,
                    "question": question.query,
                    "candidates": [question.options[first], question.options[1 - first]],
                    "answer": question.option,
                })
                used = True
        if used:
            frames = world.render(video)
            write_avi(folder / "video/shapes" / name, 0 * frames if blind else frames)
        i += 1
    for mode, rows in items.items():
        (folder / "json" / f"{mode}.json").write_text(json.dumps(rows, indent=1))
    roots = {mode: "video/shapes" for mode in MODES}
    (folder / "test.json").write_text(json.dumps({"root": roots, "meta": items}))


def write_adversarial(folder, n, seed):
    """n items of each mode and kind in the layout of benchmarks/adversarial.py.

    A question is one of the world's about a thing of a colour that the video does not have, so its
    premise is false; the options of the other kind are answers about such a thing or the wrong one.
    """
    rows = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        video, name = world.draw_video(rng), f"{i:05d}.avi"
        write_avi(folder / name, world.render(video))
        for mode in MODES:
            asked = next(q for q in world.questions(video, rng) if q.mode == mode)
            absent = str(rng.choice([n for n in video.absent if n[-6:] == asked.name[-6:]]))
            claim = world.ask(asked.kind, absent, bool(rng.integers(2)))
            row = {"video": name, "mode": mode}
            rows.append({"id": f"{i}-{mode}-q", **row, "kind": "question", "query": claim.query})
            rows.append({"id": f"{i}-{mode}-o", **row, "kind": "options", "query": asked.query,
                         "options": [asked.wrong, claim.answer]})  # fmt: skip
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
