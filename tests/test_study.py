"""The study: its numbers, its sets of pairs, its page, and going on after a kill.

Oracles: intervals and errors by hand, counts, the page in the repository, an unbroken run.
    python -m pytest tests/test_study.py
"""

import json
import math
import os
import re
import signal
import sys
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, linux
from rounding import close_sums

from pasta import toy
from pasta.benchmarks import Item
from pasta.lora import adapter_parameters, add_lora
from pasta.pairs import MODES
from pasta.policy import text_logps
from pasta.run.rows import read_rows, write_rows
from pasta.study import arms, claims, jobs, page, sections, study
from pasta.study import measure as exam
from pasta.study.estimates import Estimate, Results, T, mean_of_modes, mode_score
from pasta.toy import captions as lessons
from pasta.toy import world

PARTS = [(range(5), arms.MOST), (range(3), arms.ALL)]


def row(arm, seed, *scores, family="qwen"):
    """A row of results.jsonl with a benchmark score for each mode."""
    benchmark = dict(zip(MODES, scores, strict=True))
    return {"arm": arm, "family": family, "seed": seed,
            "pairs": 10, "pairs_seconds": 90, "seconds": 60,
            "exam": {"benchmark": benchmark, "lettered": benchmark, "free": benchmark}}  # fmt: skip


def test_the_interval_of_students_t_by_hand():
    estimate = Estimate((1.0, 2.0, 3.0))  # s = 1, t(2) = 4.303
    assert estimate.mean == 2.0
    assert estimate.half == pytest.approx(4.303 / math.sqrt(3))
    assert estimate.text("+") == "+2.0 [-0.5, +4.5]"


def test_the_t_table_covers_95_percent_of_draws():
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 10):
        draws = rng.normal(size=(20000, n))
        half = T[n - 1] * draws.std(1, ddof=1) / math.sqrt(n)
        assert (abs(draws.mean(1)) < half).mean() == pytest.approx(0.95, abs=0.006)


def test_gains_are_paired_seed_by_seed():
    results = Results([
        row("base", 0, 0.5, 0.5, 0.5), row("base", 1, 0.8, 0.8, 0.8),
        row("x", 1, 0.9, 0.9, 0.9), row("x", 0, 0.6, 0.6, 0.6), row("x", 7, 0.1, 0.1, 0.1),
    ])  # fmt: skip
    gain = results.gain("x", mean_of_modes)
    assert gain.values == pytest.approx((10.0, 10.0))
    assert results.gain("x", mode_score("spatial"), over="x").values == (0, 0, 0)
    assert results.gain("y", mean_of_modes) is None


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((6.0, 6.1), "holds"), ((4.0, 4.1), "does not hold"), ((4.0, 9.0), "not decided")],
)
def test_a_claim_holds_when_its_whole_interval_does(values, verdict):
    assert claims.above(Estimate(values), 5.0) == verdict


def test_a_free_answer_names_one_option_as_a_word():
    asked = "Question:Does it?\nOption:\n"
    item = Item("i", "temporal", "v", Path("v"), asked, ("first", "last"), "A")
    said = {"It comes first.": "A", "It comes last.": "B", "It comes first, not last.": None,
            "It is blast.": None, "": None, "First": "A"}  # fmt: skip
    assert {text: exam.named_option(text, item) for text in said} == said
    assert exam.question_of(item) == "Does it?"


@pytest.mark.parametrize(
    ("form", "response", "letter"),
    [("lettered", "B", "B"), ("free", "B", None), ("free", "It comes last.", "B")],
)
def test_each_form_of_a_question_has_its_own_reading(form, response, letter):
    item = Item("i", (form, "temporal"), "v", Path("v"), "Does it?", ("first", "last"), "A")
    assert exam.parse(response, item, "head") == letter


def test_calibration_error_by_hand():
    # two answers at 0.9, one of them right; two at 0.55, both right
    sure, right = np.array([0.9, 0.9, 0.55, 0.55]), np.array([True, False, True, True])
    assert exam.error_of(sure, right) == pytest.approx((2 * 0.4 + 2 * 0.45) / 4)


def test_sight_and_habit_by_hand():
    odds, usual = np.array([3.0, 4.0, -1.0]), np.array([True, True, False])
    assert exam.causes(odds, usual) == ((3.5 - 1) / 2, (3.5 + 1) / 2)


def test_whatever_is_asked_for_presence_counts_as_presence(tiny):
    kinds = set()
    for kind, _, query, options, usual in exam.questions_with_inputs(tiny.processor, 0, 12):
        if kind in lessons.GENERAL:
            kinds.add((kind, usual))
            assert (kind == "presence") == query.startswith("Is there a ")
            assert usual == (options[0] == "Yes.")
            assert kind == "colour" or sorted(options) == ["No.", "Yes."]
    assert kinds == {("presence", True), ("presence", False), ("colour", False)}


def test_the_last_option_denies_the_thing_that_is_asked_about(tiny):
    asked = list(exam.questions_with_inputs(tiny.processor, 0, 4))
    closed = [row for row in asked if row[0] in world.KINDS]
    for _, _, query, options, _ in closed:
        (name,) = re.findall(r"(?:Is|Does) the (\w+ \w+)", query)
        assert options[2] == f"There is no {name}." and name in options[0] and name in options[1]
    assert len(closed) == 16


def test_the_log_odds_are_of_each_question_and_its_own_answers(tiny, tiny_inputs):
    asked = [
        ("side", tiny_inputs[i], f"Is it {i}?", (f"It is {i}.", f"It is not {i}, no."), False)
        for i in (0, 0, 1)
    ]
    found = exam.log_odds(exam.option_logps(tiny, asked))
    for i, (_, inputs, query, (right, wrong), _) in enumerate(asked):
        alone = [text_logps(tiny, inputs, [(query, text)]).item() for text in (right, wrong)]
        n_tokens = sum(len(tiny.processor.response_ids(text)) for text in (right, wrong))
        assert close_sums(found[i], alone[0] - alone[1], n_tokens)


def test_the_exam_of_an_adapter_that_does_nothing_is_the_bases(tiny, tiny_folder, monkeypatch):
    monkeypatch.setattr(exam, "N_VIDEOS", 3)
    before = exam.other_questions(tiny, 0, 3)
    add_lora(tiny.model, rank=2, alpha=4)
    after = exam.other_questions(tiny, 0, 3)
    assert after.pop("kl") == pytest.approx(0.0, abs=1e-4)
    assert before.pop("kl") == 0.0
    assert after == before


def test_the_kl_of_a_policy_is_what_its_answers_lose_under_the_reference(tiny):
    add_lora(tiny.model, rank=2, alpha=64)
    for parameter in adapter_parameters(tiny.model):
        parameter.data.normal_(std=0.3)
    assert exam.other_questions(tiny, 0, 4)["kl"] > 0.05  # of 24 answers: the noise is far smaller


# ---------------------------------------------------------------- sets of pairs


@pytest.fixture
def pairs_folder(tmp_path):
    """A folder with 30 pairs of each mode, a video each, and some dropped ones."""
    rows = [
        {"id": f"{mode}{i}", "video": f"{mode}{i}.avi", "mode": mode, "query": "?",
         "chosen": f"It is {i}.", "rejected": f"It is not {i}."}
        for mode in MODES for i in range(30)
    ]  # fmt: skip
    write_rows(tmp_path / "pairs.jsonl", rows)
    reasons = ("no contradiction about where things are", "weak contrast", "same as preferred",
               "adversarial refuses", "preferred cut off", "duplicate")  # fmt: skip
    dropped = [rows[0] | {"id": reason, "reason": reason} for reason in reasons]
    dropped[2]["rejected"] = dropped[2]["chosen"]
    dropped.append(dropped[3])  # two adversarial responses may be the same, dropped twice
    write_rows(tmp_path / "dropped.jsonl", dropped)
    return tmp_path


def test_no_shuffled_pair_keeps_its_video(pairs_folder):
    before = {p["id"]: p for p in read_rows(pairs_folder / "pairs.jsonl")}
    after = arms.shuffled(pairs_folder, np.random.default_rng(0))
    assert {p["id"] for p in after} == set(before)
    assert sorted(p["video"] for p in after) == sorted(p["video"] for p in before.values())
    assert all(p["video"] != before[p["id"]]["video"] for p in after)
    assert all(p | {"video": ""} == before[p["id"]] | {"video": ""} for p in after)


def test_an_idle_rejected_response_is_of_another_pair_of_the_mode(pairs_folder):
    before = {p["id"]: p for p in read_rows(pairs_folder / "pairs.jsonl")}
    after = arms.idle(pairs_folder, np.random.default_rng(0))
    assert len(after) > 0.9 * len(before)
    assert all(p["rejected"] not in before[p["id"]].values() for p in after)


def test_some_pairs_are_as_many_of_each_mode(pairs_folder):
    found = arms.some(21, MODES, pairs_folder, np.random.default_rng(0))
    assert [sum(p["mode"] == mode for p in found) for mode in MODES] == [7, 7, 7]
    assert len({p["id"] for p in found}) == 21


def test_a_pair_is_known_when_the_model_finds_chosen_likelier_on_the_whole_video(pairs_folder):
    pairs = read_rows(pairs_folder / "pairs.jsonl")
    wrong = {pair["id"] for pair in pairs[::3]}
    candidates = [
        pair | {"logps": [
            {"response": pair["chosen"], "clean": -2.0, "broken": -9.0, "blind": -9.0},
            {"response": pair["rejected"], "clean": -1.0 if pair["id"] in wrong else -3.0,
             "broken": 0.0, "blind": 0.0},
        ]} for pair in pairs
    ]  # fmt: skip
    write_rows(pairs_folder / "candidates.jsonl", candidates)
    known, mistaken = (arms.ranked(right, pairs_folder, None) for right in (True, False))
    assert {pair["id"] for pair in mistaken} == wrong
    assert sorted(known + mistaken, key=pairs.index) == pairs


def test_unjudged_pairs_are_those_that_the_judge_dropped_and_no_others(pairs_folder):
    found = arms.unjudged(pairs_folder, np.random.default_rng(0))
    assert len({p["id"] for p in found}) == len(found)
    added = {p["id"] for p in found if "reason" in p}
    assert added == {"no contradiction about where things are", "adversarial refuses",
                     "preferred cut off"}  # fmt: skip


def test_every_arm_of_the_page_is_run_and_every_run_is_on_the_page():
    shown = [a for *_, family, names in sections.TABLES for a in names if family == "qwen"]
    shown += [arm for *_, names in sections.FACTORS for arm in names]
    assert set(shown) | {"shuffled"} == set(arms.ARMS)
    sets = arms.MADE.keys() | arms.JUDGED.keys() | arms.EDITED.keys()
    assert {name for name, _ in arms.ARMS.values()} == sets


def test_the_settings_that_the_page_names_are_those_of_the_arms():
    told = {title: text for title, text, _ in sections.FACTORS}
    assert f"`{arms.ARMS['rpo'][1]}`" in told["An SFT term beside DPO"]
    (beta,) = re.findall(r"--beta (\S+)", study.TRAIN)
    assert told["Beta"].startswith(f"{beta} in `videopasta`")
    assert f"benchmark of {len(MODES) * toy.N_QUESTIONS} questions" in sections.HEAD
    assert arms.ARMS["equal"][1] == "--epochs 4" and "seen four times" in sections.TABLES[1][1]
    assert max(arms.WEIGHTS["spatial"].split()) == told["Mode weights"][0]


# ---------------------------------------------------------------- the page


@pytest.fixture
def results_folder(tmp_path):
    """A folder with made-up results of every arm, two seeds each."""
    rng, rows = np.random.default_rng(0), []
    for family, names in arms.ALL.items():
        for arm in names:
            rows += [row(arm, seed, *rng.uniform(0.5, 0.9, 3), family=family) for seed in (1, 0)]
    tasks = [f"{mode} {kind}" for mode in MODES for kind in ("question", "options")]
    for made in rows:
        made["commands"] = [f"python make_pairs.py --seed {made['seed']}"]
        made["exam"] |= {"words": 4.5, "kl": 0.25, "calibration": 0.07,
                         "sight": 1.5, "habit": 0.5,
                         "presence_sight": 3.5, "presence_habit": -0.5, "denied": 0.02}
        for name, keys in (("blind", MODES), ("adversarial", tasks), ("general", lessons.GENERAL)):
            made["exam"][name] = dict.fromkeys(keys, 0.5)
        names = ("step", "rewards/chosen", "rewards/rejected", "rewards/accuracies")
        made["curve"] = dict.fromkeys(names, [1, 2, 3])
    write_rows(tmp_path / "results.jsonl", rows)
    return tmp_path


def test_the_page_is_the_same_in_whatever_order_its_results_came(results_folder):
    rows = read_rows(results_folder / "results.jsonl")
    assert page.page(Results(rows)) == page.page(Results(rows[::-1]))


def test_the_page_shows_every_arm_and_its_pictures_are_drawn(results_folder):
    page.write(results_folder, results_folder / "page.md")
    text = (results_folder / "page.md").read_text()
    assert all(f"| `{arm}` |" in text for arm in arms.ARMS)
    pictures = re.findall(r"\]\(miniature/(.*?)\)", text)
    assert len(pictures) == len(set(pictures)) == len(sections.TABLES) + len(sections.FACTORS) + 1
    assert all((results_folder / name).stat().st_size > 1000 for name in pictures)


def test_a_page_of_the_main_arms_alone_leaves_the_others_out(results_folder):
    rows = read_rows(results_folder / "results.jsonl")
    there = [r for r in rows if r["arm"] in arms.MOST["qwen"] and r["family"] == "qwen"]
    text = page.page(Results(there))
    assert "| `videopasta` |" in text and "| `k1` |" not in text and "second family" not in text
    assert "Not run: `k1`, `k2`." in text and "(miniature/onevision.png)" not in text


@pytest.fixture(scope="module")
def results():
    """Those of the repository."""
    return Results(read_rows(ROOT / page.RESULTS / "results.jsonl"))


def test_the_page_is_what_its_results_say_byte_for_byte(results):
    assert (ROOT / page.PAGE).read_text(encoding="utf-8") == page.page(results)


def test_every_picture_of_the_page_is_there_and_no_other():
    named = set(re.findall(r"\]\(miniature/(.*?)\)", (ROOT / page.PAGE).read_text()))
    assert named == {path.name for path in (ROOT / page.RESULTS).glob("*.png")}


def test_the_results_are_of_all_seeds_and_three_models(results):
    for seeds, part in PARTS:
        for family, names in part.items():
            assert all({*seeds} <= results.of(arm, family).keys() for arm in names)
    commands = [row["commands"][-1] for row in results.of("videopasta").values()]
    assert len({re.search(r"--model (\S+)", command)[1] for command in commands}) == 3


def made_seconds(rows):
    """Recorded seconds of rows and of the sets made from videos; base models are not recorded."""
    made = {(r["family"], r["seed"], r["arm"]): r["pairs_seconds"] for r in rows
            if r["arm"] in arms.MADE}  # fmt: skip
    return sum(row["seconds"] for row in rows) + sum(made.values())


def test_what_was_recorded_fits_into_the_minutes_that_the_page_names(results):
    whole, quick = map(int, re.findall(r"less than (\d+)", sections.HEAD))
    rows = [row for by_seed in results.rows.values() for row in by_seed.values()]
    few = [row for row in rows if row["arm"] in arms.QUICK.get(row["family"], ())]
    few = [row for row in few if row["seed"] in (0, 3)]
    assert made_seconds(rows) / 2 < 60 * whole and made_seconds(few) / 2 < 60 * quick


def changes(results, arm, name, family="qwen"):
    """Of a number of the exam from the base to an arm, a value for each seed."""
    return results.gain(arm, lambda exam: exam[name], family).values


@pytest.mark.parametrize("family", ["qwen", "onevision"])
def test_dpo_denies_more_and_an_sft_term_keeps_it_from_that_as_the_page_says(results, family):
    assert min(changes(results, "videopasta", "denied", family)) > 0
    assert max(changes(results, "videopasta", "presence_habit", family)) < 0
    assert max(changes(results, "sft", "denied", family)) < 0
    assert np.mean(changes(results, "rpo", "denied", family)) <= 0
    lost, kept = (results.gain(arm, claims.in_general("presence"), family).mean
                  for arm in ("videopasta", "rpo"))  # fmt: skip
    assert lost / 2 < kept < 0  # README: the term keeps most of what is lost without it
    assert results.gain("rpo", mean_of_modes, family, "videopasta").mean >= 0


def test_what_else_the_page_and_readme_tell_is_in_the_results(results):
    assert min(changes(results, "videopasta", "presence_sight")) > 0  # "habit, not sight"
    sft, ours = (results.gain(arm, claims.in_general("colour")) for arm in ("sft", "videopasta"))
    assert sft.low < ours.mean < sft.high  # "fine-tuning loses as much of them"
    paper = results.gain("paper", mean_of_modes)
    assert paper.low < 0 < paper.high  # "no gain over the base is seen"
    base, mistaken = (results.score(arm, lambda e: e["habit"]).mean for arm in ("base", "mistaken"))
    assert mistaken < base / 4  # "the habit all but gone"
    assert results.gain("mistaken", mean_of_modes, over="sft").high > 0  # "about as many"


def test_readme_shows_verdicts_of_the_page_and_hides_none_that_fails(results):
    text = (ROOT / "README.md").read_text().split("\n| claim | in miniature |")[1]
    shown = text.split("\n\n")[0].splitlines()[2:]
    made = page.table(["claim", "in miniature", "points"], claims.verdicts(results))
    lines = [line for line in made.splitlines() if line.startswith("| ")][2:]
    assert shown == [line for line in lines if line in shown]
    assert {line for line in lines if "| holds |" not in line} < set(shown)


# ---------------------------------------------------------------- the run




def rows_in(needs):
    """(arm, family, seed) of every row that the jobs make, in their order."""
    made = [job[2:] for job in needs if job[0] == "rows"]
    return [(arm, family, seed) for family, seed, group in made for arm in group]


def test_every_arm_is_run_with_three_seeds_the_main_ones_with_five_and_none_twice():
    rows = rows_in(jobs.planned(PARTS, set()))
    everything = len(arms.ARMS) + 1 + len(arms.ALL["onevision"])
    main = len(arms.MOST["qwen"])
    assert len(rows) == len(set(rows)) == 3 * everything + 2 * main
    assert {seed for arm, *_, seed in rows if arm == "videopasta"} == {0, 1, 2, 3, 4}
    assert {seed for arm, *_, seed in rows if arm == "k1"} == {0, 1, 2}
    assert not jobs.planned(PARTS, set(rows))


def test_the_main_arms_of_all_seeds_come_before_any_other():
    rows = rows_in(jobs.planned(PARTS, set()))
    first = 5 * len(arms.MOST["qwen"])
    assert {arm for arm, *_ in rows[:first]} == set(arms.MOST["qwen"])


def test_rows_that_are_there_need_nothing_made_for_them():
    two = [(range(2), arms.MOST), (range(2), arms.ALL)]
    needs = jobs.planned([(range(3), arms.MOST), PARTS[1]], set(rows_in(jobs.planned(two, set()))))
    models = [job for job in needs if job[0] == "base"]
    assert models == [("base", 3, "qwen"), ("base", 1, "onevision")]
    assert {job[3] for job in needs if job[0] != "base"} == {2}


def test_what_a_set_is_made_of_is_made_before_it_and_its_model_before_that():
    needs = jobs.planned([([0], arms.ALL)], set())

    def all_before(job):
        return {job, *(far for near in needs[job] for far in all_before(near))}

    for job in needs:
        before = all_before(job)
        assert ("base", 1, job[2]) in before
        if job[0] == "rows" and job[1]:
            name = arms.EDITED.get(job[1], job[1:])[0]
            assert ("set", name, *job[2:4]) in before
            source = arms.JUDGED.get(name, [name])[0]
            assert ("set", source, *job[2:4]) in before


def test_two_jobs_that_train_on_one_folder_of_pairs_wait_for_each_other():
    needs, last = jobs.planned(PARTS, set()), {}
    for job in needs:
        if job[0] == "rows":
            assert job[:4] not in last or last[job[:4]] in needs[job]
            last[job[:4]] = job
    assert len(last) < len([job for job in needs if job[0] == "rows"])


class Inline:
    """A pool that does a job when it is given."""

    def submit(self, task, job):
        future = Future()
        try:
            future.set_result(task(job))
        except ValueError as error:
            future.set_exception(error)
        return future


def test_a_job_that_fails_stops_those_alone_that_need_it():
    kept, needs = [], {"a": (), "b": (), "c": ("a",), "d": ("b", "c"), "e": ("b",)}

    def task(job):
        if job == "a":
            raise ValueError("full")
        return job

    with pytest.raises(SystemExit, match=r"(?s)a: ValueError\('full'\).*need these: 2"):
        jobs.work(Inline(), 2, needs, task, kept.append)
    assert kept == ["b", "e"]


SMALL = {"qwen": ("base", "videopasta", "sft", "shuffled")}


def start_study(folder, monkeypatch, tiny_folder, pairs, videos, kill_at=""):
    """Run the study of SMALL in a folder: ready-made pairs, real training, weights as scores.

    kill_at: the arm at whose examination its process is killed, once.
    """

    def made(out, family, seed, flags):
        rows = read_rows(pairs)
        write_rows(out / "pairs.jsonl", [r | {"id": str(i), "video": str(videos / r["video"])}
                                         for i, r in enumerate(rows)])  # fmt: skip
        return [f"python make_pairs.py {flags}"], 0

    def scores(vlm, seed, whole):
        trained = sum(p.double().abs().sum().item() for p in adapter_parameters(vlm.model))
        return {"benchmark": dict.fromkeys(MODES, trained / 1e6)}

    def row_of(arm, *more):
        if arm == kill_at and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return real(arm, *more)

    real = study.row_of
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(study.toy, "model_folder", lambda *_: str(tiny_folder))
        patch.setattr(study.toy, "videos_folder", lambda *_: videos)
        patch.setattr(study, "make_pairs", made)
        patch.setattr(study, "exam", scores)
        patch.setattr(study, "row_of", row_of)
        patch.setattr(study, "QUICK", SMALL)
        patch.setattr(study.page, "write", lambda *_: None)
        patch.setattr(sys, "argv", ["study", "--quick"])
        study.main()
    rows = read_rows(folder / study.OUT / "quick/results.jsonl")
    return sorted(json.dumps(row | {"seconds": 0}) for row in rows)


@linux
def test_a_killed_study_goes_on_and_has_the_rows_of_an_unbroken_one(
    tmp_path, monkeypatch, tiny_folder, toy_pairs, toy_videos
):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    given = (monkeypatch, tiny_folder, toy_pairs, toy_videos)
    with pytest.raises(SystemExit, match="a process was killed.*goes on"):
        start_study(tmp_path / "killed", *given, kill_at="sft")
    rows = start_study(tmp_path / "killed", *given, kill_at="sft")
    assert rows == start_study(tmp_path / "whole", *given)
    assert len(rows) == 2 * len(SMALL["qwen"])
    trained = {json.loads(row)["exam"]["benchmark"]["spatial"] for row in rows}
    assert len(trained) == 1 + 2 * 3  # each arm of each seed has weights of its own, the base none


@linux
def test_an_arm_that_fails_is_named_and_stops_no_other(
    tmp_path, monkeypatch, tiny_folder, toy_pairs, toy_videos
):
    def refuse(folder, rng):
        raise ValueError("no pairs")

    monkeypatch.setitem(study.EDITED, "shuffled", ("videopasta", refuse))
    with pytest.raises(SystemExit, match="(?s)shuffled.*no pairs.*goes on"):
        start_study(tmp_path, monkeypatch, tiny_folder, toy_pairs, toy_videos)
    rows = read_rows(tmp_path / study.OUT / "quick/results.jsonl")
    assert sorted({row["arm"] for row in rows}) == ["base", "sft", "videopasta"]
