"""make_pairs.py reads or names every clip of a damaged folder, and never hangs on one.

Oracles: the list of files that were written; of a clip that is a beginning of another, the other's
frames. The clips are made here, by ffmpeg, and damaged by campaigns/spoil.py.

    python -m pytest tests/test_bad_clips.py
"""

import os
import re
import shutil
import struct
import subprocess
import time
from functools import partial

import numpy as np
import pytest
from campaigns.spoil import KINDS, spoil, spoil_folder
from conftest import pairs_or_none
from imageio_ffmpeg import get_ffmpeg_exe

import make_pairs
from pasta.making import queries, reader
from pasta.pairs import MODES
from pasta.run.rows import read_rows
from pasta.video import VideoError, read_frames
from pasta.video import decord_files as files

WIDTH, HEIGHT = 96, 64
B_FRAMES = ("-c:v", "libx264", "-bf", "3", "-g", "20", "-sc_threshold", "0")
CLIPS = {
    "b_frames.mp4": B_FRAMES,
    "fast.mp4": (*B_FRAMES, "-movflags", "+faststart"),
    "b_frames.mkv": B_FRAMES,
    "b_frames.mov": B_FRAMES,
    "vp9.webm": ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime"),
    "mpeg4.avi": ("-c:v", "mpeg4"),
    "no_times.avi": ("-c:v", "mpeg4", "-bf", "2"),
}
LIMIT = 10.0  # seconds for a clip; good ones need hundredths
STREAMED = ("b_frames.mkv", "vp9.webm", "mpeg4.avi")  # read as far as they go


def ffmpeg(*arguments):
    command = [get_ffmpeg_exe(), "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder of clips of 50 frames in several containers, and one cut from another."""
    folder = tmp_path_factory.mktemp("good")
    picture = f"testsrc2=size={WIDTH}x{HEIGHT}:rate=25:duration=2"
    for name, options in CLIPS.items():
        ffmpeg("-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p", *options, folder / name)
    # decord never comes back from some indices of such a clip: see pasta/video/decord_files.py
    ffmpeg("-ss", "1.1", "-i", folder / "b_frames.mp4", "-c", "copy", folder / "cut.mp4")
    return folder


def run_on(videos, out, model):
    """Make pairs with a model of random weights, in this process. Returns the folder of it."""
    settings = {"responder": str(model), "select": "contrast", "max_new_tokens": 2, "max_pixels": 0}
    settings |= {"n_frames": 4, "dtype": "float32", "device": "cpu", "batch_videos": 8}
    with pytest.MonkeyPatch.context() as patch:  # what it asks is no question, and is answered
        patch.setattr(queries, "query_flaw", lambda query, earlier: "")
        with pairs_or_none():
            make_pairs.main(make_pairs.PairsConfig(videos=videos, out=out, **settings))
    return out


def fate(out, videos):
    """Sorted names of the videos that a run read, and a dict name -> reason of the others."""
    asked, candidates, skipped = (
        read_rows(out / f"{name}.jsonl") for name in ("queries", "candidates", "skipped")
    )
    for rows in (asked, candidates):
        seen = [(row["video"], row["mode"]) for row in rows]
        assert len(set(seen)) == len(MODES) * len({name for name, _ in seen})  # whole or not at all
    read = {row["video"] for row in candidates}
    assert {row["video"] for row in asked} == read
    reasons = {row["video"]: row["reason"] for row in skipped}
    assert len(reasons) == len(skipped)
    assert read | set(reasons) == {str(videos / name) for name in os.listdir(videos)}
    assert not read & set(reasons)
    return read, reasons


def check_campaign(good, tmp_path, model, n, seed):
    """Spoil n clips, add the good ones and a pipe, and look at what a run makes of each."""
    videos = shutil.copytree(good, tmp_path / "videos")
    damaged = spoil_folder(good, videos, n, seed)
    os.mkfifo(videos / "pipe.mp4")
    began = time.monotonic()
    read, reasons = fate(run_on(videos, tmp_path / "out", model), videos)
    assert time.monotonic() - began < 1.5 * len(os.listdir(videos)) + 20
    assert {str(videos / name) for name in os.listdir(good)} <= read
    assert "no regular file" in reasons[str(videos / "pipe.mp4")]
    for reason in reasons.values():
        assert reason.strip() and "\n" not in reason and "/github/" not in reason
        assert reason[0] == reason[0].lower() and "Error" not in reason.split("(decord:")[0]
    kinds = {path: kind for path, (kind, _) in damaged.items()}
    empty = [reasons[str(path)] for path, kind in kinds.items() if kind == "empty"]
    assert empty and set(empty) == {"an empty file"}
    assert all(str(path) in reasons for path, kind in kinds.items() if kind == "page")
    assert all(str(path) in read for path, kind in kinds.items() if kind in ("suffix", "appended"))


def test_every_damaged_clip_is_read_or_named_and_the_good_ones_are_all_there(
    good, tmp_path, tiny_folder
):
    check_campaign(good, tmp_path, tiny_folder, n=25, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_every_damaged_clip_of_many_is_read_or_named(good, tmp_path, tiny_folder, seed):
    check_campaign(good, tmp_path, tiny_folder, n=150, seed=seed)


def test_a_clip_that_hangs_the_decoder_is_named_and_the_run_ends(
    good, tmp_path, tiny_folder, monkeypatch, odd_decord
):
    odd_decord("""
        import time
        import decord

        class Hanging(decord.VideoReader):
            def __init__(self, path, **more):
                super().__init__(path, **more)
                self.endless = path.endswith("endless.mp4")

            def next(self):
                if self.endless:
                    time.sleep(600)
                return super().next()

        decord.VideoReader = Hanging
    """)
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(good / "fast.mp4", videos / "endless.mp4")
    shutil.copy(good / "cut.mp4", videos / "later.mp4")
    monkeypatch.setattr(reader, "read_frames", partial(read_frames, timeout=2.0))
    began = time.monotonic()
    read, reasons = fate(run_on(videos, tmp_path / "out", tiny_folder), videos)
    assert time.monotonic() - began < 30  # once is enough: it is not tried again
    assert read == {str(videos / "later.mp4")}
    assert "not read in 2 s" in reasons[str(videos / "endless.mp4")]


@pytest.mark.parametrize("name, mark, claim", [
    ("fast.mp4", b"stts\0\0\0\0\0\0\0\1", struct.pack(">I", 2**32 - 1)),
    ("b_frames.mov", b"stts\0\0\0\0\0\0\0\1", struct.pack(">I", 2**28)),
    ("mpeg4.avi", struct.pack("<4I", 1, 25, 0, 50)[:12], struct.pack("<I", 2**32 - 1)),
    ("b_frames.mkv", b"D\x89\x88", struct.pack(">d", 1e15)),
    ("vp9.webm", b"D\x89\x88", struct.pack(">d", 1e300)),
])  # fmt: skip
def test_a_wild_count_of_frames_is_refused_or_changes_no_frame(good, tmp_path, name, mark, claim):
    data = (good / name).read_bytes()  # decord reserves memory for them, and aborts if it gets none
    start = data.index(mark) + len(mark)
    (tmp_path / name).write_bytes(data[:start] + claim + data[start + len(claim) :])
    try:
        frames, _ = read_frames(tmp_path / name, everything)
    except VideoError as error:
        assert re.search("decord crashed|no frame count|damaged times", error.reason)
    else:
        assert (frames == read_frames(good / name, everything)[0]).all()


def everything(timestamps):
    return np.arange(len(timestamps))


def first(timestamps):
    return np.array([0])


@pytest.mark.parametrize("short", [files.SHORT, 0], ids=["short", "long"])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_a_damaged_clip_are_pictures_at_rising_times(
    good, tmp_path, odd_decord, kind, short
):
    # 0: a damaged file is seeked in
    odd_decord(f"from pasta.video import decord_files; decord_files.SHORT = {short}")
    rng = np.random.default_rng(list(KINDS).index(kind))
    for name in sorted(os.listdir(good)):
        clip = tmp_path / name
        clip.write_bytes(spoil((good / name).read_bytes(), kind, rng))
        try:
            frames, timestamps = read_frames(clip, everything, timeout=LIMIT)
        except VideoError as error:
            assert "not read in" not in error.reason
            continue
        assert frames.dtype == np.uint8 and frames.shape[3] == 3
        assert len(frames) == len(timestamps) > 0
        assert np.isfinite(timestamps).all() and (np.diff(timestamps) > 0).all()


@pytest.mark.parametrize("name", STREAMED)
def test_frames_of_a_clip_cut_short_are_those_of_the_whole_one_at_their_times(good, tmp_path, name):
    whole, times = read_frames(good / name, everything)
    data = (good / name).read_bytes()
    for percent in (50, 75, 95):
        clip = tmp_path / f"{percent}{name}"
        clip.write_bytes(data[: len(data) * percent // 100])
        frames, timestamps = read_frames(clip, everything, timeout=LIMIT)
        places = np.abs(times[:, None] - timestamps).argmin(0)
        assert timestamps == pytest.approx(times[places]) and len(frames) > 10
        sure = slice(-4)  # the last one in the file, up to 3 before the end, may be half a picture
        assert (frames[sure] == whole[places[sure]]).all()


JPEGS = ("a.avi", "a.mov", "a.mkv", "jpegs/1.jpg")
DAMAGE = {  # of a JPEG: (marker, place of a byte after it, its new value)
    "components of the scan": (b"\xff\xda", 4, 36),
    "length of the scan's head": (b"\xff\xda", 2, 255),
    "a Huffman table": (b"\xff\xc4", 9, 255),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", JPEGS)
def test_a_damaged_jpeg_of_many_is_never_shown_as_another_picture(tmp_path, name, damage):
    path, mark, place = tmp_path / name, *DAMAGE[damage][:2]
    path.parent.mkdir(exist_ok=True)
    out = path.parent / "%d.jpg" if path.suffix == ".jpg" else path
    picture = "testsrc2=size=96x64:rate=25:duration=1"
    ffmpeg("-f", "lavfi", "-i", picture, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", out)
    data = bytearray(path.read_bytes())
    starts = [found.start() for found in re.finditer(b"\xff\xd8\xff", data)]
    at = data.index(mark, starts[len(starts) // 2]) + place
    data[at] = DAMAGE[damage][2]
    path.write_bytes(data)
    source = path.parent if path.suffix == ".jpg" else path
    for sample in (everything, first):  # of a file also if only frame 0 is chosen
        with pytest.raises(VideoError, match="damaged|cut short"):
            read_frames(source, sample)


@pytest.mark.parametrize("kind", ["suffix", "appended"])
@pytest.mark.parametrize("name", [*CLIPS, "cut.mp4"])
def test_damage_after_the_last_frame_and_a_wrong_suffix_change_nothing(good, tmp_path, name, kind):
    clip = tmp_path / f"{name}.mp4"
    clip.write_bytes(spoil((good / name).read_bytes(), kind, np.random.default_rng(0)))
    expected, actual = (read_frames(path, everything) for path in (good / name, clip))
    assert (actual[0] == expected[0]).all() and (actual[1] == expected[1]).all()


def test_the_same_seed_damages_in_the_same_way(good, tmp_path):
    def contents(name, seed):
        paths = spoil_folder(good, tmp_path / name, len(KINDS), seed)
        return {path.name: path.read_bytes() for path in paths}

    first = contents("a", 0)
    assert contents("b", 0) == first and contents("c", 1) != first
    assert {name.split("-")[1] for name in first} == set(KINDS)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"suffix"}))
def test_every_kind_of_damage_changes_the_bytes(good, kind):
    data = (good / "fast.mp4").read_bytes()
    assert spoil(data, kind, np.random.default_rng(0)) != data
