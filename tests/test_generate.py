"""Queries and candidates, with recording fakes in place of the model, and real files read.

    python -m pytest tests/test_generate.py
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pasta import generate
from pasta.adversaries import ADVERSARIES, PROMPT_VERSION
from pasta.ask import Answer
from pasta.generate import Reader, candidate_rows, query_rows, samplers, seed_of
from pasta.pairs import MODES
from pasta.toy.files import write_avi
from pasta.video import VideoError, read_frames

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
        self.prepared, self.failed = [], {}
        self.processor = SimpleNamespace(prepare=self.prepare)

    def frames(self, video):
        if Path(video).name.startswith("bad"):
            self.failed[video] = "broken"
            raise VideoError(video, "broken")
        return video_frames(video)

    def other(self, video):
        return video_frames("other")["sparse"][0]

    def prepare(self, frames, timestamps):
        self.prepared.append(frames)
        return SimpleNamespace(frames=frames)


class Recorder:
    """Answers every request and remembers it; the answer tells what was asked."""

    def __init__(self, say=lambda request: f"{request.prompt} {request.seed % 1000}"):
        self.say, self.asked = say, []

    def __call__(self, requests, temperature):
        self.asked += [(request, temperature) for request in requests]
        return [Answer(self.say(request), (), 0.0, True) for request in requests]

    def misled(self):
        return [request for request, temperature in self.asked if temperature > 0]

    def preferred(self):
        return [request for request, temperature in self.asked if temperature == 0]


def no_score(inputs, texts):
    return [0.0] * len(texts)


def asked_for(*videos, queries=("Why?",)):
    return [(video, [(video, mode, q) for mode in MODES for q in queries]) for video in videos]


def candidates(*videos, ask=None, score=no_score, reader=None, queries=("Why?",), **changes):
    return candidate_rows(
        asked_for(*videos, queries=queries),
        reader or FakeReader(),
        ask or Recorder(),
        score,
        RECIPE | changes,
    )


# ---------------------------------------------------------------- queries


def test_each_query_is_asked_for_with_an_instruction_of_its_mode():
    ask = Recorder()
    asked = [(v, [(v, mode, n) for mode in MODES for n in range(2)]) for v in ("a", "b")]
    rows = query_rows(asked, FakeReader(), ask, "model", seed=0)
    assert [(r["video"], r["mode"], r["n"]) for r in rows] == [k for _, keys in asked for k in keys]
    for row, (request, temperature) in zip(rows, ask.asked, strict=True):
        assert request.prompt in ADVERSARIES[row["mode"]].queries
        assert temperature == 1.0 and row["asker"] == "model"
        assert row["query"] == f"{request.prompt} {request.seed % 1000}"
    assert all(rows[i]["query"] != rows[i + 1]["query"] for i in range(0, len(rows), 2))


def test_queries_of_one_video_share_its_inputs():
    ask, reader = Recorder(), FakeReader()
    query_rows([("a", [("a", mode, 0) for mode in MODES])], reader, ask, "model", 0)
    assert len(reader.prepared) == 1 and len({id(r.inputs) for r, _ in ask.asked}) == 1


def test_a_bad_video_gets_no_query_and_its_neighbours_keep_theirs():
    asked = [(v, [(v, mode, 0) for mode in MODES]) for v in ("a", "bad", "c")]
    reader = FakeReader()
    rows = query_rows(asked, reader, Recorder(), "model", 0)
    assert rows == query_rows([asked[0], asked[2]], FakeReader(), Recorder(), "model", 0)
    assert reader.failed == {"bad": "broken"}


# ---------------------------------------------------------------- candidates


def test_preferred_sees_dense_frames_and_adversarial_sparse_ones():
    ask = Recorder()
    candidates("a", ask=ask)
    seen = [len(request.inputs.frames) for request in ask.preferred()]
    assert seen == [LENGTHS[ADVERSARIES[mode].sampling] for mode in MODES]
    assert {len(request.inputs.frames) for request in ask.misled()} == {LENGTHS["sparse"]}


def test_no_misleading_instruction_leaks_into_a_preferred_prompt():
    ask = Recorder()
    candidates("a", "b", ask=ask, queries=("Why?", "Where?"))
    assert {request.prompt for request in ask.preferred()} == {"Why?", "Where?"}


@pytest.mark.parametrize(
    ("adversary", "kinds"),
    [
        ("prompt", ["prompt"] * 5),
        ("frames", ["frames"] * 5),
        ("both", ["frames", "prompt", "frames", "prompt", "frames"]),
    ],
)
def test_k_candidates_per_query_of_the_kinds_in_turn(adversary, kinds):
    rows = candidates("a", adversary=adversary, candidates=5)
    assert [[bad["kind"] for bad in row["adversarial"]] for row in rows] == [kinds] * 3


def test_prompt_adversary_puts_an_instruction_of_the_mode_before_the_query():
    ask = Recorder()
    rows = candidates("a", ask=ask, adversary="prompt")
    prompts = iter(request.prompt for request in ask.misled())
    for row in rows:
        told = [bad["instruction"] for bad in row["adversarial"]]
        assert sorted(told) == sorted(ADVERSARIES[row["mode"]].misleading)  # K = 3: each one once
        assert [f"{text}\nWhy?" for text in told] == [next(prompts) for _ in told]


def test_no_misleading_instruction_is_left_out_when_one_is_used_a_query():
    videos = [f"v{i}" for i in range(30)]
    rows = candidates(*videos, adversary="prompt", candidates=1)
    told = {bad["instruction"] for row in rows for bad in row["adversarial"]}
    assert told == {text for mode in MODES for text in ADVERSARIES[mode].misleading}


def test_frames_adversary_asks_the_query_itself_about_a_broken_video():
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
    assert [row["recipe"]["prompt_version"] for row in alone] == [PROMPT_VERSION] * 6


def test_a_row_does_not_depend_on_where_the_videos_lie():
    here, there = candidates("/here/a"), candidates("/there/a")
    assert [row | {"video": "/here/a"} for row in there] == here


def test_a_bad_video_gets_no_candidates_and_its_neighbours_keep_theirs():
    reader = FakeReader()
    assert candidates("a", "bad", "c", reader=reader) == candidates("a", "c")
    assert reader.failed == {"bad": "broken"}
    assert candidates("bad") == []


# ---------------------------------------------------------------- scores


def test_scores_by_hand():
    def score(inputs, texts):
        frames = 1 if inputs is None else len(inputs.frames)
        return [-float(frames * len(response)) for _, response in texts]

    says = {"Why?": "yes"}
    ask = Recorder(lambda request: says.get(request.prompt, "maybe"))
    for row in candidates("a", ask=ask, score=score, twins=True):
        n = LENGTHS[ADVERSARIES[row["mode"]].sampling]
        assert row["logps"] == [
            {"response": "yes", "blind": -3.0, "clean": -3.0 * n, "broken": -3.0 * n},
            {"response": "maybe", "blind": -5.0, "clean": -5.0 * n, "broken": -5.0 * n},
        ]


def test_broken_is_the_mean_over_the_twins_of_the_clean_frames():
    whole = video_frames("a")["uniform"][0]

    def score(inputs, texts):
        return [float(inputs.frames[-1].sum()) if inputs else 0.0 for _ in texts]

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

    def score(inputs, texts):
        seen.append(inputs)
        return no_score(inputs, texts)

    rows = candidates("a", score=score)
    assert seen == [None]
    assert {tuple(entry) for row in rows for entry in row["logps"]} == {("response", "blind")}


def test_each_video_is_scored_once():
    seen = []

    def score(inputs, texts):
        seen.append(id(inputs))
        return no_score(inputs, texts)

    candidates("a", "b", score=score, twins=True, queries=("Why?", "Where?"))
    # Of each video: the clean frames, dense and uniform, and the twins: 2, 1 and 2.
    assert len(seen) == len(set(seen)) == 1 + 2 * (2 + 5)


@pytest.mark.parametrize("said", ["yes", ""])
def test_fewer_than_two_responses_are_not_scored(said):
    def never(inputs, texts):
        raise AssertionError("scored")

    rows = candidates("a", ask=Recorder(lambda request: said), score=never, twins=True)
    assert [row["logps"] for row in rows] == [[]] * 3


# ---------------------------------------------------------------- reading


@pytest.fixture
def files(tmp_path):
    """Three videos of 40 frames at 2 per second, and one that is none."""
    rng = np.random.default_rng(0)
    for name in ("a", "c", "d"):
        frames = rng.integers(0, 256, (40, 28, 56, 3), np.uint8)
        write_avi(tmp_path / f"{name}.avi", frames, fps=2.0)
    (tmp_path / "b.avi").write_bytes(b"no video")
    return [str(tmp_path / f"{name}.avi") for name in "abcd"]


def processor(fit=lambda n, height, width: (height, width)):
    return SimpleNamespace(family=SimpleNamespace(fit=fit), n_frames=32)


def test_one_decoding_gives_what_each_sampling_alone_gives(files, monkeypatch):
    opened = []

    def counted(path, *args):
        opened.append(path)
        return read_frames(path, *args)

    monkeypatch.setattr(generate, "read_frames", counted)
    found = Reader(files, processor(), 8, {}).frames(files[0])
    assert opened == files[:1]
    for name, sample in samplers(8, 8).items():
        frames, timestamps = read_frames(files[0], sample)
        assert (found[name][0] == frames).all() and (found[name][1] == timestamps).all()


def test_the_frame_budget_is_the_checkpoints_own_unless_given(files):
    for given, used in ((0, 32), (8, 8)):
        assert len(Reader(files, processor(), given, {}).frames(files[0])["dense"][0]) == used


def test_a_bad_video_is_named_with_a_reason_and_not_tried_twice(files, monkeypatch):
    failed = {}
    reader = Reader(files, processor(), 8, failed)
    with pytest.raises(VideoError):
        reader.frames(files[1])
    assert list(failed) == [files[1]] and failed[files[1]]
    monkeypatch.setattr(generate, "read_frames", None)
    with pytest.raises(VideoError, match=failed[files[1]].split("(")[0]):
        reader.frames(files[1])


def test_a_size_that_the_model_refuses_is_a_bad_video(files):
    def fit(n, height, width):
        raise ValueError("too long and thin")

    failed = {}
    with pytest.raises(VideoError):
        Reader(files, processor(fit), 8, failed).frames(files[0])
    assert failed == {files[0]: "too long and thin"}


def test_other_is_the_next_video_that_can_be_read(files):
    reader = Reader(files, processor(), 8, {})
    good = [file for file in files if not file.endswith("b.avi")]
    sparse = {file: read_frames(file, samplers(8, 8)["sparse"])[0] for file in good}
    assert (reader.other(files[0]) == sparse[files[2]]).all()
    assert (reader.other(files[2]) == sparse[files[3]]).all()
    assert (reader.other(files[3]) == sparse[files[0]]).all()  # around the end
    alone = Reader(files[:2], processor(), 8, {})
    assert (alone.other(files[0]) == sparse[files[0]]).all()


def test_seeds_tell_texts_apart():
    seeds = [seed_of(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), (0, "a"), (1, "a"))]
    assert len(set(seeds)) == 5 and all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, "a") == seed_of("1", "a")


def test_samplings_by_hand():
    timestamps = np.arange(40) / 2.0
    found = {name: choose(timestamps).tolist() for name, choose in samplers(4, 4).items()}
    assert found["dense"] == found["native"] == found["uniform"] == [0, 13, 26, 39]
    assert samplers(32, 32)["sparse"](timestamps).tolist() == list(range(0, 40, 2))
    assert samplers(32, 4)["sparse"](timestamps).tolist() == [0, 12, 26, 38]  # of those
