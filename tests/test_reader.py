"""The frames that each model gets, from real files.

    python -m pytest tests/test_reader.py
"""

from types import SimpleNamespace

import numpy as np
import pytest

from pasta.making import reader as reader_module
from pasta.making.reader import Reader
from pasta.run.rows import seed_of
from pasta.sampling import samplers
from pasta.toy.files import write_avi
from pasta.video import VideoError, read_frames


@pytest.fixture
def files(tmp_path):
    """Three videos of 40 frames at 2 per second, and a file that is no video."""
    rng = np.random.default_rng(0)
    for name in ("a", "c", "d"):
        frames = rng.integers(0, 256, (40, 28, 56, 3), np.uint8)
        write_avi(tmp_path / f"{name}.avi", frames, fps=2.0)
    (tmp_path / "b.avi").write_bytes(b"no video")
    return [str(tmp_path / f"{name}.avi") for name in "abcd"]


def processor(fit=lambda n, height, width: (height, width)):
    return SimpleNamespace(fit=fit, n_frames=32)


def test_one_decoding_gives_what_each_sampling_alone_gives(files, monkeypatch):
    opened = []

    def counted(path, *args):
        opened.append(path)
        return read_frames(path, *args)

    monkeypatch.setattr(reader_module, "read_frames", counted)
    found = Reader(files, "/", processor(), 8).frames(files[0])
    assert opened == files[:1]
    for name, sample in samplers(8, 8).items():
        frames, timestamps = read_frames(files[0], sample)
        assert (found[name][0] == frames).all() and (found[name][1] == timestamps).all()


@pytest.mark.parametrize(("given", "used"), [(0, 32), (8, 8)])
def test_the_frame_budget_is_the_checkpoints_own_unless_given(files, given, used):
    assert len(Reader(files, "/", processor(), given).frames(files[0])["dense"][0]) == used


def test_clips_of_one_name_in_two_folders_have_two_names(files, tmp_path):
    reader = Reader(files, tmp_path, processor(), 8)
    names = [reader.name(str(tmp_path / path)) for path in ("x/a.avi", "y/a.avi", "a.avi")]
    assert names == ["x/a.avi", "y/a.avi", "a.avi"]


def test_frames_have_the_size_that_the_model_gives_to_the_budget(files):
    asked = []

    def fit(n, height, width):
        asked.append(n)
        return height // 2, width // 2

    frames = Reader(files, "/", processor(fit), 8, 4).frames(files[0])
    assert set(asked) == {8}
    assert {pictures.shape[1:3] for pictures, _ in frames.values()} == {(14, 28)}


def test_a_bad_video_is_named_with_a_reason_and_not_tried_twice(files, monkeypatch):
    reader = Reader(files, "/", processor(), 8)
    with pytest.raises(VideoError):
        reader.frames(files[1])
    assert list(reader.failed) == [files[1]] and reader.failed[files[1]]
    monkeypatch.setattr(reader_module, "read_frames", None)
    with pytest.raises(VideoError, match=reader.failed[files[1]].split("(")[0]):
        reader.frames(files[1])


def test_a_size_that_the_model_refuses_is_a_bad_video(files):
    def fit(n, height, width):
        raise ValueError("too long and thin")

    with pytest.raises(VideoError, match="too long and thin"):
        Reader(files, "/", processor(fit), 8).frames(files[0])


def test_other_is_the_next_video_that_can_be_read(files):
    reader = Reader(files, "/", processor(), 8)
    good = [file for file in files if not file.endswith("b.avi")]
    sparse = {file: read_frames(file, samplers(8, 8)["sparse"])[0] for file in good}
    assert (reader.other(files[0]) == sparse[files[2]]).all()
    assert (reader.other(files[2]) == sparse[files[3]]).all()
    assert (reader.other(files[3]) == sparse[files[0]]).all()  # around the end
    alone = Reader(files[:2], "/", processor(), 8)
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
