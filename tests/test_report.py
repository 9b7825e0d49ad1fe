"""The report of a run: what it shows, and how it names missing parts.

Oracles: frames of the toy world, corrupted with numpy; masks, words and counts by hand.
    python -m pytest tests/test_report.py
"""

import base64
import io
import json
import re
import shlex
import shutil
import sys
from argparse import Namespace
from html import unescape
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pasta.adversaries import ADVERSARIES
from pasta.benchmarks.scoring import summary
from pasta.candidates import query_tasks
from pasta.making.reader import Reader
from pasta.pairs import MODES
from pasta.prompts import PREMISES, PROMPT_VERSION
from pasta.run.atomic import write_json
from pasta.run.config import parse
from pasta.run.rows import read_rows, write_rows
from pasta.tools import report
from pasta.tools.figures import cells
from pasta.tools.report_frames import marked, reader_of, show, view_of
from pasta.tools.report_run import Run
from pasta.toy import files, world

HOSTILE = '<script>alert("1")</script><img src="http://x/y.png">'
TILE = 56 + 4  # pixels of a toy frame and its white border
SPARSE = [0, 3, 6, 9, 12, 16, 19, 22, 25, 28]  # at 3.2 frames per second: 0, 1, ... 9 seconds
SHOWN = np.linspace(0, 31, 16).round().astype(int)
RECIPE = {"seed": 0, "n_frames": 32, "sparse_frames": 16, "max_pixels": 0, "twins": True,
          "prompt_version": PROMPT_VERSION}  # fmt: skip
MADE = {  # mode: (query, chosen, rejected, how rejected was made)
    "spatial": ("Is it left?", "It is left.", "It is right.", "frames corruption mirror"),
    "temporal": (HOSTILE, "It comes first.", "It comes last.", "prompt instruction backwards"),
    "cross_frame": ("Is it kept?", "It is kept.", "It is gone.", "frames corruption splice"),
}
TURNS = {"spatial": "01 01 10 11", "temporal": "00 11 11 01"}  # right before, right after


def write_pairs(folder, model):
    """A pair of each mode about a video each, as make_pairs.py leaves them with contrast."""
    pairs, candidates, recipe = [], [], RECIPE | {"responder": model}
    for i, (mode, (query, chosen, rejected, how)) in enumerate(MADE.items()):
        kind, name, value = how.split()
        row = {"video": f"{folder}/videos/{i:05d}.avi", "mode": mode, "query": query}
        adversarial = {"kind": kind, name: value, "response": rejected, "finished": True}
        logps = [{"response": chosen, "clean": -0.25, "broken": -2.5, "blind": -0.7},
                 {"response": rejected, "clean": -1.5, "broken": -0.5, "blind": -0.8}]  # fmt: skip
        if mode == "cross_frame":  # as with --select flip: no twins
            recipe = recipe | {"twins": False}
            logps = [{key: row[key] for key in ("response", "blind")} for row in logps]
        preferred = {"response": chosen, "finished": True}
        candidates.append(row | {"topic": None, "preferred": preferred, "logps": logps}
                          | {"adversarial": [adversarial], "recipe": recipe})  # fmt: skip
        more = {"sides": None, "blind": 0.1, "recipe": recipe | {"kind": "contrast"}}
        pairs.append(row | {"id": f"p{i}", "chosen": chosen, "rejected": rejected} | more)
    write_rows(folder / "pairs/pairs.jsonl", pairs)
    write_rows(folder / "pairs/candidates.jsonl", candidates)
    write_rows(folder / "pairs/dropped.jsonl", [pairs[0] | {"reason": "weak contrast"}] * 3)
    write_json(folder / "pairs/config.json", {"videos": f"{folder}/videos", "responder": model})


def write_run(folder, model):
    """What train_dpo.py leaves of three updates, the last with held-out pairs."""
    config = {"model": model, "pairs": f"{folder}/pairs/pairs.jsonl", "video_root": None}
    config |= {"mode": None, "max_pixels": 0, "lora_rank": 8, "beta": 0.1, "checkpointing": False}
    config |= {"mode_weights": [1.0, 2.0, 3.0], "frames_used": 32, "processes": 1, "commit": "abc"}
    write_json(folder / "run/config.json", config)
    keys = ("loss", "loss/spatial", "rewards/chosen", "rewards/margins", "rewards/accuracies")
    rows = [{"step": step, **dict.fromkeys(keys, 0.5 / step)} for step in (1, 2, 3)]
    del rows[1]["loss/spatial"]
    write_rows(folder / "run/metrics.jsonl", [*rows[:2], rows[2] | {"eval/loss": 0.25}])


def write_scores(folder, model):
    """What evaluate.py leaves of eight questions with the answers of TURNS."""
    scores = {"tiny": {}, "tiny+dpo": {}}
    for k, (name, tasks) in enumerate(scores.items()):
        rows = []
        for task, turns in TURNS.items():
            items = json.loads((folder / f"bench/json/{task}.json").read_text())
            for i, turn in enumerate(turns.split()):
                row = {"id": f"{task}/{i}", "task": task, "correct": turn[k] == "1"}
                row |= {"video": f"video/shapes/{items[i]['video']}", "prompt": "Which?"}
                rows.append(row | {"answer": "A", "predicted": "A", "response": HOSTILE + turn[k]})
            tasks[task] = {row["id"]: float(row["correct"]) for row in rows if row["task"] == task}
        write_rows(folder / f"eval/{name}/scored.jsonl", rows)
    interval = {"value": 12.5, "low": -30.0, "high": 50.0, "p": 1.0}
    facts = {
        "data": f"{folder}/bench",
        "n_frames": 32,
        "adapters": {"tiny": None, "+dpo": f"{folder}/run/adapter"},
        "runs": {name[4:] or name: summary(of) | {"counts": {}} for name, of in scores.items()},
        "differences": {"+dpo": {"groups": dict.fromkeys(TURNS, interval), "mean": interval}},
    }
    write_json(folder / "eval/scores.json", facts)
    config = {"bench": "mvbench", "model": model, "max_pixels": 0}
    write_json(folder / "eval/config.json", config)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_folder, toy_videos):
    """A folder with model, pairs, run, benchmark and scores, and the run's report in report/."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(tiny_folder, folder / "tiny")
    shutil.copytree(toy_videos, folder / "videos")
    for name in ("pairs", "run", "eval", "bench"):
        (folder / name).mkdir()
    files.write_benchmark(folder / "bench", 4, seed=1)
    for write in (write_pairs, write_run, write_scores):
        write(folder, f"{folder}/tiny")
    make(folder)
    return folder


def make(folder, *flags):
    """Make the report of FOLDER/run. Returns {id: HTML} of the page's sections."""
    flags = ["--eval", str(folder / "eval"), "--out", str(folder / "report"), *flags]
    report.main([str(folder / "run"), *flags])
    text = (folder / "report/report.html").read_text()
    return dict(re.findall(r'<section id="(\w+)">(.*?)</section>', text, re.S))


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of `whole` without its report, to remove parts of."""
    folder = tmp_path / "copied"
    shutil.copytree(whole, folder, ignore=lambda *_: ["report"])
    for path in [*folder.rglob("*.json"), *folder.rglob("*.jsonl")]:
        path.write_text(path.read_text().replace(str(whole), str(folder)))
    return folder


@pytest.fixture
def text(whole):
    return (whole / "report/report.html").read_text()


def words(html):
    """The text between the tags."""
    return re.sub(r"\s+", " ", unescape(re.sub("<[^>]+>", " ", html)))


def lacking(html):
    """The lines about missing parts."""
    return [words(line).strip() for line in re.findall(r'class="missing">(.*?)</p>', html, re.S)]


def lacking_of(folder, *flags):
    """{section: its lines about missing parts} of a new report, for sections that have any."""
    return {name: lacking(html) for name, html in make(folder, *flags).items() if lacking(html)}


def tiles(folder, name, columns, n):
    """The first n frames of a picture of toy frames, (n, 56, 56, 3), from its PNG file."""
    picture = np.asarray(Image.open(folder / f"report/{name}.png").convert("RGB"))
    frames = picture.reshape(-1, TILE, columns, TILE, 3).swapaxes(1, 2).reshape(-1, TILE, TILE, 3)
    return frames[:n, 2:-2, 2:-2]


def truth(i):
    """All frames of the i-th of toy_videos, as they were drawn."""
    return world.render(world.draw_video(np.random.default_rng([0, i])))


class Page(HTMLParser):
    """Checks that tags are closed in order; collects addresses and tag names."""

    open, addresses, names = (), (), ()

    def handle_starttag(self, tag, attrs):
        self.names += (tag,)
        self.addresses += tuple(value for name, value in attrs if name in ("src", "href"))
        self.open += (tag,) * (tag not in ("meta", "img"))

    def handle_endtag(self, tag):
        assert self.open[-1] == tag
        self.open = self.open[:-1]


def test_the_page_is_well_formed_fetches_nothing_and_runs_nothing(text):
    page = Page()
    page.feed(text)
    assert page.open == () and "script" not in page.names and "Content-Security-Policy" in text
    assert all(x.startswith(("data:image/png;base64,", "#")) for x in page.addresses)
    assert text.startswith("<!doctype html>") and "url(" not in text


def test_hostile_text_of_a_query_and_of_an_answer_is_escaped(text):
    escaped = HOSTILE.replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;")
    pairs, turned = text.split('<section id="turned">')
    assert escaped in pairs and escaped in turned
    assert "<script" not in text and 'src="http' not in text


def test_a_complete_run_lacks_nothing_and_every_picture_is_also_a_png_file(whole, text):
    assert lacking(text) == []
    files_of = {path.stem: path.read_bytes() for path in (whole / "report").glob("*.png")}
    inside = [base64.b64decode(x) for x in re.findall(r'base64,([^"]+)"', text)]
    plots = [files_of.pop("curves"), files_of.pop("attention")]
    assert [data for data in inside if data in plots] == plots
    frames = [np.asarray(Image.open(io.BytesIO(data))) for data in inside if data not in plots]
    assert (np.stack(frames[:16]) == tiles(whole, "pair-spatial-1-clean", 8, 16)).all()
    assert len(frames) == 16 * (len(files_of) - 3) + 10 * 3  # the rejected ones are at 1 fps


def test_the_head_names_model_pairs_commit_counts_and_the_command(whole, text):
    head, pairs = map(words, text.split('<section id="pairs">'))
    assert str(whole / "tiny") in head and "abc" in head
    assert f"--no-checkpointing --mode_weights 1.0 2.0 3.0 --out {whole / 'run'}" in head
    assert "spatial temporal cross_frame all videos 1 1 1 3 3" in pairs


def test_the_marked_words_are_those_that_differ():
    for chosen, rejected, *expected in [
        ("It is left.", "It is right.", "It is [left].", "It is [right]."),
        ("a b", "a not b", "a b", "a [not ]b"),
        ("same", "same", "same", "same"),
    ]:
        found = marked(chosen, rejected)
        brackets = [[f"[{text}]" if new else text for text, new in side] for side in found]
        assert ["".join(side) for side in brackets] == expected


def test_each_response_of_a_pair_is_shown_with_its_frames(whole, text):
    spatial, temporal, cross = truth(0), truth(1), truth(2)
    expected = {
        "pair-spatial-1-clean": (8, spatial[SHOWN]),
        "pair-spatial-1-rejected": (8, spatial[SPARSE][:, :, ::-1]),  # mirrored
        "pair-spatial-1-twin1": (8, spatial[SHOWN][:, ::-1, ::-1]),  # rotated
        "pair-temporal-1-rejected": (8, temporal[SPARSE]),  # misled by the premise alone
        "pair-temporal-1-twin1": (8, temporal[31 - SHOWN]),  # reversed
        "pair-cross_frame-1-rejected": (8, cross[:1]),  # spliced: it begins with its own frame
    }
    for name, (columns, frames) in expected.items():
        assert (tiles(whole, name, columns, len(frames)) == frames).all(), name
    last = tiles(whole, "pair-cross_frame-1-rejected", 8, 10)[-1]
    assert any((last == frame).all() for frame in truth(3)[SPARSE])  # of the next video
    assert not any((last == frame).all() for frame in cross)
    assert PREMISES["temporal"]["backwards"] in unescape(text)


def test_all_frames_shown_are_those_that_make_pairs_showed_the_responder(tiny, toy_videos):
    videos = [str(path) for path in sorted(toy_videos.iterdir())]
    reader = Reader(videos, toy_videos, tiny.processor, 32, 16)
    recipe = RECIPE | {"candidates": 7, "adversary": "both", "temperature": 0.7}
    queries = [{"mode": mode, "query": "Why?", "topic": None} for mode in MODES]
    for work in query_tasks(videos[1], queries, reader, recipe):
        made = [({"kind": "preferred"}, work.clean)]
        made += [(how, request.inputs) for how, request in work.misled]
        twins = ADVERSARIES[work.row["mode"]].twins
        for name, inputs in zip(twins, work.views["broken"], strict=True):
            made.append(({"kind": "twin", "corruption": name}, inputs))
        for source, inputs in made:
            frames, timestamps, _ = view_of(reader, work.row | {"recipe": recipe}, source)
            again = tiny.processor.prepare(frames, timestamps)
            assert (again.pixel_values == inputs.pixel_values).all()


def test_frames_that_a_server_saw_are_shown_without_asking_it(toy_videos):
    recipe = RECIPE | {"responder": "http://127.0.0.1:1/v1", "max_pixels": 28 * 28}
    video = str(toy_videos / "00000.avi")
    candidate = {"video": video, "mode": "spatial", "recipe": recipe}
    reader = reader_of(toy_videos, recipe, None)
    assert view_of(reader, candidate, {"kind": "preferred"})[0].shape == (32, 28, 28, 3)


def test_a_picture_shows_16_frames_of_more_and_shrinks_wide_ones(tmp_path):
    frames = np.full((40, 100, 500, 3), 30, np.uint8)
    part = show(tmp_path / "x.png", frames, np.arange(40) / 2, "clean")
    picture = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"))
    assert picture.shape == (2 * (33 + 4), 8 * (166 + 4), 3)
    assert (picture[2:35, 2:168] == 30).all() and (picture[:2] == 255).all()
    assert (part["total"], part["size"], part["shrink"]) == (40, "500 x 100", 3)
    assert [second for _, second in part["frames"][-4:]] == [15.5, 17.0, 18.0, 19.5]


def test_the_log_probabilities_of_both_responses_are_a_table(whole, text):
    assert "nats blind clean corrupted clean minus corrupted chosen -0.70 -0.25 -2.50 +2.25 " \
           "rejected -0.80 -1.50 -0.50 -1.00" in words(text)  # fmt: skip
    assert "nats blind chosen -0.70 rejected -0.80 " in words(text)  # without twins
    assert not list((whole / "report").glob("pair-cross_frame-1-twin*"))


def test_examples_are_chosen_by_the_seed():
    def examples(n, seed):
        return Run(Namespace(pairs=n, seed=seed), {}, {}).examples(range(9))

    assert len(examples(3, 0)) == 3 and examples(20, 0) == [*range(9)]
    assert examples(3, 0) == examples(3, 0) == sorted(examples(3, 0)) != examples(3, 1)


def test_the_attention_picture_has_the_pattern_by_hand():
    starts, seen, scored = cells((2, 3, 2), [3, 5])
    assert starts.tolist() == [0, 2, 5, 7] and np.flatnonzero(scored).tolist() == [3, 5]
    rows = ["".join(map(str, row)).rstrip("0") for row in seen.astype(int)]
    assert rows == ["1", "11", "111", "1111", "11111", "110001", "1100011"]
    starts, seen, scored = cells((96_000, 2, 3), [95_999, 96_000, 96_003])
    assert starts.tolist() == [0, 48, 50, 53]  # 2,000 tokens a cell, then a token each
    assert seen[48:, :48].all() and np.flatnonzero(scored).tolist() == [47, 48, 51]


def test_scores_and_turned_answers_by_hand(whole, text):
    scores, turned = text.split('<section id="scores">')[1].split('<section id="turned">')
    assert re.search(r"spatial +4 +50\.0 \[.*75\.0 \[", scores)
    for row in ("spatial 2 1 1 0", "temporal 1 0 2 1", "all 3 1 3 1"):
        assert row in words(turned)
    assert turned.count("<h3") == 2 + 1  # two of the three that are right now, and the wrong one
    items = json.loads((whole / "bench/json/spatial.json").read_text())
    seed = [1, int(items[2]["video"][:5])]  # the question with the turn 10
    frames = world.render(world.draw_video(np.random.default_rng(seed)))[SHOWN]
    assert (tiles(whole, "turned-from-right-to-wrong-1", 8, 16) == frames).all()


def test_scores_of_another_run_are_shown_and_named(copied):
    path = copied / "eval/scores.json"
    path.write_text(path.read_text().replace(str(copied / "run/adapter"), "/other/run/adapter"))
    found = make(copied)
    for name, what in (("scores", "scores"), ("turned", "answers")):
        (line,) = lacking(found[name])
        assert line.startswith(f"not there: {what} of {copied / 'run'} in {copied / 'eval'}; next")
        assert f"--adapter {copied / 'run/adapter'}" in line
    assert "75.0 [" in found["scores"]


def test_a_fully_tuned_model_is_shown_alone(copied):
    path = copied / "eval/scores.json"
    scores = json.loads(path.read_text())
    scores |= {"runs": {"run": scores["runs"]["+dpo"]}, "differences": {}}
    path.write_text(json.dumps(scores | {"adapters": {"run": None}}))
    config = {"bench": "mvbench", "model": str(copied / "run/model"), "max_pixels": 0}
    (copied / "eval/config.json").write_text(json.dumps(config))
    found = make(copied)
    assert not lacking(found["scores"]) and "75.0 [" in found["scores"]
    (line,) = lacking(found["turned"])
    assert "scored alone" in line and line.endswith(f"--compare BASE {copied / 'eval/run'}")


GONE = {  # what is removed: (the sections that miss it, how they name it, the next command)
    "eval": ("scores turned", "not there: .*eval/scores.json", "python evaluate.py .*run/adapter"),
    "run/metrics.jsonl": ("curves", "not there: .*metrics.jsonl", "python train_dpo.py .*--resume"),
    "pairs/dropped.jsonl": ("audit", "not there: .*dropped.jsonl", "python make_pairs.py "),
    "pairs/candidates.jsonl": ("pairs", "not there: .*only clean frames", "python make_pairs.py "),
    "pairs/candidates.jsonl pairs/config.json": ("pairs", "only clean", "python -m pasta.datasets"),
    "pairs/config.json": ("pairs", "not there: .*pairs/config.json", "python -m pasta.datasets "),
    "pairs/pairs.jsonl": ("pairs attention", "not there: .*pairs.jsonl",
                          "python make_pairs.py .*--responder .*/tiny .*--out .*/pairs"),
    "pairs": ("pairs audit attention", "not there: .*jsonl",
              "python make_pairs.py --responder .*/tiny --videos FOLDER --out .*/pairs"),
    "videos/00001.avi": ("pairs", "00001.avi: ", "python -m pasta.datasets "),
    "videos": ("pairs attention", "videos", "python -m pasta.datasets "),
    "tiny": ("pairs attention turned", "no model folder",
             "python -m pasta.tools.report .*/run .*--model FOLDER"),
    "bench": ("turned", "no json/TASK.json", "python evaluate.py --bench mvbench .*--check"),
}  # fmt: skip


@pytest.mark.parametrize("gone", GONE)
def test_a_missing_part_is_named_with_the_next_command_and_the_rest_is_there(copied, gone):
    for path in map(copied.joinpath, gone.split()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found, (names, what, command) = lacking_of(copied), GONE[gone]
    assert found.keys() == {*names.split()}
    for (line,) in found.values():
        assert re.search(f"{what}.*; next: {command}", line)
        check_command(line.split("; next: ")[1])


def check_command(line):
    """The command can be pasted: its script accepts its flags."""
    _, script, *flags = shlex.split(line)
    if script.endswith(".py"):
        module = import_module(Path(script).stem)
        (config,) = (v for k, v in vars(module).items() if re.fullmatch(r"\w+Config", k))
        parse(config, flags)


def test_without_candidates_the_clean_frames_are_those_of_training(copied):
    (copied / "pairs/candidates.jsonl").unlink()
    make(copied)
    assert (tiles(copied, "pair-temporal-1-clean", 8, 16) == truth(1)[SHOWN]).all()
    assert not (copied / "report/pair-temporal-1-rejected.png").exists()


def test_a_model_that_has_moved_is_found_with_its_flag(copied):
    (copied / "tiny").rename(copied / "moved")
    assert not lacking_of(copied, "--model", str(copied / "moved"))


def test_damaged_files_are_named_in_their_section_alone(copied):
    rows, path = read_rows(copied / "run/metrics.jsonl"), copied / "eval/scores.json"
    write_rows(copied / "run/metrics.jsonl", [rows[0], {"step": "two"}])
    path.write_text(path.read_text().replace('"value"', '"valeu"'))
    found = lacking_of(copied)
    assert found.keys() == {"curves", "scores"}
    assert "metrics.jsonl:2: step is 'two'; expected int" in found["curves"][0]
    assert "a file has an unexpected form: KeyError('value')" in found["scores"][0]


def test_without_matplotlib_a_plain_message_takes_the_place_of_the_plots(copied, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "pasta.tools.figures", raising=False)
    monkeypatch.delattr("pasta.tools.figures", raising=False)
    found = lacking_of(copied)
    assert found.keys() == {"curves", "attention"}
    for (line,) in found.values():
        assert "matplotlib" in line and line.endswith("next: pip install -r requirements-dev.txt")
    assert (copied / "report/pair-spatial-1-clean.png").exists()


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="is not a run of train_dpo.py: not there: .*config.json"):
        report.main([str(tmp_path)])
