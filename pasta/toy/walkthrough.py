"""docs/walkthrough.md: one pair's journey through the code, every tensor printed.

    python -m pasta.toy.walkthrough

The page is made of the functions in to_pack.py and to_step.py: prose is their docstrings, code
their bodies, output what they print. So it shows what the code does now, or does not come out.
"""

import ast
import inspect
import os
from argparse import ArgumentParser
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

from pasta.toy import to_pack, to_step
from pasta.toy.halves import one_thread

PAGE = Path("docs/walkthrough.md")
HEAD = """\
# One pair, step by step

How does a pair of answers about a video change a model? This page takes one through all the code,
from the video file to the optimizer's steps, and at every station prints what there is: shapes,
token ids, the mask, the loss and its gradient. You need to know PyTorch, not DPO.

The model is a tiny Qwen2.5-VL of transformers' own class that is **untrained**: its weights are
random with a fixed seed, so that the numbers are the same on every machine (up to rounding) and
come in seconds. What it says means nothing. Shapes and steps are those of any checkpoint; only the
sizes are larger there.

`python -m pasta.toy.walkthrough` runs all the code shown, in this order, and writes this page. The
code stands in `pasta/toy/to_pack.py` and `pasta/toy/to_step.py`, below the imports; `folder` is a
temporary one, and what only prints is in `pasta/toy/drawings.py`. At the head of a station are the
functions that it is about, each behind its file.
"""
TAIL = """\
## {n}. Where to read on

* `train_dpo.py`: `main`, `train` are stations 7 to 12 for many pairs, a loop of six verbs. Its loss
  is the mean over the pairs of each mode, weighted by mode (`pasta/dpo.py`: `pair_weights`).
* `make_pairs.py`: `make` is station 2 at full length. How candidates become pairs is in
  `pasta/generate.py`: `works_of`, `misled` and in `pasta/selection.py`: `make_pairs`.
* `pasta/families/__init__.py`: `family_for` chooses what stations 3 and 5 do for other families.
* `evaluate.py` asks the model with its adapter the questions of a benchmark.
* [miniature.md](miniature.md): the same with a toy model that is trained, and whether it helps.
"""


def code_of(cell):
    """The body of a function as it stands in its file, without its docstring and last return."""
    lines = inspect.getsource(cell).splitlines()
    body = ast.parse("\n".join(lines)).body[0].body
    end = body[-1].lineno - 1 if isinstance(body[-1], ast.Return) else len(lines)
    return dedent("\n".join(lines[body[0].end_lineno : end])).strip("\n")


def run(cell, made):
    """Run a cell with what it asks for by name, and keep what it makes. Returns what it prints.

    made: name -> value; changed in place.
    """
    said = StringIO()
    wanted = inspect.signature(cell).parameters
    with redirect_stdout(said):
        made.update(cell(**{name: made[name] for name in wanted}) or {})
    lines = said.getvalue().replace(f"{made['folder']}{os.sep}", "").splitlines()
    return "\n".join(line.rstrip() for line in lines)


@one_thread()
def page():
    """The whole text of docs/walkthrough.md; takes seconds."""
    parts, stations = [HEAD], (*to_pack.CELLS, *to_step.CELLS)
    with TemporaryDirectory() as folder:
        made = {"folder": Path(folder)}
        for number, cells in enumerate(stations, start=1):
            for i, cell in enumerate(cells):
                title, _, prose = inspect.getdoc(cell).partition("\n\n")
                told = f"{title}\n\n{prose}"
                if i == 0:
                    told = f"## {number}. {title.removesuffix('.')}\n\n{prose}"
                shown = f"```python\n{code_of(cell)}\n```\n```\n{run(cell, made)}\n```"
                parts += [told.strip() + "\n", shown + "\n"]
    return "\n".join([*parts, TAIL.format(n=len(stations) + 1)])


def write(path=PAGE):
    """Write the page."""
    path.write_text(page(), encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    told = "Write docs/walkthrough.md anew."
    ArgumentParser("python -m pasta.toy.walkthrough", description=told).parse_args()
    write()
