"""Candidates to pairs, by hand: who is chosen, what is dropped and why.

python -m pytest tests/test_selection.py
"""

import numpy as np
import pytest

from pasta import selection
from pasta.datasets.read import read_pairs
from pasta.judge import judge_by_rules
from pasta.run.rows import write_rows


def rules(cases):
    return [judge_by_rules(*case) for case in cases]


def candidate(preferred, *adversarial, video="/v.avi", mode="spatial", query="Where?", logps=()):
    """A row of candidates.jsonl. adversarial: (kind, response); logps: {response: (clean, broken)}.

    Without video a response's logp is minus its number of letters.
    """
    texts = dict.fromkeys([preferred, *(response for _, response in adversarial)])
    return {
        "video": video,
        "mode": mode,
        "query": query,
        "topic": "position",
        "preferred": {"response": preferred, "finished": True},
        "adversarial": [
            {"kind": kind, "response": response, "finished": True} for kind, response in adversarial
        ],
        "logps": [
            {"response": text, "blind": -float(len(text))}
            | (dict(zip(("clean", "broken"), logps[text], strict=True)) if logps else {})
            for text in texts
        ],
        "recipe": {"candidates": len(adversarial), "twins": bool(logps)},
    }


LEFT, RIGHT, RED = "It is left.", "It is right.", "It is red."


def made(*candidates, balance=False, **options):
    return selection.make_pairs(candidates, rules, balance=balance, **options)


def reasons(dropped):
    return [row["reason"] for row in dropped]


def test_a_pair_has_the_texts_and_how_it_was_made(tmp_path):
    [pair], _ = made(candidate(LEFT, ("prompt", RIGHT)))
    about = {"video": "/v.avi", "mode": "spatial", "query": "Where?"}
    assert pair == pair | about | {"chosen": LEFT, "rejected": RIGHT, "sides": ("left", "right")}
    recipe = {"candidates": 1, "twins": False, "topic": "position", "kind": "prompt"}
    assert pair["recipe"] == recipe and pair["blind"] == len(RIGHT) - len(LEFT)
    write_rows(tmp_path / "pairs.jsonl", [pair])
    [read] = read_pairs(tmp_path / "pairs.jsonl")
    assert (read.id, read.video, read.chosen) == (pair["id"], "/v.avi", LEFT)


def test_kept_and_dropped_together_are_all_that_came_in():
    rows = [
        candidate(LEFT, ("frames", RIGHT), ("prompt", RED), ("frames", RIGHT)),
        candidate(LEFT, ("frames", LEFT), ("prompt", ""), query="Why"),
        candidate("", ("frames", LEFT), video="/w.avi"),
    ]
    for select in ("none", "flip"):
        pairs, dropped = made(*rows, select=select, balance=True)
        assert len(pairs) + len(dropped) == 3 + 2 + 1
        assert all(reasons(dropped)) and not any("reason" in pair for pair in pairs)


@pytest.mark.parametrize("again", ["It is right.", "it was right"])  # the same, or nearly
def test_of_near_duplicates_the_first_is_kept(again):
    pairs, dropped = made(candidate(LEFT, ("frames", RIGHT), ("prompt", again)))
    assert [pair["rejected"] for pair in pairs] == [RIGHT] and reasons(dropped) == ["duplicate"]


def test_a_judge_sees_the_same_in_any_division_of_the_candidates():
    rows = [candidate(LEFT, ("a", RIGHT)), candidate(LEFT, ("a", RED), video="/w.avi")]
    apart = [row for one in rows for row in selection.proposals([one], rules, "none")]
    assert selection.proposals(rows, rules, "none") == apart


def test_a_response_once_cut_off_may_be_kept_later():
    row = candidate(LEFT, ("frames", RIGHT), ("prompt", RIGHT))
    row["adversarial"][0]["finished"] = False
    pairs, dropped = made(row)
    assert len(pairs) == 1 and reasons(dropped) == ["adversarial cut off"]


# ---------------------------------------------------------------- flip


def test_flip_keeps_a_query_whose_answer_on_a_corrupted_video_contradicts():
    flipped = candidate(LEFT, ("frames", RIGHT), ("prompt", "To the right."))
    survived = candidate(LEFT, ("frames", LEFT), ("prompt", RIGHT), video="/w.avi")
    pairs, dropped = made(flipped, survived, select="flip")
    assert [pair["video"] for pair in pairs] == ["/v.avi"] * 2
    assert reasons(dropped) == ["same as preferred", "not contradicted on the corrupted video"]


def test_flip_counts_an_answer_that_repeats_a_prompted_one_and_treats_each_mode_alone():
    spatial = candidate(LEFT, ("prompt", RIGHT), ("frames", RIGHT))
    temporal = candidate("Before.", ("prompt", "After."), mode="temporal")
    pairs, dropped = made(spatial, temporal, select="flip")
    assert [pair["mode"] for pair in pairs] == ["spatial"]
    assert reasons(dropped) == ["duplicate", "not contradicted on the corrupted video"]


# ---------------------------------------------------------------- contrast


def test_contrast_chooses_what_falls_most_and_rejects_what_falls_least():
    logps = {LEFT: (-1.0, -2.0), RIGHT: (-3.0, -7.5), "Left or right.": (-2.0, -1.0)}
    row = candidate(LEFT, ("frames", RIGHT), ("prompt", "Left or right."), logps=logps)
    [pair], [] = made(row, select="contrast")
    assert (pair["chosen"], pair["rejected"]) == (RIGHT, "Left or right.")  # falls 4.5 and -1
    assert pair["recipe"]["contrast"] == 5.5 and pair["recipe"]["kind"] == "contrast"


def test_contrast_judges_the_pair_that_it_chose():
    logps = {LEFT: (-1.0, -1.5), RIGHT: (-3.0, -3.6), RED: (-2.0, -9.0)}
    _, [row] = made(candidate(LEFT, ("a", RIGHT), ("b", RED), logps=logps), select="contrast")
    assert (row["chosen"], row["rejected"]) == (RED, LEFT)
    assert row["reason"] == "no contradiction about where things are"


def test_contrast_leaves_unsound_answers_out():
    logps = {LEFT: (-1.0, -2.0), RIGHT: (-1.0, -9.0)}
    row = candidate(LEFT, ("frames", RIGHT), logps=logps)
    row["adversarial"][0]["finished"] = False
    _, dropped = made(row, candidate(LEFT, ("frames", LEFT), logps=logps), select="contrast")
    assert reasons(dropped) == ["fewer than two different usable answers"] * 2


@pytest.mark.parametrize("lost", [None, "clean", "broken"])
def test_contrast_needs_scores_on_corrupted_videos(lost):
    logps = {LEFT: (-1.0, -4.0), RIGHT: (-2.0, -2.5)} if lost else ()
    row = candidate(LEFT, ("frames", RIGHT), logps=logps)
    row["logps"][1].pop(lost, None)
    with pytest.raises(ValueError, match="/v.avi: .* not scored on corrupted videos; choose"):
        made(row, select="contrast")


def contrasts(mode, *numbers):
    """Rows that are still pairs, with these contrasts."""
    return [{"mode": mode, "reason": "", "recipe": {"contrast": n}} for n in numbers]


@pytest.mark.parametrize(
    ("keep", "kept"), [(0.5, [3.0, 5.0]), (0.6, [3.0, 2.0, 5.0]), (1.0, None), (0.01, [5.0])]
)
def test_the_strongest_share_of_each_mode_is_kept_rounded_up(keep, kept):
    rows = contrasts("spatial", 3.0, 1.0, 2.0, 5.0)
    other = contrasts("temporal", 0.1)
    dropped = contrasts("spatial", 9.0)
    dropped[0]["reason"] = "same as preferred"
    selection.drop_weakest([*rows, *other, *dropped], keep)
    left = [row["recipe"]["contrast"] for row in rows if not row["reason"]]
    assert left == (kept or [3.0, 1.0, 2.0, 5.0])
    assert {row["reason"] for row in rows} <= {"", "weak contrast"}
    assert not other[0]["reason"] and dropped[0]["reason"] == "same as preferred"


# ---------------------------------------------------------------- balance


def sided(mode, chosen, rejected, n, contrast=None):
    recipe = {} if contrast is None else {"contrast": contrast}
    sides = (chosen, rejected) if chosen else None
    return [{"mode": mode, "reason": "", "sides": sides, "recipe": dict(recipe)} for _ in range(n)]


def left(groups, kinds, reason):
    """How many rows of each group are left when the excess is dropped."""
    rows = [row for group in groups for row in group]
    selection.drop_excess(rows, kinds, reason, np.random.default_rng(0))
    assert {row["reason"] for row in rows} == {"", reason}
    return [sum(not row["reason"] for row in group) for group in groups]


def test_each_side_of_an_opposite_is_chosen_equally_often():
    groups = [
        sided("spatial", "left", "right", 5),
        sided("spatial", "right", "left", 2),
        sided("spatial", "top", "bottom", 3),
        sided("spatial", "bottom", "top", 3),
        sided("temporal", "left", "right", 1),  # alone in its mode
        sided("temporal", None, None, 4),
    ]
    assert left(groups, selection.by_sides, "balance") == [2, 2, 3, 3, 0, 4]


def test_the_weakest_contrasts_go_first():
    common = [sided("spatial", "left", "right", 1, c)[0] for c in (1.0, 4.0, 2.0, 3.0)]
    rare = [sided("spatial", "right", "left", 1, c)[0] for c in (0.5, 0.1)]
    assert left([common, rare], selection.by_sides, "balance") == [2, 2]
    assert [row["reason"] for row in common] == ["balance", "", "balance", ""]


def test_what_was_dropped_before_does_not_count_in_the_balance():
    rows = [*sided("spatial", "left", "right", 2), *sided("spatial", "right", "left", 2)]
    rows[0]["reason"] = rows[1]["reason"] = "duplicate"
    selection.drop_excess(rows, selection.by_sides, "balance", np.random.default_rng(0))
    assert [row["reason"] for row in rows] == ["duplicate", "duplicate", "balance", "balance"]


def lengths(chosen, rejected, n, mode="spatial"):
    texts = {"chosen": "w " * chosen, "rejected": "w " * rejected}
    return [{"mode": mode, "reason": "", "recipe": {}} | texts for _ in range(n)]


def test_a_response_is_longer_from_a_quarter_on():
    found = [selection.by_length(*lengths(*pair, 1)) for pair in ((4, 4), (5, 6), (4, 5), (0, 1))]
    assert found == [None, None, ("shorter", "longer"), ("shorter", "longer")]
    assert selection.by_length(*lengths(5, 4, 1)) == ("longer", "shorter")


def test_chosen_is_the_longer_one_as_often_as_rejected():
    groups = [lengths(9, 3, 5), lengths(3, 9, 2), lengths(4, 4, 3), lengths(9, 3, 1, "temporal")]
    assert left(groups, selection.by_length, "length") == [2, 2, 3, 0]


# ---------------------------------------------------------------- target


@pytest.mark.parametrize(
    ("share", "kept"), [(6, [3, 2, 1]), (5, [2, 2, 1]), (3, [1, 1, 1]), (1, [1, 0, 0]), (9, None)]
)
def test_a_target_takes_the_sides_in_turn(share, kept):
    sides = [("left", "right", 4), ("right", "left", 2), (None, None, 1)]
    groups = [sided("spatial", *side) for side in sides]
    other = sided("temporal", "first", "last", 1)
    selection.drop_beyond([row for group in (*groups, other) for row in group], share)
    assert [sum(not row["reason"] for row in group) for group in groups] == (kept or [4, 2, 1])
    assert not other[0]["reason"]


def test_a_target_keeps_the_strongest():
    rows = [row | {"sides": None} for row in contrasts("spatial", 3.0, 1.0, 2.0, 5.0)]
    selection.drop_beyond(rows, 2)
    assert [row["reason"] for row in rows] == ["", *["beyond the target"] * 2, ""]
