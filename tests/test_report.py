"""The report of a run: what it shows, and what it does when a part is not there.

Oracles: the frames that the toy world draws, broken with numpy; masks, words and counts by hand.
    python -m pytest tests/test_report.py
"""

import base64
import io
import json
import re
import shutil
import sys
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pasta.benchmarks.scoring import summary
from pasta.candidates import query_tasks
from pasta.making.reader import Reader
from pasta.packs import VideoPairs
from pasta.pairs import MODES
from pasta.prompts import PREMISES
from pasta.run.rows import read_rows, write_rows
from pasta.tools import report
from pasta.tools.report_attention import cells, segment_names
from pasta.tools.report_frames import SHOWN, View, reader_of, sheet, twins_of, view_of
from pasta.tools.report_page import marked, page
from pasta.tools.report_pairs import drawn
from pasta.toy import files, world

HOSTILE = '<script>alert("1")</script><img src="http://x/y.png">'
KEPT = 56 + 4  # pixels of a toy frame with its gap, at both sides
RECIPE = {"seed": 0, "n_frames": 32, "sparse_frames": 16, "max_pixels": 0, "prompt_version": 2,
          "twins": True}  # fmt: skip
SAID = {  # mode: (query, chosen, rejected, what rejected was said of)
    "spatial": ("Is it left?", "It is left.", "It is right.",
                {"kind": "frames", "corruption": "mirror"}),
    "temporal": (HOSTILE, "It comes first.", "It comes last.",
                 {"kind": "prompt", "instruction": "backwards"}),
    "cross_frame": ("Is it kept?", "It is kept.", "It is replaced.",
                    {"kind": "frames", "corruption": "splice"}),
}  # fmt: skip


def write_pairs(folder, videos, model):
    """A pair of each mode about a video each, as make_pairs.py leaves them with contrast."""
    pairs, candidates = [], []
    for i, (mode, (query, chosen, rejected, how)) in enumerate(SAID.items()):
        row = {"video": str(videos / f"{i:05d}.avi"), "mode": mode, "query": query}
        recipe = RECIPE | {"responder": str(model)}
        logps = [{"response": chosen, "clean": -0.25, "broken": -2.5, "blind": -0.7},
                 {"response": rejected, "clean": -1.5, "broken": -0.5, "blind": -0.8}]  # fmt: skip
        said = {"preferred": {"response": chosen, "finished": True}, "topic": None,
                "adversarial": [how | {"response": rejected, "finished": True}]}  # fmt: skip
        candidates.append(row | said | {"logps": logps, "recipe": recipe})
        more = {"sides": None, "blind": 0.1, "recipe": recipe | {"kind": "contrast"}}
        pairs.append(row | {"id": f"p{i}", "chosen": chosen, "rejected": rejected} | more)
    write_rows(folder / "pairs.jsonl", pairs)
    write_rows(folder / "candidates.jsonl", candidates)
    write_rows(folder / "dropped.jsonl", [pairs[0] | {"reason": "weak contrast"}] * 3)
    (folder / "config.json").write_text(json.dumps({"videos": str(videos)}))


def write_run(folder, pairs, model):
    """What train_dpo.py leaves of three updates, the last with held-out pairs."""
    folder.mkdir()
    config = {"model": str(model), "pairs": str(pairs), "video_root": None, "mode": None}
    config |= {"max_pixels": 0, "frames_used": 32, "lora_rank": 8, "processes": 1, "beta": 0.1}
    config |= {"checkpointing": False, "mode_weights": [1.0, 2.0, 3.0], "commit": "abc123"}
    (folder / "config.json").write_text(json.dumps(config))
    keys = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
            *(f"loss/{mode}" for mode in MODES))  # fmt: skip
    rows = [{"step": step, **dict.fromkeys(keys, 0.5 / step)} for step in (1, 2, 3)]
    del rows[1]["loss/spatial"]
    write_rows(folder / "metrics.jsonl", [*rows[:2], rows[2] | {"eval/loss": 0.25}])


TURNS = {"spatial": "01 01 10 11", "temporal": "00 11 11 01"}  # right before, right after


def write_scores(folder, data, adapter):
    """What evaluate.py leaves of eight questions, whose turns are TURNS."""
    rows = {"tiny": [], "+dpo": []}
    items = {task: json.loads((data / f"json/{task}.json").read_text()) for task in TURNS}
    for task, turns in TURNS.items():
        for i, turn in enumerate(turns.split()):
            for name, right in zip(rows, map(int, turn), strict=True):
                row = {"id": f"{task}/{i}", "task": task, "response": f"{HOSTILE} {right}"}
                row |= {"video": f"video/shapes/{items[task][i]['video']}", "correct": bool(right)}
                rows[name].append(row | {"prompt": "Which?", "answer": "A", "predicted": "A"})
    of = {name: {task: {row["id"]: float(row["correct"]) for row in rows[name]
                        if row["task"] == task} for task in TURNS} for name in rows}  # fmt: skip
    runs = {name: summary(scores) | {"counts": {}} for name, scores in of.items()}
    interval = {"value": 12.5, "low": -30.0, "high": 50.0, "p": 1.0}
    differences = {"+dpo": {"groups": dict.fromkeys(TURNS, interval), "mean": interval}}
    write_rows(folder / "tiny/scored.jsonl", rows["tiny"])
    write_rows(folder / "tiny+dpo/scored.jsonl", rows["+dpo"])
    config = {"bench": "mvbench", "model": str(adapter.parent.parent / "tiny"), "max_pixels": 0}
    (folder / "config.json").write_text(json.dumps(config))
    facts = {"data": str(data), "n_frames": 32, "adapters": {"tiny": None, "+dpo": str(adapter)}}
    numbers = {"runs": runs, "differences": differences}
    (folder / "scores.json").write_text(json.dumps(facts | numbers))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_folder, toy_videos):
    """A folder with model, pairs, run, benchmark and scores, and the run's report in report/."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(tiny_folder, folder / "tiny")
    shutil.copytree(toy_videos, folder / "videos")
    (folder / "pairs").mkdir()
    (folder / "bench").mkdir()
    files.write_benchmark(folder / "bench", 4, seed=1)
    write_pairs(folder / "pairs", folder / "videos", folder / "tiny")
    write_run(folder / "run", folder / "pairs/pairs.jsonl", folder / "tiny")
    write_scores(folder / "eval", folder / "bench", folder / "run/adapter")
    show(folder)
    return folder


def show(folder, *flags):
    """Make the report of FOLDER/run. Returns the text of the page."""
    flags = ["--eval", str(folder / "eval"), "--out", str(folder / "report"), *flags]
    report.main([str(folder / "run"), *flags])
    return (folder / "report/report.html").read_text()


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of `whole`, without its report, to take parts of away."""
    folder = tmp_path / "copied"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "report")
    for path in [*folder.rglob("*.json"), *folder.rglob("*.jsonl")]:
        path.write_text(path.read_text().replace(str(whole), str(folder)))
    return folder


@pytest.fixture
def text(whole):
    return (whole / "report/report.html").read_text()


def sections(text):
    """{heading: HTML} of a page."""
    return dict(re.findall(r"<section[^>]*><h2>(.*?)</h2>(.*?)</section>", text, re.S))


def lacking(text):
    """The sentences of a section, or of a page, about what is not there; without tags."""
    found = re.findall(r'class="missing">(.*?)</p>', text, re.S)
    return [unescape(re.sub("<[^>]+>", "", sentence)) for sentence in found]


def tiles(folder, name, columns, n):
    """The first n frames of a picture of toy frames, (n, 56, 56, 3), from its PNG file."""
    picture = np.asarray(Image.open(folder / f"report/{name}.png").convert("RGB"))
    places = [divmod(i, columns) for i in range(n)]
    return np.stack([picture[r * KEPT : (r + 1) * KEPT, c * KEPT : (c + 1) * KEPT][2:-2, 2:-2]
                     for r, c in places])  # fmt: skip


def truth(i):
    """All frames of the i-th of toy_videos, as they were drawn."""
    return world.render(world.draw_video(np.random.default_rng([0, i])))


# At 3.2 frames per second these are on screen 0, 1, ... 9 seconds after the start.
SPARSE = [0, 3, 6, 9, 12, 16, 19, 22, 25, 28]


# ---------------------------------------------------------------- the page


class Balance(HTMLParser):
    """Remembers which tags are open, every address, and every tag's name."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.names = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text):
    parser = Balance()
    parser.feed(text)
    return parser


def test_every_tag_is_closed_in_its_place(text):
    assert parsed(text).open == []


def test_the_page_fetches_nothing_and_runs_nothing(text):
    found = parsed(text)
    outside = [x for x in found.addresses if not x.startswith(("data:image/png;base64,", "#"))]
    assert outside == [] and "script" not in found.names


def test_hostile_text_of_a_query_and_of_an_answer_is_escaped(text):
    told = sections(text)
    escaped = HOSTILE.replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert escaped in told["Pairs"] and escaped in told["Turned answers"]
    assert "<script" not in text and "<img src=" not in text


def test_a_whole_run_lacks_nothing(text):
    assert lacking(text) == [] and all(sections(text).values())


def test_each_picture_is_a_png_beside_the_page_and_inside_it(whole, text):
    inside = {base64.b64decode(x) for x in re.findall(r'base64,([^"]+)"', text)}
    beside = {path.read_bytes() for path in (whole / "report").glob("*.png")}
    assert inside == beside and len(beside) > 15
    assert all(Image.open(io.BytesIO(data)).format == "PNG" for data in inside)
    names = {path.stem for path in (whole / "report").glob("*.png")}
    assert {"audit", "curves", "attention", "scores"} <= names


def test_the_head_names_model_pairs_commit_counts_and_the_command(whole, text):
    head = unescape(re.sub("<[^>]+>", " ", sections(text)["Run"]))
    assert str(whole / "tiny") in head and "abc123" in head
    assert re.search(r"spatial +temporal +cross_frame +all +videos +pairs +1 +1 +1 +3 +3", head)
    assert "--beta 0.1 --no-checkpointing --mode_weights 1.0 2.0 3.0\n" in f"{head.strip()}\n"


def test_a_title_is_a_text(text):
    assert "<title>a&lt;b</title>" in page("a<b", {})


# ---------------------------------------------------------------- marked words


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("It is left.", "It is right.", ("It is <ins>left</ins>.", "It is <del>right</del>.")),
        ("a b c d", "a x y d", ("a <ins>b c</ins> d", "a <del>x y</del> d")),
        ("a b", "a not b", ("a b", "a <del>not</del> b")),
        ("a <b>", "a <i>", ("a &lt;<ins>b</ins>&gt;", "a &lt;<del>i</del>&gt;")),
        ("same  text", "same text", ("same  text", "same text")),
    ],
)  # fmt: skip
def test_the_marked_words_are_those_that_differ(chosen, rejected, expected):
    assert marked(chosen, rejected) == expected


# ---------------------------------------------------------------- frames


def test_a_mirrored_pair_shows_its_sparse_frames_mirrored(whole):
    found = tiles(whole, "pair-spatial-1-rejected", 5, 10)
    assert (found == truth(0)[SPARSE][:, :, ::-1]).all()


def test_the_clean_frames_are_those_of_the_preferred_response(whole):
    shown = np.linspace(0, 31, 16).round().astype(int)
    assert (tiles(whole, "pair-spatial-1-clean", 8, 16) == truth(0)[shown]).all()


def test_a_premise_leaves_the_sparse_frames_and_is_shown(whole, text):
    assert (tiles(whole, "pair-temporal-1-rejected", 5, 10) == truth(1)[SPARSE]).all()
    assert PREMISES["temporal"]["backwards"] in sections(text)["Pairs"]


def test_the_twins_of_a_contrast_pair_are_broken_clean_frames(whole):
    shown = np.linspace(0, 31, 16).round().astype(int)
    rotated = truth(0)[shown][:, ::-1, ::-1]
    assert (tiles(whole, "pair-spatial-1-twin1", 8, 16) == rotated).all()
    assert (tiles(whole, "pair-temporal-1-twin1", 8, 16) == truth(1)[31 - shown]).all()


def test_a_spliced_pair_begins_with_its_own_frames_and_ends_with_those_of_the_next_video(whole):
    found = tiles(whole, "pair-cross_frame-1-rejected", 5, 10)
    own, other = truth(2)[SPARSE], truth(3)[SPARSE]
    assert (found[0] == own[0]).all()
    assert any((found[-1] == frame).all() for frame in other)
    assert not any((found[-1] == frame).all() for frame in own)


def test_all_frames_shown_are_those_that_make_pairs_showed_the_responder(tiny, toy_videos):
    videos = [str(path) for path in sorted(toy_videos.iterdir())]
    reader = Reader(videos, toy_videos, tiny.processor, 32, 16)
    recipe = RECIPE | {"candidates": 7, "adversary": "both", "temperature": 0.7}
    queries = [{"mode": mode, "query": "Why?", "topic": None} for mode in MODES]
    for work in query_tasks(videos[1], queries, reader, recipe):
        candidate = work.row | {"recipe": recipe}
        made = [(how, request.inputs) for how, request in work.misled]
        for how, inputs in [({"kind": "preferred"}, work.clean), *made]:
            view = view_of(reader, candidate, how)
            again = tiny.processor.prepare(view.frames, view.timestamps)
            assert (again.pixel_values == inputs.pixel_values).all()
        for view, inputs in zip(twins_of(reader, candidate), work.views["broken"], strict=True):
            again = tiny.processor.prepare(view.frames, view.timestamps)
            assert (again.pixel_values == inputs.pixel_values).all()


def test_frames_that_a_server_saw_are_shown_without_asking_it(toy_videos, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"videos": str(toy_videos)}))
    recipe = RECIPE | {"responder": "http://127.0.0.1:1/v1", "max_pixels": 28 * 28}
    video = str(toy_videos / "00000.avi")
    candidate = {"video": video, "mode": "spatial", "recipe": recipe}
    reader = reader_of(tmp_path, recipe, None)
    view = view_of(reader, candidate, {"kind": "preferred"})
    assert view.frames.shape == (32, 28, 28, 3)


def test_a_sheet_shows_16_of_more_frames_shrinks_wide_ones_and_says_so():
    frames = np.zeros((40, 100, 500, 3), np.uint8)
    frames[:, :, ::3] = 90  # a third of the pixels, so 30 in the mean
    data, caption = sheet(View(frames, np.arange(40) / 2, "clean"))
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert picture.shape == (4 * (33 + 4), 4 * (166 + 4), 3)  # no wider than the page
    assert abs(picture[2:35, 2:168].mean() - 30) < 1
    assert f"{SHOWN} of 40 frames of 500 x 100 pixels, shown at 1/3" in caption
    assert caption.endswith("15.5, 17.0, 18.0, 19.5 s")


def test_the_log_probabilities_of_both_responses_are_a_table(text):
    cells_of = re.sub(r"</?t[dhr][^>]*>", " ", sections(text)["Pairs"])
    assert re.search(r"nats +clean +broken +blind +clean minus broken", cells_of)
    assert re.search(r"chosen +-0.25 +-2.50 +-0.70 +\+2.25 +rejected +-1.50 +-0.50 +-0.80 +-1.00",
                     cells_of)  # fmt: skip


def test_without_twins_the_table_has_the_blind_ones_alone(copied):
    rows = read_rows(copied / "pairs/candidates.jsonl")
    for row in rows:
        row["logps"] = [{k: said[k] for k in ("response", "blind")} for said in row["logps"]]
        row["recipe"]["twins"] = False
    write_rows(copied / "pairs/candidates.jsonl", rows)
    told = sections(show(copied))["Pairs"]
    cells_of = re.sub(r"</?t[dhr][^>]*>", " ", told)
    assert re.search(r"nats +blind +chosen +-0.70 +rejected +-0.80 ", cells_of)
    assert not lacking(told) and not list((copied / "report").glob("*twin*"))


def test_examples_are_drawn_by_the_seed_and_as_many_of_each_mode():
    pairs = [VideoOf(mode, i) for mode in MODES for i in range(9)]
    first, again, other = (drawn(pairs, 3, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert [pair.mode for pair in first] == [mode for mode in MODES for _ in range(3)]
    assert len(drawn(pairs, 20, 0)) == 27


class VideoOf:
    """As much of a pair as is needed to be drawn."""

    def __init__(self, mode, i):
        self.mode, self.i = mode, i


# ---------------------------------------------------------------- attention


def test_the_attention_picture_has_the_pattern_by_hand():
    starts, seen, scored = cells((2, 3, 2), [3, 5], most=9)
    assert starts.tolist() == [0, 2, 5, 7]
    assert seen.astype(int).tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1, 1],
    ]
    assert scored.tolist() == [False, False, False, True, False, True, False]


def test_a_long_prefix_is_drawn_in_blocks_and_its_segments_see_all_of_it():
    starts, seen, scored = cells((1000, 2, 3), [1000, 1003, 1004], most=3)
    assert starts.tolist() == [0, 3, 5, 8]  # 334 + 334 + 332, then a token each
    assert seen[3:, :3].all() and not seen[5:, 3:5].any()
    assert np.flatnonzero(scored).tolist() == [3, 6, 7]


def test_segments_are_named_by_query_and_side():
    def pair(query, chosen, rejected):
        return type("Pair", (), {"query": query, "chosen": chosen, "rejected": rejected})

    group = VideoPairs("v", (pair("q", "a", "b"), pair("q", "b", "c"), pair("r", "a", "b")))
    assert segment_names(group) == [
        "query 1 + chosen", "query 1 + chosen and rejected", "query 2 + chosen",
        "query 1 + rejected", "query 2 + rejected",
    ]  # fmt: skip


# ---------------------------------------------------------------- scores


def test_turned_answers_by_hand(text):
    table = re.sub(r"</?t[dhr][^>]*>", " ", sections(text)["Turned answers"])
    for row in ("spatial +2 +1 +1 +0", "temporal +1 +0 +2 +1", "all +3 +1 +3 +1"):
        assert re.search(row, table)
    assert table.count("<h3") == 2 + 1  # of the three that are right now, two are shown


def test_a_turned_answer_stands_with_the_frames_that_were_seen(whole):
    spatial = json.loads((whole / "bench/json/spatial.json").read_text())
    name = spatial[2]["video"]  # the one whose turn is 10
    frames = world.render(world.draw_video(np.random.default_rng([1, int(name[:5])])))
    shown = np.linspace(0, 31, 16).round().astype(int)
    assert (tiles(whole, "turned-from-right-to-wrong-1", 8, 16) == frames[shown]).all()


def test_the_score_table_has_the_shares_by_hand(text):
    lines = {line.split()[0]: line for line in sections(text)["Scores"].splitlines() if "[" in line}
    assert " 50.0 [" in lines["spatial"] and " 75.0 [" in lines["spatial"]
    assert " 50.0 [" in lines["temporal"] and " 75.0 [" in lines["temporal"]


def test_scores_of_another_run_are_shown_and_said_to_be(copied):
    path = copied / "eval/scores.json"
    path.write_text(path.read_text().replace(str(copied / "run/adapter"), "/other/run/adapter"))
    told = sections(show(copied))
    adapter = f"--adapter {copied / 'run/adapter'}"
    for name in ("Scores", "Turned answers"):
        assert len(lacking(told[name])) == 1 and lacking(told[name])[0].endswith(adapter)
    assert "75.0 [" in told["Scores"]


def test_a_model_that_was_tuned_whole_is_shown_alone(copied):
    tuned, path = copied / "run/model", copied / "eval/scores.json"
    scores = json.loads(path.read_text())
    scores |= {
        "runs": {"run": scores["runs"]["+dpo"]},
        "differences": {},
        "adapters": {"run": None},
    }
    path.write_text(json.dumps(scores))
    config = {"bench": "mvbench", "model": str(tuned), "max_pixels": 0}
    (copied / "eval/config.json").write_text(json.dumps(config))
    told = sections(show(copied))
    assert not lacking(told["Scores"]) and "75.0 [" in told["Scores"]
    (sentence,) = lacking(told["Turned answers"])
    assert "scored alone" in sentence and "--compare A B" in sentence


# ---------------------------------------------------------------- what is not there

GONE = {  # what is taken away: (the sections that miss it, what they name, the next command)
    "eval": (["Scores", "Turned answers"], "there is no .*eval/config.json", "python evaluate.py "),
    "run/metrics.jsonl": (["Curves"], "there is no .*metrics.jsonl",
                          "python train_dpo.py .*--resume"),
    "pairs/dropped.jsonl": (["Audit"], "there is no .*dropped.jsonl", "python -m pasta.datasets "),
    "pairs/candidates.jsonl": (["Pairs"], "clean frames alone", "python make_pairs.py "),
    "pairs/pairs.jsonl": (["Run", "Pairs", "Attention"], "there is no .*pairs.jsonl",
                          "python make_pairs.py --out "),
    "videos/00001.avi": (["Pairs"], "00001.avi: ", "python -m pasta.datasets "),
    "tiny": (["Pairs", "Attention", "Turned answers"], "no model folder",
             "python -m pasta.tools.report .* --model FOLDER"),
    "videos": (["Pairs", "Attention"], "videos", "python -m pasta.datasets "),
    "bench": (["Turned answers"], "no json/TASK.json", "python -m pasta.tools.report "),
}  # fmt: skip


@pytest.mark.parametrize("gone", GONE)
def test_what_is_missing_is_named_with_the_next_command_and_the_rest_is_there(copied, gone):
    path = copied / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    told, (names, what, command) = sections(show(copied)), GONE[gone]
    assert {name for name in told if lacking(told[name])} == set(names)
    for name in names:
        (sentence,) = lacking(told[name])
        assert re.search(f"(?s){what}.*; next: {command}", sentence)


def test_without_candidates_the_clean_frames_are_those_of_training(copied):
    (copied / "pairs/candidates.jsonl").unlink()
    show(copied)
    shown = np.linspace(0, 31, 16).round().astype(int)
    assert (tiles(copied, "pair-temporal-1-clean", 8, 16) == truth(1)[shown]).all()
    assert not (copied / "report/pair-temporal-1-rejected.png").exists()


def test_a_model_that_has_moved_is_found_where_it_is_now(copied):
    (copied / "tiny").rename(copied / "moved")
    assert lacking(show(copied, "--model", str(copied / "moved"))) == []


def test_a_damaged_row_is_named_by_its_line(copied):
    rows = read_rows(copied / "run/metrics.jsonl")
    write_rows(copied / "run/metrics.jsonl", [rows[0], {"step": "two"}])
    (sentence,) = lacking(sections(show(copied))["Curves"])
    assert "metrics.jsonl:2: step is 'two'; expected int" in sentence


def test_a_value_that_is_not_as_it_was_written_stops_its_section_alone(copied):
    path = copied / "eval/scores.json"
    path.write_text(path.read_text().replace('"value"', '"valeu"'))
    told = sections(show(copied))
    assert [name for name in told if lacking(told[name])] == ["Scores"]
    assert "not as it was written: KeyError('value')" in lacking(told["Scores"])[0]


def test_dollars_in_a_name_are_no_formula(copied):
    rows = read_rows(copied / "pairs/dropped.jsonl")
    rows[0]["reason"] = r"$\frac{$ no formula"
    write_rows(copied / "pairs/dropped.jsonl", rows)
    assert not lacking(sections(show(copied))["Audit"])


def test_without_matplotlib_a_plain_message_takes_the_place_of_what_is_drawn(copied, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "pasta.tools.report_pictures", raising=False)
    monkeypatch.delattr("pasta.tools.report_pictures", raising=False)
    told = sections(show(copied))
    for name in ("Audit", "Curves", "Attention", "Scores"):
        (sentence,) = lacking(told[name])
        assert "matplotlib" in sentence and "pip install -r requirements-dev.txt" in sentence
    assert not lacking(told["Pairs"]) and (copied / "report/pair-spatial-1-clean.png").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="is no run of train_dpo.py: there is no .*config.json"):
        report.main([str(tmp_path)])
