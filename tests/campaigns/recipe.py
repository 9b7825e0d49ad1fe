"""Pretraining from nothing: does the recipe make a model with the abilities of the shipped one?

    python tests/campaigns/recipe.py

Needs minutes. Another processor rounds its way to another model: the best mode may be another one,
but the mean of the modes stays near that of the shipped model.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean

sys.path[:0] = [str(Path(__file__).parents[i]) for i in (1, 2)]
from conftest import ROOT, finish, launch  # noqa: E402 (after the path to it)

from pasta.toy import SHIPPED  # noqa: E402
from pasta.toy.files import write_benchmark  # noqa: E402

BOUND = 10  # points


def scores_of(model, folder):
    """Percent of right answers of each mode on 300 new questions; folder: a new one to work in."""
    (folder / "data").mkdir(parents=True)
    write_benchmark(folder / "data", 100, 7)
    flags = {"model": model, "bench": "mvbench", "data": "data", "out": "out/eval"}
    flags |= {"dtype": "float32", "device": "cpu"}
    finish(launch("evaluate.py", 0, flags, cwd=folder))
    scores = json.loads((folder / "out/eval/mvbench/scores.json").read_text())
    return {mode: group["value"] for mode, group in scores["runs"]["model"]["groups"].items()}


def main():
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model")
        subprocess.run([sys.executable, "-m", "pasta.toy.pretrain", model], cwd=ROOT, check=True)
        shipped, made = scores_of(SHIPPED, Path(folder, "1")), scores_of(model, Path(folder, "2"))
    print(f"{'':12}shipped   made")
    for mode, value in shipped.items():
        print(f"{mode:12}{value:7.1f} {made[mode]:6.1f}")
    means = fmean(shipped.values()), fmean(made.values())
    print(f"{'mean':12}{means[0]:7.1f} {means[1]:6.1f}, expected within {BOUND} points")
    return abs(means[0] - means[1]) > BOUND


if __name__ == "__main__":
    sys.exit(main())
