"""The built-in default: videos of coloured shapes and a tiny Video-LLM, made on first use."""

import os
from pathlib import Path

from pasta.run.atomic import atomic_folder
from pasta.run.locks import lock
from pasta.toy import files

ROOT = Path("data/toy")
SHIPPED = Path(__file__).resolve().parent / "model"  # made by `python -m pasta.toy.pretrain`
N_VIDEOS = 800
N_QUESTIONS = 300  # of each mode, in the benchmark


def made(name, write, *arguments):
    """The folder ROOT / name; if it is absent, write(folder, *arguments) fills it."""
    folder = ROOT / name
    if folder.exists():
        return folder
    ROOT.mkdir(parents=True, exist_ok=True)
    with open(ROOT / f".{name}.lock", "a") as file:
        lock(file, file.name, wait=True)  # another process may be making the same folder
        if not folder.exists():
            with atomic_folder(folder) as part:
                write(part, *arguments)
    return folder


def model_folder(seed=0, kind="qwen", noise=None):
    """The folder of a toy model, as str; made on first use, in minutes, but for the shipped one.

    noise: it is trained further, with this factor on the label noise of its last stage.
    """
    from pasta.toy.pretrain import train_base, train_further  # only now: slow to import

    if noise is not None:
        source = model_folder(seed, kind)
        return str(made(f"{Path(source).name}-noise{noise}", train_further, source, seed, noise))
    if (seed, kind) == (0, "qwen"):
        return os.path.relpath(SHIPPED) if SHIPPED.is_relative_to(Path.cwd()) else str(SHIPPED)
    return str(made(f"{'model' if kind == 'qwen' else kind}{seed or ''}", train_base, seed, kind))


def resolved(model):
    """The name of a model; for "toy" the folder of the toy model."""
    return model_folder() if model == "toy" else model


def is_toy(model):
    return model == "toy" or Path(model).resolve() == SHIPPED


def videos_folder(seed=1):
    """A folder of unlabelled videos of a balanced world, to make pairs from."""
    return made(f"videos{seed if seed != 1 else ''}", files.write_videos, N_VIDEOS, seed)


def queries_file(seed=1):
    """Queries about these videos, one of each mode, from an asker that knows the ground truth."""
    folder = made(f"queries{seed if seed != 1 else ''}", files.write_queries, N_VIDEOS, seed)
    return folder / "queries.jsonl"


def benchmark_folder(seed=2, blind=False):
    """A multiple-choice benchmark in MVBench's layout. blind: with black videos."""
    name = f"mvbench{seed if seed != 2 else ''}{'-blind' * blind}"
    return made(name, files.write_benchmark, N_QUESTIONS, seed, blind)


def adversarial_folder(seed=4):
    """A benchmark of questions to refuse, in the layout of benchmarks/adversarial.py."""
    return made(f"adversarial{seed if seed != 4 else ''}", files.write_adversarial, 200, seed)
