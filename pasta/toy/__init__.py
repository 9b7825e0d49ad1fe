"""The embedded default: a world of coloured shapes, and a tiny Video-LLM that grew up in it.

Each function returns a folder, which it makes on first use. To the rest of pasta they are a model,
some videos and a benchmark like any other.
"""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("data/toy")
N_VIDEOS = 800
N_QUESTIONS = 300  # of each mode, on the benchmark


@contextmanager
def whole(folder):
    """A temporary folder that becomes `folder` when the block ends: never half a folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield part
        os.chmod(part, 0o755)
        if not folder.exists():  # another process may have been faster
            os.rename(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def model_folder(seed=0, kind="qwen"):
    """The toy model's folder; the first time it is trained, which takes minutes.

    kind: "qwen" (Qwen2.5-VL) or "onevision" (LLaVA-OneVision).
    """
    folder = ROOT / f"{'model' if kind == 'qwen' else kind}{seed or ''}"
    if not folder.exists():
        from pasta.toy.pretrain import train_base

        with whole(folder) as part:
            train_base(part, seed, kind)
    return str(folder)


def resolved(model):
    """The name of a model; for "toy" that of the toy model, which is trained now if need be."""
    return model_folder() if model == "toy" else model


def videos_folder(seed=1):
    """A folder of unlabelled videos of a balanced world, to make pairs from."""
    folder = ROOT / ("videos" if seed == 1 else f"videos{seed}")
    if not folder.exists():
        from pasta.toy.files import write_videos

        with whole(folder) as part:
            write_videos(part, N_VIDEOS, seed)
    return folder


def queries_file(seed=1):
    """Queries about these videos, one a mode, by somebody who sees better than the toy model.

    In the paper, too, the asker is a far larger model than the responder.
    """
    folder = ROOT / ("queries" if seed == 1 else f"queries{seed}")
    if not folder.exists():
        from pasta.toy.files import write_queries

        with whole(folder) as part:
            write_queries(part / "queries.jsonl", N_VIDEOS, seed)
    return folder / "queries.jsonl"


def benchmark_folder(seed=2, blind=False):
    """A benchmark of lettered questions in MVBench's layout, both answers equally often right.

    blind: its videos are black.
    """
    folder = ROOT / f"mvbench{'' if seed == 2 else seed}{'-blind' * blind}"
    if not folder.exists():
        from pasta.toy.files import write_benchmark

        with whole(folder) as part:
            write_benchmark(part, N_QUESTIONS, seed, blind)
    return folder


def adversarial_folder(seed=4):
    """A benchmark of questions to refuse, in the layout of benchmarks/adversarial.py."""
    folder = ROOT / ("adversarial" if seed == 4 else f"adversarial{seed}")
    if not folder.exists():
        from pasta.toy.files import write_adversarial

        with whole(folder) as part:
            write_adversarial(part, 200, seed)
    return folder
