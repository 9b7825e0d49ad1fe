"""Take results elsewhere: an adapter merged into its model, pairs in other trainers' forms.

    python -m pasta.tools.export merge out/dpo out/model
    python -m pasta.tools.export pairs --to llama-factory out/pairs/pairs.jsonl out/llama-factory
    python -m pasta.tools.export pairs --to ms-swift out/pairs/pairs.jsonl out/ms-swift.jsonl
    python -m pasta.tools.export pairs --to trl --n_frames 16 out/pairs/pairs.jsonl out/trl

PEFT and vLLM take a run's adapter/ as it is; whatever knows no adapters takes the merged model.
What the forms of pairs are, and what TRL's loses, is told in export_pairs.py.

Shapes: R adapter rank; A is (R, in), B is (out, R).
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

import torch

from pasta.datasets.read import read_pairs
from pasta.lora import adapted
from pasta.making.server import MAX_PIXELS
from pasta.models.files import local_folder, save_model
from pasta.models.load import DEFAULT_FRAMES, load_vlm
from pasta.models.peft import CONFIG, base_of, load_adapter
from pasta.pairs import MODES
from pasta.run.schema import read_json
from pasta.tools.export_pairs import WRITERS
from pasta.video import VideoError

DTYPES = ("float32", "bfloat16", "float16")


def merge(run, out, name="adapter", base=None, dtype=None):
    """Write base model plus adapter as an ordinary model folder. Returns what to tell about it.

    run: run folder of train_dpo.py, or an adapter folder in PEFT's format.
    name: which adapter of the run. base: model folder or hub id, None for the adapter's own.
    dtype: one of DTYPES, None for the base checkpoint's own.
    Raises ValueError, FileNotFoundError and FileExistsError.
    """
    run, out = Path(run), Path(out)
    refuse_existing(out)
    adapter = find_adapter(run, name)
    base = find_base(adapter, base)
    own = stored_dtype(base)
    target = getattr(torch, dtype or own)
    wider = torch.promote_types(getattr(torch, own), target)  # rounded once, at the end
    model = load_vlm(base, str(wider).removeprefix("torch.")).model
    load_adapter(model, adapter)
    names = fold(model)
    model.to(target)
    save_model(out, model, base)
    return (
        f"wrote {out}: {base} with the adapter {adapter} in {len(names)} layers, {dtype or own}; "
        f"next: python evaluate.py --model {out}"
    )


def fold(model):
    """Add every adapter to the weight below it and take it out. Returns the layers' names.

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
    return [name for name, _ in layers]


def find_adapter(run, name):
    """The adapter folder that RUN and --adapter mean. Raises FileNotFoundError, ValueError."""
    if not run.is_dir():
        raise FileNotFoundError(f"there is no folder {run}; `python train_dpo.py` makes one")
    if (run / CONFIG).is_file():
        return run
    if (run / name / CONFIG).is_file():
        return run / name
    whole = run / name.replace("adapter", "model", 1)
    if (whole / "config.json").is_file():
        raise ValueError(
            f"{run} is a run of full tuning: {whole} is a whole model already, with nothing to "
            f"merge; next: python evaluate.py --model {whole}"
        )
    found = ", ".join(sorted(path.parent.name for path in run.glob(f"*/{CONFIG}")))
    raise FileNotFoundError(
        f"{run / name} is no adapter: it has no {CONFIG}; {run} has these adapters: "
        f"{found or 'none'}; expected a finished run of train_dpo.py, or --adapter NAME"
    )


def find_base(adapter, base):
    """The name of the model below an adapter. Raises FileNotFoundError and ValueError."""
    base = base or base_of(adapter)
    if not base:
        raise ValueError(f"{adapter / CONFIG} names no model; say which one it is of with --base")
    try:
        local_folder(base)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(
            f"{adapter} belongs to the model {base!r}, which is not found: {reason}; "
            "say where it is with --base"
        ) from None
    return base


def stored_dtype(base):
    """The type of a checkpoint's weights, from its config.json. Raises ValueError."""
    config = read_json(local_folder(base) / "config.json")
    dtype = config.get("dtype") or config.get("torch_dtype")  # the name until transformers 4.56
    if dtype not in DTYPES:
        raise ValueError(
            f"{base}: config.json says dtype {dtype!r}; expected one of {', '.join(DTYPES)}"
        )
    return dtype


def refuse_existing(out):
    """Raise FileExistsError when `out` is there."""
    if out.exists():
        raise FileExistsError(f"{out} exists; expected a new name: remove it, or choose another")


def run_merge(args):
    print(merge(args.run, args.out, args.adapter, args.base, args.dtype))


def run_pairs(args):
    refuse_existing(args.out)
    if not args.pairs.is_file():
        raise FileNotFoundError(f"there is no {args.pairs}; `python make_pairs.py` makes it")
    pairs = read_pairs(args.pairs, args.mode, args.video_root)
    print(WRITERS[args.to](pairs, args.out, args.n_frames, args.max_pixels))


def make_parser():
    """The command line: `merge` and `pairs`, each with flags of its own."""
    parser = ArgumentParser(
        prog="python -m pasta.tools.export",
        description=__doc__.split("\n\nShapes")[0],
        formatter_class=RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)

    text = "write base model and adapter as one model folder"
    one = commands.add_parser("merge", help=text, description=text, allow_abbrev=False)
    one.add_argument("run", type=Path, help="run folder of train_dpo.py, or an adapter folder")
    one.add_argument("out", type=Path, help="model folder to write, a new one")
    one.add_argument("--adapter", default="adapter", help="which one of the run (%(default)s)")
    one.add_argument("--base", help="model folder or hub id (default: what the adapter names)")
    one.add_argument("--dtype", choices=DTYPES, help="of the weights (default: the base's own)")
    one.set_defaults(command=run_merge)

    text = "write pairs as another trainer reads them"
    one = commands.add_parser("pairs", help=text, description=text, allow_abbrev=False)
    one.add_argument("pairs", type=Path, help="pairs.jsonl, of make_pairs.py or anybody's")
    one.add_argument("out", type=Path, help="file (ms-swift) or folder to write, a new one")
    one.add_argument("--to", choices=WRITERS, required=True, help="the trainer")
    text = "folder of relative videos (default: the pairs')"
    one.add_argument("--video_root", type=Path, help=text)
    one.add_argument("--mode", choices=MODES, help="mode of pairs that name none")
    text = "trl: frames per video, spread evenly, an even number (%(default)s)"
    one.add_argument("--n_frames", type=int, default=DEFAULT_FRAMES, help=text)
    text = "trl: pixels per frame at most; 0: the video's own (%(default)s)"
    one.add_argument("--max_pixels", type=int, default=MAX_PIXELS, help=text)
    one.set_defaults(command=run_pairs)
    return parser


def main(argv=None):
    args = make_parser().parse_args(argv)
    try:
        args.command(args)
    except (ValueError, OSError, VideoError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
