"""Many pairs: how long a run takes to start, whether its memory grows, and how selection scales.

    python tests/campaigns/load.py --n 1000 10000 100000

N pairs about N / 20 videos with the same frames and different bytes, so the reference of one video
is that of all, and it is in the cache. Prints for each N the CPU seconds from the start of
train_dpo.py to its first update, those of the updates after it, the growth of memory from the 20th
to the last, and the CPU seconds of the last stage of make_pairs.py.
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import psutil

sys.path[:0] = [str(Path(__file__).parents[i]) for i in (1, 2)]
from conftest import finish, kill_all, launch  # noqa: E402 (after the path to it)

from make_pairs import PairsConfig  # noqa: E402
from pasta.datasets.read import read_pairs  # noqa: E402
from pasta.models.load import load_vlm  # noqa: E402
from pasta.packs import by_video  # noqa: E402
from pasta.pairs import MODES  # noqa: E402
from pasta.prompts import PROMPT_VERSION  # noqa: E402
from pasta.reference import ReferenceCache, cache_row, open_cache  # noqa: E402
from pasta.run.config import parse, read_config, write_config  # noqa: E402
from pasta.run.rows import read_rows, write_rows  # noqa: E402
from pasta.toy import files  # noqa: E402
from pasta.toy.pretrain import make_folder  # noqa: E402
from pasta.video import file_digest  # noqa: E402
from train_dpo import TrainConfig  # noqa: E402

PER_VIDEO, UPDATES = 20, 50  # 1,000 pairs make as many
TRAIN = {"device": "cpu", "dtype": "float32", "max_pixels": 0, "batch_pairs": PER_VIDEO}
TRAIN |= {"workers": 1, "lora_rank": 4}


def write_videos(folder, n):
    """n videos of the same frames: bytes after the end of a clip are not decoded."""
    files.write_videos(folder, 1, seed=0)
    (clip,) = folder.iterdir()
    data = clip.read_bytes()
    clip.unlink()
    for i in range(n):
        (folder / f"{i:05d}.avi").write_bytes(data + i.to_bytes(8, "little"))


def pairs_of(video):
    """PER_VIDEO rows about one video."""
    texts = {"chosen": "The red square is left.", "rejected": "The blue disc is right."}
    for i in range(PER_VIDEO):
        query = f"Is the square of second {i} left or right?"
        yield {"video": video, "mode": MODES[i % len(MODES)], "query": query, **texts}


def write_pairs(folder, n_videos):
    """pairs.jsonl about the first n videos."""
    names = [f"{i:05d}.avi" for i in range(n_videos)]
    rows = [row for name in names for row in pairs_of(name)]
    write_rows(folder / "pairs.jsonl", [{"id": str(i)} | row for i, row in enumerate(rows)])
    return folder / "pairs.jsonl"


def known_of_one(folder, model, videos):
    """((query, response) -> Known of the first video, the setting of all keys), by a real run."""
    flags = TRAIN | {"model": model, "pairs": write_pairs(folder, 1), "video_root": videos}
    flags |= {"out": folder / "out"}
    finish(launch("train_dpo.py", 0, flags))
    config = parse(TrainConfig, [str(x) for k, v in flags.items() for x in (f"--{k}", v)])
    n_frames = read_config(folder / "out")["frames_used"]
    cache = open_cache(config, load_vlm(model, "float32"), n_frames)
    (group,) = by_video(read_pairs(config.pairs, video_root=videos))
    rows = cache.read()
    return {text: rows[key] for text, key in cache.keys(group).items()}, cache.setting


def write_reference(path, known, setting, videos, n_videos):
    """Write the values of the first video as if they had been computed for each."""
    cache = ReferenceCache(path, setting)
    digests = [file_digest(str(videos / f"{i:05d}.avi")) for i in range(n_videos)]
    rows = (cache_row(cache.key(d, *text), known[text]) for d in digests for text in known)
    write_rows(path, rows)


def train(flags, updates):
    """(seconds to the first update, seconds from it to the last, bytes by then and at the 20th)."""
    process, seen = launch("train_dpo.py", 0, flags, cold=True), []
    for line in process.stdout:
        if line.startswith("step "):
            its = psutil.Process(process.pid)
            seen.append((sum(its.cpu_times()[:2]), its.memory_info().rss))
        if len(seen) == updates:
            break
    kill_all(str(flags["out"]))
    process.wait()
    (first, _), (last, memory) = seen[0], seen[-1]
    return first, last - first, memory, seen[19][1]


def candidates(videos, n_videos):
    """Rows of candidates.jsonl: every query with one adversarial response."""
    for i in range(n_videos):
        for pair in pairs_of(str(videos / f"{i:05d}.avi")):
            row = {name: pair[name] for name in ("video", "mode", "query")}
            good, bad = ({"response": pair[x], "finished": True} for x in ("chosen", "rejected"))
            row |= {"topic": "position", "preferred": good}
            row |= {"adversarial": [{"kind": "prompt"} | bad], "logps": []}
            yield row | {"recipe": {"candidates": 1, "twins": False}}


def select(folder, model, videos, n_videos):
    """Seconds that the last stage of make_pairs.py takes."""
    rows = list(candidates(videos, n_videos))
    write_rows(folder / "made/candidates.jsonl", rows)
    names = ("video", "mode", "topic", "query")
    queries = [{name: row[name] for name in names} | {"n": 0} for row in rows]
    write_rows(folder / "made/queries.jsonl", queries)
    flags = {"responder": model, "videos": videos, "out": folder / "made", "select": "none"}
    flags |= {"stage": "judge", "device": "cpu"}
    config = parse(PairsConfig, [str(x) for k, v in flags.items() for x in (f"--{k}", v)])
    config.asker = config.responder
    write_config(config.out, config, weights={}, prompt_version=PROMPT_VERSION)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finish(launch("make_pairs.py", 0, flags, "--no-balance", cold=True))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert read_rows(folder / "made/pairs.jsonl")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def campaign(folder, sizes, updates=UPDATES):
    """A row of numbers for each N."""
    make_folder(folder / "model")
    (folder / "videos").mkdir()
    write_videos(folder / "videos", max(sizes) // PER_VIDEO)
    (folder / "one").mkdir()
    known, setting = known_of_one(folder / "one", folder / "model", folder / "videos")
    for n in sizes:
        home, n_videos = folder / str(n), n // PER_VIDEO
        flags = TRAIN | {"model": folder / "model", "pairs": write_pairs(home, n_videos)}
        flags |= {"video_root": folder / "videos", "out": home / "out", "save_every": 10**6}
        write_reference(home / "reference.jsonl", known, setting, folder / "videos", n_videos)
        yield n, *train(flags, updates), select(home, folder / "model", folder / "videos", n_videos)


def main():
    parser = argparse.ArgumentParser(description="Measure runs of many pairs.")
    parser.add_argument("--n", type=int, nargs="+", default=[1000, 10_000, 100_000])
    args = parser.parse_args()
    heads = ("pairs", "begins", f"{UPDATES - 1} more", "memory", "growth", "selection")
    print("".join(f"{head:>11}" for head in heads))
    with tempfile.TemporaryDirectory() as folder:
        for n, first, more, memory, before, seconds in campaign(Path(folder), args.n):
            cells = [str(n), f"{first:.1f} s", f"{more:.1f} s", f"{memory / 2**20:.0f} MiB"]
            cells += [f"{100 * (memory / before - 1):.1f} %", f"{seconds:.1f} s"]
            print("".join(f"{cell:>11}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
