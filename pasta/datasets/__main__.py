"""Shows how a preference data set is read, without training.

    python -m pasta.datasets FILE --video_root DIR

Prints the number of pairs of each mode (`other`: rows without a mode), how many of their videos
were found, and the first pair. Exits with 1 if the file cannot be read or no video is found.
"""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path

from pasta.datasets.read import open_pairs
from pasta.pairs import MODES
from pasta.run.command import command_line


def main(args=None):
    parser = ArgumentParser("python -m pasta.datasets", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="pairs, .jsonl or .json")
    parser.add_argument("--video_root", type=Path, help="folder of relative video paths")
    parser.add_argument("--mode", choices=MODES, help="mode of rows without one")
    args = parser.parse_args(args)
    pairs = open_pairs(args.file, args.mode, args.video_root)
    print(json.dumps(asdict(pairs[0]), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    with command_line():
        main()
