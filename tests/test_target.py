"""make_pairs.py --target over 60 toy videos: rounds, shares, and pairs beyond the target.

A function answers instead of the model, so the pairs of each query are known.

    python -m pytest -q tests/test_target.py
"""

import re
from collections import Counter

import pytest

import make_pairs
from pasta.judge import OPPOSITES
from pasta.models.generate import Answer
from pasta.pairs import MODES
from pasta.prompts import QUERIES, query_prompt
from pasta.run.rows import read_rows
from pasta.toy.files import write_videos

N_VIDEOS = 60
SIDES = {  # mode -> the names of the two sides of its first opposite
    mode: " or ".join(side.split()[0] for side in OPPOSITES[mode][0]) for mode in MODES
}
MODE_OF = {query_prompt(mode, kind): mode for mode, kinds in QUERIES.items() for kind in kinds}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder, N_VIDEOS, seed=0)
    return folder


def say(request, rare):
    """A query that names the two sides and a number; then the side that number and seed decide.

    Of the mode `rare` only each third query is ever answered wrongly.
    """
    if request.prompt in MODE_OF:
        return f"Is number {request.seed % 100000} {SIDES[MODE_OF[request.prompt]]}?"
    number, *sides = re.search(r"number (\d+) (\w+) or (\w+)\?", request.prompt).groups()
    steady = int(number) % 3 and SIDES[rare] == " or ".join(sides) if rare else False
    wrong = request.temperature > 0 and not steady and request.seed % 2
    return f"It is {sides[(int(number) + wrong) % 2]}."


@pytest.fixture
def run(tmp_path, tiny_folder, videos, monkeypatch):
    """Run the script with answers of `say`. Returns the folder; `run.asked` are all requests."""

    def run(name="out", rare=None, **settings):
        def ask(vlm, requests, max_new_tokens):
            run.asked.extend(requests)
            return [Answer(say(request, rare), (), 0.0, True) for request in requests]

        monkeypatch.setattr("pasta.models.generate.ask", ask)
        score = "pasta.making.roles.LocalModel.score"
        monkeypatch.setattr(score, lambda self, groups: [[0.0] * len(x) for _, x in groups])
        defaults = {"responder": str(tiny_folder), "videos": videos, "out": tmp_path / name}
        defaults |= {"select": "none", "max_pixels": 0, "dtype": "float32", "device": "cpu"}
        make_pairs.main(make_pairs.PairsConfig(**defaults | settings))
        return tmp_path / name

    run.asked = []
    return run


def rows(folder, name):
    return read_rows(folder / f"{name}.jsonl")


def by_mode(found):
    """Mode -> how many rows are of it."""
    return dict(Counter(row["mode"] for row in found))


def sides_of(pairs, mode):
    """How often each side of an opposite is chosen in a mode."""
    return sorted(Counter(p["sides"][0] for p in pairs if p["mode"] == mode).values())


@pytest.mark.parametrize("sides", [[5, 5], [5, 6]])
def test_a_run_over_60_videos_stops_at_the_target_with_equal_shares(run, sides):
    out = run(target=sum(sides) * len(MODES))
    pairs, dropped = rows(out, "pairs"), rows(out, "dropped")
    assert by_mode(pairs) == dict.fromkeys(MODES, sum(sides))
    assert len({row["video"] for row in rows(out, "queries")}) < N_VIDEOS
    assert all(sides_of(pairs, mode) == sides for mode in MODES)
    assert len(pairs) + len(dropped) == 3 * len(rows(out, "candidates"))


def test_pairs_beyond_the_target_are_dropped_and_named(run):
    out = run(target=10 * len(MODES))
    kept = {pair["id"] for pair in rows(out, "pairs")}
    beyond = [row["id"] for row in rows(out, "dropped") if row["reason"] == "beyond the target"]
    run(stage="judge")  # of the same answers, without a target
    assert beyond and sorted(kept | set(beyond)) == sorted(p["id"] for p in rows(out, "pairs"))


def test_a_mode_that_has_its_share_gets_no_more_queries(run):
    out = run(target=10 * len(MODES), rare="temporal")
    assert by_mode(rows(out, "pairs")) == dict.fromkeys(MODES, 10)
    asked = by_mode(rows(out, "queries"))
    assert asked["temporal"] > 1.5 * max(asked["spatial"], asked["cross_frame"])
    assert asked == by_mode(rows(out, "candidates"))


def test_too_few_videos_give_all_pairs_and_a_message(run, capsys):
    few = rows(run(target=300, limit=5), "pairs")
    message = "5 videos are not enough for --target 300; add videos or --n_queries"
    assert message in capsys.readouterr().out
    assert few == rows(run("all", limit=5), "pairs") and few


def test_fewer_pairs_than_before_are_said(run, capsys):
    many = len(rows(run("all", limit=5), "pairs"))
    assert "pairs replace" not in capsys.readouterr().out
    few = len(rows(run("all", limit=2), "pairs"))
    assert f"{few} pairs replace {many}; the earlier command" in capsys.readouterr().out
    assert len(rows(run("all", limit=5), "pairs")) == many > few > 0


def test_a_larger_target_continues_and_asks_nothing_again(run):
    out = run(target=5 * len(MODES))
    before = {name: rows(out, name) for name in ("queries", "candidates")}
    run.asked.clear()
    run(target=15 * len(MODES))
    assert by_mode(rows(out, "pairs")) == dict.fromkeys(MODES, 15)
    for name, kept in before.items():
        after = rows(out, name)
        assert after[: len(kept)] == kept and len(after) > len(kept)
    new = len(rows(out, "queries")) - len(before["queries"])
    assert sum(request.prompt in MODE_OF for request in run.asked) == new
    assert len(run.asked) == new + 4 * (len(rows(out, "candidates")) - len(before["candidates"]))


def test_a_finished_run_asks_nothing_when_it_starts_again(run):
    out = run(target=10 * len(MODES), rare="spatial")
    names = ("queries", "candidates", "pairs", "dropped", "skipped")
    before = {name: rows(out, name) for name in names}
    run.asked.clear()
    run(target=10 * len(MODES), rare="spatial")
    assert not run.asked and {name: rows(out, name) for name in names} == before


@pytest.mark.parametrize("n", [5, 16])
def test_how_many_videos_are_worked_on_at_a_time_changes_nothing(run, n):
    settings = {"target": 10 * len(MODES), "rare": "temporal"}
    one, other = (run(f"{i}", batch_videos=i, **settings) for i in (1, n))
    for name in ("queries", "candidates", "pairs", "dropped"):
        assert rows(one, name) == rows(other, name)


def test_a_mode_that_loses_its_share_is_asked_for_again(monkeypatch, capsys):
    counts = iter([(10, 3), (10, 8), (9, 10), (12, 10)])  # balance is by chance
    rounds = []
    monkeypatch.setattr(make_pairs, "write_queries", lambda *args: rounds.append(args[3:5]) or {})
    monkeypatch.setattr(make_pairs, "write_candidates", lambda *_: {})
    enough, two = dict.fromkeys(MODES, 10), ("spatial", "temporal")
    monkeypatch.setattr(
        make_pairs, "write_pairs", lambda *_: enough | dict(zip(two, next(counts), strict=True))
    )
    config = make_pairs.PairsConfig(responder="m", videos="v", target=10 * len(MODES))
    make_pairs.make(config, None, list(range(15)))
    assert rounds == [(4, MODES), (12, ["temporal"]), (15, ["temporal"]), (15, ["spatial"])]
    assert "not enough" not in capsys.readouterr().out
