"""Which frames are read from a video, and the error when none can be.

Oracles: frames a raw AVI was written from; ffmpeg's own decoding, bit for bit; indices computed by
hand. The clips are made here, by ffmpeg or byte by byte.

    python -m pytest -q tests/test_video.py
"""

import hashlib
import os
import pickle
import struct
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from pasta.sampling import at_fps, uniform
from pasta.video import VideoError, file_digest, list_videos, read_frames
from pasta.video import decord_files as files

WIDTH, HEIGHT, FPS, SECONDS = 160, 120, 25, 6
H264 = ("-c:v", "libx264", "-bf", "3", "-g", "60", "-sc_threshold", "0")  # 3 keyframes


def everything(timestamps, step=1):
    return np.arange(len(timestamps))[::step]


def half(n_frames, height, width):
    return height // 2, width // 2


def ffmpeg(*arguments):
    command = [get_ffmpeg_exe(), "-loglevel", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True).stdout


def decoded_by_ffmpeg(path, height=HEIGHT, width=WIDTH):
    """All the frames a file shows: (N, H, W, 3) uint8."""
    rgb = ("-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    return np.frombuffer(ffmpeg("-i", path, *rgb), np.uint8).reshape(-1, height, width, 3)


def moving_picture(path, *options):
    """A clip of a test picture that differs from frame to frame."""
    picture = f"testsrc2=size={WIDTH}x{HEIGHT}:rate={FPS}:duration={SECONDS}"
    ffmpeg("-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p", *options, path)
    return path


def chunk(tag, data):
    return tag + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def raw_avi(path, frames, fps=10):
    """Write frames (N, H, W, 3) uncompressed: rows from the bottom, BGR, padded to 4 bytes."""
    n, height, width, _ = frames.shape
    rows = np.zeros((n, height, -(-3 * width // 4) * 4), np.uint8)
    rows[:, :, : 3 * width] = frames[:, ::-1, :, ::-1].reshape(n, height, 3 * width)
    main = struct.pack("<14I", 10**6 // fps, 0, 0, 0, n, 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = b"vids" + bytes(4) + struct.pack("<10I8x", 0, 0, 0, 1, fps, 0, n, 0, 0, 0)
    image = struct.pack("<3I2H6I", 40, width, height, 1, 24, 0, rows[0].size, 0, 0, 0, 0)
    streams = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", image))
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + streams)
    data = chunk(b"LIST", b"movi" + b"".join(chunk(b"00db", row.tobytes()) for row in rows))
    path.write_bytes(chunk(b"RIFF", b"AVI " + header + data))
    return path


def noise(n, height=20, width=34):
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """An H.264 clip of 150 frames, and made from it a cut clip and a folder of JPEGs."""
    folder = tmp_path_factory.mktemp("clips")
    moving_picture(folder / "whole.mp4", *H264)
    ffmpeg("-ss", "3.5", "-i", folder / "whole.mp4", "-c", "copy", folder / "cut.mp4")
    (folder / "jpegs").mkdir()
    ffmpeg("-i", folder / "whole.mp4", "-t", "1", "-q:v", "3", folder / "jpegs" / "%05d.jpg")
    return folder


# Sampling


def test_uniform_by_hand():
    ten = np.arange(10) / 25
    assert uniform(ten, 2).tolist() == [0, 9]
    assert uniform(ten, 4).tolist() == [0, 3, 6, 9]
    assert uniform(ten, 5).tolist() == [0, 3, 6, 9]  # made even
    assert uniform(ten, 6).tolist() == [0, 2, 4, 5, 7, 9]  # 0 1.8 3.6 5.4 7.2 9
    assert uniform(ten, 1).tolist() == [0, 9]


def test_uniform_of_a_short_video_takes_each_frame_at_most_once():
    assert uniform(np.arange(5), 32).tolist() == [0, 1, 3, 4]  # round(1.33), round(2.67)
    assert uniform(np.arange(2), 32).tolist() == [0, 1]
    assert uniform(np.arange(1), 32).tolist() == [0, 0]


def test_uniform_is_even_rising_and_inside():
    for n_frames in range(2, 300):
        for n in (2, 3, 8, 31, 32, 64, 299, 400):
            indices = uniform(np.arange(n_frames), n)
            assert len(indices) == min(n, n_frames) // 2 * 2
            assert (indices[0], indices[-1]) == (0, n_frames - 1)
            assert (np.diff(indices) > 0).all()


def test_at_fps_by_hand_on_a_variable_frame_rate():
    #         0    1    2    3    4    5    6    7
    times = [0.0, 0.4, 0.9, 1.1, 1.5, 3.2, 3.9, 4.6]
    # On screen at 0 s: 0, at 1 s: 2, at 2 s and 3 s: 4, at 4 s: 6.
    assert at_fps(times, 1, 32).tolist() == [0, 2, 4, 6]
    assert at_fps(np.array(times) + 7, 1, 32).tolist() == [0, 2, 4, 6]  # seconds after the first
    assert at_fps(times, 1, 2).tolist() == [0, 6]


def test_at_fps_of_a_steady_video_takes_every_25th_frame():
    times = (np.arange(250) / 25).astype(np.float32)  # as decord rounds them
    assert at_fps(times, 1, 32).tolist() == list(range(0, 250, 25))
    assert at_fps(times, 5, 300).tolist() == list(range(0, 250, 5))


def test_at_fps_above_the_rate_of_the_video_takes_each_frame_once():
    assert at_fps(np.arange(10) / 8, 32, 32).tolist() == list(range(10))
    assert at_fps([0.0], 32, 32).tolist() == [0, 0]


def test_at_fps_of_a_video_with_absurd_times_takes_no_memory():
    times = np.array([0, 1e12, 2e12, 2e12 + 0.25])  # a list of its moments would take terabytes
    assert at_fps(times, 32, 32).tolist() == [0, 1, 2, 3]
    assert at_fps(times, 1, 32).tolist() == [0, 2]  # 0, 1, 2, thinned to an even number


def test_at_fps_is_even_rising_and_inside():
    rng = np.random.default_rng(0)
    for n_frames in range(2, 120):
        times = np.cumsum(rng.uniform(0.01, 2, n_frames))
        for fps in (0.3, 1, 5, 32):
            for most in (2, 7, 16):
                indices = at_fps(times, fps, most)
                assert len(indices) % 2 == 0 and 2 <= len(indices) <= most
                assert indices.min() >= 0 and indices.max() < n_frames
                assert (np.diff(indices) > 0).all() or indices.tolist() == [0, 0]


# Frames


@pytest.mark.parametrize("width", [34, 35, 48, 24])
def test_frames_of_a_raw_file_are_those_it_was_written_from(tmp_path, width):
    written = noise(12, width=width)
    frames, timestamps = read_frames(raw_avi(tmp_path / "raw.avi", written), everything)
    assert frames.dtype == np.uint8 and (frames == written).all()
    assert timestamps.dtype == np.float64 and timestamps == pytest.approx(np.arange(12) / 10)


@pytest.mark.parametrize("short", [files.SHORT, 0], ids=["short", "long"])
def test_frames_of_a_clip_with_b_frames_are_ffmpegs(clips, monkeypatch, short, decoding_here):
    monkeypatch.setattr(files, "SHORT", short)
    whole = clips / "whole.mp4"
    frames, timestamps = read_frames(whole, partial(uniform, n=32))
    indices = uniform(range(150), 32)
    assert (frames == decoded_by_ffmpeg(whole)[indices]).all()
    assert timestamps == pytest.approx(indices / FPS, abs=1e-5)


@pytest.mark.parametrize(
    "name, options",
    [
        ("hevc.mp4", ("-c:v", "libx265", "-x265-params", "log-level=none")),
        ("open_gop.mp4", ("-c:v", "libx264", "-x264-params", "open-gop=1:keyint=25:bframes=3")),
        ("mpeg2.mp4", ("-c:v", "mpeg2video", "-bf", "2")),
        ("mpeg2.mkv", ("-c:v", "mpeg2video", "-bf", "2")),
        ("h264.avi", H264),  # times are garbage
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime")),
    ],
)
def test_frames_of_clips_where_decord_seeks_wrongly_are_ffmpegs(tmp_path, name, options):
    clip = moving_picture(tmp_path / name, *options)
    frames, timestamps = read_frames(clip, partial(uniform, n=16))
    indices = uniform(range(FPS * SECONDS), 16)
    assert (frames == decoded_by_ffmpeg(clip)[indices]).all()
    assert timestamps == pytest.approx(indices / FPS, abs=1e-3)


@pytest.mark.parametrize("short", [files.SHORT, 0], ids=["short", "long"])
def test_a_clip_cut_without_re_encoding_gives_the_frames_it_shows(
    clips, monkeypatch, short, decoding_here
):
    monkeypatch.setattr(files, "SHORT", short)
    shown = decoded_by_ffmpeg(clips / "cut.mp4")
    assert 50 < len(shown) < 70  # of 90 in the file
    for step in (1, -9):
        sample = partial(everything, step=step)
        frames, timestamps = read_frames(clips / "cut.mp4", sample, timeout=20)
        assert len(frames) == len(shown[::step]) and (frames == shown[::step]).all()
        assert timestamps == pytest.approx(everything(shown, step) / FPS, abs=1e-5)


def test_a_long_file_without_sound_times_is_not_seeked_in(tmp_path, monkeypatch, decoding_here):
    monkeypatch.setattr(files, "SHORT", 0)
    clip = moving_picture(tmp_path / "h264.avi", *H264)
    frames, _ = read_frames(clip, partial(uniform, n=16))
    assert (frames == decoded_by_ffmpeg(clip)[uniform(range(FPS * SECONDS), 16)]).all()


def test_every_file_is_decoded_by_one_thread(clips, monkeypatch, decoding_here):
    threads = []

    class Recording(files.VideoReader):
        def __init__(self, *arguments, num_threads, **more):
            threads.append(num_threads)  # with more, VP9 fails on some machines and not on others
            super().__init__(*arguments, num_threads=num_threads, **more)

    monkeypatch.setattr(files, "VideoReader", Recording)
    read_frames(clips / "whole.mp4", partial(uniform, n=2))
    read_frames(clips / "jpegs", partial(uniform, n=2))
    assert set(threads) == {1}


def test_timestamps_are_the_files_own(tmp_path):
    frames_kept = "select='lt(n,10)+gt(n,39)'"
    clip = moving_picture(tmp_path / "vfr.mp4", "-vf", frames_kept, "-fps_mode", "vfr", *H264)
    _, timestamps = read_frames(clip, everything)
    by_hand = [*range(10), *range(40, FPS * SECONDS)]
    assert timestamps == pytest.approx(np.array(by_hand) / FPS, abs=1e-4)


def test_the_samplers_own_order_is_kept(tmp_path):
    written = noise(6)
    clip = raw_avi(tmp_path / "raw.avi", written)
    frames, timestamps = read_frames(clip, lambda timestamps: np.array([4, 1, 1]))
    assert (frames == written[[4, 1, 1]]).all() and timestamps == pytest.approx([0.4, 0.1, 0.1])


def test_frames_take_the_size_that_fits_only_when_it_is_smaller(clips):
    asked = []

    def fit(factor, n_frames, height, width):
        asked.append((n_frames, height, width))
        return int(height * factor), int(width * factor)

    sizes = [
        read_frames(clips / name, partial(uniform, n=4), partial(fit, factor))[0].shape
        for name in ("whole.mp4", "jpegs")
        for factor in (0.5, 1, 2)
    ]
    assert sizes == 2 * [(4, HEIGHT // 2, WIDTH // 2, 3), *2 * [(4, HEIGHT, WIDTH, 3)]]
    assert asked == 6 * [(4, HEIGHT, WIDTH)]


def test_decoding_smaller_shows_the_same_picture(tmp_path):
    tiles = np.random.default_rng(0).integers(0, 256, (4, 5, 8, 3), np.uint8)
    clip = raw_avi(tmp_path / "raw.avi", tiles.repeat(16, 1).repeat(16, 2))
    frames, _ = read_frames(clip, everything, half)  # tiles of 8 x 8 pixels
    assert np.abs(frames[:, 4::8, 4::8].astype(int) - tiles).max() <= 1


@pytest.mark.parametrize("name", ["a:b.mp4", "日本 %d 'x'.mp4", "noext"])
def test_names_that_look_like_something_else_are_read(clips, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes((clips / "whole.mp4").read_bytes())
    for path in (name, Path(name), tmp_path / name):
        assert len(read_frames(path, partial(uniform, n=2))[0]) == 2


# Folders of JPEGs


def test_frames_of_a_folder_are_its_jpegs(clips):
    frames, timestamps = read_frames(clips / "jpegs", partial(uniform, n=8), folder_fps=5)
    indices = uniform(range(25), 8)
    jpegs = [decoded_by_ffmpeg(clips / "jpegs" / f"{i + 1:05}.jpg")[0] for i in indices]
    assert (frames == np.stack(jpegs)).all()
    assert timestamps == pytest.approx(indices / 5)
    _, timestamps = read_frames(clips / "jpegs", everything)
    assert timestamps == pytest.approx(np.arange(25) / 3)


def test_jpegs_are_in_the_order_of_their_numbers(clips, tmp_path):
    for number, source in ((10, 3), (9, 2), (1, 1)):
        data = (clips / "jpegs" / f"{source:05}.jpg").read_bytes()
        (tmp_path / f"{number}.JPEG").write_bytes(data)
    (tmp_path / "._1.jpg").write_bytes(b"a file that macOS adds")
    frames, _ = read_frames(tmp_path, everything)
    jpegs = [decoded_by_ffmpeg(clips / "jpegs" / f"{i:05}.jpg")[0] for i in (1, 2, 3)]
    assert (frames == np.stack(jpegs)).all()


def test_jpegs_of_other_sizes_are_scaled_to_the_first(clips, tmp_path):
    (tmp_path / "1.jpg").write_bytes((clips / "jpegs" / "00001.jpg").read_bytes())
    ffmpeg("-i", tmp_path / "1.jpg", "-vf", "scale=48:36", tmp_path / "2.jpg")
    frames, _ = read_frames(tmp_path, everything)
    assert frames.shape == (2, HEIGHT, WIDTH, 3)
    assert np.abs(frames[0].astype(float).mean((0, 1)) - frames[1].mean((0, 1))).max() < 4


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_that_exif_turns_is_refused_with_a_cure(clips, tmp_path, orientation, endian):
    path, stored = tmp_path / "1.jpg", (clips / "jpegs" / "00001.jpg").read_bytes()
    entry = struct.pack(f"{endian}HIHHHIHHI", 42, 8, 1, 0x112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + (b"II" if endian == "<" else b"MM") + entry
    path.write_bytes(
        stored[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + stored[2:]
    )
    rgb = ("-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    shown = ffmpeg("-i", path, *rgb)
    if orientation > 1:
        assert shown != decoded_by_ffmpeg(clips / "jpegs" / "00001.jpg").tobytes()
        with pytest.raises(VideoError, match=r"1\.jpg: turned by its EXIF orientation; .*OUT\.jpg"):
            read_frames(tmp_path, everything)
        ffmpeg("-i", path, "-q:v", "1", tmp_path / "cured.jpg")
        (tmp_path / "cured.jpg").rename(path)
        shown = ffmpeg("-i", path, *rgb)
    assert read_frames(tmp_path, everything)[0].tobytes() == shown


@pytest.mark.parametrize(
    "end", [b"\0ftyp\xff\xda film", b"\xff\xd8\xff\xda", b"\xff\xd9", bytes(9)]
)
def test_what_follows_a_jpeg_changes_nothing(clips, tmp_path, end):
    path = clips / "jpegs" / "00001.jpg"
    (tmp_path / "motion.jpg").write_bytes(path.read_bytes() + end)
    assert (read_frames(tmp_path, everything)[0] == decoded_by_ffmpeg(path)).all()


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tiff"])
def test_another_picture_named_jpg_is_refused_with_a_cure(clips, tmp_path, suffix):
    other, path = tmp_path / f"a.{suffix}", tmp_path / "1.jpg"
    if suffix == "webp":
        other.write_bytes(b"RIFF\x10\0\0\0WEBPVP8L")
    else:
        ffmpeg("-i", clips / "jpegs" / "00001.jpg", other)
    other.rename(path)
    with pytest.raises(VideoError, match=r"1\.jpg: no JPEG, whatever its name.*OUT\.jpg"):
        read_frames(tmp_path, everything)
    if suffix != "webp":
        ffmpeg("-i", path, tmp_path / "cured.jpg")
        path.unlink()
        assert read_frames(tmp_path, everything)[0].shape == (1, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to a pipe"])
def test_what_is_no_file_among_jpegs_is_named_at_once(clips, tmp_path, kind):
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "1.jpg").write_bytes((clips / "jpegs" / "00001.jpg").read_bytes())
    os.mkfifo(tmp_path / "pipe")
    {
        "pipe": lambda path: os.mkfifo(path),
        "folder": lambda path: path.mkdir(),
        "device": lambda path: path.symlink_to("/dev/zero"),
        "link to a pipe": lambda path: path.symlink_to(tmp_path / "pipe"),
    }[kind](folder / "2.jpg")
    for read in (file_digest, partial(read_frames, sample=everything, timeout=20)):
        with pytest.raises(VideoError, match=r"frames: 2\.jpg: no regular file"):
            read(folder)
    assert len(read_frames(folder, lambda timestamps: np.array([0]))[0]) == 1


@pytest.mark.parametrize("damage", ["half", "text", "nothing"])
def test_a_damaged_jpeg_is_named_with_its_folder(clips, tmp_path, damage):
    whole = (clips / "jpegs" / "00001.jpg").read_bytes()
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (tmp_path / name).write_bytes(whole)
    bad = {"half": whole[: len(whole) // 2], "text": b"no picture", "nothing": b""}[damage]
    (tmp_path / "2.jpg").write_bytes(bad)
    with pytest.raises(VideoError) as caught:
        read_frames(tmp_path, everything)
    assert caught.value.path == tmp_path and caught.value.reason.startswith("2.jpg: ")
    assert len(read_frames(tmp_path, lambda timestamps: np.array([0, 2]))[0]) == 2


# What cannot be read


@pytest.fixture
def bad(clips, tmp_path):
    """Files that are no videos, by name."""
    whole = (clips / "whole.mp4").read_bytes()
    faststart = ("-c", "copy", "-movflags", "+faststart")
    ffmpeg("-i", clips / "whole.mp4", *faststart, tmp_path / "fast.mp4")
    fast = (tmp_path / "fast.mp4").read_bytes()
    holes = bytearray(fast)
    holes[len(holes) // 2 : len(holes) // 2 + 4000] = bytes(4000)
    files = {
        "empty.mp4": b"",
        "text.mp4": b"hello world\n" * 50,
        "zeros.mp4": bytes(5000),
        "cut_short.mp4": whole[: len(whole) // 2],
        "cut_short_fast.mp4": fast[: len(fast) * 9 // 10],
        "holes.mp4": bytes(holes),
        "playlist.mp4": f"#EXTM3U\n#EXTINF:5,\n{clips}/whole.mp4\n#EXT-X-ENDLIST\n".encode(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / "sound.mp4")
    ffmpeg("-i", clips / "whole.mp4", "-c", "copy", tmp_path / "stream.ts")
    (tmp_path / "stream.ts").rename(tmp_path / "stream.mp4")
    ffmpeg("-i", clips / "whole.mp4", "-t", "0.2", tmp_path / "picture.gif")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.mp4")
    return tmp_path


def test_every_bad_input_is_a_video_error_with_its_path_and_a_reason(bad):
    reasons = {
        "missing.mp4": "no such file",
        "link.mp4": "no such file",
        "folder": "no folder of JPEGs",
        "pipe.mp4": "no regular file",
        "empty.mp4": "an empty file",
        "text.mp4": "not a video, or cut short",
        "zeros.mp4": "not a video, or cut short",
        "cut_short.mp4": "not a video, or cut short",
        "cut_short_fast.mp4": "damaged or cut short",
        "holes.mp4": "damaged or cut short",
        "playlist.mp4": "not a video",
        "sound.mp4": "no video track",
        "stream.mp4": "ffmpeg -i IN OUT.mp4",
        "picture.gif": "ffmpeg -i IN OUT.mp4",
    }
    for name, reason in reasons.items():
        with pytest.raises(VideoError) as caught:
            read_frames(bad / name, partial(uniform, n=8), timeout=20)
        assert caught.value.path == bad / name and reason in caught.value.reason
        assert str(caught.value) == f"{bad / name}: {caught.value.reason}"
        assert "\n" not in caught.value.reason and "/github/" not in caught.value.reason


@pytest.mark.parametrize("address", ["http://localhost/a.mp4", "file:///etc/hosts", "", "nul\0"])
def test_an_address_is_not_opened(address):
    with pytest.raises(VideoError):
        read_frames(address, everything)


SOUND = "sound.mp4 sound.mkv sound.wav cover.mp4 cover.mkv cover.mp3 cover.flac".split()


@pytest.mark.parametrize("name", SOUND)
def test_sound_alone_is_refused(clips, tmp_path, name):
    cover = ("-i", clips / "jpegs" / "00001.jpg", "-map", 0, "-map", 1, "-c:v", "copy")
    more = dict.fromkeys(SOUND[3:], (*cover, "-disposition:v:0", "attached_pic"))
    if name == "cover.mkv":
        jpeg = ("-attach", clips / "jpegs" / "00001.jpg", "-metadata:s:t", "mimetype=image/jpeg")
        more[name] = jpeg
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", *more.get(name, ()), tmp_path / name)
    with pytest.raises(VideoError) as caught:
        read_frames(tmp_path / name, everything)
    video = "no video" if name.endswith(("mp4", "mkv")) else "not a video"
    assert "AV1" not in caught.value.reason and video in caught.value.reason


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_av1_is_named(clips, tmp_path, name):
    codec = ("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-t", "0.2")
    ffmpeg("-i", clips / "whole.mp4", *codec, tmp_path / name)
    with pytest.raises(VideoError, match="AV1: `pip install decord2`.*`ffmpeg -i IN OUT.mp4`"):
        read_frames(tmp_path / name, everything)


@pytest.mark.parametrize("name", ["whole.mp4", "whole.mkv", "whole.avi"])
def test_a_damaged_last_packet_is_refused_with_a_cure_that_works(clips, tmp_path, name):
    ffmpeg("-i", clips / "whole.mp4", "-c", "copy", tmp_path / name)
    data, last = bytearray((tmp_path / name).read_bytes()), packets(tmp_path / name)[-1]
    place = data.rindex(last)
    data[place : place + len(last)] = bytes(len(last))
    (tmp_path / name).write_bytes(data)
    try:
        frames, _ = read_frames(tmp_path / name, everything)
    except VideoError as error:
        assert "damaged" in error.reason and "`ffmpeg -i IN OUT.mp4`" in error.reason
    else:
        assert (frames == decoded_by_ffmpeg(tmp_path / name)).all()
    subprocess.run([get_ffmpeg_exe(), "-i", tmp_path / name, tmp_path / "cured.mp4"], check=True)
    assert len(read_frames(tmp_path / "cured.mp4", everything)[0]) >= FPS * SECONDS - 1


def packets(path):
    """The bytes of a video's packets, in the order of the file."""
    data = ffmpeg("-i", path, "-map", "0:v", "-c", "copy", "-f", "data", "-")
    lines = ffmpeg("-i", path, "-map", "0:v", "-c", "copy", "-f", "framecrc", "-").decode()
    sizes = [int(line.split(",")[4]) for line in lines.splitlines() if line[0] != "#"]
    ends = np.cumsum(sizes)
    return [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def test_a_name_that_is_not_utf8_is_read_or_refused_with_a_cure(clips, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/fold\xe9r"))
    folder.mkdir()
    (folder / "1.jpg").write_bytes((clips / "jpegs" / "00001.jpg").read_bytes())
    assert len(read_frames(folder, everything)[0]) == 1
    for path in (folder / "a.mp4", Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))):
        path.write_bytes((clips / "whole.mp4").read_bytes())
        with pytest.raises(VideoError, match="not UTF-8, .*; rename it"):
            read_frames(path, everything)


def test_an_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(VideoError("a.mp4", "an empty file")))
    assert (error.path, error.reason) == ("a.mp4", "an empty file")
    assert str(error) == "a.mp4: an empty file"


@pytest.mark.parametrize("message", [
    "[00:00:00] /github/a.cc:1: ERROR getting stream info of filea.mp4",
    "[00:00:00] /github/a.cc:1: ERROR open codec through avcodec_open2: Invalid data found",
    "[00:00:00] /github/a.h:1: Check failed: run_.load() ",
    "[00:00:00] /github/a.cc:1: [a.mp4]Unable to handle EOF because the video might have corrupted",
])  # fmt: skip
def test_decords_messages_about_damage_are_explained(clips, monkeypatch, message, decoding_here):
    def damaged(*arguments, **more):
        raise RuntimeError(message)

    monkeypatch.setattr(files, "VideoReader", damaged)
    with pytest.raises(
        VideoError, match=r"whole\.mp4: damaged or cut short; convert it: .* \(decord: "
    ):
        read_frames(clips / "whole.mp4", everything)


def test_a_mistake_in_the_sampler_is_no_video_error(clips):
    def wrong(timestamps):
        return timestamps.no_such_name

    with pytest.raises(AttributeError, match="no_such_name"):
        read_frames(clips / "whole.mp4", wrong)


def test_a_file_that_ends_before_its_frame_count_is_a_video_error(
    clips, monkeypatch, decoding_here
):
    class Ending(files.VideoReader):
        def next(self):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls > 20:
                raise StopIteration
            return super().next()

    monkeypatch.setattr(files, "VideoReader", Ending)
    with pytest.raises(VideoError, match="cut short; convert it"):
        read_frames(clips / "whole.mp4", everything)
    assert len(read_frames(clips / "whole.mp4", lambda _: np.arange(18))[0]) == 18


# Files


def test_digest_is_the_sha256_of_the_bytes(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"some bytes")
    assert file_digest(tmp_path / "a.mp4") == hashlib.sha256(b"some bytes").hexdigest()
    with pytest.raises(VideoError, match="no such file"):
        file_digest(tmp_path / "b.mp4")


def test_digest_of_a_folder_changes_with_every_name_and_byte(tmp_path):
    def digest(files):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return file_digest(folder)

    first = digest({"1.jpg": b"one", "2.jpg": b"two"})
    assert digest({"2.jpg": b"two", "1.jpg": b"one"}) == first
    assert digest({"1.jpg": b"one", "2.jpg": b"two", "notes.txt": b""}) == first
    others = [{"1.jpg": b"one", "2.jpg": b"tw0"}, {"1.jpg": b"one", "3.jpg": b"two"}]
    others += [{"1.jpg": b"onetwo", "2.jpg": b""}, {"1.jpg": b"one"}]
    assert len({first, *map(digest, others)}) == 5


def test_videos_of_a_folder_are_listed_by_their_names(tmp_path):
    names = ["b.mp4", "a.MKV", "sub/c.webm", "frames/1.jpg", "frames/2.jpg", "sub/cover.jpg"]
    names += ["notes.txt", "README.md", "._b.mp4", "mp4", "empty/none.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    expected = ["a.MKV", "b.mp4", "frames", "sub/c.webm"]
    assert list_videos(tmp_path) == [tmp_path / name for name in expected]
    assert list_videos(tmp_path / "frames") == [tmp_path / "frames"]
    assert list_videos(tmp_path / "empty") == []
    with pytest.raises(VideoError, match="no such folder"):
        list_videos(tmp_path / "nowhere")
