"""Draws a training run as one page: its pairs, its curves, its scores, the answers it turned.

    python -m pasta.tools.report out/dpo
    python -m pasta.tools.report out/dpo --eval out/eval/videomme --pairs 4

Writes report.html, which needs no other file, and its pictures as PNG files. The page names each
missing part with the command to run next. No model is asked and no weights are loaded. The plots
need matplotlib (requirements-dev.txt).
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from base64 import b64encode
from collections import Counter
from pathlib import Path
from statistics import fmean

from jinja2 import Template

from pasta.benchmarks import ANSWER, NAMES, benchmark
from pasta.benchmarks.report import table as score_table
from pasta.making.audit import audit_of, audit_table
from pasta.models.load import load_processor
from pasta.packs import VideoPairs, by_video, pack_responses
from pasta.run.config import read_config
from pasta.run.ranks import progress
from pasta.run.rows import read_rows
from pasta.run.schema import read_json
from pasta.tools.report_frames import pairs_section, show, uniform_view
from pasta.tools.report_run import FACTS, FAULTS, Run, attempt, command, missing, next_commands
from pasta.training.loop import METRICS

CONFIG = {"model": str, "pairs": str, "video_root": str | None, "mode": str | None,
          "max_pixels": int, "frames_used": int, "processes": int, "lora_rank": int}  # fmt: skip
EVAL_CONFIG = {"bench": NAMES, "model": str, "max_pixels": int}
SCORES = {"data": str, "n_frames": int, "runs": dict, "differences": dict, "adapters": dict}
TURNS = {"from wrong to right": (False, True), "from right to wrong": (True, False)}
PACK_PAIRS = 3  # of the pack whose attention is drawn, at most
LAST = 10  # updates: one alone may be the small rest of an epoch


def main(args=None):
    parser = ArgumentParser(
        prog="python -m pasta.tools.report",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    scores, default = Path("out/eval/mvbench"), "(default: %(default)s)"
    parser.add_argument("run", type=Path, help="run folder of train_dpo.py")
    text = f"folder of a benchmark's scores, from evaluate.py {default}"
    parser.add_argument("--eval", type=Path, default=scores, help=text)
    parser.add_argument("--out", type=Path, help="folder of the report (default: RUN/report)")
    parser.add_argument("--pairs", type=int, default=2, help=f"examples of each kind {default}")
    parser.add_argument("--seed", type=int, default=0, help=f"of the random examples {default}")
    parser.add_argument("--model", help="the model's folder, if it has moved (default: as trained)")
    args = parser.parse_args(args)
    try:
        config = read_config(args.run, CONFIG)
    except (OSError, ValueError) as error:
        text = f"{args.run} is not a run of train_dpo.py: {missing(error, '')['missing']}"
        raise SystemExit(f"{text}; expected its --out folder, such as out/dpo") from None
    args.out = args.out or args.run / "report"
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "report.html"
    text = report(Run(args, config, next_commands(args, config)))
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
    print(f"wrote {path} and its pictures as PNG files in {args.out}")


def report(run):
    """The whole page of a Run, HTML. Its pictures are written into --out."""
    sections = {
        "pairs": (pairs_section, "pairs"),
        "audit": (audit_section, "pairs"),
        "curves": (curves_section, "resume"),
        "attention": (attention_section, "model" if run.pairs_file.is_file() else "pairs"),
        "scores": (scores_section, "scores"),
        "turned": (turned_section, "scores"),
    }
    data = {
        name: attempt(run.next[needed], section, run)
        for name, (section, needed) in progress(sections.items(), "sections")
    }
    text = Path(__file__).with_name("report.html.j2").read_text()
    template = Template(text, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    facts = {name: run.config.get(name) for name in ("model", "pairs", *FACTS)}
    return template.render(run=run.args.run, facts=facts, command=run.next["train"], **data)


def audit_section(run):
    """The audit as numbers and as text. Raises OSError, ValueError."""
    path = run.pairs_file.with_name("dropped.jsonl")
    if not path.is_file():
        return missing(f"{path}, which only make_pairs.py writes", run.next["pairs"])
    found = audit_of(path.parent)
    most = max(1, *(n for row in found.values() for n in (row["kept"], *row["dropped"].values())))
    return {"table": audit_table(found), "modes": found, "most": most}


def curves_section(run):
    """The metrics over the updates. Raises OSError, ValueError."""
    path = run.args.run / "metrics.jsonl"
    rows = read_rows(path, METRICS)
    if not rows:
        return missing(f"an update in {path}", run.next["resume"])
    names, last = ("loss", "rewards/margins", "rewards/accuracies"), rows[-LAST:]
    names = [name for name in names if all(name in row for row in last)]
    means = {name: fmean(row[name] for row in last) for name in names}
    plotted = plot(run, "curves", rows)
    return {"updates": len(rows), "last": len(last), "means": means, "plot": plotted}


def plot(run, name, *data):
    """The plot that the function `name` of figures.py draws of the data, as PNG in base64."""
    try:
        from pasta.tools import figures
    except ModuleNotFoundError as error:
        return missing(error, "pip install -r requirements-dev.txt")
    path = run.args.out / f"{name}.png"
    getattr(figures, name)(*data, path)
    return {"png": b64encode(path.read_bytes()).decode()}


def attention_section(run):
    """The pack of the video with the most pairs. Raises OSError, ValueError."""
    group = max(by_video(run.pairs), key=lambda group: len(group.pairs))
    group = VideoPairs(group.video, group.pairs[:PACK_PAIRS])
    return attempt(run.next["videos"], pack_of, run, group, run.processor)


def pack_of(run, group, processor):
    """The attention of a VideoPairs' pack, its segments and lengths. Raises VideoError."""
    frames, timestamps, _ = uniform_view(processor, run.config["frames_used"], group.video)
    inputs = processor.prepare(frames, timestamps)
    pack, _ = pack_responses(processor, inputs, group.texts())
    names, n = {}, len(group.pairs)
    for k, text in enumerate(group.texts()):  # equal texts share a segment
        names.setdefault(text, f"chosen {k + 1}" if k < n else f"rejected {k - n + 1}")
    labels = ["system + video", *names.values()]
    return {
        "video": group.video,
        "video_tokens": inputs.n_tokens,
        "lengths": pack.lengths,
        "segments": [(name, *text) for text, name in names.items()],
        "plot": plot(run, "attention", labels, pack.lengths, pack.keep.tolist()),
    }


def scores_of(run):
    """(config.json, scores.json, name of the base, name of this run) of the evaluation.

    Both names are equal for a fully tuned model: it is the base of its own evaluation. The last is
    None if this run is not among the scores. Raises OSError, ValueError.
    """
    folder, scores = run.args.eval, read_json(run.args.eval / "scores.json", SCORES)
    config = read_config(folder, EVAL_CONFIG)
    weights = {name: Path(path or config["model"]) for name, path in scores["adapters"].items()}
    ours = [n for n, path in weights.items() if path.resolve().parent == run.args.run.resolve()]
    base, *_ = scores["runs"]
    return config, scores, base, next(iter(ours), None)


def scores_section(run):
    """The table of the scores, and the numbers of its intervals. Raises OSError, ValueError."""
    config, scores, _, own = scores_of(run)
    differences = scores["differences"]
    table = score_table(scores["runs"], differences, benchmark(config["bench"]).macro)
    gains = [x for of in differences.values() for x in [*of["groups"].values(), of["mean"]] if x]
    reach = max([1, *(abs(x[end]) for x in gains for end in ("low", "high"))])
    found = scores | {"bench": config["bench"], "table": table, "reach": reach}
    if own is None:
        found["note"] = missing(f"scores of {run.args.run} in {run.args.eval}", run.next["scores"])
    return found


def turned_section(run):
    """The answers that training turned. Raises OSError, ValueError."""
    config, scores, base, own = scores_of(run)
    folder, evaluate = run.args.eval, ["python", "evaluate.py", "--bench", config["bench"]]
    if own is None:
        return missing(f"answers of {run.args.run} in {folder}", run.next["scores"])
    if own == base:
        what = "answers of the model before training; a fully tuned model is scored alone"
        return missing(what, command(*evaluate, "--compare", "BASE", folder / own))
    before, after = (answers(folder / name) for name in (base, base + own))
    both = [(row, after[id_]) for id_, row in before.items() if id_ in after]
    items, processor, note = {}, None, None
    check = next_command = command(*evaluate, "--data", scores["data"], "--check")
    try:
        items = {x.id: x for x in benchmark(config["bench"]).items(Path(scores["data"]))}
        next_command = run.next["model"]
        processor = load_processor(run.args.model or config["model"], config["max_pixels"])
    except FAULTS as error:
        note = missing(error, next_command)
    examples = []
    for what, turn in TURNS.items():
        of_turn = [rows for rows in both if tuple(row["correct"] for row in rows) == turn]
        for k, (old, new) in enumerate(run.examples(of_turn), start=1):
            row = {key: old[key] for key in ("video", "task", "prompt", "answer", "response")}
            examples.append(row | {"what": what, "trained": new["response"]})
            if processor and (item := items.get(old["id"])):
                path = run.args.out / f"turned-{what.replace(' ', '-')}-{k}.png"
                look = (question_frames, processor, scores["n_frames"], item, path)
                examples[-1]["frames"] = attempt(check, *look)
    return {"counts": turn_counts(both), "note": note, "examples": examples}


def answers(folder):
    """{id: row} of a run's scored.jsonl, without videos that could not be decoded."""
    rows = read_rows(folder / "scored.jsonl", ANSWER)
    return {row["id"]: row for row in rows if "error" not in row}


def turn_counts(both):
    """Rows of (task, turned to right, turned to wrong, right in both, wrong in both)."""
    counts = Counter((old["task"], old["correct"], new["correct"]) for old, new in both)
    kinds = [*TURNS.values(), (True, True), (False, False)]
    tasks = sorted({task for task, _, _ in counts})
    rows = [[task, *(counts[task, *kind] for kind in kinds)] for task in tasks]
    return [*rows, ["all", *(sum(row[k] for row in rows) for k in range(1, 5))]]


def question_frames(processor, n_frames, item, path):
    """The frames of a benchmark's question. Raises VideoError, ValueError."""
    return show(path, *uniform_view(processor, n_frames, item.video))


if __name__ == "__main__":
    main()
