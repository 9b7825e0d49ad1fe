"""Preference pairs in the forms that LLaMA-Factory, ms-swift and TRL document.

    llama-factory  folder: pairs.json (ShareGPT, ranked) and the dataset_info.json that names it
    ms-swift       file of rows {"messages", "rejected_response", "videos"}
    trl            folder: train.jsonl and the frames as images

TRL's DPOTrainer knows no videos: given a column `videos` it trains on the texts alone and says
nothing. It knows images, so each frame becomes one. To Qwen's models these are pictures without
times, one temporal patch each, where a video has one for two frames and M-RoPE positions in time.

Each row keeps `id` and `mode`, which the three trainers drop. `pasta.datasets` reads the first
two forms back. Paths are absolute; a link keeps its own name, since the hub's cache links to files
without suffix.

Shapes: F frames, H, W pixels.
"""

import os
import re
from functools import partial
from itertools import islice

from tqdm import tqdm

from pasta.making.server import fit_within, png
from pasta.packs import by_video
from pasta.run.atomic import atomic_folder, write_json
from pasta.run.rows import write_rows
from pasta.sampling import uniform
from pasta.video import VideoError, read_frames

TAG = re.compile(r"<(video|image|audio)>")  # what both trainers take for the place of a medium
DATASET = "pasta"  # the name in dataset_info.json
DATASET_INFO = {
    "file_name": "pairs.json",
    "formatting": "sharegpt",
    "ranking": True,
    "columns": {
        "messages": "conversations",
        "chosen": "chosen",
        "rejected": "rejected",
        "videos": "videos",
    },
}


def video_file(pair):
    """The absolute path of a pair's video. Raises ValueError when a <video> tag would not do."""
    for what in ("query", "chosen", "rejected"):
        if found := TAG.search(getattr(pair, what)):
            raise ValueError(
                f"pair {pair.id}: {what} holds {found[0]}, which would stand for a file; expected "
                "a text without such tags"
            )
    path = os.path.abspath(pair.video)
    if os.path.isdir(path):
        raise ValueError(
            f"pair {pair.id}: {path} is a folder of frames; expected a video file; "
            f"`ffmpeg -framerate 3 -pattern_type glob -i '{path}/*.jpg' {path}.mp4` makes one"
        )
    return path


def llama_factory_row(pair):
    """One entry of a ranked ShareGPT file; as many <video> tags as videos."""
    return {
        "id": pair.id,
        "mode": pair.mode,
        "conversations": [{"from": "human", "value": f"<video>{pair.query}"}],
        "chosen": {"from": "gpt", "value": pair.chosen},
        "rejected": {"from": "gpt", "value": pair.rejected},
        "videos": [video_file(pair)],
    }


def ms_swift_row(pair):
    """One line of ms-swift's standard form: the chosen response closes the dialogue."""
    return {
        "id": pair.id,
        "mode": pair.mode,
        "messages": [
            {"role": "user", "content": f"<video>{pair.query}"},
            {"role": "assistant", "content": pair.chosen},
        ],
        "rejected_response": pair.rejected,
        "videos": [video_file(pair)],
    }


def trl_row(pair, images):
    """One conversational row: the paths of a video's frames, in order, and a place for each."""

    def turn(role, text, places=0):
        parts = [{"type": "image"}] * places + [{"type": "text", "text": text}]
        return [{"role": role, "content": parts}]

    return {
        "id": pair.id,
        "mode": pair.mode,
        "images": images,
        "prompt": turn("user", pair.query, places=len(images)),
        "chosen": turn("assistant", pair.chosen),
        "rejected": turn("assistant", pair.rejected),
    }


def write_llama_factory(pairs, out, n_frames, max_pixels):
    """Write a `dataset_dir` of LLaMA-Factory. Returns what to tell about it."""
    rows = list(map(llama_factory_row, pairs))
    with atomic_folder(out) as part:
        write_json(part / DATASET_INFO["file_name"], rows)
        write_json(part / "dataset_info.json", {DATASET: DATASET_INFO})
    return (
        f"wrote {out}: {len(rows)} pairs{absent(pairs)}; next, in LLaMA-Factory's YAML: "
        f"stage: dpo, dataset: {DATASET}, dataset_dir: {out}"
    )


def write_ms_swift(pairs, out, n_frames, max_pixels):
    """Write a .jsonl for ms-swift. Returns what to tell about it."""
    if out.suffix != ".jsonl":
        raise ValueError(f"{out}: ms-swift tells forms by the suffix; expected a name in .jsonl")
    write_rows(out, map(ms_swift_row, pairs))
    return (
        f"wrote {out}: {len(pairs)} pairs{absent(pairs)}; "
        f"next: swift rlhf --rlhf_type dpo --dataset {out}"
    )


def absent(pairs):
    """What to tell about videos that are not on this disk; nothing when all are."""
    names = [group.video for group in by_video(pairs) if not os.path.exists(group.video)]
    return f" ({len(names)} videos are not on this disk, such as {names[0]})" if names else ""


def write_trl(pairs, out, n_frames, max_pixels):
    """Write train.jsonl and images/ for TRL, decoding each video once.

    n_frames, max_pixels: of a video, and of a frame at most; 0 pixels leave its size.
    Videos that cannot be read are named in skipped.jsonl, with the ids of their pairs.
    Returns what to tell about it. Raises ValueError when no video can be read.
    """
    rows, skipped = [], []
    sample, fit = partial(uniform, n=n_frames), partial(fit_within, max_pixels)
    with atomic_folder(out) as part:
        (part / "images").mkdir()
        for k, group in enumerate(tqdm(by_video(pairs), desc="videos", disable=None)):
            try:
                frames, _ = read_frames(group.video, sample, fit)
            except VideoError as error:
                ids = [pair.id for pair in group.pairs]
                skipped.append({"video": group.video, "reason": error.reason, "pairs": ids})
                continue
            names = [f"images/{k:06}-{i:03}.png" for i in range(len(frames))]
            for name, frame in zip(names, frames, strict=True):
                (part / name).write_bytes(png(frame))
            paths = [os.path.abspath(out / name) for name in names]
            rows += [trl_row(pair, paths) for pair in group.pairs]
        if not rows:
            first = skipped[0]
            raise ValueError(f"no video can be read; {first['video']}: {first['reason']}")
        write_rows(part / "train.jsonl", rows)
        if skipped:
            write_rows(part / "skipped.jsonl", skipped)
    return "\n".join([*skipped_lines(skipped, out), *how_to_load(rows, out)])


def skipped_lines(skipped, out):
    """What to tell about unreadable videos: how many, the first few, and where all are named."""
    lines = [f"skipped {row['video']}: {row['reason']}" for row in islice(skipped, 5)]
    count = sum(len(row["pairs"]) for row in skipped)
    total = f"skipped {len(skipped)} videos with {count} pairs; all named in {out}/skipped.jsonl"
    return [*lines, total] if skipped else []


def how_to_load(rows, out):
    """What to tell about a folder for TRL."""
    return [
        f"wrote {out}: {len(rows)} pairs; next, in Python:",
        "",
        "    from datasets import Image, load_dataset",
        f'    pairs = load_dataset("json", data_files="{out}/train.jsonl", split="train")',
        '    pairs = pairs.cast_column("images", [Image()])',
        "    # DPOTrainer(train_dataset=pairs, args=DPOConfig(max_length=None, ...), ...)",
        "",
        "max_length=None, or the frames of a prompt are cut. TRL has no videos, so each frame is",
        "an image: its time and its M-RoPE position in time are lost, and it takes as many tokens",
        "as two frames of a video.",
    ]


WRITERS = {"llama-factory": write_llama_factory, "ms-swift": write_ms_swift, "trl": write_trl}
