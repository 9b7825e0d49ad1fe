"""Score a Video-LLM on a benchmark as lmms-eval does, alone and with adapters, side by side.

    python evaluate.py                                             # the toy model, toy benchmark
    torchrun --nproc_per_node 8 evaluate.py --bench videomme --adapter out/dpo/adapter
    python evaluate.py --bench videomme --check                    # is the data complete?
    python evaluate.py --bench videomme --compare out/eval/videomme/A out/eval/videomme/B

Answers are appended to OUT/BENCH/NAME/answers.jsonl; the same command continues a stopped run.
scored.jsonl holds the answers that are scored, OUT/BENCH/scores.json the numbers.
In --help, `toy:` is the default when no model is named.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent))  # with PYTHONSAFEPATH it is not there

from pasta import toy
from pasta.benchmarks import NAMES, benchmark, inputs
from pasta.benchmarks.adversarial import judged
from pasta.benchmarks.answers import answered, earlier_rows, fingerprint, reread, video_digests
from pasta.benchmarks.report import compare, report, sample_rows
from pasta.models.files import model_setting
from pasta.models.load import load_processor, load_vlm
from pasta.models.peft import load_adapter
from pasta.run import flags, ranks
from pasta.run.command import command_line
from pasta.run.config import knob, parse, write_config
from pasta.run.digest import digest_files
from pasta.run.locks import claim_folder
from pasta.run.rows import Appender, write_rows
from pasta.tools.dry_run import scoring


@dataclass
class EvalConfig:
    DATA: ClassVar = "model and questions"
    bench: Literal[NAMES] = knob("benchmark", "mvbench")
    data: Path | None = knob("data folder; None: data/BENCH if it exists, else toy data", None)
    model: str = knob("model folder or hub id", "Qwen/Qwen2.5-VL-7B-Instruct", toy="toy")
    adapter: list[str] = knob(f"adapter folders; default: {inputs.ADAPTER} if it fits --model", [])
    limit: flags.Limit = knob("maximum questions per task; 0: all", 0)
    out: Path = knob("folder for answers and scores", Path("out/eval"))
    INSTEAD: ClassVar = "instead of asking"
    check: bool = knob("only check that every video can be opened; loads no model", False)
    compare: list[str] = knob("two answer folders A and B; prints the paired difference B - A", [])
    dry_run: bool = knob("print the work and its cost, then stop", False)
    SCORES: ClassVar = "how answers are read"
    scoring: Literal["generate", "letter"] = knob("letter: take the most likely letter", "generate")
    parser: Literal["head", "v0.5"] = knob("lmms-eval version of Video-MME, MLVU rules", "head")
    draws: Literal["one", "expected"] = knob("lmms-eval's random letters: one, or the mean", "one")
    judge: str = knob("adversarial: judge of rejections, `rules` or a model", "rules")
    log_samples: bool = knob("also write samples.jsonl in lmms-eval's format", False)
    seed: flags.Seed = knob("seed of the bootstrap intervals; decoding is greedy", 0)
    SPEED: ClassVar = "frames, speed and memory"
    n_frames: flags.Limit = knob("frames per video, spread evenly; 0: the checkpoint's, or 32", 0)
    max_pixels: flags.Limit = knob("maximum pixels per frame; 0: the checkpoint's", 602112, toy=0)
    batch_size: flags.Count = knob("questions per batch", 4, toy=64)
    dtype: Literal["float32", "bfloat16"] = knob("dtype of the weights", "bfloat16", toy="float32")
    device: flags.Device = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")


def find_data(config, bench):
    """The data folder. Prints which one it is, before the toy benchmark is made."""
    data = config.data or Path("data") / config.bench
    in_toy = {"mvbench": toy.benchmark_folder, "adversarial": toy.adversarial_folder}
    if config.data or data.is_dir() or config.bench not in in_toy:
        print(f"{config.bench} from {data}")
        return data
    print(f"TOY benchmark instead of {config.bench}: no {data}; get it: {bench.fetch} {data}")
    return in_toy[config.bench]()


def rows_of_model(config, bench, items, digests, adapter, path, settings):
    """The row of every item: those in the file, and others, asked now; each rank asks its share."""
    facts = {"adapter": adapter and digest_files(sorted(adapter.glob("adapter_*")))} | settings
    fingerprints = {x.id: fingerprint(x, digests.get(x.video), **facts) for x in items}
    (rows,) = ranks.gather([earlier_rows(path, fingerprints)] if ranks.rank() == 0 else [])
    todo = [item for item in items if item.id not in rows]
    videos = set(ranks.share(list(dict.fromkeys(item.video for item in todo))))
    new = []
    if todo := [item for item in todo if item.video in videos]:
        vlm = load_vlm(config.model, config.dtype, config.device, config.max_pixels)
        if adapter:
            load_adapter(vlm.model, adapter)
        how = (settings["n_frames"], config.scoring, config.batch_size, config.parser)
        answers = answered(vlm, bench, todo, *how)
        with Appender(ranks.rank_path(path)) as file:
            for row in ranks.progress(answers, path.parent.name, len(todo), "item"):
                if "error" in row:
                    tqdm.write(f"{row['id']} counts as wrong: {row['error']}")
                new.append(row | {"fingerprint": fingerprints[row["id"]]})
                file.write(new[-1])
    rows |= {row["id"]: row for row in ranks.gather(new)}
    return [reread(bench, rows[item.id], item, config.parser) for item in items]


def main(config):
    bench = benchmark(config.bench)
    if config.compare:
        return compare(config.compare, config.bench, bench, config.seed)
    bench = replace(bench, draws=bench.draws and config.draws)
    if config.judge != "rules" and config.bench != "adversarial":
        raise SystemExit("--judge is only for --bench adversarial")
    data = find_data(config, bench)
    items, absent = inputs.find_items(bench, data, config.limit, config.scoring)
    if config.check:
        return inputs.check_items(items, bench.counts)
    config.model = toy.resolved(config.model)  # only now: --check and --compare need no model
    processor = load_processor(config.model, config.max_pixels)
    if not processor.n_frames:
        raise SystemExit(f"{config.model} reads only text; --model takes a model that sees videos")
    frames = config.n_frames or processor.n_frames
    settings = model_setting(config.model, processor) | {"dtype": config.dtype, "n_frames": frames}
    settings |= {"scoring": config.scoring, "max_new_tokens": bench.max_new_tokens}
    folder, adapters = config.out / config.bench, inputs.find_adapters(config.model, config.adapter)
    inputs.check_adapters(config.model, [path for path in adapters.values() if path])
    config.device = ranks.start(config.device)
    items, prompts = inputs.with_prompts(bench, items, processor)
    if config.dry_run:
        return scoring(config, bench, items, adapters, frames)
    claim_folder(folder, config, config.model)
    if ranks.rank() == 0:
        write_config(folder, config, data_used=data, frames_used=frames, prompts_used=prompts)

    rows, base, digests = {}, next(iter(adapters)), video_digests(items)
    for name, adapter in adapters.items():
        path = folder / (base + name if adapter else name) / "answers.jsonl"
        rows[name] = rows_of_model(config, bench, items, digests, adapter, path, settings)
        if ranks.rank():
            continue
        if config.judge != "rules":
            judge = load_vlm(config.judge, config.dtype, config.device)
            rows[name] = judged(judge, rows[name], config.batch_size)
        write_rows(path.with_name("scored.jsonl"), rows[name])
        if config.log_samples:
            write_rows(path.with_name("samples.jsonl"), sample_rows(rows[name]))
    if ranks.rank() == 0:
        facts = {"data": data, "absent": absent, "adapters": adapters, "prompt": prompts} | settings
        report(bench, items, rows, folder, facts, config.seed)


if __name__ == "__main__":
    with command_line():
        main(parse(EvalConfig))
        ranks.stop()
