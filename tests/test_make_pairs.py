"""make_pairs.py on a few tiny videos and a random model: resuming, bad videos, judge, processes.

Most queries of a random model ask nothing; where a test needs pairs, a function answers instead.

    python -m pytest tests/test_make_pairs.py
"""

import hashlib
import json
import os
import re
import shutil
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import finish, launch, printed
from safetensors.torch import load_file, save_file
from tiny_models import make_language_model, write_babbler

import make_pairs
from pasta.datasets.read import read_pairs
from pasta.making import roles
from pasta.making.audit import audit_of, audit_table
from pasta.models import generate
from pasta.models.generate import Answer
from pasta.pairs import MODES
from pasta.run.rows import read_rows, write_rows
from pasta.toy.files import write_videos

FLOAT = re.compile(r"-?\d+\.\d+(?:e-\d+)?")
FILES = ("queries.jsonl", "candidates.jsonl", "pairs.jsonl", "dropped.jsonl", "skipped.jsonl")
N_VIDEOS = 2  # and a corrupted one
SETTINGS = {"select": "contrast", "max_new_tokens": 16, "max_pixels": 0, "n_queries": 3}
SETTINGS |= {"dtype": "float32", "device": "cpu", "seed": 5, "keep": 1.0}  # makes a few pairs


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder, N_VIDEOS, seed=0)
    (folder / "00000b.avi").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory, tiny_folder):
    """The tiny model with words that ask, end and contradict: some of its answers make pairs."""
    write_babbler(folder := tmp_path_factory.mktemp("babbler") / "model", tiny_folder)
    return folder


def run_in(folder, **settings):
    """Run the script in this process. Returns its folder."""
    defaults = SETTINGS | {"out": folder, "balance": False}
    make_pairs.main(make_pairs.PairsConfig(**defaults | settings))
    return folder


@pytest.fixture
def run(tmp_path, tiny_folder, videos):
    """Run the script on the videos with the tiny model, in a folder of the test."""
    return partial(run_in, tmp_path / "out", responder=str(tiny_folder), videos=videos)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_folder, videos):
    """The files of an unbroken run."""
    folder = tmp_path_factory.mktemp("whole")
    return contents(run_in(folder, responder=str(tiny_folder), videos=videos))


def contents(folder):
    return {name: (folder / name).read_text() for name in FILES}


def say(request):
    """A sensible answer: a question, a verdict, or left or right, by the seed."""
    if request.prompt.startswith("Write"):
        return f"Is number {request.seed % 100000} left or right?"
    if request.prompt.startswith("Two answers"):
        return "fits: yes\ncontradicts: yes"
    return "It is left." if request.seed % 2 else "It is right."


@pytest.fixture
def sensible(monkeypatch):
    """`say` answers instead of the model. Returns the list of all requests."""
    asked = []

    def ask(vlm, requests, max_new_tokens):
        asked.extend(requests)
        return [Answer(say(request), (), 0.0, True) for request in requests]

    monkeypatch.setattr(generate, "ask", ask)
    return asked


def kill_after(monkeypatch, n):
    """Let the n-th batch end the run like ctrl-C."""
    calls, ask = count(1), generate.ask

    def killed(*args):
        if next(calls) == n:
            raise KeyboardInterrupt
        return ask(*args)

    monkeypatch.setattr(generate, "ask", killed)


def test_a_run_names_the_bad_video_and_ends_with_the_count(run, capsys, videos):
    out = run()
    queries, candidates = (read_rows(out / name) for name in FILES[:2])
    sound = [row for row in queries if "flaw" not in row]
    assert len(queries) == N_VIDEOS * len(MODES) * 3 and len(candidates) == len(sound) > 0
    assert {len(row["adversarial"]) for row in candidates} == {3}
    [skipped] = read_rows(out / "skipped.jsonl")
    assert skipped["video"] == str(videos / "00000b.avi") and skipped["reason"]
    printed = capsys.readouterr().out
    assert f"skipped {skipped['video']}: {skipped['reason']}\n" in printed
    assert "\n3 videos, 1 of them skipped, " in printed


@pytest.mark.parametrize("n", [1, 2, 3, 5])  # batches of queries, then of answers
def test_a_run_killed_anywhere_continues_to_the_same_files(run, whole, monkeypatch, n):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, n)
        run()
    assert contents(run()) == whole


@pytest.mark.parametrize("name", FILES[:2])
def test_a_torn_row_is_made_again_and_no_other(run, whole, tmp_path, name):
    run()
    first, second = whole[name].splitlines(keepends=True)[:2]  # of the same video
    (tmp_path / "out" / name).write_text(first + second[:30])
    with pytest.warns(UserWarning, match="cut short"):
        assert contents(run()) == whole


def test_a_second_run_loads_no_model_and_changes_nothing_even_in_a_renamed_folder(
    run, whole, tmp_path, monkeypatch
):
    run().rename(tmp_path / "renamed")
    monkeypatch.setattr(roles, "load_vlm", None)
    assert contents(run_in(tmp_path / "renamed", **run.keywords)) == whole


def test_batches_change_nothing_but_the_rounding_of_logps(run, whole):
    ours = contents(run(batch_videos=3, batch_size=5))
    assert {k: FLOAT.sub("#", text) for k, text in ours.items()} == {
        k: FLOAT.sub("#", text) for k, text in whole.items()
    }
    for name, text in whole.items():  # rows have four decimals
        found, expected = (list(map(float, FLOAT.findall(x))) for x in (ours[name], text))
        assert found == pytest.approx(expected, abs=2e-4)


def test_other_settings_need_another_folder(run):
    run(limit=1)
    with pytest.raises(SystemExit, match="out: --temperature was 0.7 and is 0.5; choose another"):
        run(temperature=0.5)


def test_other_weights_under_the_same_name_need_another_folder(run, tiny_folder, tmp_path):
    model = shutil.copytree(tiny_folder, tmp_path / "model")
    run(limit=1, responder=str(model))
    weights = load_file(model / "model.safetensors")
    save_file({k: 2 * w for k, w in weights.items()}, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(SystemExit, match="out: --weights was"):
        run(limit=1, responder=str(model))


def test_a_judge_that_cannot_be_loaded_is_refused_at_once(run, monkeypatch):
    monkeypatch.setattr(roles, "load_vlm", None)
    with pytest.raises(FileNotFoundError, match="no model folder"):
        run(judge="/no/judge")


def test_settings_that_no_costly_row_depends_on_may_change(run):
    run(limit=1)
    run(keep=0.9, batch_size=2, batch_videos=4)
    with pytest.raises(SystemExit, match="no pairs"):  # at its end
        run(select="none", balance=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"select": "flip", "adversary": "prompt"}, "--select flip needs"),
        ({"responder": "http://h/v1"}, "--select contrast needs log-probabilities"),
        ({"asker": "M", "queries": "q.jsonl"}, "use --queries or --asker, not both.*--responder"),
        ({"target": 2}, r"--target 2: expected 0 or at least 3 \(one pair per mode\)"),
        ({"videos": Path("nowhere")}, "there is no folder nowhere; --videos expects a folder"),
        ({"stage": "candidates"}, "no rows in .*queries.jsonl; run --stage queries first"),
        ({"stage": "judge"}, "no rows in .*candidates.jsonl; run --stage candidates first"),
    ],
)
def test_what_cannot_work_is_refused_at_once(run, settings, message):
    with pytest.raises(SystemExit, match=message):
        run(**settings)


@pytest.mark.parametrize("adversary", ["prompt", "frames", "both"])
def test_sensible_answers_become_pairs_that_can_be_read(run, sensible, adversary, capsys):
    out = run(adversary=adversary, select="none", balance=False)
    pairs, dropped = read_pairs(out / "pairs.jsonl"), read_rows(out / "dropped.jsonl")
    assert pairs and len(pairs) + len(dropped) == N_VIDEOS * len(MODES) * 3 * 3
    assert all(row["reason"] for row in dropped)
    assert {pair.video for pair in pairs} <= {r["video"] for r in read_rows(out / "queries.jsonl")}
    report = json.loads((out / "audit.json").read_text())
    kept = {mode: sum(pair.mode == mode for pair in pairs) for mode in MODES}
    assert {mode: row["kept"] for mode, row in report.items()} == kept
    printed = capsys.readouterr().out
    assert re.search(rf"spatial +{kept['spatial']} ", printed)
    assert f"wrote {len(pairs)} pairs" in printed


def test_equal_own_queries_are_answered_once(run, sensible, tmp_path, videos):
    row = {"video": "00000.avi", "mode": "spatial", "query": "Is number 1 left?"}
    write_rows(tmp_path / "own.jsonl", [row, row, row | {"video": "gone.avi"}])
    out = run(queries=tmp_path / "own.jsonl", select="none")
    assert len(read_rows(out / "queries.jsonl")) == 2
    assert len(read_rows(out / "candidates.jsonl")) == 1
    assert not any(request.prompt.startswith("Write") for request in sensible)
    skipped = {row["video"]: row["reason"] for row in read_rows(out / "skipped.jsonl")}
    assert "own.jsonl:3" in skipped[str(videos / "gone.avi")]


def test_a_model_as_judge_is_asked_nothing_twice(run, sensible, tiny_folder):
    judging = {"judge": str(tiny_folder), "select": "none", "balance": False}
    out = run(**judging)
    prompts = [r.prompt for r in sensible if r.prompt.startswith("Two answers")]
    assert prompts and len(prompts) == len(set(prompts)) == len(read_rows(out / "replies.jsonl"))
    pairs = (out / "pairs.jsonl").read_text()
    sensible.clear()
    run(**judging)
    assert not sensible and (out / "pairs.jsonl").read_text() == pairs


def test_one_model_is_loaded_at_a_time(monkeypatch, tmp_path):
    loads = []

    def load_vlm(name, *_):
        loads.append((name, list(models.loaded)))
        return name.upper()

    monkeypatch.setattr(roles, "load_vlm", load_vlm)
    models = roles.Roles(SimpleNamespace(dtype="float32", max_pixels=0, out=tmp_path), "cpu")
    assert [models.model(name).vlm() for name in ("a", "a", "b", "a")] == ["A", "A", "B", "A"]
    assert loads == [("a", []), ("b", []), ("a", [])]


def test_a_judge_may_be_a_stage_of_its_own_with_no_model_loaded(run, sensible, monkeypatch):
    run(stage="queries")
    out = run(stage="candidates")
    assert not (out / "pairs.jsonl").exists()
    monkeypatch.setattr(roles, "load_vlm", None)
    before = (out / "candidates.jsonl").read_text()
    run(stage="judge", select="none", balance=False)
    assert read_pairs(out / "pairs.jsonl") and (out / "candidates.jsonl").read_text() == before


def test_a_stage_alone_does_not_need_the_models_of_the_others(run, tiny_folder, tmp_path):
    asker = shutil.copytree(tiny_folder, tmp_path / "asker")
    out = run(stage="queries", asker=str(asker), judge="/no/judge")
    shutil.rmtree(asker)
    run(stage="candidates", asker=str(asker))
    weights = json.loads((out / "config.json").read_text())["weights"]
    assert list(weights) == [str(asker), str(tiny_folder)]


def test_a_language_model_as_responder_is_refused_at_once(run, tmp_path):
    make_language_model(tmp_path / "text", "Qwen2")
    with pytest.raises(SystemExit, match="reads text only and can only be the --judge"):
        run(responder=str(tmp_path / "text"))
    assert not (tmp_path / "out").exists()


def test_the_first_videos_have_the_same_rows_with_and_without_a_limit(run, whole):
    out = run(limit=1)  # the video that breaks it, the next one, is beyond the limit
    for name in FILES[:2]:
        rows = (out / name).read_text()
        assert rows and whole[name].startswith(rows)


def test_two_processes_make_the_same_rows_as_one(whole, tmp_path, tiny_folder, videos):
    flags = SETTINGS | {"responder": tiny_folder, "videos": videos, "out": tmp_path / "out"}
    finish(launch("make_pairs.py", 2, flags, "--no-balance", logs=tmp_path / "logs"))
    both = printed(tmp_path / "logs", 2)
    assert [text.count("3 videos, 1 of them skipped") for text in both] == [1, 0]
    for name in FILES:
        both = [*(tmp_path / "out").glob(f"{name.removesuffix('.jsonl')}*")]
        assert len(both) == (2 if name in FILES[:2] else 1)
        lines = [line for path in both for line in path.read_text().splitlines()]
        assert sorted(lines) == sorted(whole[name].splitlines())


# What is missed between the stages


@pytest.fixture
def own_videos(videos, tmp_path):
    """A folder of the test with three videos: 0.avi, 1.avi, 2.avi."""
    folder = tmp_path / "own"
    folder.mkdir()
    for i in range(3):
        shutil.copy(videos / f"{i % N_VIDEOS:05d}.avi", folder / f"{i}.avi")
    return folder


def overwrite(path, other):
    """Another video under the same name, of the same size and time."""
    before = path.stat()
    assert other.stat().st_size == before.st_size and other.read_bytes() != path.read_bytes()
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def link(path, other):
    path.unlink()
    path.symlink_to(other)


def lengthen(path, other):
    path.write_bytes(path.read_bytes() + b"\0")


def skipped_in(out):
    return {Path(row["video"]).name: row["reason"] for row in read_rows(out / "skipped.jsonl")}


STAGES = ("queries", "candidates", "judge")
PLAIN = {"select": "none", "balance": False}


@pytest.mark.parametrize("before", STAGES[1:])
@pytest.mark.parametrize("now", ["", "3.avi", "1.AVI", ".1.avi"])  # its new name
def test_a_video_that_is_gone_before_a_stage_is_named(
    run, sensible, own_videos, before, now, capsys
):
    settings = PLAIN | {"videos": own_videos}
    for stage in STAGES[: STAGES.index(before)]:
        out = run(stage=stage, **settings)
    (own_videos / "1.avi").rename(own_videos.parent / "gone" if not now else own_videos / now)
    capsys.readouterr()
    run(stage=before, **settings)
    assert f"skipped {own_videos / '1.avi'}: is not in --videos\n" in capsys.readouterr().out
    assert list(skipped_in(out)) == ["1.avi"] and "not in --videos" in skipped_in(out)["1.avi"]
    shutil.copy(own_videos / "0.avi", own_videos / "1.avi")
    assert not {"0.avi", "2.avi"} & skipped_in(run(stage=before, **settings)).keys()


@pytest.mark.parametrize("before", STAGES[1:])
@pytest.mark.parametrize("replace", [overwrite, link, lengthen])
def test_a_video_that_was_replaced_before_a_stage_is_named_and_not_used(
    run, sensible, own_videos, before, replace
):
    settings, own = PLAIN | {"videos": own_videos}, (own_videos / "1.avi").read_bytes()
    for stage in STAGES[: STAGES.index(before)]:
        out = run(stage=stage, **settings)
    replace(own_videos / "1.avi", own_videos / "0.avi")
    run(stage=before, **settings)
    assert skipped_in(out) == {"1.avi": "changed after its rows were written"}
    made = out / ("candidates.jsonl" if before == "candidates" else "pairs.jsonl")
    assert {Path(row["video"]).name for row in read_rows(made)} == {"0.avi", "2.avi"}
    (own_videos / "1.avi").unlink()
    (own_videos / "1.avi").write_bytes(own)
    run(stage=before, **settings)
    assert not skipped_in(out) and len({row["video"] for row in read_rows(made)}) == 3


def test_rows_hold_the_digest_of_their_video_and_rows_without_one_are_used(run, sensible, videos):
    out = run(**PLAIN)
    pairs = (out / "pairs.jsonl").read_text()
    for name in ("queries.jsonl", "candidates.jsonl"):
        rows = read_rows(out / name)
        for row in rows:
            assert row["digest"] == hashlib.sha256(Path(row["video"]).read_bytes()).hexdigest()
        write_rows(out / name, [{k: v for k, v in row.items() if k != "digest"} for row in rows])
    assert (run(**PLAIN) / "pairs.jsonl").read_text() == pairs and "digest" not in pairs
    assert len(skipped_in(out)) == 1  # the corrupted one


def move(folder):
    return folder.rename(folder.with_name("moved"))


def move_deeper(folder):
    (folder / "deeper").mkdir()
    for path in folder.glob("*.avi"):
        path.rename(folder / "deeper" / path.name)
    return folder


def under_another_name(folder):
    folder.with_name("linked").symlink_to(folder)
    return folder.with_name("linked")


@pytest.mark.parametrize("elsewhere", [move, move_deeper, under_another_name])
def test_a_copied_run_with_its_videos_elsewhere_is_an_error(
    run, sensible, own_videos, capsys, elsewhere
):
    out, moved = run(videos=own_videos, **PLAIN), elsewhere(own_videos)
    config = json.loads((out / "config.json").read_text()) | {"videos": str(moved)}
    (out / "config.json").write_text(json.dumps(config))
    reason = "no pairs: .*, of 3 videos: is not in --videos"
    with pytest.raises(SystemExit, match=reason):
        run(stage="judge", videos=moved, **PLAIN)
    printed = capsys.readouterr().out
    assert all(f"skipped {own_videos / f'{i}.avi'}: " in printed for i in range(3))


def test_a_folder_with_rows_and_without_config_json_is_refused(run, sensible):
    out = run(**PLAIN)
    (out / "config.json").unlink()
    before = contents(out)
    with pytest.raises(SystemExit, match="which make_pairs.py did not write; choose another --out"):
        run(**PLAIN)
    assert contents(out) == before and not (out / "config.json").exists()


def test_the_counts_at_the_end_add_up(run, sensible, own_videos, capsys, monkeypatch):
    (own_videos / "3.avi").write_bytes(b"no video")
    out = run(videos=own_videos, limit=3, **PLAIN)
    rows = read_rows(out / "queries.jsonl")
    write_rows(out / "queries.jsonl", [row for row in rows if not row["video"].endswith("0.avi")])
    capsys.readouterr()
    run(videos=own_videos, stage="judge", **PLAIN)
    printed = capsys.readouterr().out
    pairs, dropped = (len(read_rows(out / f"{name}.jsonl")) for name in ("pairs", "dropped"))
    assert pairs + dropped == 2 * 9 * 3
    wrote = f"wrote {pairs} pairs to {out}/pairs.jsonl, and {dropped} dropped pairs to dropped.jso"
    assert wrote in printed
    counts = "4 videos, 0 of them skipped, 2 without a query, 0 without pairs, 2 with pairs"
    assert counts in printed.splitlines()


def test_no_control_character_of_a_name_or_a_row_is_printed(run, sensible, own_videos, capsys):
    odd = own_videos / "a\x1b[31m\u202eb.avi"
    odd.write_bytes(b"no video")
    (own_videos / "1.avi").rename(own_videos / "1\x9b\r2.avi")
    out = run(videos=own_videos, **PLAIN)
    (own_videos / "1\x9b\r2.avi").unlink()
    run(videos=own_videos, **PLAIN)
    dropped = read_rows(out / "dropped.jsonl")
    row = {"mode": "spatial", "reason": "odd\x08\u2066"}
    write_rows(out / "dropped.jsonl", [*dropped, row])
    print(audit_table(audit_of(out)))
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.split("\n"))
    assert r"a\x1b[31m\u202eb.avi" in printed and r"1\x9b\r2.avi" in printed
    assert r"odd\x08\u2066" in printed
    assert str(odd) in {row["video"] for row in read_rows(out / "skipped.jsonl")}
