"""The annotations of every benchmark, damaged: its items are read, or refused with file and item.

python -m pytest -q tests/test_fuzz_benchmarks.py
"""

import json

import pytest
import test_benchmarks as layouts
from damage import examples, survives, typed
from hypothesis import given
from hypothesis import strategies as st
from test_adversarial import OPTIONS, QUESTION
from test_benchmarks import NEW, fill, touch, write_csv
from test_mvbench import REAL, put

from pasta.benchmarks import Item, benchmark
from pasta.run.rows import write_rows

TEXTS = ("id", "task", "name", "prompt", "answer")


def check(items):
    """They are as Item has them, and a tokenizer and a file take their texts."""
    for item in items:
        typed(item, Item)
        for text in (*(getattr(item, name) for name in TEXTS), *item.options):
            text.encode("utf-8")
        assert len(item.letters) == len(item.options) and item.video.exists()


def of_one_file(name):
    def written(folder):
        fill(name, folder)
        return name, layouts.LAYOUTS.get(name, ["vinoground_textscore.json"])[0]

    return written


def categories_of_vinoground(folder):
    fill("vinoground", folder)
    return "vinoground", "vinoground.csv"


def nextqa_csv(folder):
    write_csv(folder / "test.csv", [layouts.NEXTQA])
    touch(folder / "videos/2574374895.mp4")
    return "nextqa", "test.csv"


def tempcompass(task):
    def written(folder):
        fill("tempcompass", folder)
        return "tempcompass", f"{task}/test.json"

    return written


def mvbench(folder):
    put(folder, "action_count", "perception/videos", REAL)
    return "mvbench", "json/action_count.json"


def mvbench_with_a_folder_of_ones_own(folder):
    put(folder, "mine", "clips", REAL)
    (folder / "test.json").write_text(json.dumps({"root": {"mine": "clips"}}))
    return "mvbench", "test.json"


def adversarial(folder):
    touch(folder / "a.mp4")
    write_rows(folder / "items.jsonl", [QUESTION, OPTIONS])
    return "adversarial", "items.jsonl"


def videomme_parquet(folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    fill("videomme", folder)
    (folder / "videomme/test.json").unlink()
    table = pyarrow.Table.from_pylist([layouts.VIDEOMME])
    parquet.write_table(table, folder / "videomme/test.parquet")
    return "videomme", "videomme/test.parquet"


FOLDERS = [*(of_one_file(name) for name in NEW), categories_of_vinoground,
           nextqa_csv, tempcompass("yes_no"), tempcompass("caption_matching"), mvbench,
           mvbench_with_a_folder_of_ones_own, adversarial, videomme_parquet]  # fmt: skip


@pytest.mark.parametrize("written", FOLDERS)
def test_damaged_annotations_are_read_or_refused_with_their_place(written, tmp_path):
    name, file = written(tmp_path)
    bench = benchmark(name)
    bench.items(tmp_path)

    @examples(120)
    @given(st.data())
    def damage(data):
        # FileNotFoundError: names the folder of a missing video or task and the command
        survives(data, tmp_path / file, lambda: check(bench.items(tmp_path)), FileNotFoundError)

    damage()
