"""Use results elsewhere: merge an adapter into its model, or write pairs for other trainers.

    python -m pasta.tools.export merge out/dpo out/model
    python -m pasta.tools.export pairs --to llama-factory out/pairs/pairs.jsonl out/llama-factory
    python -m pasta.tools.export pairs --to trl --n_frames 16 out/pairs/pairs.jsonl out/trl

PEFT and vLLM load a run's adapter/ directly; other tools need the merged model.
LLaMA-Factory and TRL get a folder, ms-swift a file. TRL's DPOTrainer silently ignores videos, so
each frame becomes an image, without its time. The trainers ignore `id` and `mode` of a row.
"""

import os
import shlex
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from pasta.datasets.read import TAGS, read_pairs
from pasta.lora import adapted
from pasta.making.server import MAX_PIXELS, fit_within, png
from pasta.models.files import local_folder, save_model
from pasta.models.load import DEFAULT_FRAMES, load_vlm
from pasta.models.peft import CONFIG, base_of, load_adapter
from pasta.packs import by_video
from pasta.run.atomic import atomic_folder, write_json
from pasta.run.command import command_line, number
from pasta.run.rows import write_rows
from pasta.run.schema import printable, read_json, schema_error
from pasta.sampling import uniform
from pasta.video import VideoError, read_frames
from pasta.video.find import describe

DTYPES = ("float32", "bfloat16", "float16")
SIDES = ("chosen", "rejected")
COLUMNS = {"messages": "conversations"} | {name: name for name in (*SIDES, "videos")}
# Otherwise a trainer cuts rows short or samples other frames, and does not say so.
NEXT = {
    "llama-factory": """with your model's template; a smaller cutoff_len cuts the question away:
llamafactory-cli train YOUR.yaml stage=dpo template=qwen2_vl dataset=pasta dataset_dir={out} \\
    cutoff_len={tokens} video_maxlen={frames} video_fps={frames} video_max_pixels={pixels}""",
    "ms-swift": """with your MODEL; a folder also needs --model_type and --template:
FPS={frames} FPS_MAX_FRAMES={frames} VIDEO_MAX_PIXELS={pixels} swift rlhf --rlhf_type dpo \\
    --model MODEL --dataset {out} --max_length {tokens}""",
    "trl": """in Python; {frames} images have twice the tokens of a video of {frames} frames:
    pairs = datasets.load_dataset("json", data_files={file!r}, split="train")
    pairs = pairs.cast_column("images", [datasets.Image()])
    DPOTrainer(train_dataset=pairs, args=DPOConfig(max_length=None, ...), ...)  # None: no cut""",
}
DATASET = {"file_name": "pairs.json", "formatting": "sharegpt", "ranking": True, "columns": COLUMNS}


def merge(run, out, base=None):
    """Write base model plus adapter as a model folder. Returns a message.

    run: run or adapter folder. base: model folder or hub id; None: as the adapter's config says.
    """
    adapter = next((x for x in (run, run / "adapter") if (x / CONFIG).is_file()), None)
    if not adapter:
        text = "expected an adapter or its run; after --lora_rank 0, model/ needs no merge"
        raise FileNotFoundError(f"{run} holds no adapter; {text}")
    if not (base := base or base_of(adapter)):
        raise ValueError(f"{adapter / CONFIG} names no model; give its base model with --base")
    try:
        stored = stored_dtype(base)
    except OSError as error:
        text = f"{adapter} belongs to the model {base!r}, which is not found: {error}"
        raise FileNotFoundError(f"{text}; give its folder with --base") from None
    model = load_vlm(base, stored).model
    load_adapter(model, adapter)
    n_layers = fold(model)
    save_model(out, model, base)
    text = f"wrote {out}: {base} with the adapter {adapter} in {n_layers} layers, {stored}"
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


def stored_dtype(base):
    config = read_json(local_folder(base) / "config.json")  # torch_dtype: until transformers 4.56
    dtype = config.get("dtype") or config.get("torch_dtype")
    if wrong := schema_error(dtype, DTYPES, "dtype"):
        raise ValueError(f"{base}/config.json: {wrong}")
    return dtype


def readable(pairs, to):
    """The pairs that a trainer can read, with absolute paths; the others are named and counted."""
    kept = []
    for pair in pairs:
        wrong = TAGS.findall(f"{pair.query}\n{pair.chosen}\n{pair.rejected}")
        wrong += ["a folder of frames"] * (to != "trl" and os.path.isdir(pair.video))
        if wrong:
            print(printable(f"left out: pair {pair.id} has {wrong[0]}; docs/pairs.md says why"))
        else:  # a link stays: in the hub's cache its file has no suffix
            kept.append(replace(pair, video=os.path.abspath(pair.video)))
    if not kept:
        raise ValueError("no pair can be written, for the reasons above")
    print(f"{len(pairs) - len(kept)} of {len(pairs)} pairs left out")
    return kept


def write_llama_factory(pairs, out, *_):
    """Write a `dataset_dir` for LLaMA-Factory."""
    rows = []
    for pair in pairs:
        row = {"id": pair.id, "mode": pair.mode, "videos": [pair.video]}
        row["conversations"] = [{"from": "human", "value": f"<video>{pair.query}"}]
        rows.append(row | {s: {"from": "gpt", "value": getattr(pair, s)} for s in SIDES})
    with atomic_folder(out) as part:
        write_json(part / DATASET["file_name"], rows)
        write_json(part / "dataset_info.json", {"pasta": DATASET})


def write_ms_swift(pairs, out, *_):
    """Write a .jsonl for ms-swift; the chosen response ends the dialogue."""
    if out.suffix != ".jsonl":
        raise ValueError(f"{out}: ms-swift needs the suffix; expected a name in .jsonl")
    rows = []
    for pair in pairs:
        row = {"id": pair.id, "mode": pair.mode, "videos": [pair.video]}
        query = {"role": "user", "content": f"<video>{pair.query}"}
        row["messages"] = [query, {"role": "assistant", "content": pair.chosen}]
        rows.append(row | {"rejected_response": pair.rejected})
    write_rows(out, rows)


def write_trl(pairs, out, n_frames, max_pixels):
    """Write train.jsonl and images/; unreadable videos are named."""
    rows, sample = [], partial(uniform, n=n_frames)
    with atomic_folder(out) as part:
        (part / "images").mkdir()
        for k, group in enumerate(tqdm(by_video(pairs), desc="videos", disable=None)):
            try:
                frames, _ = read_frames(group.video, sample, partial(fit_within, max_pixels))
            except VideoError as error:
                tqdm.write(printable(f"left out: {len(group.pairs)} pairs: {error}"))
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


WRITERS = {"llama-factory": write_llama_factory, "ms-swift": write_ms_swift, "trl": write_trl}


def main(argv=None):
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("merge", help="write a merged model", allow_abbrev=False).add_argument
    add("run", type=Path, help="run folder of train_dpo.py, or an adapter folder")
    add("out", type=Path, help="model folder to write; it must not exist")
    add("--base", help="model folder or hub id (default: as the adapter's config says)")
    add = commands.add_parser("pairs", help="write pairs", allow_abbrev=False).add_argument
    add("pairs", type=Path, help="pairs.jsonl of make_pairs.py, or other pairs")
    add("out", type=Path, help="file (ms-swift) or folder to write; it must not exist")
    add("--to", choices=WRITERS, required=True, help="the trainer")
    add("--video_root", type=Path, help="folder of relative video paths (default: the pairs')")
    add("--n_frames", type=number, help="per video (default: as in pair making, or 32)")
    add("--max_pixels", type=number, help="per frame (default: as in pair making, or 602112)")
    args = parser.parse_args(argv)
    if os.path.lexists(args.out):
        raise ValueError(f"{args.out} exists; remove it, or choose another name")
    if args.command == "merge":
        print(merge(args.run, args.out, args.base))
    else:
        pairs = read_pairs(args.pairs, video_root=args.video_root)
        print(describe(pairs, args.video_root or args.pairs.parent))
        pairs, made = readable(pairs, args.to), pairs[0].recipe
        frames = args.n_frames or made.get("n_frames") or DEFAULT_FRAMES
        pixels = args.max_pixels or made.get("max_pixels") or MAX_PIXELS
        WRITERS[args.to](pairs, args.out, frames, pixels)
        text = max(len(f"{p.query}{p.chosen}{p.rejected}") for p in pairs)
        tokens = (frames + 1) // 2 * (pixels // 28**2) + text + 1024  # Qwen2.5-VL's, at most
        values = {"frames": frames, "pixels": pixels, "tokens": tokens}
        values |= {"out": shlex.quote(str(args.out)), "file": f"{args.out}/train.jsonl"}
        print(f"wrote {args.out}; next,", NEXT[args.to].format_map(values))


if __name__ == "__main__":
    with command_line():
        main()
