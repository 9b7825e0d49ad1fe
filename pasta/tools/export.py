"""Use results elsewhere: merge an adapter into its model, or write pairs for other trainers.

    python -m pasta.tools.export merge out/dpo out/model
    python -m pasta.tools.export pairs --to llama-factory out/pairs/pairs.jsonl out/llama-factory
    python -m pasta.tools.export pairs --to ms-swift out/pairs/pairs.jsonl out/ms-swift.jsonl
    python -m pasta.tools.export pairs --to trl --n_frames 16 out/pairs/pairs.jsonl out/trl

PEFT and vLLM load a run's adapter/ directly; other tools need the merged model. Forms of pairs:

    llama-factory  folder: pairs.json (ShareGPT, ranked) and its dataset_info.json
    ms-swift       file of rows {"messages", "rejected_response", "videos"}
    trl            folder: train.jsonl and the frames as images

TRL's DPOTrainer silently ignores videos, so each frame becomes an image. For Qwen's models these
are pictures without times; in a video, two frames share a temporal patch and a position in time.
Each row keeps `id` and `mode`, which the trainers ignore. Links to videos are not resolved: the
files of the hub's cache that they point to have no suffix.

Shapes: R adapter rank; A is (R, in), B is (out, R).
"""

import os
import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from pasta.datasets.read import read_pairs
from pasta.lora import adapted
from pasta.making.server import MAX_PIXELS, fit_within, png
from pasta.models.files import local_folder, save_model
from pasta.models.load import DEFAULT_FRAMES, load_vlm
from pasta.models.peft import CONFIG, base_of, load_adapter
from pasta.packs import by_video
from pasta.pairs import MODES
from pasta.run.atomic import atomic_folder, write_json
from pasta.run.rows import write_rows
from pasta.run.schema import read_json
from pasta.sampling import uniform
from pasta.video import VideoError, read_frames

DTYPES = ("float32", "bfloat16", "float16")
TAG = re.compile(r"<(video|image|audio)>")  # trainers replace these with a medium
SIDES = ("chosen", "rejected")
DATASET_INFO = {"file_name": "pairs.json", "formatting": "sharegpt", "ranking": True}
COLUMNS = {"messages": "conversations"} | {x: x for x in (*SIDES, "videos")}


def merge(run, out, name="adapter", base=None, dtype=None):
    """Write base model plus adapter as a model folder. Returns a message.

    run: run folder of train_dpo.py, or an adapter folder in PEFT's format.
    name: which adapter of the run. base: model folder or hub id, None: as the adapter's config.
    dtype: one of DTYPES; None: that of the base checkpoint.
    Raises ValueError and FileNotFoundError.
    """
    adapter = find_adapter(Path(run), name)
    base = find_base(adapter, base)
    stored = stored_dtype(base)
    target = getattr(torch, dtype or stored)
    wider = torch.promote_types(getattr(torch, stored), target)  # rounded once, at the end
    model = load_vlm(base, str(wider).removeprefix("torch.")).model
    load_adapter(model, adapter)
    n_layers = fold(model)
    save_model(out, model.to(target), base)
    return (
        f"wrote {out}: {base} with the adapter {adapter} in {n_layers} layers, "
        f"{dtype or stored}; next: python evaluate.py --model {out}"
    )


def fold(model):
    """Add every adapter to its weight and remove it. Returns the number of layers.

        W' = W + (alpha / R) B A          in float32, rounded once to W's own type

    In a narrow type W' x therefore differs from W x + (alpha / R) B A x by a rounding.
    Raises ValueError for an adapted output layer that shares its weight with the embeddings.
    """
    embeddings = model.get_input_embeddings().weight
    layers = adapted(model)
    for name, layer in layers:
        weight = layer.base.weight
        if weight is embeddings:
            raise ValueError(
                f"{name} has an adapter and shares its weight with the embeddings; expected an "
                "adapter on other layers: merged, it would change both. Load it with PEFT instead"
            )
        with torch.no_grad():
            weight.copy_(weight.float() + layer.scale * layer.lora_B @ layer.lora_A)
        model.set_submodule(name, layer.base)
    return len(layers)


def find_adapter(run, name):
    """The adapter folder for RUN and --adapter. Raises FileNotFoundError and ValueError."""
    if not run.is_dir():
        raise FileNotFoundError(f"there is no folder {run}; `python train_dpo.py` makes one")
    for folder in (run, run / name):
        if (folder / CONFIG).is_file():
            return folder
    tuned = run / name.replace("adapter", "model", 1)
    if (tuned / "config.json").is_file():
        raise ValueError(
            f"{run} is a run of full tuning: {tuned} is a complete model, with nothing to merge; "
            f"next: python evaluate.py --model {tuned}"
        )
    found = ", ".join(sorted(path.parent.name for path in run.glob(f"*/{CONFIG}")))
    raise FileNotFoundError(
        f"{run / name} is no adapter: it has no {CONFIG}; {run} has these adapters: "
        f"{found or 'none'}; expected a finished run of train_dpo.py, or --adapter NAME"
    )


def find_base(adapter, base):
    """The name of an adapter's base model. Raises FileNotFoundError and ValueError."""
    base = base or base_of(adapter)
    if not base:
        raise ValueError(f"{adapter / CONFIG} names no model; give its base model with --base")
    try:
        local_folder(base)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(
            f"{adapter} belongs to the model {base!r}, which is not found: {reason}; "
            "give its folder with --base"
        ) from None
    return base


def stored_dtype(base):
    """The dtype in a checkpoint's config.json. Raises ValueError."""
    config = read_json(local_folder(base) / "config.json")
    dtype = config.get("dtype") or config.get("torch_dtype")  # the name until transformers 4.56
    if dtype not in DTYPES:
        raise ValueError(
            f"{base}: config.json says dtype {dtype!r}; expected one of {', '.join(DTYPES)}"
        )
    return dtype


def video_row(pair, row):
    """`row` with id, mode and video. Raises ValueError for a tag in a text and a frame folder."""
    for field in ("query", *SIDES):
        if found := TAG.search(getattr(pair, field)):
            raise ValueError(
                f"pair {pair.id}: {field} holds {found[0]}, which trainers replace with a file; "
                "expected a text without such tags"
            )
    path = os.path.abspath(pair.video)
    if os.path.isdir(path):
        raise ValueError(
            f"pair {pair.id}: {path} is a folder of frames; expected a video file; "
            f"`ffmpeg -framerate 3 -pattern_type glob -i '{path}/*.jpg' {path}.mp4` makes one"
        )
    return {"id": pair.id, "mode": pair.mode} | row | {"videos": [path]}


def missing_videos(pairs):
    """A note on videos that do not exist; "" if all exist."""
    names = [group.video for group in by_video(pairs) if not os.path.exists(group.video)]
    return f" ({len(names)} videos do not exist, such as {names[0]})" if names else ""


def write_llama_factory(pairs, out, *_):
    """Write a `dataset_dir` for LLaMA-Factory. Returns a message."""

    def row(pair):
        query = [{"from": "human", "value": f"<video>{pair.query}"}]
        sides = {s: {"from": "gpt", "value": getattr(pair, s)} for s in SIDES}
        return video_row(pair, {"conversations": query} | sides)

    with atomic_folder(out) as part:
        write_json(part / DATASET_INFO["file_name"], [row(pair) for pair in pairs])
        write_json(part / "dataset_info.json", {"pasta": DATASET_INFO | {"columns": COLUMNS}})
    return (
        f"wrote {out}: {len(pairs)} pairs{missing_videos(pairs)}; next, in LLaMA-Factory's YAML: "
        f"stage: dpo, dataset: pasta, dataset_dir: {out}"
    )


def write_ms_swift(pairs, out, *_):
    """Write a .jsonl for ms-swift; the chosen response ends the dialogue. Returns a message."""
    if out.suffix != ".jsonl":
        raise ValueError(f"{out}: ms-swift needs the suffix; expected a name in .jsonl")

    def row(pair):
        query = {"role": "user", "content": f"<video>{pair.query}"}
        messages = [query, {"role": "assistant", "content": pair.chosen}]
        return video_row(pair, {"messages": messages, "rejected_response": pair.rejected})

    write_rows(out, map(row, pairs))
    return (
        f"wrote {out}: {len(pairs)} pairs{missing_videos(pairs)}; "
        f"next: swift rlhf --rlhf_type dpo --dataset {out}"
    )


def write_trl(pairs, out, n_frames, max_pixels):
    """Write train.jsonl and images/ for TRL; each video is decoded once. Returns a message.

    skipped.jsonl names unreadable videos. Raises ValueError if no video can be read.
    """

    def turn(role, text, n_images=0):
        parts = [{"type": "image"}] * n_images + [{"type": "text", "text": text}]
        return [{"role": role, "content": parts}]

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
                tqdm.write(f"skipped {len(ids)} pairs of {group.video}: {error.reason}")
                continue
            names = [f"images/{k:06}-{i:03}.png" for i in range(len(frames))]
            for name, frame in zip(names, frames, strict=True):
                (part / name).write_bytes(png(frame))
            images = [os.path.abspath(out / name) for name in names]
            for pair in group.pairs:
                row = {"id": pair.id, "mode": pair.mode, "images": images}
                row |= {"prompt": turn("user", pair.query, len(images))}
                row |= {s: turn("assistant", getattr(pair, s)) for s in SIDES}
                rows.append(row)
        if not rows:
            raise ValueError("no video can be read, for the reasons above")
        write_rows(part / "train.jsonl", rows)
        if skipped:
            write_rows(part / "skipped.jsonl", skipped)
    return f"""wrote {out}: {len(rows)} pairs, {len(skipped)} videos skipped; next, in Python:

    from datasets import Image, load_dataset
    pairs = load_dataset("json", data_files="{out}/train.jsonl", split="train")
    pairs = pairs.cast_column("images", [Image()])
    # DPOTrainer(train_dataset=pairs, args=DPOConfig(max_length=None, ...), ...)

Keep max_length=None, or the frames are cut. TRL sees images: the times of the frames are lost."""


WRITERS = {"llama-factory": write_llama_factory, "ms-swift": write_ms_swift, "trl": write_trl}


def main(argv=None):
    parser = ArgumentParser(
        prog="python -m pasta.tools.export",
        description=__doc__.split("\n\nShapes")[0],
        formatter_class=RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("merge", help="write a merged model", allow_abbrev=False).add_argument
    add("run", type=Path, help="run folder of train_dpo.py, or an adapter folder")
    add("out", type=Path, help="model folder to write; it must not exist")
    add("--adapter", default="adapter", help="which adapter of the run (%(default)s)")
    add("--base", help="model folder or hub id (default: as the adapter's config says)")
    add("--dtype", choices=DTYPES, help="of the weights (default: that of the base)")
    add = commands.add_parser("pairs", help="write pairs", allow_abbrev=False).add_argument
    add("pairs", type=Path, help="pairs.jsonl of make_pairs.py, or other pairs")
    add("out", type=Path, help="file (ms-swift) or folder to write; it must not exist")
    add("--to", choices=WRITERS, required=True, help="the trainer")
    add("--video_root", type=Path, help="folder of relative video paths (default: the pairs')")
    add("--mode", choices=MODES, help="mode of pairs that have none")
    text = "trl: frames per video, an even number (%(default)s)"
    add("--n_frames", type=int, default=DEFAULT_FRAMES, help=text)
    text = "trl: pixels per frame at most; 0: the video's own (%(default)s)"
    add("--max_pixels", type=int, default=MAX_PIXELS, help=text)
    args = parser.parse_args(argv)
    try:
        if args.out.exists():
            raise ValueError(f"{args.out} exists; remove it, or choose another name")
        if args.command == "merge":
            message = merge(args.run, args.out, args.adapter, args.base, args.dtype)
        elif args.pairs.is_file():
            pairs = read_pairs(args.pairs, args.mode, args.video_root)
            message = WRITERS[args.to](pairs, args.out, args.n_frames, args.max_pixels)
        else:
            raise ValueError(f"there is no {args.pairs}; `python make_pairs.py` makes it")
    except (ValueError, OSError, VideoError) as error:
        raise SystemExit(str(error)) from None
    print(message)


if __name__ == "__main__":
    main()
