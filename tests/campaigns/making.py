"""How fast are the answers of pair making, beside other batches or an older version?

    python tests/campaigns/making.py
    git worktree add BEFORE COMMIT && python tests/campaigns/making.py --before BEFORE

Runs make_pairs.py, as a user does, on a random model of four layers, with each of BATCHES, and with
BEFORE's own make_pairs.py. The runs alternate. Each answers three queries about every video, once
well and three times misled; the model never ends an answer before --max_new_tokens. Seconds are CPU
seconds, with one thread. A run of few videos is subtracted from a run of many, so start and warm-up
do not count. All runs must write the same rows. On Linux only.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from safetensors.torch import load_file, save_file

sys.path[:0] = [str(Path(__file__).parents[i]) for i in (1, 2)]
from campaigns.peer_files import make_model, make_pairs  # noqa: E402 (after the path to it)
from campaigns.peers import ROOT, measured, per_pair  # noqa: E402

from pasta.pairs import MODES  # noqa: E402
from pasta.run.command import command_line, number  # noqa: E402
from pasta.run.rows import read_rows, write_rows  # noqa: E402

BATCHES = ((1, 16), (2, 24), (4, 24))  # --batch_videos, --batch_size; the first are the defaults
OLD = (1, 8)  # the defaults of BEFORE
VIDEOS = (4, 8)  # few, many: whole batches


def write_world(folder, videos=VIDEOS):
    """Write a model, videos, and the queries about the first videos of each run."""
    make_model(folder / "model")
    weights = load_file(path := folder / "model/model.safetensors")
    # A random model draws from a flat distribution, in which any rounding changes what is drawn.
    weights["lm_head.weight"] *= 20
    save_file(weights, path, {"format": "pt"})
    make_pairs(folder / "videos", max(videos), k=1)
    for n in videos:
        ask = [{"video": f"{i}.mp4", "mode": mode} for i in range(n) for mode in MODES]
        rows = [row | {"query": f"What is {row['mode']} there?"} for row in ask]
        write_rows(folder / f"queries{n}.jsonl", rows)


def make(code, batches, world, n, out, flags=()):
    """((CPU seconds, peak bytes), the rows of candidates.jsonl) of answering about n videos."""
    command = [sys.executable, code / "make_pairs.py", "--responder", world / "model"]
    command += ["--videos", world / "videos", "--queries", world / f"queries{n}.jsonl"]
    command += ["--dtype", "float32", "--device", "cpu", "--out", out / "made"]
    for name, value in zip(("batch_videos", "batch_size"), batches, strict=True):
        command += [f"--{name}", value]
    out.mkdir()
    for stage in ("queries", "candidates"):  # the first one only copies them
        found = measured([*command, *flags, "--stage", stage], out / stage)
    rows = read_rows(out / "made/candidates.jsonl")
    return found, sorted(rows, key=lambda row: (row["video"], row["mode"]))


def compare(runs, world, rounds, videos=VIDEOS, flags=()):
    """{run: [CPU seconds of a video, of each round]}. Raises RuntimeError if rows differ.

    runs: list of (folder of the code, batches); the first one is the base of ratios
    """
    seconds, expected = {run: [] for run in runs}, {}
    for i in range(rounds):
        for j, run in enumerate(runs):
            found = []
            for n in videos:
                used, rows = make(*run, world, n, world / f"{i}-{j}-{n}", flags)
                if rows != expected.setdefault(n, rows):
                    raise RuntimeError(f"{run} wrote other rows than {runs[0]}")
                found.append(used[0])
            seconds[run].append(per_pair(*found, 1, videos))
    return seconds


def table(seconds):
    """Lines of a Markdown table; ratio: the first run's seconds by the own, median over rounds."""
    (_, base), *_ = seconds.items()
    for (code, batches), own in seconds.items():
        name = "now" if code == ROOT else "before"
        ratio = median(a / b for a, b in zip(base, own, strict=True))
        each = ", ".join(f"{x:.1f}" for x in own)
        line = f"| {name} | {batches[0]} | {batches[1]} | {median(own):.1f} | {each} "
        yield f"{line}| {3600 / median(own):,.0f} | {ratio:.2f} |"


def main():
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="folder of another version")
    parser.add_argument("--rounds", type=number, default=3)
    args = parser.parse_args()
    runs = [(args.before.absolute(), OLD)] if args.before else []
    runs += [(ROOT, batches) for batches in BATCHES]
    print(f"| code | videos | prompts | s | rounds | videos/hour | speed |\n{'|---' * 7}|")
    with TemporaryDirectory() as folder:
        write_world(Path(folder))
        print(*table(compare(runs, Path(folder), args.rounds)), sep="\n")


if __name__ == "__main__":
    with command_line():
        main()
