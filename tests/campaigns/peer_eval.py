"""How much faster is evaluate.py than lmms-eval, both as a user runs them?

    python tests/campaigns/peer_eval.py --python PEER/bin/python

PEER is an environment with lmms-eval; docs/speed.md says how to make it. Both ask the same model
folder the same questions about the same videos: MVBench's action_sequence, with lmms-eval's own
functions for its prompts and videos. The random model never ends an answer before MVBench's 16
tokens. Both must have equally many visual tokens in each prompt. Seconds are CPU seconds of all
processes, with one thread. A run of few videos is subtracted from a run of many, so start and
warm-up do not count. The runs alternate, and seconds are medians over rounds. On Linux only.
"""

import json
import os
import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path[:0] = [str(Path(__file__).parents[i]) for i in (1, 2)]
from campaigns.peer_files import N_FRAMES, make_model, make_pairs  # noqa: E402 (after the path)
from campaigns.peers import ROOT, measured, per_pair  # noqa: E402

from pasta.models.load import load_processor  # noqa: E402
from pasta.run.command import command_line, number  # noqa: E402
from pasta.sampling import uniform  # noqa: E402
from pasta.video import read_frames  # noqa: E402

VIDEOS = (4, 20)  # few, many
QUESTIONS = (1, 3)  # about each video
BATCH = 4  # questions: the default of evaluate.py; lmms-eval's is 1
HOME = "mvbench_video"  # where lmms-eval looks for MVBench, below HF_HOME
PIXELS = "min_pixels=3136,max_pixels=602112"  # pasta's, for this model
# lmms-eval loads in bfloat16, which few CPUs compute with. PRINT also shows the visual tokens.
PRINT = """import runpy, sys
from transformers import Qwen2_5_VLForConditionalGeneration as Model
load, generate = Model.from_pretrained, Model.generate
def in_float32(*args, **more):
    return load(*args, **more | {"torch_dtype": "float32"})
def counted(self, *args, **more):
    ids = more["input_ids"]
    print("visual tokens", *(ids == self.config.video_token_id).sum(1).tolist(), flush=True)
    return generate(self, *args, **more)
Model.from_pretrained, Model.generate = in_float32, counted
runpy.run_module("lmms_eval", run_name="__main__", alter_sys=True)
"""
TASK = """task: pasta_speed
dataset_path: json
dataset_kwargs:
  data_files: {file}
test_split: train
output_type: generate_until
generation_kwargs: {{max_new_tokens: 16, temperature: 0, do_sample: false}}
doc_to_visual: !function utils.mvbench_doc_to_visual
doc_to_text: !function utils.mvbench_doc_to_text
doc_to_target: answer
process_results: !function utils.mvbench_process_results
metric_list:
  - metric: mvbench_accuracy
    aggregation: !function utils.mvbench_aggregate_results
    higher_is_better: true
lmms_eval_specific_kwargs:
  default: {{sub_task: action_sequence, post_prompt: "Only give the best option.\\n"}}
"""


def write_benchmark(folder, n_videos, questions):
    """Write videos and the questions about them, as MVBench's files and as a task of lmms-eval."""
    videos = folder / HOME / "star/Charades_segment"
    videos.parent.mkdir(parents=True)
    make_pairs(videos, n_videos, k=1)
    words, rows = ("red", "green", "blue", "white", "black"), []
    for i in range(n_videos):
        for k in range(questions):
            row = {"video": f"{i}.mp4", "question": f"Which part is {words[k]} at the end?"}
            rows.append(row | {"candidates": ["The left.", "The right."], "answer": "The left."})
    (folder / HOME / "json").mkdir()
    file = folder / HOME / "json/action_sequence.json"
    file.write_text(json.dumps(rows))
    (folder / "task").mkdir()
    (folder / "task/pasta_speed.yaml").write_text(TASK.format(file=file))
    (folder / "task/utils.py").write_text("from lmms_eval.tasks.mvbench.utils import *\n")


def run_pasta(batch, model, data, out):
    command = [sys.executable, ROOT / "evaluate.py", "--bench", "mvbench", "--data", data / HOME]
    command += ["--model", model, "--adapter", "none", "--n_frames", N_FRAMES, "--out", out / "out"]
    return measured([*command, "--dtype", "float32", "--device", "cpu", "--batch_size", batch], out)


def run_lmms_eval(python, batch, model, data, out):
    (script := data / "peer.py").write_text(PRINT)
    settings = f"pretrained={model},device=cpu,device_map=cpu,attn_implementation=sdpa"
    command = [python, script, "--model", "qwen2_5_vl", "--tasks", "pasta_speed"]
    command += ["--model_args", f"{settings},max_num_frames={N_FRAMES},{PIXELS}"]
    command += ["--include_path", data / "task", "--batch_size", batch]
    found = measured(command, out, HF_HOME=str(data))
    lines = re.findall(r"visual tokens ([\d ]+)", (out / "log.txt").read_text())
    shown, expected = {int(n) for line in lines for n in line.split()}, visual_tokens(model, data)
    if shown != {expected}:
        raise RuntimeError(f"{out}/log.txt shows {shown} visual tokens; expected {expected}")
    return found


def visual_tokens(model, data):
    """How many pasta has in a prompt."""
    processor, video = load_processor(model), data / HOME / "star/Charades_segment/0.mp4"
    frames = read_frames(video, lambda times: uniform(times, N_FRAMES), processor.family.fit)
    return processor.prepare(*frames).n_tokens


def compare(python, questions, rounds, folder):
    """{(program, batch size): ([CPU seconds of a question, of each round], peak bytes)}."""
    make_model(model := folder / "model")
    for n in VIDEOS:
        write_benchmark(folder / f"data{n}", n, questions)
    found = {("pasta", BATCH): ([], 0), ("lmms-eval", 1): ([], 0), ("lmms-eval", BATCH): ([], 0)}
    for i in range(rounds):
        for (program, batch), (seconds, memory) in found.items():
            run = run_pasta if program == "pasta" else partial(run_lmms_eval, python)
            out = f"{program}-{batch}-{i}"
            both = [(folder / f"data{n}", folder / f"{out}-{n}") for n in VIDEOS]
            few, many = (run(batch, model, data, into) for data, into in both)
            each = per_pair(few[0], many[0], questions, VIDEOS)
            found[program, batch] = ([*seconds, each], max(memory, many[1]))
    return found


def table(found, questions):
    """Lines of a Markdown table; ratios are relative to pasta."""
    base, peak = found["pasta", BATCH]
    for (program, batch), (seconds, memory) in found.items():
        ratio = median(a / b for a, b in zip(seconds, base, strict=True))
        each = ", ".join(f"{x:.2f}" for x in seconds)
        line = f"| {questions} | {program} | {batch} | {median(seconds):.2f} | {each} "
        yield f"{line}| {ratio:.1f} | {memory / 1e6:,.0f} | {memory / peak:.1f} |"


def main():
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="of the peer's environment")
    parser.add_argument("--rounds", type=number, default=3)
    parser.add_argument("--out", type=Path, help="new folder to keep, with the logs")
    args = parser.parse_args()
    python = args.python.absolute()  # not resolved: a link belongs to its environment
    print(f"| questions | program | batch | s | rounds | ratio | MB | ratio |\n{'|---' * 8}|")
    with TemporaryDirectory() as temporary:
        for questions in QUESTIONS:
            folder = (args.out or Path(temporary)).absolute() / f"{questions}"
            folder.mkdir(parents=True)
            found = compare(python, questions, args.rounds, folder)
            print(*table(found, questions), sep="\n", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with command_line():
        main()
