"""Ask a question about a video: the answers before and after training.

    python -m pasta.tools.ask data/toy/videos/00015.avi "Does the red circle come first or last?"
    python -m pasta.tools.ask VIDEO "QUESTION" --model Qwen/Qwen2.5-VL-7B-Instruct \\
        --adapter out/dpo-7b/adapter
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from pasta import toy
from pasta.benchmarks.inputs import ADAPTER, find_adapters
from pasta.lora import adapter_off
from pasta.models.generate import Request, ask_all
from pasta.models.load import load_processor, load_vlm
from pasta.models.peft import load_adapter
from pasta.run.command import command_line, number
from pasta.run.schema import printable
from pasta.sampling import uniform
from pasta.video import read_frames


def main(argv=None):
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("video", help="video file, or folder of JPEGs")
    add("question", help="in quotes")
    add("--model", default="toy", help="model folder or hub id (default: the toy model)")
    add("--adapter", help=f"adapter folder (default: {ADAPTER} if it belongs to --model)")
    add("--n_frames", type=number, default=0, help="of the video; 0: the checkpoint's number or 32")
    add("--max_pixels", type=number, default=602112, help="of a frame; 0: no bound (%(default)s)")
    add("--max_new_tokens", type=number, default=128, help="of an answer (%(default)s)")
    args = parser.parse_args(argv or sys.argv[1:] or ["--help"])
    if toy.ROOT / "videos" in Path(args.video).parents:
        toy.videos_folder()  # made on first use
    dtype = "float32" if args.model == "toy" else "bfloat16"  # as in evaluate.py
    model, device = toy.resolved(args.model), "cuda" if torch.cuda.is_available() else "cpu"
    processor = load_processor(model, args.max_pixels)
    if not processor.n_frames:
        raise SystemExit(f"{model} reads only text; --model takes a model that sees videos")
    sample = partial(uniform, n=args.n_frames or processor.n_frames)
    frames, times = read_frames(args.video, sample, processor.family.fit)
    print(f"{model} sees frames at", *(f"{time:.1f}" for time in times), "seconds", flush=True)
    request = Request(processor.prepare(frames, times), args.question)
    *_, adapter = find_adapters(model, [args.adapter] if args.adapter else []).values()
    vlm = load_vlm(model, dtype, device, args.max_pixels)
    if adapter:
        load_adapter(vlm.model, adapter)
    else:
        print(f"no adapter: {ADAPTER} is missing or belongs to another model; see --adapter")
    for name in ("before:", "after: ") if adapter else ("answer:",):
        with adapter_off(vlm.model) if name == "before:" else nullcontext():
            ((_, found),) = ask_all(lambda: vlm, [request], 1, max(1, args.max_new_tokens))
        end = "" if found.finished or found.error else " ... (cut off by --max_new_tokens)"
        print(name, printable(found.error or found.text) + end)


if __name__ == "__main__":
    with command_line():
        main()
