"""Draws a training run as one page: its pairs, its curves, its scores, the answers it turned.

    python -m pasta.tools.report out/dpo
    python -m pasta.tools.report out/dpo --eval out/eval/videomme --pairs 4

Writes report.html, which needs no other file, and its pictures as PNG files. A missing part has the
command to run next. No weights are loaded. The curves need matplotlib (requirements-dev.txt).
"""

import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from base64 import b64encode
from collections import Counter
from pathlib import Path
from statistics import fmean

from jinja2 import Template

from pasta.benchmarks import NAMES, benchmark
from pasta.benchmarks.report import TOY, scored_rows, table
from pasta.making.audit import audit_of, audit_table
from pasta.models.load import load_processor
from pasta.run.command import command_line
from pasta.run.config import read_config
from pasta.run.ranks import progress
from pasta.run.rows import read_rows
from pasta.run.schema import read_json
from pasta.tools import report_run
from pasta.tools.report_run import FACTS, FAULTS, Run, attempt, command, missing
from pasta.toy import SHIPPED
from pasta.training.loop import METRICS

CONFIG = {"model": str, "pairs": str, "video_root": str | None, "mode": str | None,
          "max_pixels": int, "frames_used": int, "processes": int, "lora_rank": int}  # fmt: skip
EVAL_CONFIG = {"bench": NAMES, "model": str, "max_pixels": int}
SCORES = {"data": str, "n_frames": int, "runs": dict, "differences": dict, "adapters": dict}
TURNS = {"from wrong to right": (False, True), "from right to wrong": (True, False)}
MEANS = ("loss", "rewards/margins", "rewards/accuracies")
OWN = re.compile(r"report\.html|(curves|pair-.*|turned-.*)\.png")  # files that may be replaced
LAST = 10  # updates: one alone may be the small rest of an epoch


def main(args=None):
    style = {"formatter_class": RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = ArgumentParser(description=__doc__, **style)
    add = parser.add_argument
    add("run", type=Path, help="run folder of train_dpo.py")
    add("--eval", type=Path, help="scores folder of evaluate.py (default: its folder of mvbench)")
    add("--out", type=Path, help="folder of the report (default: RUN/report)")
    add("--pairs", type=int, default=2, help="examples of each kind (%(default)s)")
    add("--seed", type=int, default=0, help="of the random examples (%(default)s)")
    add("--model", help="the model's folder, if it has moved (default: as trained)")
    args = parser.parse_args(args)
    try:
        config = read_config(args.run, CONFIG)
    except (OSError, ValueError) as error:
        text = f"{args.run} is not a run of train_dpo.py: {missing(error, '')['missing']}"
        raise SystemExit(f"{text}; expected its --out folder, such as out/dpo") from None
    args.out = args.out or args.run / "report"
    in_toy = Path(config["model"]).resolve() == SHIPPED
    args.eval = args.eval or Path("out/eval", "toy" * in_toy, "mvbench")
    if others := [p.name for p in args.out.glob("[!.]*") if not OWN.fullmatch(p.name)]:
        raise SystemExit(f"{args.out} holds {min(others)}, no part of a report; name another --out")
    args.out.mkdir(parents=True, exist_ok=True)
    run, path = Run(args, config), args.out / "report.html"
    sections = {
        "pairs": (report_run.pairs_section, "pairs"),
        "audit": (audit_section, "pairs"),
        "curves": (curves_section, "resume"),
        "scores": (scores_section, "scores"),
        "turned": (turned_section, "scores"),
    }
    data = {}
    for name, (section, needed) in progress(sections.items(), "sections"):
        data[name] = attempt(run.next[needed], section, run)
    text = Path(__file__).with_name("report.html.j2").read_text()
    template = Template(text, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    facts = {name: config.get(name) for name in ("model", "pairs", *FACTS)}
    page = template.render(run=args.run, facts=facts, command=run.next["train"], **data)
    path.write_text(page, encoding="utf-8", errors="backslashreplace")
    print(f"wrote {path} and its pictures as PNG files in {args.out}")


def audit_section(run):
    """The audit as text. Raises OSError, ValueError."""
    path = Path(run.config["pairs"]).with_name("dropped.jsonl")
    if not path.is_file():
        return missing(f"{path}, which only make_pairs.py writes", run.next["pairs"])
    return {"table": audit_table(audit_of(path.parent))}


def curves_section(run):
    """The metrics over the updates. Raises OSError, ValueError."""
    try:
        from pasta.tools.figures import curves
    except ModuleNotFoundError as error:
        return missing(error, "pip install -r requirements-dev.txt")
    path, picture = run.args.run / "metrics.jsonl", run.args.out / "curves.png"
    rows = read_rows(path, METRICS)
    if not rows:
        return missing(f"an update in {path}", run.next["resume"])
    last = rows[-LAST:]
    means = {x: fmean(row[x] for row in last) for x in MEANS if all(x in row for row in last)}
    curves(rows, picture)
    png = b64encode(picture.read_bytes()).decode()
    return {"updates": len(rows), "last": len(last), "means": means, "png": png}


def scores_of(run):
    """(config.json | scores.json, name of the base, name of this run, note) of the evaluation.

    A fully tuned model is its own base. A run without scores has no name (None), but a note.
    """
    folder, scores = run.args.eval, read_json(run.args.eval / "scores.json", SCORES)
    found = read_config(folder, EVAL_CONFIG) | scores
    weights = {name: Path(path or found["model"]) for name, path in found["adapters"].items()}
    ours = [n for n, path in weights.items() if path.resolve().parent == run.args.run.resolve()]
    note = missing(f"scores of {run.args.run} in {folder}", run.next["scores"])
    base, *_ = found["runs"]
    return found, base, next(iter(ours), None), None if ours else note


def scores_section(run):
    """The table of the scores. Raises OSError, ValueError."""
    found, _, _, note = scores_of(run)
    scores = table(found["runs"], found["differences"], benchmark(found["bench"]).macro)
    return found | {"table": TOY * found.get("toy", False) + scores, "note": note}


def turned_section(run):
    """The answers that training turned. Raises OSError, ValueError."""
    found, base, own, note = scores_of(run)
    if note:
        return note
    folder, evaluate = run.args.eval, ["python", "evaluate.py", "--bench", found["bench"]]
    if own == base:
        what = "answers of the model before training; a fully tuned model is scored alone"
        return missing(what, command(*evaluate, "--compare", "BASE", folder / own))
    before, after = (scored_rows(folder / name) for name in (base, base + own))
    both = [(row, after[id_]) for id_, row in before.items() if id_ in after]
    items, processor = {}, None
    check = command(*evaluate, "--data", found["data"], "--check")
    try:
        items = {x.id: x for x in benchmark(found["bench"]).items(Path(found["data"]))}
        processor = load_processor(run.args.model or found["model"], found["max_pixels"])
    except FAULTS as error:
        note = missing(error, run.next["model"] if items else check)
    examples = []
    for what, turn in TURNS.items():
        of_turn = [rows for rows in both if tuple(row["correct"] for row in rows) == turn]
        for k, (old, new) in enumerate(run.examples(of_turn), start=1):
            examples.append(old | {"what": what, "trained": new["response"]})
            if processor and (item := items.get(old["id"])):
                path = run.args.out / f"turned-{what.replace(' ', '-')}-{k}.png"
                look = (report_run.show_uniform, path, processor, found["n_frames"], item.video)
                examples[-1]["frames"] = attempt(check, *look)
    return {"counts": turn_counts(both), "note": note, "examples": examples}


def turn_counts(both):
    """Rows of (task, turned to right, turned to wrong, right in both, wrong in both)."""
    counts = Counter((old["task"], old["correct"], new["correct"]) for old, new in both)
    kinds = [*TURNS.values(), (True, True), (False, False)]
    tasks = sorted({old["task"] for old, _ in both})
    rows = [[task, *(counts[task, *kind] for kind in kinds)] for task in tasks]
    return [*rows, ["all", *(sum(row[k] for row in rows) for k in range(1, 5))]]


if __name__ == "__main__":
    with command_line():
        main()
