"""Score a Video-LLM on a benchmark as lmms-eval does, alone and with adapters, side by side.

    python evaluate.py                                             # the toy model, toy benchmark
    torchrun --nproc_per_node 8 evaluate.py --model MODEL --bench videomme --adapter out/x/adapter
    python evaluate.py --suite temporal --model MODEL              # all of them whose data is here
    python evaluate.py --bench videomme --check                    # is the data complete?
    python evaluate.py --bench videomme --compare out/eval/A/videomme/A out/eval/B/videomme/B

Answers are appended to OUT/BENCH/NAME/answers.jsonl, on the toy benchmark OUT/toy/BENCH/NAME; the
same command continues a stopped run. scored.jsonl has those that are scored, scores.json numbers.
For the toy model, other defaults hold: see the end of --help.
"""

import sys
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Literal

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent))  # with PYTHONSAFEPATH it is not there

from pasta import toy
from pasta.benchmarks import NAMES, SUITES, benchmark, inputs
from pasta.benchmarks.adversarial import judged
from pasta.benchmarks.answers import answered, earlier_rows, fingerprint, reread, video_digests
from pasta.benchmarks.report import compare, report, suite_table
from pasta.making.roles import Roles
from pasta.models.files import model_setting
from pasta.models.load import load_processor, load_vlm
from pasta.models.peft import load_adapter
from pasta.run import flags, ranks
from pasta.run.command import command_line
from pasta.run.config import knob, parse, write_config
from pasta.run.digest import digest_files
from pasta.run.locks import claim_folder
from pasta.run.rows import Appender, write_rows


@dataclass
class EvalConfig:
    DATA: ClassVar = "model and questions"
    bench: Literal[NAMES] = knob("benchmark", "mvbench")
    suite: str = knob(f"several benchmarks: {', '.join(SUITES)} or NAME,NAME,...", "")
    data: Path | None = knob("folder, or toy (default: data/BENCH, or toy for the toy model)", None)
    model: str = knob("model folder or hub id", "Qwen/Qwen2.5-VL-7B-Instruct", toy="toy")
    adapter: list[str] = knob(f"adapters, or `none`; not given: {inputs.ADAPTER} if it fits", [])
    limit: flags.Limit = knob("maximum questions per task; 0: all", 0)
    out: Path | None = knob("folder of results (default: out/eval; MODEL: out/eval/MODEL)", None)
    INSTEAD: ClassVar = "instead of asking"
    check: bool = knob("only check that every video can be opened; loads no model", False)
    compare: list[str] = knob("two answer folders A and B; prints the paired difference B - A", [])
    SCORES: ClassVar = "how answers are read"
    scoring: Literal["generate", "letter"] = knob("letter: take the most likely letter", "generate")
    parser: Literal["head", "v0.5"] = knob("lmms-eval version of Video-MME, MLVU rules", "head")
    judge: str = knob("adversarial: `rules`, a model, or http://HOST:PORT/v1 of a server", "rules")
    seed: flags.Seed = knob("seed of the bootstrap intervals; decoding is greedy", 0)
    SPEED: ClassVar = "frames, speed and memory"
    n_frames: flags.Limit = knob("frames per video, spread evenly; 0: the checkpoint's, or 32", 0)
    clips: bool = knob("TVBench: show only from an item's start to its end", False)
    max_pixels: flags.Limit = knob("maximum pixels per frame; 0: the checkpoint's", 602112, toy=0)
    batch_size: flags.Count = knob("questions per batch", 4, toy=64)
    in_flight: flags.Count = knob("parallel requests to a server as --judge", 16)
    timeout: flags.Seconds = knob("seconds until a request to it times out", 300.0)
    dtype: Literal["float32", "bfloat16"] = knob("dtype of the weights", "bfloat16", toy="float32")
    device: flags.Device = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")


def find_data(config, name, bench):
    """The data folder; prints which one. Only the toy model falls back to the toy benchmark."""
    data, as_toy = Path("data") / name, str(config.data) == "toy"
    makers = {"mvbench": toy.benchmark_folder, "adversarial": toy.adversarial_folder}
    as_toy = as_toy or toy.is_toy(config.model) and not (config.data or data.is_dir())
    if name in makers and as_toy:
        real = bench.to_fetch(data)
        ranks.say(f"TOY benchmark instead of {name}; for the real one {real}")
        return makers[name]()
    if config.data and str(config.data) != "toy":  # only some benchmarks have a toy one
        data = config.data / name if config.suite else config.data
    ranks.say(f"{name} from {data}")
    return data


def names_of(config):
    """The benchmarks to run."""
    names = SUITES.get(config.suite) or config.suite.split(",") if config.suite else [config.bench]
    if unknown := [name for name in names if name not in NAMES]:
        known = ", ".join([*SUITES, *NAMES])
        raise SystemExit(f"--suite has {', '.join(unknown)}; expected some of {known}")
    if config.judge != "rules" and "adversarial" not in names:
        raise SystemExit("--judge is only for --bench adversarial")
    return names


def find_questions(config, names):
    """{benchmark: (Benchmark, data folder, items, absent tasks)}; of a suite those with data."""
    found = {}
    for name in names:
        bench = benchmark(name)
        data = find_data(config, name, bench)
        try:
            items = inputs.find_items(bench, data, config.limit, config.scoring)
        except FileNotFoundError as error:
            if not config.suite:
                raise
            ranks.say(f"{name} is left out: {error}")
            continue
        found[name] = (bench, data, *items)
    if not found:
        raise SystemExit(f"nothing of --suite {config.suite} is here; fetch it with a line above")
    return found


def job_of(config, name, processor, adapters, bench, data, items, absent):
    """One benchmark of a run: bench, items, folder, settings, facts, and rows of each model."""
    frames = config.n_frames or processor.n_frames
    settings = model_setting(config.model, processor) | {"dtype": config.dtype, "n_frames": frames}
    settings |= {"scoring": config.scoring, "max_new_tokens": bench.max_new_tokens}
    prompts = bench.models.get(processor.family.model_type, "default")
    if bench.models:
        ranks.say(f"{name}: lmms-eval's prompt for {prompts}")
    if config.clips and not (config.suite or any(item.clip for item in items)):
        raise SystemExit(f"--clips: no question of {name} has a start and an end")
    whole = {} if config.clips else {"clip": None}
    items = [replace(x, prompt=x.prompts.get(prompts, x.prompt), **whole) for x in items]
    in_toy = data.resolve().is_relative_to(toy.ROOT.resolve())
    folder = config.out / ("toy" * in_toy) / name
    claim_folder(folder, config, config.model)
    if ranks.rank() == 0:
        of_bench = replace(config, bench=name)
        write_config(folder, of_bench, data_used=data, frames_used=frames, prompts_used=prompts)
    facts = {"toy": in_toy, "data": data, "absent": absent, "adapters": adapters}
    facts |= {"prompt": prompts, "clips": config.clips}
    job = {"bench": bench, "items": items, "folder": folder, "settings": settings, "rows": {}}
    return SimpleNamespace(**job, facts=facts | settings)


def loaded(config, adapter):
    """The model, with the adapter unless it is None."""
    vlm = load_vlm(config.model, config.dtype, config.device, config.max_pixels)
    if adapter:
        load_adapter(vlm.model, adapter)
    return vlm


def ask_models(config, jobs, adapters, paths):
    """Fill the rows of jobs, model by model; afterwards no model is in memory."""
    digests = video_digests([item for job in jobs for item in job.items])
    for name, adapter in adapters.items():
        load = cache(partial(loaded, config, adapter))  # at the first question that is to be asked
        for job in jobs:
            path = job.folder / paths[name]
            job.rows[name] = rows_of_model(config, job, digests, adapter, path, load)


def rows_of_model(config, job, digests, adapter, path, load):
    """The row of every item: those in the file, and others, asked now; each rank asks its share."""
    bench, items, settings = job.bench, job.items, job.settings
    facts = {"adapter": adapter and digest_files(sorted(adapter.glob("adapter_*")))} | settings
    fingerprints = {x.id: fingerprint(x, digests.get(x.video), **facts) for x in items}
    (rows,) = ranks.gather([earlier_rows(path, fingerprints)] if ranks.rank() == 0 else [])
    todo = [item for item in items if item.id not in rows]
    what = path.relative_to(config.out).parent  # such as mvbench/MODEL
    ranks.say(f"{what}: {len(todo)} questions to answer, {len(rows)} answered before")
    videos = set(ranks.share(list(dict.fromkeys(item.video for item in todo))))
    new = []
    if todo := [item for item in todo if item.video in videos]:
        how = (settings["n_frames"], config.scoring, config.batch_size, config.parser)
        answers = answered(load(), bench, todo, *how)
        with Appender(ranks.rank_path(path)) as file:
            for row in ranks.progress(answers, str(what), len(todo), "questions"):
                if "error" in row:
                    tqdm.write(f"{row['id']} counts as wrong: {row['error']}")
                new.append(row | {"fingerprint": fingerprints[row["id"]]})
                file.write(new[-1])
    rows |= {row["id"]: row for row in ranks.gather(new)}
    return [reread(bench, rows[item.id], item, config.parser) for item in items]


def judge_of(config, jobs):
    """On rank 0 a function that rereads rows with the --judge; None for the rules."""
    if config.judge == "rules" or ranks.rank():
        return None
    folder = jobs["adversarial"].folder
    roles = Roles(replace(config, out=folder), config.device)
    print(f"judge: {roles.model(config.judge).author}")  # a wrong name fails here
    return partial(judged, ask=partial(roles.ask_once, config.judge))


def main(config):
    if config.compare:
        return compare(config.compare, config.bench, benchmark(config.bench), config.seed)
    names = names_of(config)
    config.model = toy.resolved(config.model)
    found = find_questions(config, names)
    if config.check:
        for name, (bench, _, items, _) in found.items():
            print(f"{name}:")
            inputs.check_items(items, bench.counts)
        return
    processor = load_processor(config.model, config.max_pixels)
    if not processor.n_frames:
        raise SystemExit(f"{config.model} reads only text; --model takes a model that sees videos")
    adapters = inputs.find_adapters(config.model, config.adapter)
    base = next(iter(adapters))
    config.out = config.out or Path("out/eval", "" if toy.is_toy(config.model) else base)
    inputs.check_adapters(config.model, [path for path in adapters.values() if path])
    config.device = ranks.start(config.device)
    jobs = {x: job_of(config, x, processor, adapters, *found[x]) for x in found}
    judge = judge_of(config, jobs)
    paths = {x: f"{base + x if y else x}/answers.jsonl" for x, y in adapters.items()}
    ask_models(config, jobs.values(), adapters, paths)
    if ranks.rank():
        return
    found = {}
    for bench, job in jobs.items():
        for name, rows in job.rows.items():
            job.rows[name] = judge(rows) if judge and bench == "adversarial" else rows
            write_rows((job.folder / paths[name]).with_name("scored.jsonl"), job.rows[name])
        label = "TOY " * job.facts["toy"] + bench
        found[label] = report(job.bench, job.rows, job.folder, job.facts, config.seed)
    if config.suite:
        print(suite_table(found))


if __name__ == "__main__":
    with command_line():
        main(parse(EvalConfig))
        ranks.stop()
