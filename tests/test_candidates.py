"""Candidates, with recording fakes in place of the model.

    python -m pytest tests/test_candidates.py
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pasta.adversaries import ADVERSARIES
from pasta.candidates import candidate_rows, query_tasks
from pasta.models.generate import Answer
from pasta.pairs import MODES
from pasta.prompts import PREMISES, PROMPT_VERSION, misled_prompt
from pasta.run.digest import seed_of
from pasta.video import VideoError

RECIPE = {"candidates": 3, "adversary": "both", "temperature": 0.7, "twins": False, "seed": 0}
LENGTHS = {"dense": 12, "native": 8, "uniform": 8, "sparse": 4}  # frames of each sampling


def video_frames(video):
    """sampling -> (frames, timestamps) of a made-up video, different for every file name."""
    rng = np.random.default_rng(seed_of(Path(video).name))
    pictures = rng.integers(0, 256, (12, 4, 4, 3), np.uint8)
    places = {name: np.linspace(0, 11, n).round().astype(int) for name, n in LENGTHS.items()}
    return {name: (pictures[place], place / 2.0) for name, place in places.items()}


class FakeReader:
    """Reads made-up videos; those whose name begins with "bad" cannot be read."""

    def __init__(self):
        self.prepared = []
        self.processor = SimpleNamespace(prepare=self.prepare)

    def frames(self, video):
        if Path(video).name.startswith("bad"):
            raise VideoError(video, "corrupted")
        return video_frames(video)

    def name(self, video):
        return Path(video).name

    def other(self, video):
        return video_frames("other")["sparse"][0]

    def prepare(self, frames, timestamps):
        self.prepared.append(frames)
        return SimpleNamespace(frames=frames)


class Recorder:
    """Answers every request with its prompt and seed, and records it."""

    def __init__(self, say=lambda request: f"{request.prompt} {request.seed % 1000}"):
        self.say, self.asked = say, []

    def __call__(self, requests):
        self.asked += requests
        return [Answer(self.say(request), (), 0.0, True) for request in requests]

    def misled(self):
        return [request for request in self.asked if request.temperature > 0]

    def preferred(self):
        return [request for request in self.asked if request.temperature == 0]


def no_score(groups):
    return [[0.0] * len(texts) for _, texts in groups]


def candidates(*videos, ask=None, score=no_score, reader=None, queries=("Why?",), **changes):
    reader, failed, tasks = reader or FakeReader(), changes.pop("failed", {}), []
    recipe = RECIPE | changes
    for video in videos:
        rows = [{"mode": mode, "query": q, "topic": "t"} for mode in MODES for q in queries]
        tasks += query_tasks(video, rows, reader, recipe)
    rows, refused = candidate_rows(tasks, ask or Recorder(), score, recipe)
    assert refused == failed
    return rows


def test_preferred_sees_dense_frames_and_adversarial_sparse_ones():
    ask = Recorder()
    candidates("a", ask=ask)
    seen = [len(request.inputs.frames) for request in ask.preferred()]
    assert seen == [LENGTHS[ADVERSARIES[mode].sampling] for mode in MODES]
    assert {len(request.inputs.frames) for request in ask.misled()} == {LENGTHS["sparse"]}


def test_no_premise_leaks_into_a_preferred_prompt():
    ask = Recorder()
    candidates("a", "b", ask=ask, queries=("Why?", "Where?"))
    assert {request.prompt for request in ask.preferred()} == {"Why?", "Where?"}


@pytest.mark.parametrize(
    ("adversary", "kinds"),
    [
        ("prompt", ["prompt"] * 5),
        ("frames", ["frames"] * 5),
        ("both", ["frames", "prompt", "frames", "prompt", "frames"]),
        ("sample", ["sample"] * 5),
    ],
)
def test_k_candidates_per_query_of_the_kinds_in_turn(adversary, kinds):
    rows = candidates("a", adversary=adversary, candidates=5)
    assert [[bad["kind"] for bad in row["adversarial"]] for row in rows] == [kinds] * len(MODES)


def test_prompt_adversary_puts_a_premise_of_the_mode_before_the_query():
    ask = Recorder()
    rows = candidates("a", ask=ask, adversary="prompt")
    prompts = iter(request.prompt for request in ask.misled())
    for row in rows:
        premises = [bad["instruction"] for bad in row["adversarial"]]
        assert sorted(premises) == sorted(PREMISES[row["mode"]])  # K = 3: each one once
        expected = [misled_prompt(row["mode"], premise, "Why?") for premise in premises]
        assert expected == [next(prompts) for _ in premises]


def test_with_one_premise_per_query_none_is_left_out():
    videos = [f"v{i}" for i in range(30)]
    rows = candidates(*videos, adversary="prompt", candidates=1)
    used = {(row["mode"], bad["instruction"]) for row in rows for bad in row["adversarial"]}
    assert used == {(mode, premise) for mode in MODES for premise in PREMISES[mode]}


def test_frames_adversary_asks_the_query_itself_about_a_corrupted_video():
    ask = Recorder()
    rows = candidates("a", ask=ask, adversary="frames", candidates=2)
    requests, whole = iter(ask.misled()), video_frames("a")["sparse"][0]
    for row in rows:
        corruptions = ADVERSARIES[row["mode"]].corruptions
        for bad in row["adversarial"]:
            request, name = next(requests), bad["corruption"]
            rng = np.random.default_rng(seed_of(0, "a", name))
            broken = corruptions[name](whole, rng, video_frames("other")["sparse"][0])
            assert request.prompt == "Why?"
            assert (request.inputs.frames == broken).all()


def test_the_sample_baseline_draws_what_the_preferred_answer_sees_and_is_asked():
    ask = Recorder()
    candidates("a", ask=ask, adversary="sample")
    for i, good in enumerate(ask.preferred()):
        drawn = ask.misled()[3 * i : 3 * i + 3]
        assert all(request.inputs is good.inputs for request in drawn)
        assert {request.prompt for request in drawn} == {good.prompt}
        assert len({request.seed for request in drawn}) == 3


def test_corruptions_come_in_turn_and_none_is_left_out():
    queries = tuple(f"Why {i}?" for i in range(20))
    used = {mode: set() for mode in MODES}
    for row in candidates("a", adversary="frames", candidates=2, queries=queries):
        names = list(ADVERSARIES[row["mode"]].corruptions)
        first, second = (names.index(bad["corruption"]) for bad in row["adversarial"])
        assert second == (first + 1) % len(names)
        used[row["mode"]].add(names[first])
    assert used == {mode: set(ADVERSARIES[mode].corruptions) for mode in MODES}


def test_equal_frames_are_prepared_once():
    reader = FakeReader()
    candidates("a", reader=reader, adversary="prompt", queries=("Why?", "Where?"))
    assert len(reader.prepared) == 3  # dense, sparse, and native = uniform


def test_a_row_does_not_depend_on_its_batch():
    alone = [row for video in ("a", "b") for row in candidates(video)]
    assert candidates("a", "b") == alone
    assert [row["recipe"]["prompt_version"] for row in alone] == [PROMPT_VERSION] * 2 * len(MODES)


def test_a_row_does_not_depend_on_the_folder_of_the_videos():
    here, there = candidates("/here/a"), candidates("/there/a")
    assert [row | {"video": "/here/a"} for row in there] == here


def test_a_bad_video_gets_no_candidates():
    with pytest.raises(VideoError):
        candidates("bad")


def test_a_refused_request_names_its_video_and_the_others_continue():
    def refuse(requests):
        answers = Recorder()(requests)
        return [answers[0], Answer("", (), 0.0, False, "too long"), *answers[2:]]

    rows = candidates("a", "b", ask=refuse, failed={"a": "too long"})
    assert rows == candidates("a", "b")[1:]  # a's other modes, and b's


def test_a_server_gives_no_scores():
    assert [row["logps"] for row in candidates("a", score=None)] == [[]] * len(MODES)


def test_scores_by_hand():
    def score(groups):
        frames = [1 if inputs is None else len(inputs.frames) for inputs, _ in groups]
        counts = zip(frames, groups, strict=True)
        return [[-float(n * len(response)) for _, response in texts] for n, (_, texts) in counts]

    ask = Recorder(lambda request: "yes" if request.prompt == "Why?" else "maybe")
    for row in candidates("a", ask=ask, score=score, twins=True):
        n = LENGTHS[ADVERSARIES[row["mode"]].sampling]
        assert row["logps"] == [
            {"response": "yes", "blind": -3.0, "clean": -3.0 * n, "broken": -3.0 * n},
            {"response": "maybe", "blind": -5.0, "clean": -5.0 * n, "broken": -5.0 * n},
        ]


def test_broken_is_the_mean_over_the_twins_of_the_clean_frames():
    whole = video_frames("a")["uniform"][0]

    def score(groups):
        return [[float(x.frames[-1].sum()) if x else 0.0] * len(texts) for x, texts in groups]

    row = candidates("a", score=score, twins=True)[MODES.index("cross_frame")]
    ends = []
    for name in ("splice", "repeat_scene"):
        rng = np.random.default_rng(seed_of(0, "a", name))
        corrupt = ADVERSARIES["cross_frame"].corruptions[name]
        ends.append(corrupt(whole, rng, video_frames("other")["sparse"][0])[-1].sum())
    assert ends[0] != ends[1]
    assert row["logps"][0]["clean"] == whole[-1].sum()
    assert row["logps"][0]["broken"] == sum(ends) / 2


def test_without_twins_only_the_blind_score_is_taken():
    seen = []

    def score(groups):
        seen.extend(inputs for inputs, _ in groups)
        return no_score(groups)

    rows = candidates("a", score=score)
    assert seen == [None]
    assert {tuple(entry) for row in rows for entry in row["logps"]} == {("response", "blind")}


def test_each_video_is_scored_once():
    seen = []

    def score(groups):
        seen.extend(id(inputs) for inputs, _ in groups)
        return no_score(groups)

    candidates("a", "b", score=score, twins=True, queries=("Why?", "Where?"))
    # Of each video: the clean frames, dense and uniform, and the twins. And once no video.
    n_twins = sum(len(ADVERSARIES[mode].twins) for mode in MODES)
    assert len(seen) == len(set(seen)) == 1 + 2 * (2 + n_twins)


@pytest.mark.parametrize("text", ["yes", ""])
def test_fewer_than_two_responses_are_not_scored(text):
    def never(groups):
        assert not groups
        return []

    rows = candidates("a", ask=Recorder(lambda request: text), score=never, twins=True)
    assert [row["logps"] for row in rows] == [[]] * len(MODES)
