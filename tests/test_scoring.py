"""Letters and intervals, against arithmetic a reader can redo; more letters in test_parsers.py.

python -m pytest -q tests/test_scoring.py
"""

import math
import re
from types import SimpleNamespace

import pytest

from pasta.benchmarks.report import comparison, counts, table
from pasta.benchmarks.scoring import (
    lettered_text,
    likeliest_letter,
    mean_of,
    paired_difference,
    summary,
    wilson,
)


def scores(**groups):
    """{group: {unit: score}} from lists; units are numbered."""
    return {group: dict(enumerate(values)) for group, values in groups.items()}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("x-b", "B"),  # a mark without a space next to it becomes one
        ("x-b -", "xb"),  # one with a space next to it, anywhere, and all of its kind are deleted
        ("x-b 1,2", "xb 12"),  # a number with a comma has every mark deleted
        ("1.5", "1.5"),  # a period before a digit stays
        ("." * 33 + "ok", ".ok"),  # and so does the 33rd
        ("'b", "B"),
    ],
)
def test_punctuation_goes_as_in_lmms_eval(response, expected):
    assert lettered_text(response) == expected


def test_the_likeliest_letter_is_the_largest_logp_and_the_earlier_one_of_a_tie():
    assert likeliest_letter("ABC", [-3.0, -0.1, -2.0]) == "B"
    assert likeliest_letter("ABC", [-3.0, -0.5, -0.5]) == "B"


def test_nan_is_refused_and_not_guessed():
    with pytest.raises(ValueError, match="A, B .*expected numbers.*--dtype float32"):
        likeliest_letter("AB", [math.nan, -1.0])


@pytest.mark.parametrize(
    ("correct", "n", "interval"),
    [
        # (0.8 + 0.19207) / 1.38415 = 0.71674; 1.95996 sqrt(0.016 + 0.0096036) / 1.38415 = 0.22657
        (8, 10, (0.49017, 0.94331)),
        (0, 10, (0, 3.84146 / 13.84146)),  # z^2 / (n + z^2): not a point
        (0, 0, (0, 1)),
    ],
)
def test_wilson_intervals_by_hand(correct, n, interval):
    assert wilson(correct, n) == pytest.approx(interval, abs=2e-5)


def test_the_interval_of_one_group_is_wilsons():
    assert mean_of([(8, 10)]) == pytest.approx((0.8, *wilson(8, 10)))


def test_the_macro_mean_weighs_groups_and_the_other_answers():
    groups = [(1, 1), (1, 3)]
    assert mean_of(groups)[0] == pytest.approx((1 + 1 / 3) / 2)
    assert mean_of(groups, macro=False) == pytest.approx((0.5, *wilson(2, 4)))


def test_equal_groups_narrow_the_interval_by_the_root_of_their_number():
    value, low, high = mean_of([(8, 10)] * 4)
    one_low, one_high = wilson(8, 10)
    assert (value - low, high - value) == pytest.approx(((0.8 - one_low) / 2, (one_high - 0.8) / 2))


def test_a_group_without_answers_counts_zero_as_in_lmms_eval():
    assert mean_of([(0, 0), (2, 2)])[0] == 0.5


def test_equal_runs_differ_by_exactly_zero():
    run = scores(a=[1.0, 0.0, None, 1.0], b=[0.0, 0.0, 1.0])
    assert paired_difference(run, run) == (0.0, 0.0, 0.0)


def test_swapped_runs_have_the_opposite_difference():
    one, two = scores(a=[1.0, 0.0, 1.0, 1.0]), scores(a=[0.0, 1.0, 0.0, 0.0])
    value, low, high = paired_difference(one, two)
    assert value == 0.5
    assert paired_difference(two, one) == pytest.approx((-value, -high, -low))


def test_the_difference_is_that_of_the_two_means_each_with_its_own_count():
    one, two = scores(a=[1.0, None, 0.0], b=[1.0]), scores(a=[None, 0.0, 0.0], b=[0.0])
    assert paired_difference(one, two)[0] == pytest.approx((0.5 + 1) / 2 - 0)
    assert paired_difference(one, two, macro=False)[0] == pytest.approx(2 / 3 - 0)


def test_pairing_narrows_the_difference():
    base = scores(a=[1.0] * 100 + [0.0] * 100)
    tuned = scores(a=[1.0] * 110 + [0.0] * 90)  # the same items right, and ten more
    value, low, high = paired_difference(tuned, base)
    assert value == pytest.approx(0.05)
    # unpaired: 1.96 sqrt(2 * 0.25 / 200) = 0.098 each way; paired: 1.96 sqrt(0.0475 / 200) = 0.030
    assert low == pytest.approx(0.05 - 0.030, abs=0.008)
    assert high == pytest.approx(0.05 + 0.030, abs=0.008)


def test_the_seed_decides_the_draws():
    base, tuned = scores(a=[0.0] * 1001), scores(a=[1.0] * 370 + [0.0] * 631)
    drawn = [paired_difference(tuned, base, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_summary_is_in_percent_and_says_what_was_counted():
    numbers = summary(scores(a=[1.0] * 8 + [0.0] * 2 + [None]))
    group = numbers["groups"]["a"]
    assert (group["value"], group["counted"], group["of"]) == (80.0, 10, 11)
    assert group["low"] == pytest.approx(49.017, abs=2e-3)
    assert (numbers["mean"]["value"], numbers["mean"]["of"]) == (80.0, 11)


def test_failures_are_counted_apart():
    rows = [
        {"response": "", "predicted": None},
        {"response": "yes", "predicted": None},
        {"response": "", "predicted": None, "error": "v.mp4: damaged"},
        {"response": "B", "predicted": "B"},
    ]
    bench = SimpleNamespace(draws=False, empty="wrong")
    assert list(counts(bench, rows).values()) == [1, 1, 1]


def test_table_sets_runs_side_by_side():
    base, tuned = scores(a=[1.0, 0.0], b=[0.0, 0.0]), scores(a=[1.0, 1.0], b=[0.0, 0.0])
    runs = {name: summary(run) | {"counts": {"empty": 3}}
            for name, run in [("base", base), ("+dpo", tuned)]}  # fmt: skip
    lines = table(runs, {"+dpo": comparison(tuned, base)}).splitlines()
    assert lines[0].split()[-5:] == ["n", "base", "+dpo", "minus", "base"]
    assert lines[1].split()[:3] == ["a", "2", "50.0"]
    assert "100.0 [34.2, 100.0]" in lines[1]  # 1 / (1 + z^2/2)
    assert "+50.0 [+0.0, +100.0]" in lines[1]
    assert lines[3].startswith("mean of 2 tasks") and "+25.0" in lines[3]
    assert lines[4].split() == ["empty", "3", "3"]
    assert len({len(line) for line in lines[:4]}) == 1


def test_a_table_has_the_counted_n_of_each_run_where_they_differ():
    base, tuned = scores(a=[1.0, 0.0], b=[0.0, None]), scores(a=[1.0, None], b=[0.0, None])
    lines = table({"base": summary(base), "+dpo": summary(tuned)}, {}).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == ["a", "b", "mean of 2 tasks"]
    assert [re.search(r"  (\S+)", line)[1] for line in lines[1:]] == ["2/1", "1", "3/2"]


def test_a_benchmark_without_a_mean_has_none_in_its_numbers_and_table():
    scores = {"text": {"0": 1.0, "1": 0.0}, "video": {"0": 0.0, "1": 0.0}}
    run = summary(scores, macro=None) | {"counts": {}}
    difference = comparison(scores, scores, macro=None)
    assert run["mean"] is None and difference["mean"] is None
    lines = table({"model": run, "+dpo": run}, {"+dpo": difference}, macro=None).splitlines()
    assert [line.split()[0] for line in lines] == ["percent", "text", "video"]
