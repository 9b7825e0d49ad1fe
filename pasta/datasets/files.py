"""The rows of a data set's file, each with its place for messages: FILE:3, or FILE: row 3.

Read are .jsonl, one object a line, and .json with one list of objects. Tables are not, since that
takes packages that nothing else here needs: the message holds the command that converts them.
"""

import codecs
import json
from pathlib import Path
from shlex import quote

from pasta.run.rows import numbered_rows

CSV = "import csv, json, sys; "
CSV += "rows = csv.DictReader(open(sys.argv[1], newline='', encoding='utf-8-sig')%s); "
CSV += "[print(json.dumps(row)) for row in rows]"
PARQUET = "import pandas, sys; pandas.read_parquet(sys.argv[1]).to_json(sys.argv[2], "
PARQUET += "orient='records', lines=True)"
CONVERT = {  # suffix: the command, given the names of both files
    ".csv": f'python -c "{CSV % ""}" {{}} > {{}}',
    ".tsv": f'python -c "{CSV % ", delimiter=chr(9)"}" {{}} > {{}}',
    ".parquet": f'pip install pandas pyarrow && python -c "{PARQUET}" {{}} {{}}',
    ".gz": "gzip -dc {} > {}",
}


def placed_rows(path):
    """(place, row) of every row, in order. Raises ValueError for what is no row, with its place."""
    path = Path(path)
    if path.suffix in CONVERT:
        stem = path.with_suffix("")
        new = stem if stem.suffix in (".json", ".jsonl") else stem.with_suffix(".jsonl")
        command = CONVERT[path.suffix].format(quote(str(path)), quote(str(new)))
        raise ValueError(f"{path}: expected .jsonl or .json; convert it: {command}")
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    if not data.lstrip().startswith(b"["):
        for number, row in numbered_rows(path):
            yield f"{path}:{number}", row
        return
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError) as error:  # also bytes that are no UTF-8
        raise ValueError(f"{path}: {error}; expected one JSON list, or one object a line") from None
    for number, row in enumerate(rows, start=1):
        place = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{place}: {row!r:.60}; expected an object")
        yield place, row
