"""From the answers of a run to what it leaves: scores, tables, samples for other tools."""

import hashlib
from pathlib import Path

from pasta.benchmarks import SCORED
from pasta.benchmarks.report import comparison, counts, markdown, table
from pasta.benchmarks.scoring import summary
from pasta.models.generate import Request, ask_all
from pasta.models.load import load_vlm
from pasta.run.atomic import write_json
from pasta.run.rows import read_rows


def scored_rows(folder) -> dict:
    """{id: row} of the answers that a run's scores are of, without videos that did not decode.

    Raises FileNotFoundError when there are none, ValueError for a damaged row.
    """
    path = Path(folder) / "scored.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; `python evaluate.py` writes it")
    return {row["id"]: row for row in read_rows(path, SCORED) if "error" not in row}


def sample_rows(rows):
    """Rows of answers.jsonl in the form of lmms-eval's --log_samples."""
    return [
        {
            "doc_id": number,
            "target": row["answer"],
            "filtered_resps": [row["response"]],
            "resps": [[row["response"]]],
            "doc_hash": hashlib.sha256(f"{row['id']} {row['video']}".encode()).hexdigest(),
            "input": row["prompt"],
            "predicted": row["predicted"],
            "accuracy": float(row["correct"]),
        }
        for number, row in enumerate(rows)
    ]


def compare(folders, bench, seed):
    """Print how much better the second of two runs is, over the items that both answered.

    folders: two with scored.jsonl. bench: a module of pasta.benchmarks. Raises SystemExit.
    """
    if len(folders) != 2:
        raise SystemExit(f"--compare takes two folders, such as out/eval/BENCH/NAME, not {folders}")
    a, b = map(scored_rows, folders)
    both = [id_ for id_ in a if id_ in b]
    if not both:
        raise SystemExit(f"{' and '.join(folders)} have no answered item in common")
    scores = [bench.aggregate([rows[id_] for id_ in both]) for rows in (a, b)]
    first, second = (summary(s, bench.MACRO) | {"counts": {}} for s in scores)
    difference = comparison(scores[1], scores[0], bench.MACRO, seed)
    print(f"A: {folders[0]}\nB: {folders[1]}\n{len(both)} items answered by both")
    print(table({"A": first, "B": second}, {"B": difference}, bench.MACRO))
    named = difference["groups"] | ({"all": difference["mean"]} if difference["mean"] else {})
    print("McNemar's p:", ", ".join(f"{name} {x['p']:.2g}" for name, x in named.items()))


def report(config, bench, questions, rows, folder, facts):
    """Print the table of the runs and write it down, with all numbers.

    rows: {name: rows of answers.jsonl}, the first name that of the base. facts: for scores.json.
    """
    base, *others = rows
    scores = {name: bench.aggregate(of) for name, of in rows.items()}
    runs = {
        name: summary(scores[name], bench.MACRO) | {"counts": counts(of, bench.RANDOM, bench.EMPTY)}
        for name, of in rows.items()
    }
    differences = {
        name: comparison(scores[name], scores[base], bench.MACRO, config.seed) for name in others
    }
    further = {n: summary(bench.breakdown(of, questions), None) for n, of in rows.items()}
    text = table(runs, differences, bench.MACRO)
    print(text)
    if further[base]["groups"]:
        print(table({n: of | {"counts": {}} for n, of in further.items()}, {}, None))
    (folder / "scores.md").write_text(markdown(text))
    numbers = {"runs": runs, "differences": differences, "breakdown": further}
    write_json(folder / "scores.json", facts | numbers)
    print(f"wrote {folder / 'scores.json'}; every answer is in {folder}/NAME/answers.jsonl")


def judged(config, bench, rows):
    """Rows of adversarial QA, read again by the model that --judge names, in text alone."""
    vlm = load_vlm(config.judge, config.dtype, config.device)
    prompts = [bench.judge_prompt(row) for row in rows]
    requests = [Request(None, prompt) for prompt in prompts if prompt]
    # requests without video stay in their order
    answers = ask_all(lambda: vlm, requests, config.batch_size, max_new_tokens=16)
    replies = (answer.text for _, answer in answers)
    return [
        bench.judged_row(row, next(replies)) if prompt else row
        for row, prompt in zip(rows, prompts, strict=True)
    ]
