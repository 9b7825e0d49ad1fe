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
from statistics import fmean

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
FLAT = " ".join(TEXT.split())


def test_the_interval_of_students_t_by_hand_and_in_95_percent_of_draws():
    found = estimate((1.0, 2.0, 3.0))  # s = 1, t(2) = 4.303
    assert found.mean == 2.0
    assert found.half == pytest.approx(4.303 / math.sqrt(3))
    assert found.text("+") == "+2.0 [-0.5, +4.5]"
    rng = default_rng(0)
    for n in (2, 3, 5, 10, 15):
        draws = rng.normal(size=(20000, n))
        half = T[n - 1] * draws.std(1, ddof=1) / math.sqrt(n)
        assert (abs(draws.mean(1)) < half).mean() == pytest.approx(0.95, abs=0.006)


def test_gains_are_paired_by_seed():
    scores = [("base", 0, 0.5), ("base", 1, 0.8), ("x", 1, 0.9), ("x", 0, 0.6), ("x", 7, 0.1)]
    results = Results(row(*one) for one in scores)
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
    both = {"evidence": (3.5 - 1) / 2, "prior": (3.5 + 1) / 2}
    assert measure.evidence_and_prior(logps, asked) == both


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


def test_a_pair_is_mistaken_if_chosen_is_not_likelier_on_the_clean_video(tmp_path):
    wrong = {pair["id"] for pair in PAIRS[::3]}
    candidates = [
        pair | {"logps": [
            {"response": pair["chosen"], "clean": -2.0, "broken": -9.0, "blind": -9.0},
            {"response": pair["rejected"], "clean": -1.0 if pair["id"] in wrong else -3.0,
             "broken": 0.0, "blind": 0.0},
        ]} for pair in PAIRS
    ]  # fmt: skip
    write_rows(tmp_path / "candidates.jsonl", candidates)
    mistaken = arms.mistaken(PAIRS, tmp_path, None)
    assert mistaken == [pair for pair in PAIRS if pair["id"] in wrong]


def test_a_right_answer_is_true_of_the_drawn_video():
    answers, middle = arms.right_answers(7), world.SIDE / 2
    assert len(answers) == toy.N_VIDEOS * len(MODES)
    for number in range(40):
        video = world.draw_video(default_rng([107, number]))
        answer = answers[f"{number:05d}.avi", "spatial"]
        (thing,) = [x for x in video.things if f" {x.name} " in answer]
        sides = ["left" if thing.x < middle else "right", "above" if thing.y < middle else "below"]
        assert answer in [f"The {thing.name} is {side}." for side in sides]
        answer = answers[f"{number:05d}.avi", "cross_frame"]
        named = [x for x in ("kept", "replaced", "both", "one") if f" {x}" in answer]
        assert named == [one for one in named if (one in ("kept", "both")) == video.kept]


CANDIDATES = [
    {"video": f"/v/{i:05d}.avi", "mode": mode, "preferred": {"response": "?", "finished": False},
     "adversarial": [1, 2, 3]}
    for i in range(100) for mode in MODES
]  # fmt: skip


def test_a_share_of_preferred_responses_is_replaced_by_the_right_one():
    for p in (0.0, 0.5, 1.0):
        after = arms.corrected(p, CANDIDATES, 7)
        right = [{"response": arms.right_answer(x, 7), "finished": True} for x in CANDIDATES]
        kept = [a["preferred"] == b["preferred"] for a, b in zip(after, CANDIDATES, strict=True)]
        assert 1 - sum(kept) / len(kept) == pytest.approx(p, abs=0.1 if p == 0.5 else 0)
        for row, own, answer, same in zip(after, CANDIDATES, right, kept, strict=True):
            assert row == own | {"preferred": own["preferred"] if same else answer}


def test_fewer_adversarial_responses_are_the_first_ones():
    assert {(*row["adversarial"],) for row in arms.first(2, CANDIDATES, 0)} == {(1, 2)}


def measured(score, **more):
    return {"benchmark": dict.fromkeys(MODES, score), **more}


def row(arm, seed, score, right=None, family="qwen", **more):
    row = {"arm": arm, "family": family, "seed": seed, "measured": measured(score, **more)}
    return row if right is None else row | {"right": right}


def test_a_group_has_the_base_and_differences_paired_by_seed():
    rows = [row("base", 0, 0, nats={"prior": 1.0}), row("base", 1, 0, nats={"prior": 2.0})]
    rows += [row("x", 1, 0, nats={"prior": 2.5}), row("y", 0, 0, nats={"prior": 0.75})]
    last = page.group(Results(rows), "qwen", "nats", "base", "x", "y").splitlines()[-1]
    assert last == "| prior | 1.50 [-4.85, 7.85] | +0.50 | -0.25 |"  # 1.5 +- 12.706 / 2
    rows = [row("base", 0, 0.5, blind={"spatial": 0.5}), row("x", 0, 0, blind={"spatial": 0.4})]
    last = page.group(Results(rows), "qwen", "blind", "base", "x").splitlines()[-1]
    assert last == "| spatial | 50.0 | -10.0 |"


def test_the_worth_of_r_plus_is_a_point_for_each_seed_at_the_share_of_the_papers_rule():
    rows = [row("base", 5, 0.5), row("paper", 5, 0.4, 0.6), row("flip", 5, 0.7, 0.8)]
    rows += [row("base", 1, 0.5), row("flip", 1, 0.7, 0.8)]  # a seed without the paper's rule
    rows += [row("paper_true0.5", 5, 0.6, 0.9), row("videopasta_true0.5", 5, 0.8, 0.7)]
    other = {"family": "qwen-noise0.2"}
    rows += [row("base", 20, 0.8, **other), row("paper", 20, 0.9, 0.95, **other)]
    [(_, _, _, series)] = page.worth(Results(rows))
    found = {name: points for name, points, _ in series if points}
    assert found == {
        "paper, r+ of the model": [pytest.approx((60, -10)), pytest.approx((95, 10))],
        "flip, r+ of the model": [pytest.approx((60, 20))],
        "paper, more truth": [pytest.approx((90, 10))],
        "videopasta, more truth": [pytest.approx((90, 30))],
    }


def effects(refused, presence, colour):
    return {"adversarial": {"spatial question": refused, "spatial options": 0.0},
            "general": {"presence": presence, "colour": colour}}  # fmt: skip


def test_the_losses_are_of_fully_measured_arms_and_the_line_of_seeds_with_all_of_it():
    base, rows = effects(0.5, 0.9, 0.8), []
    for family in ("qwen", "onevision"):
        rows += [row("base", seed, 0.5, family=family, **base) for seed in (3, 5)]
        for i, arm in enumerate(arms.OURS):
            after = effects(0.5 - 0.1 * i, 0.8, 0.8)
            rows.append(row(arm, 5, 0.6 + 0.01 * i, family=family, **after))
        rows.append(row("videopasta", 3, 0.9, family=family, **base))
        rows.append(row("flip", 5, 0.6, family=family))  # only on the benchmark
        rows.append(row("mistaken", 3, 0.7, family=family, **effects(0.5, 0.9, 0.9)))
    panels = page.losses(Results(rows))
    names = [name for name, *_ in page.EFFECTS.items()]
    assert [(title, x.split(":")[0]) for title, x, *_ in panels] == [
        (family, name) for family in ("qwen", "onevision") for name in names
    ]
    (_, _, _, refused), _, (_, _, _, colour) = panels[:3]
    line = refused[-1][1]
    assert line == [pytest.approx((-10 * i, 10 + i)) for i in range(len(arms.OURS))]
    assert [points for name, points, style in colour if style == "k."] == [
        [pytest.approx((10, 20))]  # mistaken
    ]
    assert {name for name, *_ in refused} == {"base", *arms.OURS, ""}


@pytest.fixture(scope="module")
def results():
    """Those of the repository."""
    return Results(read_rows(ROOT / page.RESULTS / "results.jsonl"))


def test_the_page_has_the_tables_of_its_results_byte_for_byte(results):
    assert page.refreshed(TEXT, results) == TEXT
    assert page.refreshed(re.sub(r"\n\|.*", "", TEXT), results) == TEXT  # also without any table
    rows = [row for by_seed in results.rows.values() for row in by_seed.values()]
    assert page.refreshed(TEXT, Results(rows[::-1])) == TEXT  # in any order of rows


def test_every_arm_and_family_and_picture_is_on_the_page():
    marks = [x.split() for x in re.findall(r"<!-- table: scores (.*?) -->", TEXT)]
    assert {arm for family, *own in marks for arm in own if family == "qwen"} == set(arms.ARMS)
    assert {family for family, *_ in marks} == {family for family, _ in study.FULL}
    assert {name for name, _ in arms.ARMS.values()} == {*arms.MADE, *arms.JUDGED, *arms.EDITED}
    named = re.findall(r"\]\(miniature/(.*?)\)", TEXT)
    assert sorted(named) == sorted(path.name for path in (ROOT / page.RESULTS).glob("*.png"))


def test_few_results_have_a_table_of_their_arms_and_their_claims(results):
    keys = [(family, arm) for family, arm in results.rows if family == "qwen"]
    few = Results(results.rows[k][seed] for k in keys if k[1] in arms.MAIN for seed in (5, 6))
    assert "| `generic` |" in page.scores(few, "qwen", *arms.MAIN[1:])
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
    for arm in ("rpo1", "rpo5", "rpo20"):
        assert f"`{arm}`: `{arms.ARMS[arm][1]}`" in text["From DPO to SFT"]
    (beta,) = re.findall(r"--beta (\S+)", study.TRAIN)
    assert f"`videopasta` uses beta {beta}." in text["Beta"]
    assert f"benchmark of {len(MODES) * toy.N_QUESTIONS} questions" in text["How it is measured"]
    assert arms.ARMS["equal"][1] == "--epochs 4"
    assert "4 epochs give" in text["Table 2: one mode alone"]
    weight = max(arms.WEIGHTS["spatial"].split())
    assert f"named mode has weight {weight}," in text["Mode weights"]


def test_every_arm_of_the_plan_has_its_seeds(results):
    seeds = {}
    for (family, seed), names in study.FULL.items():
        for arm in names:
            seeds.setdefault((family, arm), set()).add(seed)
    assert {key: set(rows) for key, rows in results.rows.items()} == seeds
    for names, n, word in ((("paper", "sft_preferred"), 10, "ten"), (arms.MOST, 5, "five")):
        assert min(len(seeds["qwen", arm]) for arm in names) == n and f"{word} " in FLAT
    others = {arm for arm in arms.ARMS if len(seeds["qwen", arm]) < 3}
    assert others == set(arms.TRUE)


def test_the_seeds_of_the_plan_use_every_base_model_and_quick_the_shipped_one(monkeypatch):
    monkeypatch.setattr(toy, "model_folder", lambda *args: args)
    bases = {key: study.base(*key) for key in (*study.FULL, *study.QUICK)}
    for (family, seed), (number, kind, noise) in bases.items():
        assert family == (kind if noise is None else f"{kind}-noise{noise}")
        assert number == 0 or (family, seed) not in study.QUICK
    old = [bases["qwen", seed][0] for seed in range(5)]
    new = [bases["qwen", seed][0] for seed in range(5, 15)]
    assert (old, new) == ([1, 2, 3, 1, 2], [2, 0] * 5)


@pytest.mark.parametrize(("plan", "words"), [("FULL", "all seeds"), ("QUICK", "shipped model")])
def test_the_recorded_seconds_fit_into_the_minutes_of_the_page(results, plan, words):
    (minutes,) = re.findall(rf"{words}, in less than (\d+) minutes", FLAT)
    seconds = 0
    for (family, seed), names in getattr(study, plan).items():
        for arm in names:
            rows = results.of(arm, family)
            new = [row for seed, row in rows.items() if seed >= 7]  # on the slower machine
            row = rows[seed] if plan == "FULL" else max(new, key=lambda row: row["seconds"])
            seconds += row["seconds"] + (row["pairs_seconds"] if arm in arms.MADE else 0)
    assert seconds / 2 < 60 * int(minutes)


PRESENCE, COLOUR = field("general", "presence"), field("general", "colour")
FAMILIES = ("qwen", "onevision")


def refused(measured):
    return claims.refusals(measured, "question")


@pytest.mark.parametrize("family", FAMILIES)
def test_dpo_denies_more_and_says_no_more_often_as_the_page_says(results, family):
    dpo, sft = (
        results.gain(arm, field("denying", "probability"), family).values
        for arm in ("videopasta", "sft")
    )
    assert min(dpo) > 0 > max(sft)
    assert results.gain("videopasta", PRESENCE, family).mean < 0
    prior, evidence = (
        results.gain("videopasta", field("presence_nats", name), family)
        for name in ("prior", "evidence")
    )
    assert max(prior.values) < 0 and abs(prior.mean) > abs(evidence.mean)
    assert results.gain("videopasta", refused, family).low > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recommended_weight_gains_more_and_decides_no_loss(results, family):
    arm = results.gain("rpo5", family=family)
    assert results.gain("rpo5", family=family, over="videopasta").mean > 0 and arm.low > 0
    for read in (PRESENCE, COLOUR):
        change = results.gain("rpo5", read, family)
        assert change.low < 0 < change.high
    refusals = [results.gain(arm, refused, family).mean for arm in ("sft", "rpo5")]
    assert refusals[0] < refusals[1]  # "SFT alone loses more"
    change = results.gain("rpo5", refused)
    assert change.low < 0 < change.high and abs(change.mean) < 5  # "about as many as the base"
    assert f"**We recommend `{arms.ARMS['rpo5'][1]}`.**" in FLAT


def test_the_recommended_weight_is_not_free_of_loss_as_the_page_says(results):
    change, dpo = (results.gain(arm, PRESENCE, "onevision") for arm in ("rpo5", "videopasta"))
    assert max(change.values) < 0 and change.mean > dpo.mean / 2  # "by much less"
    assert len(change.values) == 3 and "presence falls on all three seeds" in FLAT
    assert results.gain("rpo5", refused, "onevision").high < 0


def test_more_weight_on_sft_gains_more_and_refuses_less(results):
    seeds = results.of("rpo1")
    same = Results(r for own in results.rows.values() for s, r in own.items() if s in seeds)
    for read, sign in ((mean_of_modes, 1), (refused, -1)):
        means = [sign * same.gain(arm, read).mean for arm in arms.OURS]
        assert means == sorted(means)


def test_the_statements_on_the_papers_rule_follow_from_the_results(results):
    paper, sft = (results.gain(arm) for arm in ("paper", "sft_preferred"))
    assert paper.mean < 0 and results.gain("sft_preferred", over="paper").high < 0
    right = 100 * fmean(row["right"] for row in results.of("paper").values())
    assert f"It is right in only {right:.0f} % of the pairs of `paper`" in FLAT
    prior = field("nats", "prior")
    assert results.gain("paper", prior, scale=1).low > 0  # "makes the prior stronger"
    assert results.gain("sft_preferred", prior, over="paper").mean > 0  # "even more"


def test_the_statements_on_evidence_and_prior_follow_from_the_results(results):
    prior, evidence = field("nats", "prior"), field("nats", "evidence")
    assert results.gain("sft", over="videopasta").low > 0  # "scores higher"
    base, own = results.of("base"), results.of("mistaken")
    for seed, row in own.items():
        before, after = prior(base[seed]["measured"]), prior(row["measured"])
        assert abs(after) < before / 4  # "more than three quarters"
    assert abs(results.gain("mistaken", evidence, scale=1).mean) < 0.1  # "about as it was"
    assert abs(results.gain("videopasta", prior, scale=1).mean) < 0.25  # "about as it was"
    assert min(results.gain(arm, evidence).low for arm in ("sft", "videopasta")) > 0
    assert abs(results.gain("mistaken", over="sft").mean) < 2  # "about as high"
    assert abs(results.gain("mistaken", refused).mean) < 5  # "about as often"
    assert results.gain("sft", refused).high < 0


def test_what_came_out_of_the_prediction_follows_from_the_results(results):
    seeds = results.of("paper_true1.0")
    same = Results(r for own in results.rows.values() for s, r in own.items() if s in seeds)

    def gain(arm):
        return same.gain(arm).mean

    assert gain("paper") < 0 < gain("paper_true0.5") < gain("paper_true1.0") < gain("videopasta")
    half = [100 * row["right"] for row in same.of("paper_true0.5").values()]
    assert 77 < fmean(half) < 83 and abs(gain("paper_true0.5")) < 2  # "near 80 %"
    assert gain("flip") > gain("paper") + 3
    assert abs(gain("flip_true1.0") - gain("paper_true1.0")) < 1
    assert abs(gain("videopasta_true1.0") - gain("videopasta")) < 2
    families = {family for family, _ in results.rows if "noise" in family}
    for family in families:
        assert max(results.gain(rule, family=family).mean for rule in arms.RULES) < 2
        assert 100 * results.of("paper", family)[20]["right"] > fmean(half)
        assert 12 < 100 - results.score("base", mean_of_modes, family).mean < 17  # "one in seven"
    assert len(families) == 3


def test_the_gains_on_the_page_on_pairs_are_those_of_the_results(results):
    text = (ROOT / "docs/pairs.md").read_text().replace("\u2212", "-")
    (table,) = re.findall(r"\| rule \| chosen is right .*?\n\n", text, re.DOTALL)
    for line, arm in zip(table.split("\n")[2:5], arms.RULES, strict=True):
        assert f"| {results.gain(arm).text('+')} |" in line
    assert f"({results.gain('paper').text('+')}, row `paper`" in " ".join(text.split())


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

    def sum_of_weights(vlm, seed, fully, blind):
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
    trained = {json.loads(row)["measured"]["benchmark"]["spatial"] for row in rows}
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
