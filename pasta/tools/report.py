"""Draws the pairs of make_pairs.py, or a run of train_dpo.py, as one page to open in a browser.

    python -m pasta.tools.report out/pairs       # kept and dropped pairs, and what each answer saw
    python -m pasta.tools.report out/dpo         # the same, and curves, scores, changed answers

Writes report.html, which needs no other file. A missing part has the command to run next.
"""

import re
import shlex
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

from jinja2 import Template

from pasta import toy
from pasta.adversaries import ADVERSARIES
from pasta.benchmarks import NAMES, benchmark
from pasta.benchmarks.report import scored_rows, table
from pasta.datasets.read import read_pairs
from pasta.making.audit import DROPPED, PAIR, audit_of
from pasta.making.stages import QUERY
from pasta.models.load import load_processor
from pasta.prompts import PROMPT_VERSION, misled_prompt
from pasta.run.command import command_line, number
from pasta.run.config import read_config
from pasta.run.rows import read_rows, rows_of
from pasta.run.schema import ABSENT, read_json
from pasta.tools.report_pairs import FAULTS, attempt, missing, moved, pairs_section, show_uniform
from pasta.training.loop import METRICS

CONFIGS = {  # the script of a folder: what its config.json needs to have
    "make_pairs.py": {"responder": str, "videos": str, "judge": str},
    "train_dpo.py": {"model": str, "pairs": str, "video_root": str | None, "mode": str | None,
                     "max_pixels": int, "frames_used": int, "processes": int, "lora_rank": int,
                     "pairs_used": dict | ABSENT},
}  # fmt: skip
# config.json has them, but a new command must not
NOT_FLAGS = {"frames_used", "pairs_used", "processes", "commit", "versions", "data_used", "dry_run",
             "prompt_version", "prompts_used", "resume", "script", "weights"}  # fmt: skip
ROW = PAIR | {"video": str, "query": str}
EVAL_CONFIG = {"bench": NAMES, "model": str, "max_pixels": int}
SCORES = {"data": str, "n_frames": int, "runs": dict, "differences": dict, "adapters": dict}
OURS = b"pasta.tools.report"  # in the head of a page, which may be replaced
METHOD = {"adversaries": ADVERSARIES, "prompt": misled_prompt, "version": PROMPT_VERSION}


def main(args=None):
    style = {"formatter_class": RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = ArgumentParser("python -m pasta.tools.report", description=__doc__, **style)
    add = parser.add_argument
    add("folder", type=Path, help="folder of make_pairs.py or train_dpo.py")
    add("--eval", type=Path, help="scores of evaluate.py (default: the newest in RUN/../eval)")
    add("--out", type=Path, help="the page, or its folder (default: FOLDER/report.html)")
    add("--pairs", type=number, default=3, help="examples of each mode and reason (%(default)s)")
    add("--model", help="the model's folder, if it has moved (default: as in config.json)")
    add("--videos", help="the folder of the videos, if it has moved (default: as in config.json)")
    args = parser.parse_args(args)
    config, path = config_of(args.folder), args.out or args.folder
    path = path / "report.html" if path.is_dir() else path
    if path.exists() and OURS not in path.read_bytes()[:200]:
        raise SystemExit(f"{path} is no page of this tool; name another --out")
    run = Run(args, config, config["script"] == "train_dpo.py")
    sections = {"pairs": (pairs_section, "pairs"), "audit": (audit_section, "pairs")}
    if run.trained:
        sections |= {"curves": (curves_section, "resume"), "scores": (scores_section, "scores")}
        sections["turned"] = (turned_section, "scores")
    data = {name: attempt(run.next[needed], f, run) for name, (f, needed) in sections.items()}
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


@dataclass(frozen=True)
class Run:
    """args: the command line of the report. config: the config.json of args.folder."""

    args: Namespace
    config: dict
    trained: bool  # whether train_dpo.py wrote it

    @cached_property
    def pairs_file(self):
        folder = self.args.folder
        return Path(moved(folder, self.config, "pairs") if self.trained else folder / "pairs.jsonl")

    @cached_property
    def pairs(self):
        """The pairs, as rows. Raises OSError, ValueError."""
        if not self.trained:
            return read_rows(self.pairs_file, ROW)
        root = self.config["video_root"] and moved(self.args.folder, self.config, "video_root")
        return [vars(x) for x in read_pairs(self.pairs_file, self.config["mode"], root)]

    @cached_property
    def dropped(self):
        """The rows that became no pair, with their `reason`; queries with a flaw among them."""
        rows = rows_of(self.pairs_file.with_name("dropped.jsonl"), ROW | DROPPED)
        queries = rows_of(self.pairs_file.with_name("queries.jsonl"), QUERY)
        none = {"chosen": "", "rejected": "", "recipe": {}}
        return rows + [q | none | {"reason": f"query {q['flaw']}"} for q in queries if "flaw" in q]

    @cached_property
    def making(self):
        """The config.json of make_pairs.py next to the pairs; {} without one."""
        with suppress(*FAULTS):
            return read_config(self.pairs_file.parent, {"responder": str, "videos": str})
        return {}

    @cached_property
    def evaluations(self):
        """The folders of scores: --eval, or those next to the run, the newest first."""
        near = self.args.folder.resolve().parent / "eval"
        files = sorted(near.rglob("scores.json"), key=lambda x: -x.stat().st_mtime)
        return [self.args.eval] if self.args.eval else [path.parent for path in files] or [near]

    @property
    def model(self):
        return self.args.model or moved(self.args.folder, self.config, "model")

    def examples(self, items):
        """--pairs of the items, evenly spread over them."""
        n = max(0, min(self.args.pairs, len(items)))
        return [items[i * len(items) // n] for i in range(n)]

    @cached_property
    def next(self):
        """{what may be missing: the command to run next}."""
        args, config, pairs = self.args, self.config, self.pairs_file
        report = ("python", "-m", "pasta.tools.report", args.folder)
        flags = vars(args) | {"folder": None}
        found = {x: command(*report, **flags | {x: "FOLDER"}) for x in ("model", "videos")}
        making = self.making or {"responder": config.get("model"), "videos": "FOLDER"}
        again = {"out": pairs.parent, "stage": "all"}
        found["pairs"] = command("python", "make_pairs.py", **making | again)
        if not self.trained:
            return found
        if not self.making:
            of_pairs = {name: config[name] for name in ("video_root", "mode")}
            found["videos"] = command("python", "-m", "pasta.datasets", pairs, **of_pairs)
            found["pairs"] = found["videos" if pairs.is_file() else "pairs"]
        n = config["processes"]
        start = ["torchrun", "--nproc_per_node", n] if n > 1 else ["python"]
        train = command(*start, "train_dpo.py", **config | {"out": args.folder})
        in_toy = toy.is_toy(self.model)
        scored = {"adapter": args.folder / "adapter", "model": None if in_toy else self.model}
        if not config["lora_rank"]:  # only the shipped toy model has the toy benchmark as default
            scored = {"model": args.folder / "model", "data": "toy" if in_toy else None}
        scored |= {name: config.get(name) for name in ("n_frames", "max_pixels", "dtype")}
        if (folder := self.evaluations[0]).name in NAMES:
            out = folder.parent
            where = {"data": "toy", "out": out.parent} if out.name == "toy" else {"out": out}
            scored |= {"bench": folder.name, **where}
        scores = command("python", "evaluate.py", **scored)
        return found | {"train": train, "resume": f"{train} --resume", "scores": scores}


def command(*words, **flags):
    """A command line with the flags of a config.json; None and [] leave a flag out."""
    for name, value in flags.items():
        if value not in (None, []) and name not in NOT_FLAGS:
            values = value if isinstance(value, list) else [value] * (type(value) is not bool)
            words += (f"--{'no-' * (value is False)}{name}", *values)
    return shlex.join(map(str, words))


def audit_section(run):
    """The audit, and the videos that were left out. Raises OSError, ValueError."""
    path = run.pairs_file.with_name("dropped.jsonl")
    path.stat()  # only make_pairs.py writes it
    skipped = rows_of(path.with_name("skipped.jsonl"), {"video": str, "reason": str})
    return {"modes": audit_of(path.parent), "skipped": skipped}


def curves_section(run):
    """The metrics over the updates. Raises OSError, ValueError."""
    try:
        from pasta.tools.figures import curves
    except ModuleNotFoundError as error:
        return missing(error, "pip install -r requirements-dev.txt")
    path, picture = run.args.folder / "metrics.jsonl", BytesIO()
    if not (rows := read_rows(path, METRICS)):
        return missing(f"an update in {path}", run.next["resume"])
    curves(rows, picture)
    return {"rows": rows, "png": b64encode(picture.getvalue()).decode()}


def scores_section(run):
    """config.json | scores.json of --eval or of the newest evaluation. Raises OSError, ValueError.

    `own`: the name of this run in it; None if it has none. A fully tuned model is its own base.
    """
    our = run.args.folder.resolve()
    for folder in run.evaluations:
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
    if note := found["note"]:
        return note
    own, folder, base = found["own"], found["folder"], next(iter(found["runs"]))
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
        load_processor(run.model, size)
    except FAULTS as error:
        note = missing(error, run.next["model"] if items else check)
    examples = []
    for right in (False, True):  # before training
        turned = [(a, b) for a, b in both if a["correct"] == right != b["correct"]]
        for old, new in run.examples(turned):
            examples.append(old | {"after": new["response"]})
            if not note and (item := items.get(old["id"])):
                show = (show_uniform, run.model, size, found["n_frames"], item.video)
                examples[-1]["strip"] = attempt(check, *show)
    return {"answers": both, "note": note, "examples": examples}


if __name__ == "__main__":
    with command_line():
        main()
