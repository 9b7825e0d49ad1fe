"""The study: its numbers, its sets of pairs, its page, and a run that is killed and continued.

Oracles: intervals and errors by hand, counts, the page in the repository, an uninterrupted run.
"""

import json
import math
import os
import re
import shutil
import signal
import sys
from dataclasses import replace

import pytest
import torch
from conftest import ROOT, linux
from numpy.random import default_rng
from rounding import close_sums
from tiny_models import adapter_parameters

from pasta import toy
from pasta.benchmarks import Item
from pasta.policy import text_logps
from pasta.run.rows import read_rows, write_rows
from pasta.study import arms, claims, measure, page, study
from pasta.study.claims import Results, T, estimate, field, mean_of_modes
from pasta.toy import world
from pasta.toy.captions import GENERAL
from pasta.toy.world import MODES

TEXT = (ROOT / page.PAGE).read_text(encoding="utf-8")
ARMS = ("videopasta", "sft", "rpo")


def test_the_interval_of_students_t_by_hand_and_in_95_percent_of_draws():
    found = estimate((1.0, 2.0, 3.0))  # s = 1, t(2) = 4.303
    assert found.mean == 2.0
    assert found.half == pytest.approx(4.303 / math.sqrt(3))
    assert found.text("+") == "+2.0 [-0.5, +4.5]"
    rng = default_rng(0)
    for n in (2, 3, 5, 10):
        draws = rng.normal(size=(20000, n))
        half = T[n - 1] * draws.std(1, ddof=1) / math.sqrt(n)
        assert (abs(draws.mean(1)) < half).mean() == pytest.approx(0.95, abs=0.006)


def test_gains_are_paired_by_seed():
    scores = [("base", 0, 0.5), ("base", 1, 0.8), ("x", 1, 0.9), ("x", 0, 0.6), ("x", 7, 0.1)]
    results = Results(
        {"arm": arm, "family": "qwen", "seed": seed, "exam": {"benchmark": dict.fromkeys(MODES, x)}}
        for arm, seed, x in scores
    )
    assert results.gain("x", mean_of_modes).values == pytest.approx((10.0, 10.0))
    assert results.gain("x", field("benchmark", "spatial"), over="x").values == (0, 0, 0)
    assert results.gain("y", mean_of_modes) is None


@pytest.mark.parametrize(
    ("verdict", "values", "text"),
    [
        (lambda x: claims.above(x, 5.0), (6.0, 6.1), "holds"),
        (lambda x: claims.above(x, 5.0), (4.0, 4.1), "does not hold"),
        (lambda x: claims.above(x, 5.0), (4.0, 9.0), "not decided"),
        (claims.NO_LOSS, (-9.0, 1.0), "holds"),
        (claims.NO_LOSS, (-1.1, -1.0), "does not hold"),
        (claims.NO_GAIN, (1.0, 1.1), "does not hold"),
        (claims.NO_GAIN, (-1.1, -1.0), "holds"),
        (claims.AT_CHANCE, (49.0, 52.0), "holds"),
        (claims.AT_CHANCE, (51.0, 51.1), "does not hold"),
    ],
)
def test_a_verdict_follows_from_the_whole_interval(verdict, values, text):
    assert verdict(estimate(values)) == text


def test_a_free_answer_names_one_option_as_a_word():
    item = Item("i", ("free", "temporal"), "v", ROOT, "Does it?", ("first", "last"), "A")
    letters = {"It comes first.": "A", "It comes last.": "B", "It comes first, not last.": None,
               "It is blast.": None, "": None, "First": "A", "B": None}  # fmt: skip
    assert {text: measure.parse(text, item, "head") for text in letters} == letters
    assert measure.parse("B", replace(item, task=("lettered", "temporal")), "head") == "B"


def test_evidence_and_prior_by_hand():
    logps = torch.tensor([[-1.0, -4.0], [-2.0, -6.0], [-3.0, -2.0]])  # log-odds 3, 4 and -1
    asked = [("side", True), ("side", True), ("side", False)]
    assert measure.evidence_and_prior(logps, asked) == ((3.5 - 1) / 2, (3.5 + 1) / 2)


def test_every_question_has_its_kind_its_options_and_a_denial(tiny):
    kinds = set()
    for kind, _, query, options, majority in measure.questions_with_inputs(tiny.processor, 0, 12):
        if kind in GENERAL:
            kinds.add((kind, majority))
            assert (kind == "presence") == query.startswith("Is there a ")
            assert majority == (options[0] == "Yes.")
            assert kind == "colour" or sorted(options) == ["No.", "Yes."]
        else:
            assert kind in world.KINDS
            (name,) = re.findall(r"(?:Is|Does) the (\w+ \w+)", query)
            assert options[2] == f"There is no {name}."
            assert name in options[0] and name in options[1]
    assert kinds == {("presence", True), ("presence", False), ("colour", False)}


def test_the_logps_are_of_each_question_and_its_own_answers(tiny, tiny_inputs):
    asked = [
        ("side", tiny_inputs[i], f"Is it {i}?", (f"It is {i}.", f"It is not {i}, no."), False)
        for i in (0, 0, 1)
    ]
    found = measure.option_logps(tiny, asked)
    for i, (_, inputs, query, options, _) in enumerate(asked):
        for logp, text in zip(found[i], options, strict=True):
            alone = text_logps(tiny, [(inputs, [(query, text)])])[0].item()
            assert close_sums(logp.item(), alone, len(tiny.processor.response_ids(text)))


PAIRS = [
    {"id": f"{mode}{i}", "video": f"{mode}{i}.avi", "mode": mode, "query": "?",
     "chosen": f"It is {i}.", "rejected": f"It is not {i}."}
    for mode in MODES for i in range(30)
]  # fmt: skip
BY_ID = {pair["id"]: pair for pair in PAIRS}


def test_no_shuffled_pair_keeps_its_video():
    after = arms.shuffled(PAIRS, None, default_rng(0))
    assert {p["id"] for p in after} == set(BY_ID)
    assert {p["video"] for p in after} == {p["video"] for p in PAIRS}
    assert all(p["video"] != BY_ID[p["id"]]["video"] for p in after)
    assert all(p | {"video": ""} == BY_ID[p["id"]] | {"video": ""} for p in after)


def test_some_pairs_are_as_many_of_each_mode():
    found = arms.some(21, MODES, PAIRS, None, default_rng(0))
    assert [sum(p["mode"] == mode for p in found) for mode in MODES] == [7, 7, 7]
    assert len({p["id"] for p in found}) == 21


def test_a_pair_is_known_if_chosen_is_likelier_on_the_clean_video(tmp_path):
    wrong = {pair["id"] for pair in PAIRS[::3]}
    candidates = [
        pair | {"logps": [
            {"response": pair["chosen"], "clean": -2.0, "broken": -9.0, "blind": -9.0},
            {"response": pair["rejected"], "clean": -1.0 if pair["id"] in wrong else -3.0,
             "broken": 0.0, "blind": 0.0},
        ]} for pair in PAIRS
    ]  # fmt: skip
    write_rows(tmp_path / "candidates.jsonl", candidates)
    known, mistaken = (arms.ranked(right, PAIRS, tmp_path, None) for right in (True, False))
    assert {pair["id"] for pair in mistaken} == wrong
    assert sorted(known + mistaken, key=PAIRS.index) == PAIRS


@pytest.fixture(scope="module")
def results():
    """Those of the repository."""
    return Results(read_rows(ROOT / page.RESULTS / "results.jsonl"))


def test_the_page_has_the_tables_of_its_results_byte_for_byte(results):
    assert page.refreshed(TEXT, results) == TEXT
    assert page.refreshed(re.sub(r"\n\|.*", "", TEXT), results) == TEXT  # also without any table
    rows = [row for by_seed in results.rows.values() for row in by_seed.values()]
    assert page.refreshed(TEXT, Results(rows[::-1])) == TEXT  # in any order of rows


def test_every_arm_and_every_picture_is_on_the_page():
    marks = re.findall(r"<!-- table: scores qwen (.*?) -->", TEXT)
    assert {arm for mark in marks for arm in mark.split()} == set(arms.ARMS)
    assert {name for name, _ in arms.ARMS.values()} == {*arms.MADE, *arms.JUDGED, *arms.EDITED}
    named = re.findall(r"\]\(miniature/(.*?)\)", TEXT)
    assert sorted(named) == sorted(path.name for path in (ROOT / page.RESULTS).glob("*.png"))


def test_few_results_have_a_table_of_their_arms_and_their_claims(results):
    keys = [(family, arm) for family, arm in results.rows if family == "qwen"]
    few = Results(results.rows[k][seed] for k in keys if k[1] in arms.MAIN for seed in (0, 3))
    text = page.scores(few, "qwen", "sft_preferred", *arms.MAIN[1:])
    assert "| `generic` |" in text and "Not run: `sft_preferred`." in text
    text = page.claims(few)
    assert "beats generic DPO" in text and "second family" not in text and "alone" not in text


def test_the_page_and_all_its_pictures_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page.RESULTS.mkdir(parents=True)
    shutil.copy(ROOT / page.RESULTS / "results.jsonl", page.RESULTS)
    page.PAGE.write_text(re.sub(r"\n\|.*", "", TEXT), encoding="utf-8")
    page.write()
    assert page.PAGE.read_text(encoding="utf-8") == TEXT
    drawn = {path.name for path in page.RESULTS.glob("*.png")}
    assert drawn == {path.name for path in (ROOT / page.RESULTS).glob("*.png")}


def test_the_settings_in_the_text_are_those_of_the_arms():
    text = {part.split("\n")[0]: part for part in re.split(r"^#+ ", TEXT, flags=re.MULTILINE)}
    assert f"`{arms.ARMS['rpo'][1]}`" in text["An SFT term added to DPO"]
    (beta,) = re.findall(r"--beta (\S+)", study.TRAIN)
    assert f"`videopasta` uses beta {beta}." in text["Beta"]
    assert f"benchmark of {len(MODES) * toy.N_QUESTIONS} questions" in text["How it is measured"]
    assert arms.ARMS["equal"][1] == "--epochs 4"
    assert "4 epochs give" in text["Table 2: one mode alone"]
    weight = max(arms.WEIGHTS["spatial"].split())
    assert f"named mode has weight {weight}," in text["Mode weights"]


def test_every_arm_has_three_seeds_and_three_models_and_the_main_ones_five(results):
    for (family, seed), names in study.FULL.items():
        assert all(seed in results.of(arm, family) for arm in names)
    for arm in arms.ALL["qwen"]:
        seeds = {key[1] for key, names in study.FULL.items() if arm in names and key[0] == "qwen"}
        assert seeds == {*range(5 if arm in arms.MOST else 3)}
    commands = [row["commands"][-1] for row in results.of("videopasta").values()]
    assert len({re.search(r"--model (\S+)", command)[1] for command in commands}) == 3


@pytest.mark.parametrize(("plan", "words"), [("FULL", "again"), ("QUICK", "two seeds")])
def test_the_recorded_seconds_fit_into_the_minutes_of_the_page(results, plan, words):
    (minutes,) = re.findall(rf"{words}, in less than (\d+) minutes", TEXT)
    seconds = 0
    for (family, seed), names in getattr(study, plan).items():
        for arm in names:
            found = results.of(arm, family)[seed]
            seconds += found["seconds"] + (found["pairs_seconds"] if arm in arms.MADE else 0)
    assert seconds / 2 < 60 * int(minutes)


@pytest.mark.parametrize("family", ["qwen", "onevision"])
def test_dpo_denies_more_and_an_sft_term_prevents_it_as_the_page_says(results, family):
    presence = field("general", "presence")
    ours, sft, rpo = (results.gain(arm, field("denied"), family) for arm in ARMS)
    assert min(ours.values) > 0 > max(sft.values) and rpo.mean <= 0
    assert max(results.gain("videopasta", field("presence_habit"), family).values) < 0
    lost, _, with_term = (results.gain(arm, presence, family).mean for arm in ARMS)
    assert lost / 2 < with_term < 0  # README: the term keeps most of what is lost without it
    assert results.gain("rpo", mean_of_modes, family, "videopasta").mean >= 0


def test_the_other_statements_of_the_page_and_readme_follow_from_the_results(results):
    assert min(results.gain("videopasta", field("presence_sight")).values) > 0  # "not the evidence"
    sft, ours = (results.gain(arm, field("general", "colour")) for arm in ("sft", "videopasta"))
    assert sft.low < ours.mean < sft.high  # "SFT lowers it as much"
    paper = results.gain("paper", mean_of_modes)
    assert paper.low < 0 < paper.high  # "shows no gain over the base"
    base, mistaken = (results.score(arm, field("habit")).mean for arm in ("base", "mistaken"))
    assert mistaken < base / 4  # "less than a quarter"
    assert results.gain("mistaken", mean_of_modes, over="sft").high > 0  # "about as high"


def test_readme_shows_verdicts_of_the_page_and_hides_none_that_fails(results):
    text = (ROOT / "README.md").read_text().split("\n| claim | in miniature |")[1]
    shown = text.split("\n\n")[0].splitlines()[2:]
    lines = page.claims(results).splitlines()[2:]
    assert shown == [line for line in lines if line in shown]
    assert {line for line in lines if "| holds |" not in line} < set(shown)


SMALL = {("qwen", seed): ("base", "videopasta", "sft", "shuffled") for seed in (0, 3)}


@pytest.fixture
def start_study(monkeypatch, tiny_folder, toy_pairs, toy_videos):
    """A function that runs the study of SMALL in a folder, with real training on ready-made pairs.

    Scores are sums of weights. At the measurement of the arm `kill_at` its process is killed, once.
    Returns the rows as sorted texts, without their seconds.
    """

    def make_pairs(out, family, seed, flags):
        rows = read_rows(toy_pairs)
        write_rows(out / "pairs.jsonl", [r | {"id": str(i), "video": str(toy_videos / r["video"])}
                                         for i, r in enumerate(rows)])  # fmt: skip
        return [f"python make_pairs.py {flags}"], 0

    def sum_of_weights(vlm, seed, fully):
        trained = sum(p.double().abs().sum().item() for p in adapter_parameters(vlm.model))
        return {"benchmark": dict.fromkeys(MODES, trained / 1e6)}

    def run(folder, kill_at=""):
        def row_of(arm, *key):
            if arm == kill_at and not (folder / "killed").exists():
                (folder / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return real(arm, *key)

        folder.mkdir(exist_ok=True)
        real = study.row_of
        changes = {"base": lambda *_: tiny_folder, "make_pairs": make_pairs,
                   "measure": sum_of_weights, "row_of": row_of, "QUICK": SMALL}  # fmt: skip
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            for name, value in changes.items():
                patch.setattr(study, name, value)
            patch.setattr(study.page, "claims", lambda _: "claims")
            patch.setattr(sys, "argv", ["study", "--quick"])
            study.main()
        rows = read_rows(folder / study.OUT / "quick/results.jsonl")
        return sorted(json.dumps(row | {"seconds": 0}) for row in rows)

    return run


@linux
def test_a_killed_study_continues_and_has_the_rows_of_an_uninterrupted_one(tmp_path, start_study):
    with pytest.raises(SystemExit, match="a process was killed.*to continue"):
        start_study(tmp_path / "killed", kill_at="sft")
    rows = start_study(tmp_path / "killed", kill_at="sft")
    assert rows == start_study(tmp_path / "whole")
    assert len(rows) == 2 * 4
    trained = {json.loads(row)["exam"]["benchmark"]["spatial"] for row in rows}
    assert len(trained) == 1 + 2 * 3  # each arm of each seed has its own weights, the base none


@linux
def test_an_arm_that_fails_is_named_and_the_others_continue(tmp_path, start_study, monkeypatch):
    def refuse(pairs, folder, rng):
        raise ValueError("no pairs")

    monkeypatch.setitem(study.EDITED, "shuffled", ("videopasta", refuse))
    with pytest.raises(SystemExit, match="(?s)rerun.*qwen-0/shuffled.*no pairs.*qwen-3/shuffled"):
        start_study(tmp_path)
    rows = read_rows(tmp_path / study.OUT / "quick/results.jsonl")
    assert sorted({row["arm"] for row in rows}) == ["base", "sft", "videopasta"]
