"""Pictures of a run: its pairs as the model saw them, its curves, its scores, what it turned.

    python -m pasta.tools.report out/dpo
    python -m pasta.tools.report out/dpo --eval out/eval/videomme --pairs 4

Writes report.html, which needs nothing else, into --out, and its pictures beside it as PNG files.
What is not there is named in its section, with the command that makes it. No model is asked and no
weights are loaded. The drawn pictures need matplotlib, which is in requirements-dev.txt.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter
from functools import partial
from pathlib import Path

from tqdm import tqdm

from pasta.making.audit import audit_of, audit_table
from pasta.pairs import MODES
from pasta.run.config import read_config
from pasta.run.rows import read_rows
from pasta.tools.report_attention import attention_section
from pasta.tools.report_page import block, missing, page, paragraph, table
from pasta.tools.report_pairs import pairs_section
from pasta.tools.report_run import CONFIG, NO_FLAGS, Run, tried, words_of
from pasta.tools.report_scores import scores_section, turned_section
from pasta.training.loop import METRICS

EVALUATED = Path("out/eval/mvbench")


def main(args=None):
    parser = ArgumentParser(
        prog="python -m pasta.tools.report",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="folder of train_dpo.py")
    parser.add_argument("--eval", type=Path, default=EVALUATED, help="evaluate.py's OUT/BENCH")
    parser.add_argument("--out", type=Path, help="folder of the report (default: RUN/report)")
    parser.add_argument("--pairs", type=int, default=2, help="examples of each kind")
    parser.add_argument("--seed", type=int, default=0, help="by which examples are drawn")
    parser.add_argument("--model", help="where the model is now (default: where it was)")
    given = parser.parse_args(args)
    try:
        config = read_config(given.run, CONFIG)
    except (OSError, ValueError) as error:
        told = f"{given.run} is no run of train_dpo.py: {words_of(error)}"
        raise SystemExit(f"{told}; first: python train_dpo.py --out {given.run}") from None
    out = given.out or given.run / "report"
    out.mkdir(parents=True, exist_ok=True)
    run = Run(given.run, config, given.eval, out, given.pairs, given.seed, given.model)
    path = out / "report.html"
    path.write_text(report(run), encoding="utf-8", errors="backslashreplace")
    print(f"wrote {path}, and its pictures beside it")


def report(run):
    """The whole page of a Run; pictures are written into its folder `out`."""
    make = f"python make_pairs.py --out {run.pairs_file.parent}"
    model = run.again if run.pairs_file.is_file() else make
    sections = {
        "Run": (head_section, make),
        "Pairs": (pairs_section, make),
        "Audit": (audit_section, make),
        "Curves": (curves_section, run.train(out=run.folder, resume=True)),
        "Attention": (attention_section, model),
        "Scores": (scores_section, run.evaluate),
        "Turned answers": (turned_section, run.evaluate),
    }
    bar = tqdm(sections.items(), "sections", disable=None)
    told = {name: tried(partial(section, run), command) for name, (section, command) in bar}
    return page(f"pasta: {run.folder}", told)


def head_section(run):
    """What was trained on what, by which settings, and how many pairs of each mode there are."""
    facts = [[name, run.config.get(name)] for name in ("model", "pairs", *NO_FLAGS)]
    counts = tried(partial(pair_counts, run), f"python make_pairs.py --out {run.pairs_file.parent}")
    return table((), facts) + counts + block(run.train(), "asked")


def pair_counts(run):
    """A table of the number of pairs. Raises OSError, ValueError."""
    counts = Counter(pair.mode for pair in run.pairs)
    videos = len({pair.video for pair in run.pairs})
    row = ["pairs", *(counts[mode] for mode in MODES), len(run.pairs), videos]
    return table(["", *MODES, "all", "videos"], [row])


def audit_section(run):
    """The audit as text and as bars. Raises OSError, ValueError."""
    folder = run.pairs_file.parent
    if not (folder / "dropped.jsonl").is_file():
        told = f"there is no {folder / 'dropped.jsonl'}: only make_pairs.py tells what it dropped"
        return missing(told, run.look_for_videos)
    found = audit_of(folder)
    words = "Pairs of each mode: kept, and dropped by reason."
    return block(audit_table(found)) + run.draw("audit", words, found)


def curves_section(run):
    """The metrics over the updates. Raises OSError, ValueError."""
    rows = read_rows(run.folder / "metrics.jsonl", METRICS)
    if not rows:
        raise ValueError(f"no update yet in {run.folder / 'metrics.jsonl'}")
    words = (
        f"{len(rows)} updates; dots are the held-out pairs, if there are any. With DPO, an "
        "untrained policy has loss ln 2 = 0.693, rewards 0 and accuracy 0, a tie being no success."
    )
    return run.draw("curves", words, rows) + paragraph(last_line(rows[-1]))


def last_line(row):
    """The last update in words."""
    names = ("loss", "rewards/margins", "rewards/accuracies")
    values = [f"{name} {row[name]:.3f}" for name in names if isinstance(row.get(name), float)]
    return f"Update {row['step']}: {', '.join(values)}."


if __name__ == "__main__":
    main()
