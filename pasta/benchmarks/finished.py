"""What a finished run leaves: the rows that its scores are of, for other tools and to compare."""

import hashlib
from pathlib import Path

from pasta.pairs import read_rows
from pasta.scoring import comparison, summary, table


def scored_rows(folder) -> dict:
    """{id: row} of the answers that a run's scores are of, without videos that did not decode.

    Raises FileNotFoundError when there are none.
    """
    path = Path(folder) / "scored.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; `python evaluate.py` writes it")
    return {row["id"]: row for row in read_rows(path) if "error" not in row}


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
