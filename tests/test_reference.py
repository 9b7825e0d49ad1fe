"""The reference's cache, by counting what is scored and by damaging its file.

The score is arithmetic on the texts, so no model is needed.

    python -m pytest -q tests/test_reference.py
"""

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pasta import reference
from pasta.packs import PackedPairs, TooLong, by_video
from pasta.pairs import Pair
from pasta.reference import ReferenceCache, reference_logps

SETTING = {"weights": "w", "n_frames": 8}


class Scorer:
    """Stands in for loader and model; counts the responses it scores, and may die at one of them.

    A prompt has 100 tokens up to the video's end, a response has its letters and one for the query.
    """

    def __init__(self, dies_at=None, max_length=1000):
        self.n, self.dies_at, self.max_length = 0, dies_at, max_length

    def rounds(self, groups, name):
        for group in groups:
            if os.path.exists(group.video):
                texts = list(dict.fromkeys(group.texts()))
                lengths = (100, *(1 + len(response) for _, response in texts))
                pack = SimpleNamespace(texts=texts, lengths=lengths)
                pack.n_segments = len(texts)
                yield [PackedPairs(group, pack, [texts.index(text) for text in group.texts()])]

    def __call__(self, pack):
        if any(response == self.dies_at for _, response in pack.texts):
            raise KeyboardInterrupt
        self.n += len(pack.texts)
        return torch.tensor([-len(query) / 3 - len(response) for query, response in pack.texts])


def run(folder, pairs, setting=SETTING, dies_at=None):
    """((video, query, response) -> logps, how many responses were scored)."""
    scorer = Scorer(dies_at)
    cache = ReferenceCache(folder / "reference.jsonl", setting)
    return reference_logps(cache, by_video(pairs), scorer, scorer)[0], scorer.n


def pair(video, chosen, rejected, query="Which?"):
    return Pair(f"{video}{chosen}{rejected}", str(video), "spatial", query, chosen, rejected)


@pytest.fixture
def pairs(tmp_path):
    """Three responses about one video, two about another."""
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text(name)
    a, b = tmp_path / "a.mp4", tmp_path / "b.mp4"
    return [pair(a, "left", "right"), pair(a, "left", "nowhere"), pair(b, "first", "second")]


def test_every_text_has_a_number_and_equal_texts_are_scored_once(tmp_path, pairs):
    logps, scored = run(tmp_path, pairs)
    a, b = pairs[0].video, pairs[2].video
    texts = [(a, "left"), (a, "right"), (a, "nowhere"), (b, "first"), (b, "second")]
    assert logps == {(video, "Which?", r): -2.0 - len(r) for video, r in texts}
    assert scored == 5


def test_tokens_are_the_prompts_once_and_each_texts_own(tmp_path, pairs):
    scorer = Scorer()
    for known in (False, True):
        cache = ReferenceCache(tmp_path / "reference.jsonl", SETTING)
        _, tokens = reference_logps(cache, by_video(pairs), scorer, scorer)
        assert tokens[pairs[0].video] == 100 + 5 + 6 + 8, known
        assert tokens[pairs[2].video] == 100 + 6 + 7, known


def test_a_pair_too_long_for_a_pack_is_named_before_training_also_when_it_is_known(tmp_path, pairs):
    cache = ReferenceCache(tmp_path / "reference.jsonl", SETTING)
    reference_logps(cache, by_video(pairs), Scorer(max_length=113), Scorer())
    with pytest.raises(TooLong, match="pair .*leftnowhere of .* is 113 tokens long.*max_length is"):
        reference_logps(cache, by_video(pairs), Scorer(max_length=112), Scorer())


def test_a_second_run_scores_nothing_and_reads_the_same_bits(tmp_path, pairs):
    query = "odd" * 7  # -21/3 is exact, -22/3 below is not
    pairs = [*pairs, pair(pairs[0].video, "a", "b", query + "?")]
    first, _ = run(tmp_path, pairs)
    second, scored = run(tmp_path, pairs)
    assert scored == 0
    assert first == second


def test_another_setting_scores_everything_again(tmp_path, pairs):
    run(tmp_path, pairs)
    assert run(tmp_path, pairs, SETTING | {"n_frames": 16})[1] == 5
    assert run(tmp_path, pairs)[1] == 0  # and the old ones are still there


def test_a_new_response_to_a_known_video_adds_one_row(tmp_path, pairs):
    run(tmp_path, pairs)
    run(tmp_path, [*pairs, pair(pairs[0].video, "left", "up")])
    assert len((tmp_path / "reference.jsonl").read_text().splitlines()) == 6


def test_a_moved_or_touched_video_still_hits_and_a_changed_one_misses(tmp_path, pairs):
    run(tmp_path, pairs)
    (tmp_path / "b.mp4").rename(tmp_path / "c.mp4")
    os.utime(tmp_path / "a.mp4", (0, 0))
    moved = [*pairs[:2], pair(tmp_path / "c.mp4", "first", "second")]
    assert run(tmp_path, moved)[1] == 0
    (tmp_path / "c.mp4").write_text("c.mp4")
    assert run(tmp_path, moved)[1] == 2


def test_a_killed_run_continues_at_the_first_missing_row(tmp_path, pairs):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, pairs, dies_at="second")
    logps, scored = run(tmp_path, pairs)
    assert scored == 2
    assert len(logps) == 5


@pytest.mark.filterwarnings("ignore:.*cut short")
def test_a_row_that_was_being_written_is_computed_again(tmp_path, pairs):
    run(tmp_path, pairs)
    path = tmp_path / "reference.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-30])
    assert run(tmp_path, pairs)[1] == 2  # the pack that the row is of
    assert path.read_text() == whole


def test_a_flipped_digit_is_named_with_file_and_row(tmp_path, pairs):
    run(tmp_path, pairs)
    path = tmp_path / "reference.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace('"logps": -', '"logps": -1')
    path.write_text("".join(lines))
    with pytest.raises(ValueError, match=r"reference\.jsonl:3: damaged"):
        run(tmp_path, pairs)


def test_a_line_that_is_not_json_is_named_with_file_and_row(tmp_path, pairs):
    run(tmp_path, pairs)
    path = tmp_path / "reference.jsonl"
    path.write_bytes(b"\0\0\0\n" + path.read_bytes())
    with pytest.raises(ValueError, match=r"reference\.jsonl:1:"):
        run(tmp_path, pairs)


def test_rows_of_other_processes_are_found(tmp_path, pairs):
    run(tmp_path, pairs)
    lines = (tmp_path / "reference.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "reference.jsonl").write_text("".join(lines[:2]))
    (tmp_path / "reference.rank1.jsonl").write_text("".join(lines[2:]))
    assert run(tmp_path, pairs)[1] == 0


def test_a_video_that_cannot_be_read_has_no_entry(tmp_path, pairs, capsys):
    logps, _ = run(tmp_path, [*pairs, pair(tmp_path / "gone.mp4", "x", "y")])
    assert {video for video, *_ in logps} == {pair.video for pair in pairs}
    assert "1 pairs left out, 1 of 3 videos" in capsys.readouterr().out


def test_no_readable_video_at_all_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no video of the pairs can be read"):
        run(tmp_path, [pair(tmp_path / "gone.mp4", "x", "y")])


def test_a_folder_that_cannot_be_written_is_named(tmp_path, pairs):
    (tmp_path / "file").touch()  # a file in place of the folder: root may write anywhere else
    with pytest.raises(OSError, match="cannot write .*reference.jsonl.*copy the pairs"):
        run(tmp_path / "file", pairs)


def test_a_key_is_the_hash_of_everything_that_can_change_the_number():
    cache = ReferenceCache(Path("unused"), {"b": [1], "a": {"d": "é", "c": None}})
    text = r'[{"a": {"c": null, "d": "\u00e9"}, "b": [1]}, "digest", "Where?", "\"Left\""]'
    assert cache.key("digest", "Where?", '"Left"') == hashlib.sha256(text.encode()).hexdigest()


def test_a_row_holds_the_key_the_number_and_a_check(tmp_path, pairs):
    run(tmp_path, pairs)
    row = json.loads((tmp_path / "reference.jsonl").read_text().splitlines()[0])
    assert list(row) == ["key", "logps", "tokens", "check"]
    assert (len(row["key"]), row["logps"], row["tokens"]) == (64, -6.0, [100, 5])


def test_a_key_that_is_not_valid_text_is_named_with_file_and_row(tmp_path, pairs):
    row = {"key": "\ud83d", "logps": -1.0, "tokens": [1, 1], "check": 0}
    (tmp_path / "reference.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=r"reference\.jsonl:1: damaged"):
        run(tmp_path, pairs)


def test_another_gpu_scores_everything_again(monkeypatch):
    monkeypatch.setattr(reference, "model_setting", lambda *_: {})
    config = SimpleNamespace(shard=False, dtype="bfloat16", model="m", pairs=Path("p/pairs.jsonl"))
    model = SimpleNamespace(device=torch.device("cuda:0"), dtype=torch.bfloat16)
    keys = set()
    for name in ("H100", "A100", "A100"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        vlm = SimpleNamespace(model=model, processor=None)
        keys.add(reference.open_cache(config, vlm, 8).key("video", "query", "response"))
    assert len(keys) == 2
