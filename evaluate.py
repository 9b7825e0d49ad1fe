"""Score a Video-LLM on a benchmark as lmms-eval does, alone and with adapters, side by side.

    python evaluate.py                                             # the toy model, toy benchmark
    python evaluate.py --model Qwen/Qwen2.5-VL-7B-Instruct --adapter out/dpo/adapter

Each answer is appended to OUT/BENCH/NAME/answers.jsonl as soon as it is given, and the same command
goes on where it was stopped. OUT/BENCH/scores.json holds the numbers of the table.
"""

import json
import os
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from pasta import toy
from pasta.answers import answered, earlier_rows, fingerprint
from pasta.benchmarks import NAMES, benchmark
from pasta.config import knob, parse, write_config, write_json
from pasta.lora import load_adapter
from pasta.pairs import Appender
from pasta.scoring import comparison, counts, summary, table
from pasta.vlm import digest_files, load_processor, load_vlm, model_setting

ADAPTER = Path("out/dpo/adapter")  # where train_dpo.py leaves it


@dataclass
class EvalConfig:
    """Score a Video-LLM on a benchmark, alone and with adapters, side by side."""

    bench: Literal[NAMES] = knob("benchmark", "mvbench")
    data: Path | None = knob("its folder; None: data/BENCH, or without one the toy benchmark", None)
    model: str = knob("model folder or hub id", "Qwen/Qwen2.5-VL-7B-Instruct", toy.model_folder)
    adapter: list[str] = knob(f"adapter folders; none: {ADAPTER}, if it is of this model", [])
    limit: int = knob("only this many questions of each task, the first ones; 0: all", 0)
    scoring: Literal["generate", "letter"] = knob(
        "read the letter from a generated answer (as lmms-eval), or take the likeliest first token",
        "generate",
    )
    batch_size: int = knob("questions asked at once", 4, toy=16)
    n_frames: int = knob("frames per video, spread evenly; 0: the checkpoint's, or 32", 0)
    max_pixels: int = knob("pixels per frame at most; 0: the checkpoint's", 602112, toy=0)
    out: Path = knob("folder for answers and scores", Path("out/eval"))
    seed: int = knob("seed of the bootstrap; answers are greedy", 0)
    device: str = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")
    dtype: Literal["float32", "bfloat16"] = knob("of the weights", "bfloat16", toy="float32")


def find_data(config, bench):
    """The data folder. Prints which one it is, before the toy benchmark is made."""
    data = config.data or bench.DATA
    if config.data is not None or data.is_dir():
        print(f"{config.bench} from {data}")
        return data
    print(
        f"TOY benchmark in place of {config.bench}: there is no {data}. The real one comes with: "
        f"{bench.FETCH} {data}"
    )
    return toy.benchmark_folder()


def find_adapters(config):
    """{name: adapter folder}, the base model first with None.

    A name is the end of the path, as long as it takes to tell the adapters from each other.
    """
    folders = list(dict.fromkeys(Path(a).resolve() for a in config.adapter))
    if not folders and (ADAPTER / "adapter_config.json").is_file():
        if other := other_base(ADAPTER, config.model):
            print(f"{ADAPTER} is left out: {other}")
        else:
            folders = [ADAPTER.resolve()]
    for folder in folders:  # now, and not after hours of answers of the base model
        if not (folder / "adapter_config.json").is_file():
            raise FileNotFoundError(f"{folder} has no adapter_config.json; expected an adapter")
        if config.adapter and (other := other_base(folder, config.model)):
            print(f"{folder} is loaded all the same: {other}")
    of_run = [f.name == "adapter" and f.parent not in folders for f in folders]
    parts = [(f.parent if r else f).parts for f, r in zip(folders, of_run, strict=True)]
    depth = 1
    while len({p[-depth:] for p in parts}) < len(parts):
        depth += 1
    names = ["+" + "-".join(p[-depth:]) for p in parts]
    return {Path(config.model).name: None} | dict(zip(names, folders, strict=True))


def other_base(folder, model):
    """That an adapter was trained on another model, in words; "" if it was not."""
    settings = json.loads((folder / "adapter_config.json").read_text())
    base = settings.get("base_model_name_or_path") or "a model it does not name"
    same = Path(base).resolve() == Path(model).resolve()
    return "" if same else f"it was trained on {base}, this is {model}"


def answers(config, bench, questions, adapter, path, settings):
    """The row of every question under one model: those in the file, and the others, asked now.

    settings: what decides an answer besides the item and the adapter.
    """
    weights = adapter and digest_files(sorted(adapter.glob("adapter_*")))
    marks = {item.id: fingerprint(item, adapter=weights, **settings) for item in questions}
    rows = earlier_rows(path, marks)
    todo = [item for item in questions if item.id not in rows]
    if todo:
        vlm = load_vlm(config.model, config.dtype, config.device, config.max_pixels)
        if adapter:
            load_adapter(vlm.model, adapter)
        correct = sum(row["correct"] for row in rows.values())
        bar = tqdm(total=len(questions), initial=len(rows), desc=path.parent.name, unit="item")
        with Appender(path) as file, bar:
            n_frames, batch_size = settings["n_frames"], config.batch_size
            for row in answered(vlm, bench, todo, n_frames, config.scoring, batch_size):
                if "error" in row:
                    tqdm.write(f"{row['id']} counts as wrong: {row['error']}")
                file.write(row | {"fingerprint": marks[row["id"]]})
                rows[row["id"]] = row
                correct += row["correct"]
                bar.set_postfix_str(f"accuracy {correct / len(rows):.3f}")
                bar.update()
    return [rows[item.id] for item in questions]


def main(config):
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise SystemExit("evaluate.py is one process; start it with python, not with torchrun")
    bench = benchmark(config.bench)
    data = find_data(config, bench)
    by_task = groupby(bench.items(data), key=lambda item: item.task)
    questions = [item for _, items in by_task for item in islice(items, config.limit or None)]
    absent = bench.absent(questions)
    if absent:
        print(f"without these tasks, whose questions or videos are not there: {', '.join(absent)}")
    processor = load_processor(config.model, config.max_pixels)
    settings = model_setting(config.model, processor) | {
        "dtype": config.dtype,
        "n_frames": config.n_frames or processor.n_frames,
        "scoring": config.scoring,
        "max_new_tokens": bench.MAX_NEW_TOKENS,
    }
    folder, adapters = config.out / config.bench, find_adapters(config)
    write_config(folder, config, data_used=data, frames_used=settings["n_frames"])

    base, *_ = adapters
    scores, runs = {}, {}
    for name, adapter in adapters.items():
        path = folder / (base + name if adapter else name) / "answers.jsonl"
        rows = answers(config, bench, questions, adapter, path, settings)
        scores[name] = bench.aggregate(rows)
        runs[name] = summary(scores[name], bench.MACRO) | {"counts": counts(rows)}
    differences = {
        name: comparison(scores[name], scores[base], bench.MACRO, config.seed)
        for name in list(runs)[1:]
    }
    print(table(runs, differences, bench.MACRO))
    facts = {"data": data, "absent": absent, "adapters": adapters} | settings
    write_json(folder / "scores.json", facts | {"runs": runs, "differences": differences})
    print(f"wrote {folder / 'scores.json'}; every answer is in {folder}/NAME/answers.jsonl")


if __name__ == "__main__":
    main(parse(EvalConfig))
