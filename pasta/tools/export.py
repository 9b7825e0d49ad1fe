"""Use results elsewhere: merge an adapter into its model, or write pairs for other trainers.

    python -m pasta.tools.export merge out/dpo out/model
    python -m pasta.tools.export pairs --to llama-factory out/pairs/pairs.jsonl out/llama-factory
    python -m pasta.tools.export pairs --to trl --n_frames 16 out/pairs/pairs.jsonl out/trl

PEFT and vLLM load a run's adapter/ directly; other tools need the merged model.
LLaMA-Factory and TRL get a folder, ms-swift a file. TRL's DPOTrainer silently ignores videos, so
each frame becomes an image, without its time. The trainers ignore `id` and `mode` of a row.
"""

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from pasta.datasets.read import read_pairs
from pasta.datasets.rows import TAGS
from pasta.lora import adapted
from pasta.making.server import MAX_PIXELS, fit_within, png
from pasta.models.files import local_folder, save_model
from pasta.models.load import DEFAULT_FRAMES, load_vlm
from pasta.models.peft import CONFIG, base_of, load_adapter
from pasta.packs import by_video
from pasta.pairs import MODES
from pasta.run.atomic import atomic_folder, write_json
from pasta.run.command import command_line
from pasta.run.rows import write_rows
from pasta.run.schema import read_json, schema_error
from pasta.sampling import uniform
from pasta.video import VideoError, read_frames
from pasta.video.find import describe

DTYPES = ("float32", "bfloat16", "float16")
SIDES = ("chosen", "rejected")
COLUMNS = {"messages": "conversations"} | {name: name for name in (*SIDES, "videos")}
DATASET = {"file_name": "pairs.json", "formatting": "sharegpt", "ranking": True, "columns": COLUMNS}


def merge(run, out, name="adapter", base=None, dtype=None):
    """Write base model plus adapter as a model folder. Returns a message.

    run: run or adapter folder. base: model folder or hub id; None: as the adapter's config says.
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
    text = f"wrote {out}: {base} with the adapter {adapter} in {n_layers} layers, {dtype or stored}"
    return f"{text}; next: python evaluate.py --model {out}"


def fold(model):
    """Add every adapter to its weight and remove it. Returns the number of layers.

    W' = W + (alpha / R) B A      A (R, in), B (out, R); in float32, rounded once to W's type
    """
    embeddings, layers = model.get_input_embeddings().weight, adapted(model)
    for name, layer in layers:
        weight = layer.base.weight
        if weight is embeddings:  # merged, the adapter would change both
            raise ValueError(f"{name} shares its weight with the embeddings; load it with PEFT")
        with torch.no_grad():
            weight.copy_(weight.float() + layer.scale * layer.lora_B @ layer.lora_A)
        model.set_submodule(name, layer.base)
    return len(layers)


def find_adapter(run, name):
    """The adapter folder for RUN and --adapter."""
    for folder in (run, run / name):
        if (folder / CONFIG).is_file():
            return folder
    found = ", ".join(sorted(path.parent.name for path in run.glob(f"*/{CONFIG}"))) or "none"
    text = f"{run / name} is no adapter; {run} has these adapters: {found}; name one with --adapter"
    raise FileNotFoundError(f"{text}; after --lora_rank 0, the run's model/ needs no merge")


def find_base(adapter, base):
    """The name of an adapter's base model."""
    if not (base := base or base_of(adapter)):
        raise ValueError(f"{adapter / CONFIG} names no model; give its base model with --base")
    try:
        local_folder(base)
    except OSError as error:
        text = f"{adapter} belongs to the model {base!r}, which is not found: {error}"
        raise FileNotFoundError(f"{text}; give its folder with --base") from None
    return base


def stored_dtype(base):
    """The dtype in a checkpoint's config.json. Raises ValueError."""
    config = read_json(local_folder(base) / "config.json")  # torch_dtype: until transformers 4.56
    dtype = config.get("dtype") or config.get("torch_dtype")
    if wrong := schema_error(dtype, DTYPES, "dtype"):
        raise ValueError(f"{base}/config.json: {wrong}")
    return dtype


def video_row(pair, row):
    """`row` with id, mode and video. Raises ValueError for a tag in a text and a frame folder."""
    for field in ("query", *SIDES):
        if found := TAGS.search(getattr(pair, field)):
            raise ValueError(f"pair {pair.id}: {field} holds {found[0]}; trainers put a file there")
    path = os.path.abspath(pair.video)  # a link stays: in the hub's cache its file has no suffix
    if os.path.isdir(path):
        text = f"pair {pair.id}: {path} is a folder of frames; expected a video file: ffmpeg"
        raise ValueError(f"{text} -framerate 3 -pattern_type glob -i '{path}/*.jpg' {path}.mp4")
    return {"id": pair.id, "mode": pair.mode} | row | {"videos": [path]}


def write_llama_factory(pairs, out, *_):
    """Write a `dataset_dir` for LLaMA-Factory. Returns a message."""
    rows = []
    for pair in pairs:
        query = [{"from": "human", "value": f"<video>{pair.query}"}]
        sides = {s: {"from": "gpt", "value": getattr(pair, s)} for s in SIDES}
        rows.append(video_row(pair, {"conversations": query} | sides))
    with atomic_folder(out) as part:
        write_json(part / DATASET["file_name"], rows)
        write_json(part / "dataset_info.json", {"pasta": DATASET})
    return f"wrote {out}; next, in its YAML: stage: dpo, dataset: pasta, dataset_dir: {out}"


def write_ms_swift(pairs, out, *_):
    """Write a .jsonl for ms-swift; the chosen response ends the dialogue. Returns a message."""
    if out.suffix != ".jsonl":
        raise ValueError(f"{out}: ms-swift needs the suffix; expected a name in .jsonl")
    rows = []
    for pair in pairs:
        query = {"role": "user", "content": f"<video>{pair.query}"}
        row = {"messages": [query, {"role": "assistant", "content": pair.chosen}]}
        rows.append(video_row(pair, row | {"rejected_response": pair.rejected}))
    write_rows(out, rows)
    return f"wrote {out}; next: swift rlhf --rlhf_type dpo --dataset {out}"


def write_trl(pairs, out, n_frames, max_pixels):
    """Write train.jsonl, images/ and skipped.jsonl (unreadable videos). Returns a message."""
    rows, skipped, sample = [], [], partial(uniform, n=n_frames)
    with atomic_folder(out) as part:
        (part / "images").mkdir()
        for k, group in enumerate(tqdm(by_video(pairs), desc="videos", disable=None)):
            try:
                frames, _ = read_frames(group.video, sample, partial(fit_within, max_pixels))
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
                query = [{"type": "image"}] * len(images) + [{"type": "text", "text": pair.query}]
                row["prompt"] = [{"role": "user", "content": query}]
                for side in SIDES:
                    content = [{"type": "text", "text": getattr(pair, side)}]
                    row[side] = [{"role": "assistant", "content": content}]
                rows.append(row)
        if not rows:
            raise ValueError("no video can be read, for the reasons above")
        write_rows(part / "train.jsonl", rows)
        if skipped:
            write_rows(part / "skipped.jsonl", skipped)
    return f"""wrote {out}: {len(rows)} pairs, {len(skipped)} videos skipped; next, in Python:

    pairs = datasets.load_dataset("json", data_files="{out}/train.jsonl", split="train")
    pairs = pairs.cast_column("images", [datasets.Image()])
    DPOTrainer(train_dataset=pairs, args=DPOConfig(max_length=None, ...), ...)  # None: no cut"""


WRITERS = {"llama-factory": write_llama_factory, "ms-swift": write_ms_swift, "trl": write_trl}


def main(argv=None):
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
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
    add("--n_frames", type=int, default=DEFAULT_FRAMES, help="trl: per video (%(default)s)")
    add("--max_pixels", type=int, default=MAX_PIXELS, help="trl: per frame; 0: all (%(default)s)")
    args = parser.parse_args(argv)
    if os.path.lexists(args.out):
        raise ValueError(f"{args.out} exists; remove it, or choose another name")
    if args.command == "merge":
        print(merge(args.run, args.out, args.adapter, args.base, args.dtype))
    else:
        pairs = read_pairs(args.pairs, args.mode, args.video_root)
        print(describe(pairs, args.video_root or args.pairs.parent))
        print(WRITERS[args.to](pairs, args.out, args.n_frames, args.max_pixels))


if __name__ == "__main__":
    with command_line():
        main()
