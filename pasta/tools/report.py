"""Draws the pairs of make_pairs.py, or a run of train_dpo.py, as one page to open in a browser.

    python -m pasta.tools.report out/pairs       # kept and dropped pairs, and what each answer saw
    python -m pasta.tools.report out/dpo         # the same, and curves, scores, changed answers

Writes report.html, which needs no other file. A missing part has the command to run next.
"""

import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from statistics import fmean

from jinja2 import Template

from pasta.adversaries import ADVERSARIES
from pasta.benchmarks import NAMES, benchmark
from pasta.benchmarks.report import scored_rows, table
from pasta.prompts import PROMPT_VERSION, misled_prompt
from pasta.run.command import command_line
from pasta.run.config import read_config
from pasta.run.rows import read_rows
from pasta.run.schema import read_json
from pasta.tools.report_pairs import audit_section, pairs_section, processor_of, show_uniform
from pasta.tools.report_run import FAULTS, Run, attempt, command, missing
from pasta.training.loop import METRICS

CONFIGS = {  # the script of a folder: what its config.json needs to have
    "make_pairs.py": {"responder": str, "videos": str, "judge": str},
    "train_dpo.py": {"model": str, "pairs": str, "video_root": str | None, "mode": str | None,
                     "max_pixels": int, "frames_used": int, "processes": int, "lora_rank": int},
}  # fmt: skip
EVAL_CONFIG = {"bench": NAMES, "model": str, "max_pixels": int}
SCORES = {"data": str, "n_frames": int, "runs": dict, "differences": dict, "adapters": dict}
METHOD = {"adversaries": ADVERSARIES, "prompt": misled_prompt, "version": PROMPT_VERSION}
TURNS = {"from wrong to right": (False, True), "from right to wrong": (True, False)}
MEANS = ("loss", "rewards/margins", "rewards/accuracies")
LAST = 10  # updates: one alone may be the small rest of an epoch


def main(args=None):
    style = {"formatter_class": RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = ArgumentParser("python -m pasta.tools.report", description=__doc__, **style)
    add = parser.add_argument
    add("folder", type=Path, help="folder of make_pairs.py or train_dpo.py")
    add("--eval", type=Path, help="scores of evaluate.py (default: the newest in RUN/../eval)")
    add("--out", type=Path, help="the page (default: FOLDER/report.html)")
    add("--pairs", type=int, default=3, help="examples of each mode and reason (%(default)s)")
    add("--model", help="the model's folder, if it has moved (default: as in config.json)")
    add("--videos", help="the folder of the videos, if it has moved (default: as in config.json)")
    args = parser.parse_args(args)
    config = config_of(args.folder)
    run = Run(args, config, config["script"] == "train_dpo.py")
    sections = {"pairs": (pairs_section, "pairs"), "audit": (audit_section, "pairs")}
    if run.trained:
        sections |= {"curves": (curves_section, "resume"), "scores": (scores_section, "scores")}
        sections["turned"] = (turned_section, "scores")
    data = {name: attempt(run.next[needed], f, run) for name, (f, needed) in sections.items()}
    path = args.out or args.folder / "report.html"
    text = Path(__file__).with_name("report.html.j2").read_text()
    template = Template(text, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = template.render(run=run, **METHOD, **data)
    path.write_text(page, encoding="utf-8", errors="backslashreplace")
    print(f"wrote {path}, one page without other files; next: open it in a browser")


def config_of(folder):
    """The config.json of a folder. Raises SystemExit if neither script wrote it."""
    try:
        return read_config(folder, CONFIGS[read_config(folder, {"script": (*CONFIGS,)})["script"]])
    except (OSError, ValueError) as error:
        why = missing(error, "")["missing"]
        text = f"{folder} is not a folder of make_pairs.py or train_dpo.py: {why}"
        make = "python make_pairs.py && python -m pasta.tools.report out/pairs"
        raise SystemExit(f"{text}; next: {make}") from None


def curves_section(run):
    """The metrics over the updates. Raises OSError, ValueError."""
    try:
        from pasta.tools.figures import curves
    except ModuleNotFoundError as error:
        return missing(error, "pip install -r requirements-dev.txt")
    path, picture = run.args.folder / "metrics.jsonl", BytesIO()
    rows = read_rows(path, METRICS)
    if not rows:
        return missing(f"an update in {path}", run.next["resume"])
    last = rows[-LAST:]
    means = {x: fmean(row[x] for row in last) for x in MEANS if all(x in row for row in last)}
    curves(rows, picture)
    png = b64encode(picture.getvalue()).decode()
    return {"updates": len(rows), "last": len(last), "means": means, "png": png}


def scores_section(run):
    """config.json | scores.json of --eval or of the newest evaluation. Raises OSError, ValueError.

    `own`: the name of this run in it; None if it has none. A fully tuned model is its own base.
    """
    our = run.args.folder.resolve()
    files = sorted((our.parent / "eval").rglob("scores.json"), key=lambda x: -x.stat().st_mtime)
    near = [path.parent for path in files] or [our.parent / "eval"]
    for folder in [run.args.eval] if run.args.eval else near:
        scores = read_json(folder / "scores.json", SCORES)
        found = read_config(folder, EVAL_CONFIG) | scores | {"folder": folder, "note": None}
        text = table(found["runs"], found["differences"], benchmark(found["bench"]).macro)
        found["rows"] = [re.split("  +", line) for line in text.splitlines()]
        for name, path in found["adapters"].items():
            weights = Path(path or found["model"]).parent
            if weights.resolve() == our or not weights.exists() and weights.name == our.name:
                return found | {"own": name}
    note = missing(f"scores of {run.args.folder} in {folder}", run.next["scores"])
    return found | {"own": None, "note": note}


def turned_section(run):
    """The answers that training turned. Raises OSError, ValueError."""
    found = scores_section(run)
    own, note = found["own"], found["note"]
    if note:
        return note
    folder, base = found["folder"], next(iter(found["runs"]))
    evaluate = ("python", "evaluate.py", "--bench", found["bench"])
    if own == base:
        compare = command(*evaluate, "--compare", "BASE", folder / own)
        return missing("answers before training; a fully tuned model is scored alone", compare)
    before, after = (scored_rows(folder / name) for name in (base, base + own))
    both = [(row, after[id_]) for id_, row in before.items() if id_ in after]
    items, size = {}, found["max_pixels"]
    check = command(*evaluate, "--data", found["data"], "--check")
    try:
        items = {x.id: x for x in benchmark(found["bench"]).items(Path(found["data"]))}
        processor_of(run.model, size)
    except FAULTS as error:
        note = missing(error, run.next["model"] if items else check)
    examples = []
    for what, turn in TURNS.items():
        of_turn = [rows for rows in both if tuple(row["correct"] for row in rows) == turn]
        for old, new in run.examples(of_turn):
            example = old | {"what": what, "after": new["response"]}
            if not note and (item := items.get(old["id"])):
                show = (show_uniform, run.model, size, found["n_frames"], item.video)
                example["strip"] = attempt(check, *show)
            examples.append(example)
    return {"answers": both, "note": note, "examples": examples}


if __name__ == "__main__":
    with command_line():
        main()
