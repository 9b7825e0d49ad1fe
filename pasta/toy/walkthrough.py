"""docs/walkthrough.md: one pair's way through the code, its output made by the code it shows.

    python -m pasta.toy.walkthrough

The page is its own source. Every python block of it is run, in order and in one namespace, and the
block of plain text behind it is replaced by what it printed: the words are written by hand, the
numbers are not. The model's weights are random, from a seed, and it runs on one thread, so that
another computer prints the same numbers but for the rounding of the last digits.
"""

import io
import re
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from pasta.config import ROOT
from pasta.toy.school import one_thread

PAGE = ROOT / "docs/walkthrough.md"  # this repository's: what it holds is run
CELL = re.compile(r"(```python\n(.*?)```\n)(?:\n```text\n.*?```\n)?", re.S)  # code, its output


@one_thread()
def run(page):
    """The page with the outputs of its cells made anew. What a cell raises names its first line.

    page: Markdown text. Each cell finds `folder`, an empty folder that is gone after the last one.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = {"folder": Path(folder)}

        def cell(found):
            whole, code = found[1], found[2]
            printed = io.StringIO()
            with redirect_stdout(printed):
                exec(compile(code, f"{PAGE.name}: {code.splitlines()[0]}", "exec"), names)
            said = "\n".join(line.rstrip() for line in printed.getvalue().splitlines())
            return whole + f"\n```text\n{said}\n```\n" * bool(said)

        return CELL.sub(cell, page)


def main():
    text = run(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
