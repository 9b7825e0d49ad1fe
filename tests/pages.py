"""Refresh a page of docs/: run its Python blocks and write their output below them.

    python tests/pages.py docs/walkthrough.md

Blocks that start with ```python run in order, in one namespace. The ``` block after one is its
output and is replaced. A failing block ends the command and leaves the page unchanged.
"""

import re
import sys
from argparse import ArgumentParser
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))
from pasta.run.command import command_line  # noqa: E402 (after the path to it)

BLOCK = re.compile(r"(?ms)^```python\n(.*?)^```\n(?:```\n.*?^```\n)?")


def refreshed(text, folder):
    """The page with new outputs. Its code can use `folder`, the Path of an empty folder."""
    names = {"folder": Path(folder)}

    def run(block):
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile(block[1], "a block of the page", "exec"), names)
        # temporary paths differ from run to run
        lines = printed.getvalue().replace(f"{folder}/", "").splitlines()
        output = "".join(f"{line.rstrip()}\n" for line in lines)
        return f"```python\n{block[1]}```\n" + f"```\n{output}```\n" * bool(output)

    return BLOCK.sub(run, text)


def main(args=None):
    parser = ArgumentParser("python tests/pages.py", description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, help="a Markdown file, such as docs/walkthrough.md")
    page = parser.parse_args(args).page
    with TemporaryDirectory() as folder:
        page.write_text(refreshed(page.read_text(), folder))
    print(f"wrote {page}")


if __name__ == "__main__":
    with command_line():
        main()
