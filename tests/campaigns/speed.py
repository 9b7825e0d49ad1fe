"""How fast are the model and the scripts on this machine, and how much memory do they need?

    python tests/campaigns/speed.py --all                         # a small model, on a CPU
    python tests/campaigns/speed.py --model qwen2.5-vl-7b --all   # on a GPU

The model has a published size and random weights, the videos are the toy world's, enlarged, and the
responses random words: as slow as real ones, without downloads. Seconds are medians after a
warm-up; memory is the peak on a GPU, with the weights. Numbers are printed, and written as JSON.
"""

import os
import re
import shutil
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
import transformers
from torch.profiler import profile

sys.path[:0] = [str(Path(__file__).parents[2])]

from pasta.lora import adapter_off, add_lora  # noqa: E402 (after the path to it)
from pasta.models.generate import Request, ask  # noqa: E402
from pasta.models.load import checkpoint_activations, load_vlm  # noqa: E402
from pasta.models.vision import video_features  # noqa: E402
from pasta.packs import pack_responses  # noqa: E402
from pasta.pairs import MODES  # noqa: E402
from pasta.policy import Policy, text_logps  # noqa: E402
from pasta.run import flags  # noqa: E402
from pasta.run.atomic import write_json  # noqa: E402
from pasta.run.command import command_line, run_script  # noqa: E402
from pasta.run.config import knob, package_versions, parse  # noqa: E402
from pasta.run.rows import read_rows, write_rows  # noqa: E402
from pasta.run.schema import read_json  # noqa: E402
from pasta.sampling import uniform  # noqa: E402
from pasta.toy import files, world  # noqa: E402
from pasta.toy.pretrain import FILES, FOLDERS  # noqa: E402
from pasta.video import read_frames  # noqa: E402

SIZES = Path(__file__).parent / "sizes"  # a config.json of each published size
REJECTED = (1, 3)  # responses for each chosen one
BATCHES = (1, 4, 8)  # --batch_videos
N_WORDS = 96  # of a response


@dataclass
class SpeedConfig:
    """Measure the parts of a random model, and the scripts with it."""

    model: Literal["qwen2.5-vl-7b", "qwen2.5-vl-3b"] = knob("published size", toy="small")
    all: bool = knob("also run the three scripts", False)
    out: Path = knob("file of all numbers", Path("out/speed.json"))
    n_videos: flags.Count = knob("videos that the scripts get", 8, toy=2)
    n_frames: flags.Count = knob("frames of a video", 32, toy=8)
    pixels: flags.Count = knob("pixels of a frame, about", 520_000, toy=12_000)
    max_new_tokens: flags.Count = knob("tokens of an answer, at most", 128, toy=8)
    rounds: flags.Count = knob("measurements of each part of the model", 5, toy=2)
    dtype: Literal["float32", "bfloat16"] = knob("of the weights", "bfloat16", toy="float32")
    device: flags.Device = knob("cpu or cuda", "cuda" if flags.GPUS else "cpu")


def main(config):
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler says when it starts
    where = "cpu" if config.device == "cpu" else torch.cuda.get_device_name(config.device)
    found = {"config": asdict(config) | {"out": str(config.out)}, "device": where}
    with TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "videos").mkdir()
        files.write_videos(folder / "videos", config.n_videos, seed=0)
        model = (folder / "model", config.model, config.pixels, config.dtype, config.device)
        make_sized(*model)
        found |= {"threads": torch.get_num_threads(), "versions": package_versions()}
        found["parts"] = parts(config, folder)
        found["scripts"] = scripts(config, folder) if config.all else {}
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(config.out, found)
    for name, numbers in (found["parts"] | found["scripts"]).items():
        print(f"{name}: {numbers}")
    print(f"{config.model}, {config.dtype}, {where}; wrote {config.out}")


def make_sized(folder, size, pixels, dtype, device):
    """Write a Qwen2.5-VL of a size in SIZES with random weights and the toy's tokenizer.

    pixels: the least of a frame; smaller frames are enlarged.
    """
    file = SIZES / f"{size}.json"
    config = transformers.AutoConfig.from_pretrained(file, trust_remote_code=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDERS["qwen"], trust_remote_code=False)
    config.video_token_id = tokenizer.convert_tokens_to_ids("<|video_pad|>")
    with torch.device(device):  # on a GPU, random weights take seconds
        auto = transformers.AutoModelForImageTextToText
        model = auto.from_config(config, dtype=getattr(torch, dtype), trust_remote_code=False)
    model.save_pretrained(folder)
    for name in FILES:
        shutil.copy(FOLDERS["qwen"] / name, folder)
    path = Path(folder, "preprocessor_config.json")
    write_json(path, read_json(path) | {"temporal_patch_size": 2, "min_pixels": pixels})


def texts(n, seed=0):
    drawn = np.random.default_rng(seed).choice([*world.COLOURS, *world.SHAPES], (n, N_WORDS))
    return [" ".join(row) for row in drawn]


def parts(config, folder):
    """{part of the model: its seconds and memory, or its other numbers}."""
    vlm = load_vlm(folder / "model", config.dtype, config.device)
    processor, n, k = vlm.processor, config.max_new_tokens, 2 * len(MODES)
    sample, fit = partial(uniform, n=config.n_frames), processor.family.fit
    inputs = processor.prepare(*read_frames(folder / "videos/00000.avi", sample, fit))
    rows = [("What is there?", text) for text in texts(k)]
    pack, _ = pack_responses(processor, inputs, rows)
    found = {"tokens": {"video": inputs.n_tokens, f"with {k} responses": sum(pack.lengths)}}
    tower = partial(video_features, vlm.model, processor.family, [inputs])
    found["vision tower"] = measure(config, tower)
    asked = [Request(inputs, "What is there?" * (i + 1), i, 0.7) for i in range(8)]
    short, long = (measure(config, partial(ask, vlm, asked, tokens)) for tokens in (1, n))
    found["eight answers"], found["their first tokens"] = long, short
    if config.dtype == "bfloat16":
        with suppress(torch.OutOfMemoryError):
            exact = load_vlm(folder / "model", "float32", config.device)
            half, full = (text_logps(x, [(inputs, rows)])[0] for x in (vlm, exact))
            del exact
            found["nats a response, bfloat16 from float32"] = (half - full).tolist()
    add_lora(vlm.model, rank=32, alpha=64)
    checkpoint_activations(vlm.model.train())
    policy = Policy(vlm, config.dtype == "bfloat16")
    with adapter_off(vlm.model), torch.no_grad():
        found["reference"] = measure(config, partial(policy, pack))
    found["training step"] = measure(config, lambda: policy(pack).sum().backward())
    with profile() as profiler:
        policy(pack).sum().backward()
    times = Counter()
    for event in profiler.key_averages():
        times[event.key] += event.self_device_time_total or event.self_cpu_time_total
    shares = {name: round(t / times.total(), 3) for name, t in times.most_common(12)}
    return found | {"shares of a training step": shares}


def measure(config, function, rounds=None):
    """{"seconds", "memory": bytes} of a call. rounds: 0 for one call without a warm-up."""
    seconds, cuda = [], torch.cuda if config.device != "cpu" else None
    for _ in range(1 + (config.rounds if rounds is None else rounds)):
        if cuda:
            cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        function()
        if cuda:
            cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    memory = cuda.max_memory_allocated() if cuda else None
    return {"seconds": median(seconds[1:] or seconds), "memory": memory}


def scripts(config, folder):
    """{script: its seconds and memory with start-up, and its speed without}."""
    files.write_queries(folder, config.n_videos, seed=0)
    (folder / "bench").mkdir()
    files.write_benchmark(folder / "bench", 4, seed=0)
    queries = read_rows(folder / "queries.jsonl")
    for k in REJECTED:
        rows = []
        for row, chosen in zip(queries, texts(len(queries)), strict=True):
            rows += [row | {"chosen": chosen, "rejected": text} for text in texts(k, len(rows) + 1)]
        write_rows(folder / f"pairs{k}.jsonl", rows)
    found, log = {}, folder / "log.txt"

    def run(name, command):
        def script():
            with suppress(SystemExit):  # a random model may make no pairs
                run_script(command, log)

        more = f"--dtype {config.dtype} --device {config.device} --n_frames {config.n_frames}"
        command = f"{command.format(folder)} --model {folder}/model {more}"
        found[name] = measure(config, script, rounds=0)
        return found[name]

    for n in BATCHES:
        command = "make_pairs.py --videos {0}/videos --queries {0}/queries.jsonl --out {0}/made"
        command += f"{n} --batch_videos {n} --max_new_tokens {config.max_new_tokens}"
        run(f"make_pairs.py, {n} videos a batch", command)
    for k in REJECTED:
        command = f"train_dpo.py --pairs {{0}}/pairs{k}.jsonl --out {{0}}/trained{k}"
        command += f" --video_root {{0}}/videos --batch_pairs {k * len(MODES)}"
        numbers = run(f"train_dpo.py, {k} rejected", command)
        updates = read_rows(folder / f"trained{k}/metrics.jsonl")[1:]  # after a warm-up
        for name in ("seconds", "seconds_waiting"):
            numbers[f"{name} a video"] = median(row[name] for row in updates)
    command = "evaluate.py --data {0}/bench --adapter none --out {0}/scored"
    numbers = run("evaluate.py", command)
    answers = read_rows(next((folder / "scored").rglob("answers.jsonl")))
    numbers["seconds a question"] = median(row["seconds"] for row in answers)
    rates = re.findall(r"candidates: .* ([\d,]+) videos/hour", log.read_text())
    return found | {"videos an hour": dict(zip(BATCHES, rates, strict=True))}


if __name__ == "__main__":
    with command_line():
        main(parse(SpeedConfig))
