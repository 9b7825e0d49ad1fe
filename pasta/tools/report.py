"""Draws the pairs of make_pairs.py, or a run of train_dpo.py, as one page to open in a browser.

    python -m pasta.tools.report out/pairs       # kept and dropped pairs, and what each answer saw
    python -m pasta.tools.report out/dpo         # the same, and curves

Writes report.html, which needs no other file.
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from base64 import b64encode
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

from jinja2 import Template

from pasta.adversaries import ADVERSARIES
from pasta.datasets.read import read_pairs
from pasta.making.audit import DROPPED, PAIR, audit_of
from pasta.making.stages import QUERY
from pasta.prompts import PROMPT_VERSION, misled_prompt
from pasta.run.command import command_line, number
from pasta.run.config import read_config
from pasta.run.rows import read_rows, rows_of
from pasta.run.schema import ABSENT
from pasta.tools.report_pairs import attempt, missing, pairs_section
from pasta.training.loop import METRICS

CONFIGS = {  # the script of a folder: what its config.json needs to have
    "make_pairs.py": {"responder": str, "videos": str, "judge": str},
    "train_dpo.py": {"model": str, "pairs": str, "video_root": str | None, "mode": str | None,
                     "max_pixels": int, "frames_used": int, "pairs_read": dict | ABSENT},
}  # fmt: skip
ROW = PAIR | {"video": str, "query": str}
OURS = b"pasta.tools.report"  # in the head of a page, which may be replaced
METHOD = {"adversaries": ADVERSARIES, "prompt": misled_prompt, "version": PROMPT_VERSION}


def main(args=None):
    style = {"formatter_class": RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = ArgumentParser("python -m pasta.tools.report", description=__doc__, **style)
    add = parser.add_argument
    add("folder", type=Path, help="folder of make_pairs.py or train_dpo.py")
    add("--out", type=Path, help="the page, or its folder (default: FOLDER/report.html)")
    add("--pairs", type=number, default=3, help="examples of each mode and reason (%(default)s)")
    args = parser.parse_args(args)
    config, path = config_of(args.folder), args.out or args.folder
    path = path / "report.html" if path.is_dir() else path
    if path.exists() and OURS not in path.read_bytes()[:200]:
        raise SystemExit(f"{path} is no page of this tool; name another --out")
    run = Run(args, config, config["script"] == "train_dpo.py")
    sections = {"pairs": pairs_section, "audit": audit_section}
    if run.trained:
        sections["curves"] = curves_section
    data = {name: attempt(section, run) for name, section in sections.items()}
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
        why = missing(error)["missing"]
        text = f"{folder} is not a folder of make_pairs.py or train_dpo.py: {why}"
        raise SystemExit(text) from None


@dataclass(frozen=True)
class Run:
    """args: the command line of the report. config: the config.json of args.folder."""

    args: Namespace
    config: dict
    trained: bool  # whether train_dpo.py wrote it

    @cached_property
    def pairs_file(self):
        return Path(self.config["pairs"] if self.trained else self.args.folder / "pairs.jsonl")

    @cached_property
    def pairs(self):
        """The pairs, as rows. Raises OSError, ValueError."""
        if not self.trained:
            return read_rows(self.pairs_file, ROW)
        how = self.config["mode"], self.config["video_root"]
        return [vars(x) for x in read_pairs(self.pairs_file, *how)]

    @cached_property
    def dropped(self):
        """The rows that became no pair, with their `reason`; queries with a flaw among them."""
        rows = rows_of(self.pairs_file.with_name("dropped.jsonl"), ROW | DROPPED)
        queries = rows_of(self.pairs_file.with_name("queries.jsonl"), QUERY)
        none = {"chosen": "", "rejected": "", "recipe": {}}
        return rows + [q | none | {"reason": f"query {q['flaw']}"} for q in queries if "flaw" in q]

    def examples(self, items):
        """--pairs of the items, evenly spread over them."""
        n = max(0, min(self.args.pairs, len(items)))
        return [items[i * len(items) // n] for i in range(n)]


def audit_section(run):
    path = run.pairs_file.with_name("dropped.jsonl")
    path.stat()  # only make_pairs.py writes it
    skipped = rows_of(path.with_name("skipped.jsonl"), {"video": str, "reason": str})
    return {"modes": audit_of(path.parent), "skipped": skipped}


def curves_section(run):
    """The metrics over the updates. Raises OSError, ValueError."""
    try:
        from pasta.tools.figures import curves
    except ModuleNotFoundError as error:
        return missing(f"{error}: pip install -r requirements-dev.txt")
    path, picture = run.args.folder / "metrics.jsonl", BytesIO()
    if not (rows := read_rows(path, METRICS)):
        return missing(f"an update in {path}")
    curves(rows, picture)
    return {"rows": rows, "png": b64encode(picture.getvalue()).decode()}


if __name__ == "__main__":
    with command_line():
        main()
