"""The report of a run. Oracles: toy frames, corrupted with numpy; words and counts by hand."""

import json
import re
import shutil
import sys
from argparse import Namespace
from base64 import b64decode
from collections import Counter
from html import unescape
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pasta.adversaries import ADVERSARIES
from pasta.candidates import query_tasks
from pasta.making.reader import Reader
from pasta.pairs import MODES
from pasta.prompts import PREMISES, PROMPT_VERSION
from pasta.run.atomic import write_json
from pasta.run.rows import read_rows, write_rows
from pasta.tools import report
from pasta.tools.report_pairs import reader_of, strip, view_of
from pasta.toy import world

HOSTILE = '<script>alert("1")</script><img src="http://x/y.png">'
SPARSE = [0, 3, 6, 9, 12, 16, 19, 22, 25, 28]  # at 3.2 frames per second: 0, 1, ... 9 seconds
SHOWN = np.linspace(0, 31, 16).round().astype(int)
RECIPE = {"kind": "contrast", "seed": 0, "n_frames": 32, "sparse_frames": 16, "max_pixels": 0,
          "twins": True, "prompt_version": PROMPT_VERSION}  # fmt: skip
MADE = {  # mode: (query, chosen, rejected, how rejected was made)
    "spatial": ("Side?", "Left.", "Right.", {"kind": "frames", "corruption": "mirror"}),
    "temporal": (HOSTILE, "First.", "Last.", {"kind": "prompt", "instruction": "backwards"}),
    "cross_frame": ("Kept?", "Kept.", "Gone.", {"kind": "frames", "corruption": "splice"}),
}
HEADINGS = ["What chosen saw", "What rejected saw"]
PAIRS = "pairs/pairs.jsonl"


def write_pairs(folder, model):
    """A pair of each mode about a video each, as make_pairs.py leaves them with contrast."""
    pairs, candidates, recipe = [], [], RECIPE | {"responder": model}
    for i, (mode, (query, chosen, rejected, how)) in enumerate(MADE.items()):
        logps = [{"response": chosen, "clean": -0.25, "broken": -2.5, "blind": -0.7},
                 {"response": rejected, "clean": -1.5, "broken": -0.5, "blind": -0.8}]  # fmt: skip
        if mode == "cross_frame":  # as with --select flip: no twins
            recipe = recipe | {"twins": False}
            logps = [{key: row[key] for key in ("response", "blind")} for row in logps]
        row = {"video": f"{folder}/videos/{i:05d}.avi", "mode": mode, "query": query}
        row |= {"recipe": recipe, "topic": None, "sides": None, "blind": 0.123456789}
        good, bad = ({"response": text, "finished": True} for text in (chosen, rejected))
        candidates.append(row | {"preferred": good, "adversarial": [how | bad], "logps": logps})
        pairs.append(row | {"id": f"p{i}", "chosen": chosen, "rejected": rejected})
    write_rows(folder / PAIRS, pairs)
    write_rows(folder / "pairs/candidates.jsonl", candidates)
    dropped = [pairs[0] | {"reason": "weak contrast", "chosen": "Right.", "rejected": "Left."}] * 3
    write_rows(folder / "pairs/dropped.jsonl", [*dropped, pairs[1] | {"reason": "length"}])
    flawed = {"mode": "temporal", "query": "Eh", "topic": None, "n": 0, "flaw": "asks nothing"}
    write_rows(folder / "pairs/queries.jsonl", [flawed | {"video": pairs[1]["video"]}])
    config = {"videos": f"{folder}/videos", "responder": model, "judge": "rules", "asker": None}
    config |= {"out": f"{folder}/pairs", "select": "contrast", "script": "make_pairs.py"}
    write_json(folder / "pairs/config.json", config)


def write_run(folder, model):
    """What train_dpo.py leaves of three updates, the last with held-out pairs."""
    config = {"model": model, "pairs": f"{folder}/{PAIRS}", "video_root": None}
    config |= {"mode": None, "max_pixels": 0, "lora_rank": 8, "beta": 0.1, "checkpointing": False}
    config |= {"mode_weights": [1.0, 2.0, 3.0], "frames_used": 32, "processes": 1, "commit": "abc"}
    config["script"] = "train_dpo.py"
    keys = ("loss", "loss/spatial", "rewards/chosen", "rewards/margins", "rewards/accuracies")
    rows = [{"step": step, **dict.fromkeys(keys, 0.5 / step)} for step in (1, 2, 3)]
    del rows[1]["loss/spatial"]
    write_rows(folder / "run/metrics.jsonl", [*rows[:2], rows[2] | {"eval/loss": 0.25}])
    write_json(folder / "run/config.json", config)


@pytest.fixture
def folder(tmp_path, tiny_folder, toy_videos):
    """A folder with model, videos, pairs and run."""
    shutil.copytree(tiny_folder, tmp_path / "tiny")
    shutil.copytree(toy_videos, tmp_path / "videos")
    for write in (write_pairs, write_run):
        write(tmp_path, f"{tmp_path}/tiny")
    return tmp_path


@pytest.fixture
def text(folder):
    sections_of(folder)
    return (folder / "report.html").read_text()


def sections_of(folder, *flags, of="run"):
    """Make the report of FOLDER/run. Returns {id: HTML} of the page's sections."""
    report.main([f"{folder}/{of}", "--out", f"{folder}/report.html", *flags])
    text = (folder / "report.html").read_text()
    return dict(re.findall(r'<section id="(\w+)">(.*?)</section>', text, re.S))


def example(text, mode, label="kept"):
    """The HTML of the first example of a mode with this label."""
    found = re.findall(rf'<article class="example {mode} .*?</article>', text, re.S)
    return next(html for html in found if f">{label}</span>" in html)


def films(text, html):
    """[(heading, frames (F, 56, 56, 3))] of a part of a page, from its pictures of toy frames."""
    found = re.findall(r'<h5>([^<]+)</h5>\s*<div class="film.*?class="player (\w+)"', html, re.S)
    films = []
    for heading, name in found:
        data = re.search(rf"\.{name} {{ background-image: url\(data:image/png;base64,([^)]+)", text)
        picture = np.asarray(Image.open(BytesIO(b64decode(data[1]))).convert("RGB"))
        films.append((heading, picture.reshape(56, -1, 56, 3).swapaxes(0, 1)))
    return films


def words(html):
    return re.sub(r"\s+", " ", unescape(re.sub("<[^>]+>", " ", html))).strip()


def lacking(sections):
    """{section: its lines about missing parts}, for sections that have any."""
    lines = {k: re.findall(r'class="missing">(.*?)</p>', s, re.S) for k, s in sections.items()}
    return {name: [*map(words, found)] for name, found in lines.items() if found}


def drawn(*seed):
    """All frames of a toy video, as they were drawn. The seed of the i-th of toy_videos: 0, i."""
    return world.render(world.draw_video(np.random.default_rng(seed)))


def check_page(text):
    opened = []
    for end, name in re.findall(r"<(/?)(\w+)", text):
        if end:
            assert opened.pop() == name
        elif name not in ("meta", "img", "input"):
            opened.append(name)
    addresses = re.findall(r'(?:\bsrc="|\bhref="|url\()([^")]*)', text)
    assert all(x.startswith(("data:image/png;base64,", "#")) for x in addresses)
    assert not opened and "<script" not in text and text.startswith("<!doctype html>")
    for needed in ("Content-Security-Policy", "prefers-color-scheme", "prefers-reduced-motion"):
        assert needed in text
    assert '<meta name="viewport" content="width=device-width' in text
    assert not re.search(r"\d\.\d{4}", re.sub("<style>.*?</style>", "", text, flags=re.S))


def test_the_page_is_well_formed_fetches_nothing_and_escapes_hostile_text(folder, text):
    check_page(text)
    escaped = HOSTILE.replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;")
    assert escaped in text
    assert not lacking({"page": text})
    assert {path.name for path in folder.glob("r*")} == {"report.html", "run"}


def test_a_page_of_pairs_shows_kept_and_dropped_ones_and_never_says_to_train(folder):
    sections = sections_of(folder, of="pairs")
    text = (folder / "report.html").read_text()
    check_page(text)
    assert not lacking(sections) and sections.keys() == {"run", "pairs", "audit", "terms"}
    assert "train_dpo" not in text
    table = words(sections["pairs"]).split("Play")[0]
    assert "all 8 4 3 1 kept 3 1 1 1 dropped: weak contrast 3 3 – – " in table
    assert "dropped: length 1 – 1 – dropped: query asks nothing 1 – 1 –" in table
    dropped = example(text, "spatial", "dropped: weak contrast")
    assert re.search(r"✓ Chosen</h4>\s*<p>Right\.</p>", dropped)
    assert [heading for heading, _ in films(text, dropped)][:2] == HEADINGS[:2]
    assert "Eh" in example(text, "temporal", "dropped: query asks nothing")


def test_every_number_of_the_index_filters_its_examples_without_a_script(folder):
    sections_of(folder, of="pairs")
    text = (folder / "report.html").read_text()
    radios = re.findall(r'<input type="radio" name="group" id="([\w-]+)"', text)
    rules = dict(re.findall(r"#([\w-]+):checked\) \.example:not\(([\w.]+)\) { display: none", text))
    assert {*radios} - {*rules} == {"g-all-all"}
    classes = [{*found.split()} for found in re.findall('<article class="([^"]+)"', text)]
    for radio in {*radios} - {"g-all-all"}:
        assert any({*rules[radio].split(".")} - {""} <= found for found in classes)


def test_the_page_names_model_settings_commit_counts_and_log_probabilities(folder, text):
    head, pairs = map(words, text.split('<section id="pairs">'))
    assert str(folder / "tiny") in head and "abc" in head
    assert "checkpointing no mode_weights 1.0, 2.0, 3.0" in head and "video_root not set" in head
    assert f"kept 3 {' '.join(str(int(mode in MADE)) for mode in MODES)}" in pairs
    assert "chosen by −2.25 and rejected by +1.00 nats: contrast +3.25 nats" in pairs
    assert "nats clean corrupted blind chosen −0.25 −2.50 −0.70 rejected −1.50 −0.50 −0.80" in pairs
    without_twins = words(example(text, "cross_frame"))
    assert "nats blind chosen −0.70 rejected −0.80 " in without_twins


def test_pairs_without_a_mode_are_a_group_of_their_own(folder):
    path = folder / PAIRS
    write_rows(path, [{k: x for k, x in row.items() if k != "mode"} for row in read_rows(path)])
    metrics = (folder / "run/metrics.jsonl").read_text()
    (folder / "run/metrics.jsonl").write_text(metrics.replace("loss/spatial", "loss/other"))
    sections = sections_of(folder)
    assert "cross frame other all 8 3 2 – 3 kept 3 – – – 3" in words(sections["pairs"])
    assert "kept other " in words(sections["pairs"])
    assert not {"pairs", "curves"} & {*lacking(sections)}


def test_each_response_of_a_pair_is_shown_with_its_frames(folder, text):
    spatial, temporal, cross, after = (drawn(0, i) for i in range(4))
    expected = {
        "spatial": [spatial[SHOWN], spatial[SPARSE][:, :, ::-1], spatial[SHOWN][:, ::-1, ::-1]],
        "temporal": [temporal[SHOWN], temporal[SPARSE], temporal[31 - SHOWN]],  # misled; reversed
        "cross_frame": [cross[SHOWN]],
    }
    for mode, frames in expected.items():
        found = films(text, example(text, mode))
        assert [heading for heading, _ in found][:2] == HEADINGS[:2]
        for (heading, film), of in zip(found, frames, strict=False):
            assert (film == of).all(), (mode, heading)
    seconds = re.findall(r"</span>([\d.]+ s)</li>", example(text, "temporal"))
    assert seconds[16:19] == ["0.0 s", "0.9 s", "1.9 s"]  # of the rejected response
    (_, (_, spliced)) = films(text, example(text, "cross_frame"))
    assert (spliced[0] == cross[0]).all()  # it begins with its own frames
    assert any((spliced[-1] == frame).all() for frame in after[SPARSE])  # of the next video
    assert PREMISES["temporal"]["backwards"] in unescape(example(text, "temporal"))
    assert "mirror. Left becomes right" in example(text, "spatial")


def test_all_frames_shown_are_those_that_make_pairs_showed_the_responder(tiny, toy_videos):
    videos = [str(path) for path in sorted(toy_videos.iterdir())]
    reader = Reader(videos, toy_videos, tiny.processor, 32, 16)
    recipe = RECIPE | {"candidates": 7, "adversary": "both", "temperature": 0.7}
    queries = [{"mode": mode, "query": "Why?", "topic": None} for mode in MODES]
    for task in query_tasks(videos[1], queries, reader, recipe):
        twins = ADVERSARIES[task.row["mode"]].twins
        sources = [{"kind": "preferred"}, *(how for how, _ in task.misled)]
        sources += [{"kind": "twin", "corruption": name} for name in twins]
        seen = [task.clean, *(request.inputs for _, request in task.misled)]
        for source, inputs in zip(sources, seen + task.views["broken"], strict=True):
            frames, timestamps = view_of(reader, task.row | {"recipe": recipe}, source)
            again = tiny.processor.prepare(frames, timestamps)
            assert (again.pixel_values == inputs.pixel_values).all()


def test_frames_that_a_server_saw_are_shown_without_asking_it(toy_videos):
    recipe = RECIPE | {"responder": "http://127.0.0.1:1/v1", "max_pixels": 28 * 28}
    candidate = {"video": str(toy_videos / "00000.avi"), "mode": "spatial", "recipe": recipe}
    frames, _ = view_of(reader_of(toy_videos, recipe, None), candidate, {"kind": "preferred"})
    assert frames.shape == (32, 28, 28, 3)


def test_a_picture_shows_16_frames_of_more_and_shrinks_wide_ones():
    frames = np.full((40, 100, 500, 3), 30, np.uint8)
    same_size = Namespace(fit=lambda _, height, width: (height, width))
    part = strip(same_size, frames, np.arange(40) / 2)
    picture = np.asarray(Image.open(BytesIO(b64decode(part["data"].split(",")[1]))))
    assert picture.shape == (33, 16 * 166, 3) and (abs(picture - 30.0) < 2).all()
    assert (part["n"], part["size"], part["width"]) == (40, "500 × 100", 166)
    assert part["seconds"][-4:] == [15.5, 17.0, 18.0, 19.5]


def test_examples_are_spread_evenly():
    runs = [report.Run(Namespace(pairs=n), {}, True) for n in (0, 3, 20)]
    assert [run.examples(range(9)) for run in runs] == [[], [0, 3, 6], [*range(9)]]


THERE = {  # a section: words of its content
    "run": "Settings",
    "pairs": "Choose a number of the table",
    "audit": "chosen is longer",
    "curves": "3 updates.",
    "terms": "Two answers to one query",
}
GONE = {  # what is removed, or FILE|OLD|NEW: (sections that say so, those without more, message)
    "run/metrics.jsonl|: 2,|: 2.5,": ("curves", "curves", "jsonl:2: step is 2.5; expected int"),
    "run/metrics.jsonl": ("curves", "curves", "not there: .*metrics.jsonl$"),
    "pairs/dropped.jsonl": ("audit", "audit", "not there: .*dropped.jsonl$"),
    "pairs/candidates.jsonl": ("pairs", "", "not there: .*candidates.jsonl.*only clean frames"),
    "pairs/config.json": ("pairs", "", "not there: .*config.json, so only clean frames"),
    'pairs/candidates.jsonl|"mirror"|"x"': ("pairs", "", "unexpected form: KeyError.*'x'"),
    "pairs/pairs.jsonl": ("pairs", "pairs", "not there: .*pairs.jsonl$"),
    "pairs": ("pairs audit", "pairs audit", "not there: .*jsonl$"),
    "videos/00000.avi": ("pairs", "", "00000.avi: "),
    "videos": ("pairs", "", "videos"),
    "tiny": ("pairs", "", "no model folder"),
}  # fmt: skip


@pytest.mark.parametrize("gone", GONE)
def test_a_missing_or_damaged_part_is_named_and_the_others_are_there(folder, gone):
    name, *texts = gone.split("|")
    path = folder / name
    if texts:
        path.write_text(path.read_text().replace(*texts))
    else:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    sections, (names, empty, what) = sections_of(folder), GONE[gone]
    check_page((folder / "report.html").read_text())
    assert lacking(sections).keys() == {*names.split()}
    assert all(re.search(what, line) for line, *_ in lacking(sections).values())
    there = {section for section, found in THERE.items() if found in words(sections[section])}
    assert there == THERE.keys() - {*empty.split()}


def test_without_candidates_the_clean_frames_are_those_of_training(folder):
    (folder / "pairs/candidates.jsonl").unlink()
    sections_of(folder)
    text = (folder / "report.html").read_text()
    ((_, film),) = films(text, example(text, "temporal"))
    assert (film == drawn(0, 1)[SHOWN]).all()


def test_without_matplotlib_a_plain_message_takes_the_place_of_the_curves(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "pasta.tools.figures", raising=False)
    monkeypatch.delattr("pasta.tools.figures", raising=False)
    ((name, (line,)),) = lacking(sections_of(folder)).items()
    assert name == "curves" and "matplotlib" in line
    assert line.endswith("pip install -r requirements-dev.txt")


@pytest.mark.parametrize("name", ["", "eval", "gone"])
def test_a_folder_of_neither_script_gets_one_sentence(folder, name):
    write_json(folder / "eval/config.json", {"script": "evaluate.py"})
    with pytest.raises(SystemExit) as stopped:
        report.main([str(folder / name)])
    text = f"{folder / name} is not a folder of make_pairs.py or train_dpo.py: .*config.json"
    assert re.fullmatch(f"{text}.*", str(stopped.value))


def record_pairs(folder, **used):
    """Let config.json of the run say how many pairs of each mode it read."""
    path = folder / "run/config.json"
    write_json(path, json.loads(path.read_text()) | {"pairs_read": used})


def test_the_pairs_that_the_run_read_are_those_that_it_recorded(folder):
    record_pairs(folder, spatial=40, temporal=2)
    text = words(sections_of(folder)["pairs"])
    assert "The run read 42 pairs: spatial 40, temporal 2." in text
    assert "pairs.jsonl has changed since then" in text


def test_pairs_that_are_those_of_the_run_have_not_changed(folder):
    rows = read_rows(folder / PAIRS)
    record_pairs(folder, **Counter(row["mode"] for row in rows))
    text = words(sections_of(folder)["pairs"])
    assert f"The run read {len(rows)} pairs: " in text and "has changed" not in text
