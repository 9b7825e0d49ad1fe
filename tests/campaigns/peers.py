"""How much faster is pasta than another trainer, both as a user runs them?

    python tests/campaigns/peers.py --peer ms-swift --python PEER/bin/python
    python tests/campaigns/peers.py --peer llama-factory --python PEER/bin/python
    python tests/campaigns/peers.py --peer trl --python PEER/bin/python

PEER is an environment with the trainer; docs/speed.md says how to make it. Both train an adapter on
one model folder and one set of videos and pairs, which pasta exports. Both must have equally many
visual tokens. Seconds are CPU seconds of all processes, because other programs change them little.
A run of few videos is subtracted from a run of many, so start and warm-up do not count. pasta runs
twice: it computes the reference, as in a first epoch; then it knows the reference from its cache.
The runs alternate, and seconds are medians over rounds. Memory is the peak of the largest process.
On Linux only.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from campaigns.peer_files import N_FRAMES, make_model, make_pairs  # noqa: E402 (after the path)
from campaigns.ways import REJECTED  # noqa: E402

from pasta.models.load import load_processor  # noqa: E402
from pasta.run.atomic import write_json  # noqa: E402
from pasta.run.command import command_line, number  # noqa: E402
from pasta.sampling import uniform  # noqa: E402
from pasta.tools.export import WRITERS  # noqa: E402
from pasta.video import read_frames  # noqa: E402

VIDEOS = {1: ((2, 8), (1, 5)), 3: ((2, 8), (1, 3))}  # k: (few, many) of pasta and of the peer
RANK, ALPHA = 16, 32  # of the adapter
FIRST = "pasta-first-epoch"
PACKAGES = ("torch", "transformers", "peft", "trl", "ms_swift", "llamafactory")

# The peers' settings that the export does not print. By default, each of them checkpoints
# activations and adapts all linear layers of the language model.
LLAMA_FACTORY = {
    "do_train": True, "finetuning_type": "lora", "lora_rank": RANK, "lora_alpha": ALPHA,
    "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "num_train_epochs": 1,
    "preprocessing_num_workers": 1, "dataloader_num_workers": 0, "save_strategy": "no",
    "report_to": "none", "use_cpu": True, "logging_steps": 1, "output_dir": "out",
}  # fmt: skip
SWIFT = f"""--model_type qwen2_5_vl --template qwen2_5_vl
    --tuner_type lora --lora_rank {RANK} --lora_alpha {ALPHA} --lora_dropout 0 --torch_dtype float32
    --per_device_train_batch_size 1 --gradient_accumulation_steps 1 --num_train_epochs 1
    --split_dataset_ratio 0 --dataset_num_proc 1 --dataloader_num_workers 0 --save_strategy no
    --report_to none --logging_steps 1 --output_dir out"""
PLUGIN = """from swift.template.templates.qwen import Qwen2VLTemplate
Qwen2VLTemplate.video_token_id, Qwen2VLTemplate.image_token_id = {video}, {image}
"""
TRL = f"""import sys, datasets, peft, transformers, trl
model, file = sys.argv[1:]
pairs = datasets.load_dataset("json", data_files=file, split="train")
trainer = trl.DPOTrainer(
    model=transformers.AutoModelForImageTextToText.from_pretrained(model, dtype="float32"),
    processing_class=transformers.AutoProcessor.from_pretrained(model),
    train_dataset=pairs.cast_column("images", [datasets.Image()]),
    peft_config=peft.LoraConfig(r={RANK}, lora_alpha={ALPHA}, target_modules=r".*language.*_proj"),
    args=trl.DPOConfig("out", max_length=None, per_device_train_batch_size=1, use_cpu=True,
        bf16=False, num_train_epochs=1, logging_steps=1, save_strategy="no", report_to="none"))
batch = trainer.data_collator([trainer.train_dataset[0]])
print("chosen_input_ids", batch["input_ids"][0].tolist())
trainer.train()
"""
# Runs a command and waits for all processes that it leaves, which the kernel gives to this one.
WAIT = """import ctypes, os, resource, subprocess, sys
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
code = subprocess.call(sys.argv[1:], stdout=2)
try:
    while True:
        os.wait()
except ChildProcessError:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
    sys.exit(code)
"""


def measured(command, folder, **env):
    """(CPU seconds of a command and of its processes, peak bytes of the largest one)."""
    folder.mkdir()
    same = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    env = os.environ | same | env
    command = [sys.executable, "-c", WAIT, *map(str, command)]
    with open(folder / "log.txt", "w") as log:
        done = subprocess.run(command, cwd=folder, env=env, stdout=-1, stderr=log, text=True)
    if done.returncode:
        last = " | ".join((folder / "log.txt").read_text().splitlines()[-3:])
        raise RuntimeError(f"{shlex.join(command[3:])} failed; {folder}/log.txt ends: {last}")
    seconds, memory = done.stdout.split()
    return float(seconds), int(memory)


def run_pasta(model, k, pairs, folder):
    command = [sys.executable, ROOT / "train_dpo.py", "--model", model, "--pairs", pairs]
    command += ["--n_frames", N_FRAMES, "--lora_rank", RANK, "--lora_alpha", ALPHA]
    command += ["--batch_pairs", k, "--dtype", "float32", "--device", "cpu", "--out", "out"]
    return measured(command, folder)


def run_peer(peer, python, model, pairs, folder):
    """Export the pairs, then run the command that the export prints, with more settings."""
    folder.mkdir()
    exported = folder / {"ms-swift": "pairs.jsonl"}.get(peer, "pairs")
    frames = N_FRAMES // 2 if peer == "trl" else N_FRAMES  # its images have twice the tokens
    command = [sys.executable, "-m", "pasta.tools.export", "pairs", "--to", peer]
    command += ["--n_frames", str(frames), pairs, exported]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    words, env = shlex.split(printed.rpartition(":\n")[2].replace("\\\n", "")), {}
    if peer == "ms-swift":
        ids = {kind: token_id(model, kind) for kind in ("video", "image")}
        (folder / "plugin.py").write_text(PLUGIN.format_map(ids))
        words += ["--external_plugins", folder / "plugin.py", *SWIFT.split()]
        env = dict(word.split("=") for word in words[: words.index("swift")])
        words = [str(model) if word == "MODEL" else word for word in words[len(env) :]]
    elif peer == "llama-factory":
        write_json(folder / "more.yaml", LLAMA_FACTORY | {"model_name_or_path": str(model)})
        words[words.index("YOUR.yaml")] = folder / "more.yaml"
    else:
        (folder / "peer.py").write_text(TRL)
        words = [python.name, folder / "peer.py", model, exported / "train.jsonl"]
    found = measured([python.parent / words[0], *words[1:]], folder / "run", **env)
    check_tokens(model, pairs, folder / "run/log.txt")
    return found


def check_tokens(model, pairs, log):
    """Raise RuntimeError unless the peer's first row has as many visual tokens as pasta's."""
    processor, sample = load_processor(model), partial(uniform, n=N_FRAMES)
    inputs = processor.prepare(*read_frames(pairs.with_name("0.mp4"), sample, processor.fit))
    printed = re.search(r"(?i)chosen_input_ids\W+([\d, ]+)", log.read_text())
    ids = list(map(int, printed[1].split(", "))) if printed else []
    found = sum(ids.count(token_id(model, kind)) for kind in ("video", "image"))
    if found != inputs.n_tokens:
        text = f"{log} shows {found} visual tokens in the peer's first row"
        raise RuntimeError(f"{text}; expected as many as in pasta, {inputs.n_tokens}")


def token_id(model, kind):
    return json.loads((model / "config.json").read_text())[f"{kind}_token_id"]


def compare(run, peer, k, rounds, folder):
    """{method: ([CPU seconds of a pair, of each round], peak bytes)}.

    run: function (model, pairs, folder) -> (CPU seconds, peak bytes), which runs the peer
    """
    make_model(model := folder / "model")
    ours, theirs = VIDEOS[k]
    pairs = {n: make_pairs(folder / f"{n}-videos", n, k) for n in {*ours, *theirs}}
    pasta, seconds, memory = partial(run_pasta, model, k), {}, {}
    methods = {FIRST: (pasta, ours), "pasta": (pasta, ours), peer: (partial(run, model), theirs)}
    for i in range(rounds):
        for n in ours:
            pairs[n].with_name("reference.jsonl").unlink(missing_ok=True)
        for method, (function, videos) in methods.items():
            runs = [function(pairs[n], folder / f"{method}-{n}-{i}") for n in videos]
            seconds.setdefault(method, []).append(per_pair(runs[0][0], runs[1][0], k, videos))
            memory[method] = max(memory.get(method, 0), runs[1][1])
    return {method: (seconds[method], memory[method]) for method in methods}


def per_pair(few, many, k, videos):
    """Seconds of a pair, from those of a run of few videos and of a run of many.

    videos: (few, many); each video has k pairs
    """
    return (many - few) / (k * (videos[1] - videos[0]))


def table(found, k):
    """Lines of a Markdown table; ratios are relative to `pasta`."""
    base, peak = found["pasta"]
    for method, (seconds, memory) in found.items():
        ratio = median(a / b for a, b in zip(seconds, base, strict=True))
        each = ", ".join(f"{x:.2f}" for x in seconds)
        line = f"| {k} | {method} | {median(seconds):.2f} | {each} | {ratio:.1f} "
        yield f"{line}| {memory / 1e6:,.0f} | {memory / peak:.1f} |"


def versions(python):
    code = "from importlib.metadata import distributions as found; print(', '.join(sorted("
    code += f"f'{{x.name}} {{x.version}}' for x in found() if x.name in {PACKAGES})))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def main():
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=WRITERS, required=True)
    parser.add_argument("--python", type=Path, required=True, help="of the peer's environment")
    parser.add_argument("--rounds", type=number, default=3)
    parser.add_argument("--k", type=int, nargs="+", default=REJECTED, choices=VIDEOS)
    parser.add_argument("--out", type=Path, help="new folder to keep, with the logs")
    args = parser.parse_args()
    python = args.python.absolute()  # not resolved: a link belongs to its environment
    print(f"{args.peer}: {versions(python)}\npasta: {versions(sys.executable)}")
    print(f"| k | method | s | rounds | ratio | MB | ratio |\n{'|---' * 7}|", flush=True)
    with TemporaryDirectory() as temporary:
        for k in args.k:
            folder = (args.out or Path(temporary)).absolute() / f"k{k}"
            folder.mkdir(parents=True)
            found = compare(partial(run_peer, args.peer, python), args.peer, k, args.rounds, folder)
            print(*table(found, k), sep="\n", flush=True)


if __name__ == "__main__":
    with command_line():
        main()
