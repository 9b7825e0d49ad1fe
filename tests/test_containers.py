"""What a container or bitstream adds to the frames: ffmpeg shows it, so it is obeyed or refused.

Oracle: the frames and times that ffmpeg shows of the same file, and of the cure that a refusal
names. The clips are made here, by ffmpeg, and changed byte by byte.

    python -m pytest -q tests/test_containers.py
"""

import re
import struct
import subprocess
from functools import partial

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from pasta.sampling import uniform
from pasta.video import VideoError, read_frames
from pasta.video import decord_files as files

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=2", "-pix_fmt", "yuv420p")
OTHER = ("-f", "lavfi", "-i", "testsrc=size={}:rate=25:duration=2", "-pix_fmt", "yuv420p")
SOUND = ("-f", "lavfi", "-i", "sine=duration=2")
H264 = ("-c:v", "libx264", "-bf", "3", "-g", "20", "-sc_threshold", "0")
X265 = ("-c:v", "libx265", "-x265-params", "log-level=none")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-auto-alt-ref", "0")
SLOW = ("-vf", "settb=1/1000,setpts='if(lt(N,30),N/30,1+(N-30)*0.4)/TB'", "-fps_mode")
SLOW = (*SLOW, "passthrough", "-enc_time_base", "1/1000")  # 30 frames in 1 s, then one each 0.4 s


def everything(timestamps):
    return np.arange(len(timestamps))


def ffmpeg(*arguments):
    command = [get_ffmpeg_exe(), "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True)


def shown(path):
    """(N, H, W, 3) uint8 frames and (N,) seconds of a file by ffmpeg, from 0 on."""
    raw = ("-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    done = ffmpeg("-i", path, "-vf", "showinfo=checksum=0", *raw)
    text = done.stderr.decode()
    width, height = map(int, re.search(r"rawvideo \(.*?, (\d+)x(\d+)", text).groups())
    times = np.array([float(t) for t in re.findall(r" pts_time: *(\S+)", text)])
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3), times - times[0]


def check(path, refused, cured=True):
    """A file is read as ffmpeg shows it; or it is refused, as expected, with a cure that works."""
    if not refused:
        frames, times = read_frames(path, everything)
        expected, seconds = shown(path)
        assert frames.shape == expected.shape and (frames == expected).all()
        assert times - times[0] == pytest.approx(seconds, abs=2e-3)
        assert (np.diff(times) > 0).all()
        return
    with pytest.raises(VideoError, match=refused) as caught:
        read_frames(path, everything)
    if cured:
        assert "`ffmpeg -i IN OUT.mp4`" in caught.value.reason
        ffmpeg("-i", path, path.with_name("cured.mp4"))
        check(path.with_name("cured.mp4"), "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good clips of 50 frames."""
    made = tmp_path_factory.mktemp("containers")
    for name in ("a.mp4", "a.mkv", "a.mov"):
        ffmpeg(*PICTURE, *H264, made / name)
    ffmpeg(*PICTURE, *SLOW, *VP8, made / "slow.webm")
    ffmpeg(*PICTURE, *SLOW, "-c:v", "libx264", "-bf", "0", made / "slow.mkv")
    ffmpeg(*PICTURE, *SLOW, "-c:v", "libx264", "-bf", "0", made / "slow.mp4")
    return made


# Boxes of MP4

NESTED = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")


def parse(data):
    """[[kind, bytes or the boxes inside]] of an MP4."""
    found, place = [], 0
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 8 : place + length]
        found.append([kind, parse(body) if kind in NESTED else body])
        place += length
    return found


def build(boxes):
    parts = [(kind, build(body) if isinstance(body, list) else body) for kind, body in boxes]
    return b"".join(struct.pack(">I4s", len(body) + 8, kind) + body for kind, body in parts)


def changed(source, path, *names, change):
    """Write an MP4 with another body of the box at names, which `change` makes of the old one."""
    top = boxes = parse(source.read_bytes())
    for name in names[:-1]:
        boxes = next(body for kind, body in boxes if kind == name)
    box = next(box for box in boxes if box[0] == names[-1])
    box[1] = change(box[1])
    path.write_bytes(build(top))
    return path


EDITS = b"moov", b"trak", b"edts", b"elst"
SAMPLES = b"moov", b"trak", b"mdia", b"minf", b"stbl"
START, FRAME = 1024, 512  # of the track's times: of the first frame, and between two


def edit_list(edits, version):
    rows = [struct.pack(">QqI" if version else ">IiI", *edit, 1 << 16) for edit in edits]
    return struct.pack(">B3xI", version, len(edits)) + b"".join(rows)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("edits, refused", [  # (milliseconds, where they start)
    ([(2000, START)], ""),
    ([(5000, START)], ""),
    ([(1980, START)], ""),  # the last frame begins at 1960
    ([(1000, START + 25 * FRAME)], ""),  # start trimmed
    ([(1000, -1), (2000, START)], ""),  # delayed
    ([(500, -1), (500, -1), (2000, START)], ""),
    ([], ""),
    ([(1000, START)], "edit list"),
    ([(1960, START)], "edit list"),
    ([(1000, START + 10 * FRAME)], "edit list"),  # both ends
    ([(2000, 0)], "edit list"),  # early, so that the last two frames are cut off
    ([(800, START), (800, START + 30 * FRAME)], "edit list"),
    ([(800, START + 30 * FRAME), (800, START)], "edit list"),
    ([(1000, START), (1000, START)], "edit list"),
    ([(1000, START), (1000, -1)], "edit list"),
])  # fmt: skip
def test_edit_lists(folder, tmp_path, edits, refused, version):
    new = edit_list(edits, version)
    path = changed(folder / "a.mp4", tmp_path / "edited.mp4", *EDITS, change=lambda old: new)
    check(path, refused, cured=version == 0)


@pytest.mark.parametrize("flags", ["frag_keyframe+delay_moov", "dash", "cmaf", "hybrid_fragmented"])
def test_fragments(folder, tmp_path, flags):
    ffmpeg("-i", folder / "a.mp4", "-c", "copy", "-movflags", flags, tmp_path / "a.mp4")
    check(tmp_path / "a.mp4", "")


MATRICES = {
    (1, 0, 0, 1): "",
    (0, 1, -1, 0): "",
    (-1, 0, 0, -1): "",
    (0, -1, 1, 0): "",
    (2, 0, 0, 1): "",
    (0, 0, 0, 0): "",  # some programs leave it empty
    (-1, 0, 0, 1): "mirrored",
    (1, 0, 0, -1): "mirrored",
    (0, 1, 1, 0): "mirrored",
    (0, -1, -1, 0): "mirrored",
    (0.7071, 0.7071, -0.7071, 0.7071): "free angle",
    (1, 0.5, 0, 1): "free angle",
}


@pytest.mark.parametrize("box", [(b"moov", b"mvhd"), (b"moov", b"trak", b"tkhd")])
@pytest.mark.parametrize("matrix, refused", MATRICES.items())
def test_display_matrices(folder, tmp_path, box, matrix, refused):
    a, b, c, d = (int(x * 65536) for x in matrix)
    numbers, place = struct.pack(">5i", a, b, 0, c, d), 36 if box[-1] == b"mvhd" else 40

    def change(old):
        return old[:place] + numbers + old[place + 20 :]

    check(changed(folder / "a.mp4", tmp_path / "a.mp4", *box, change=change), refused)


def test_two_mirrors_are_none(folder, tmp_path):
    numbers = struct.pack(">5i", -65536, 0, 0, 0, 65536)
    path = tmp_path / "a.mp4"
    mirror = (lambda old: old[:36] + numbers + old[56:], lambda old: old[:40] + numbers + old[60:])
    changed(folder / "a.mp4", path, b"moov", b"mvhd", change=mirror[0])
    check(path, "mirrored")
    changed(path, path, b"moov", b"trak", b"tkhd", change=mirror[1])
    check(path, "")


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize("flag", [
    ("-display_hflip",), ("-display_vflip",), ("-display_rotation", "30"),
    ("-display_rotation", "90"),
])  # fmt: skip
def test_orientations_that_ffmpeg_writes(folder, tmp_path, name, flag):
    ffmpeg(*flag, "-i", folder / "a.mp4", "-c", "copy", tmp_path / name)
    check(tmp_path / name, "" if name != "a.mkv" and flag[-1] == "90" else "mirrored, cropped")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize("how, refused", [
    ("flip=horizontal", "mirrored"), ("flip=vertical", "mirrored"), ("rotate=90", "mirrored"),
    ("rotate=0", ""),
])  # fmt: skip
def test_orientations_in_the_bitstream(folder, tmp_path, name, how, refused):
    added = f"h264_metadata=display_orientation=insert:{how}"
    ffmpeg(*PICTURE, *H264, "-bsf:v", added, tmp_path / name)
    check(tmp_path / name, refused)


@pytest.mark.parametrize("width, height, refused", [(96, 64, ""), (64, 32, "cropped")])
def test_a_crop_in_mp4(folder, tmp_path, width, height, refused):
    crop = struct.pack(">I4s8i", 40, b"clap", width, 1, height, 1, 0, 1, 0, 1)

    def change(old):  # appended to the only entry
        length = struct.unpack(">I", old[8:12])[0] + len(crop)
        return old[:8] + struct.pack(">I", length) + old[12:] + crop

    path = changed(folder / "a.mp4", tmp_path / "a.mp4", *SAMPLES, b"stsd", change=change)
    check(path, refused)


def test_a_crop_in_mkv(folder, tmp_path):
    data = (folder / "a.mkv").read_bytes()
    colour, crop = b"\x55\xb0\x84\x55\xb9\x81\x01", b"\x54\xaa\x81\x10\xec\x81\x00"  # 16 rows
    assert data.count(colour) == 1
    (tmp_path / "a.mkv").write_bytes(data.replace(colour, crop))
    assert shown(tmp_path / "a.mkv")[0].shape[1] == 48
    check(tmp_path / "a.mkv", "cropped")


@pytest.mark.parametrize("name, codec, pixels, refused", [
    ("b.avi", "rawvideo", "pal8", "a table"),
    ("b.avi", "rawvideo", "monob", "a table"),
    ("b.mov", "rawvideo", "pal8", "a table"),
    ("b.mov", "qtrle", "gray", "a table"),
    ("b.avi", "msrle", "pal8", ""),
    ("b.mov", "png", "pal8", ""),
    ("b.avi", "rawvideo", "gray", ""),
    ("b.mov", "qtrle", "rgb24", ""),
])  # fmt: skip
def test_colours_from_a_table(tmp_path, name, codec, pixels, refused):
    ffmpeg(*PICTURE[:4], "-c:v", codec, "-pix_fmt", pixels, tmp_path / name)
    check(tmp_path / name, refused)


# Times


def blocks(data):
    """[(offset of the 16 bits of its time, its cluster's time)] of the blocks of a WebM or MKV."""
    found, place, base = [], 0, 0
    while place < len(data):
        n = 9 - data[place].bit_length()
        tag, place = data[place : place + n], place + n
        m = 9 - data[place].bit_length()
        size = int.from_bytes(data[place : place + m]) & (1 << 7 * m) - 1
        place += m
        if tag == b"\xe7":
            base = int.from_bytes(data[place : place + size])
        elif tag in (b"\xa3", b"\xa1"):
            found.append((place + 1, base))
        if tag not in (b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\xa0"):
            place += size
    return found


@pytest.mark.parametrize("name", ["slow.webm", "slow.mkv"])
@pytest.mark.parametrize("at", [10, 32])  # in H.264, frames may come 16 frames later
@pytest.mark.parametrize("odd, refused", [("same", ""), ("early", "times that fall"),
                                          ("late", "times that fall")])  # fmt: skip
def test_one_odd_time_in_mkv(folder, tmp_path, name, at, odd, refused):
    data = bytearray((folder / name).read_bytes())
    places = blocks(data)
    times = [base + struct.unpack_from(">h", data, place)[0] for place, base in places]
    new = {"same": times[at - 1], "early": times[at - 6] - 1, "late": times[at] + 9000}[odd]
    place, base = places[at]
    struct.pack_into(">h", data, place, new - base)
    (tmp_path / name).write_bytes(data)
    check(tmp_path / name, refused, cured=False)


@pytest.mark.parametrize("n", [1, 3])
def test_steps_of_0_in_mp4(folder, tmp_path, n):
    def change(old):
        rows = np.frombuffer(old[8:], ">u4").reshape(-1, 2)
        steps = np.repeat(rows[:, 1], rows[:, 0])
        steps[39 : 39 + n] = 0
        rows = [struct.pack(">II", 1, step) for step in steps]
        return struct.pack(">II", 0, len(rows)) + b"".join(rows)

    path = changed(folder / "slow.mp4", tmp_path / "a.mp4", *SAMPLES, b"stts", change=change)
    check(path, "")
    assert read_frames(path, everything)[1][-1] > 5  # a constant rate would give another end


@pytest.mark.parametrize("name, codec, refused", [
    ("b.avi", ("-c:v", "mpeg4", "-q:v", "4"), ""),
    ("b.avi", ("-c:v", "libx264", "-bf", "2"), "times"),  # decord has no times of it
    ("b.mkv", ("-c:v", "mpeg4", "-bf", "2", "-q:v", "4"), ""),
])  # fmt: skip
def test_a_gap_in_a_file(tmp_path, name, codec, refused):
    gap = ("-vf", "select='lt(n,10)+gt(n,29)'", "-fps_mode", "vfr")
    ffmpeg(*PICTURE, *gap, *codec, tmp_path / name)
    check(tmp_path / name, refused)


MPEG4 = ("-c:v", "mpeg4", "-bf", "2", "-q:v", "4")


@pytest.mark.parametrize("name, codec, start, refused", [
    ("b.mp4", H264, 1.3, ""),
    ("b.mkv", H264, 1.3, ""),
    ("b.mp4", MPEG4, 0.8, ""),  # hidden by the edit list
    ("b.mp4", MPEG4, 0.9, "before its first keyframe"),  # one of two is not
    ("b.mkv", MPEG4, 1, "before its first keyframe"),
    ("b.avi", MPEG4, 1, "before its first keyframe"),
    ("b.mkv", ("-c:v", "mpeg2video", "-bf", "2"), 1, "before its first keyframe"),
])  # fmt: skip
def test_clips_cut_without_encoding(tmp_path, name, codec, start, refused):
    ffmpeg(*PICTURE, *codec, tmp_path / f"whole {name}")
    ffmpeg("-ss", start, "-i", tmp_path / f"whole {name}", "-c", "copy", tmp_path / name)
    check(tmp_path / name, refused)


# Tracks and containers


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv", "b.avi"])
@pytest.mark.parametrize("default", [0, 1])
@pytest.mark.parametrize("size", ["48x32", "96x64", "192x128"])
def test_two_video_tracks_are_refused(tmp_path, name, default, size):
    other = [part.format(size) for part in OTHER]
    maps = ("-map", 0, "-map", 1, "-disposition:v:0", "0", "-disposition:v:1", "0")
    first = (f"-disposition:v:{default}", "default")
    ffmpeg(*PICTURE[:4], *other, *maps, *first, *H264, tmp_path / name)
    check(tmp_path / name, "2 video tracks", cured=False)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_cover_art_is_no_second_track(folder, tmp_path, name):
    ffmpeg("-i", folder / "a.mp4", "-frames:v", 1, tmp_path / "cover.jpg")
    cover = ("-i", tmp_path / "cover.jpg", "-map", 0, "-map", 1, "-c", "copy")
    if name == "a.mkv":
        cover = ("-attach", tmp_path / "cover.jpg", "-metadata:s:1", "mimetype=image/jpeg")
        cover += ("-c", "copy")
    else:
        cover += ("-disposition:v:1", "attached_pic")
    ffmpeg("-i", folder / "a.mp4", *cover, tmp_path / name)
    frames, _ = read_frames(tmp_path / name, everything)
    assert (frames == shown(folder / "a.mp4")[0]).all()


CONTAINERS = {
    "b.mpg": ("-c:v", "mpeg1video"),
    "b.vob": ("-c:v", "mpeg2video"),
    "video b.mpg": ("-c:v", "mpeg2video", "-bf", "2"),
    "b.ts": H264,
    "b.m2ts": H264,
    "b.h264": H264,
    "b.m2v": ("-c:v", "mpeg2video"),
    "b.nut": H264,
    "b.ivf": VP8,
    "b.flv": H264,
    "b.wmv": ("-c:v", "wmv2"),
    "b.wtv": ("-c:v", "mpeg2video"),
    "b.mxf": ("-c:v", "mpeg2video"),
    "b.gif": ("-pix_fmt", "rgb8"),
}


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_of_which_decord_may_skip_frames_are_refused(tmp_path, name, renamed):
    path = tmp_path / name
    ffmpeg(*PICTURE, *CONTAINERS[name], path)
    if renamed:
        path = path.rename(tmp_path / "b.mp4")
    check(path, "not MP4|no frame count", cured=not renamed)


@pytest.mark.parametrize("target", ["pal-dvd", "pal-vcd"])
def test_discs_are_refused(tmp_path, target):
    ffmpeg(*PICTURE[:4], *SOUND, "-target", target, tmp_path / "a.mpg")
    check(tmp_path / "a.mpg", "not MP4", cured=False)


@pytest.mark.parametrize("name, refused", [
    ("b.mkv", "two files in one"), ("b.webm", "two files in one"), ("b.mp4", ""), ("b.avi", ""),
])  # fmt: skip
def test_joined_files(tmp_path, name, refused):
    codec = VP8 if name == "b.webm" else ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p")
    data = b""
    for i, picture in enumerate(("testsrc2", "testsrc")):
        path = tmp_path / f"{i}{name}"
        source = f"{picture}=size=96x64:rate=25:duration=1"
        ffmpeg("-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", *codec, path)
        data += path.read_bytes()
    (tmp_path / name).write_bytes(data)
    check(tmp_path / name, refused)


def test_a_joined_mkv_of_unknown_length_is_refused(folder, tmp_path):
    data = (folder / "a.mkv").read_bytes()
    place = data.index(b"\x18\x53\x80\x67") + 4  # the size of Segment
    endless = data[:place] + b"\x01" + b"\xff" * 7 + data[place + 8 :]
    (tmp_path / "a.mkv").write_bytes(endless)
    check(tmp_path / "a.mkv", "")
    (tmp_path / "a.mkv").write_bytes(endless + endless)
    check(tmp_path / "a.mkv", "two files in one")


# Long files

LONG = {
    "a.mp4": (H264, True),
    "a.mkv": (H264, True),
    "a.webm": (VP8, True),
    "w48.mp4": ((*H264, "-vf", "scale=48:32"), True),  # decord takes such widths for others
    "w72.mkv": ((*H264, "-vf", "scale=72:32"), True),
    "w16.webm": ((*VP8, "-vf", "scale=16:32"), True),
    "w80.mkv": ((*H264, "-vf", "scale=80:32"), True),
    "hevc.mp4": (X265, False),  # open GOPs
    "closed.mp4": ((*X265[:-1], "log-level=none:open-gop=0:keyint=40"), True),
    "open.mp4": (("-c:v", "libx264", "-x264-params", "open-gop=1:keyint=40:bframes=3"), False),
    "open.mkv": (("-c:v", "libx264", "-x264-params", "open-gop=1:keyint=40:bframes=3"), False),
    "refresh.mp4": (("-c:v", "libx264", "-x264-params", "intra-refresh=1:keyint=40"), False),
    "mpeg4.mp4": (("-c:v", "mpeg4", "-bf", "2", "-q:v", "4"), False),
    "wmv2.mkv": (("-c:v", "wmv2", "-q:v", "4"), False),
    "mpeg2.mkv": (("-c:v", "mpeg2video", "-bf", "2"), False),
    "fragments.mp4": ((*H264, "-movflags", "frag_keyframe+empty_moov"), False),
    "h264.avi": (H264, False),
}


@pytest.mark.parametrize("name", LONG)
def test_long_files_are_seeked_in_only_where_that_gives_ffmpegs_frames(
    tmp_path, monkeypatch, decoding_here, name
):
    options, seeked = LONG[name]
    picture = "testsrc2=size=96x64:rate=25:duration=7"
    ffmpeg("-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p", *options, tmp_path / name)
    decoded = []

    def in_order(reader, indices, original=files.in_order):
        decoded.append(max(indices, default=0))
        return original(reader, indices)

    monkeypatch.setattr(files, "in_order", in_order)
    monkeypatch.setattr(files, "SHORT", 100)
    frames, times = read_frames(tmp_path / name, partial(uniform, n=16))
    expected, seconds = shown(tmp_path / name)
    indices = uniform(seconds, 16)
    assert len(seconds) == 175 and (np.abs(frames.astype(int) - expected[indices]) <= 1).all()
    assert times - times[0] == pytest.approx(seconds[indices], abs=2e-3)
    assert (decoded[-1] < 174) == seeked  # else the last frame was decoded in order


def test_a_file_that_is_wrong_after_a_seek_is_decoded_in_order(folder, monkeypatch, decoding_here):
    class Wrong(files.VideoReader):
        def __getitem__(self, index):
            return super().__getitem__(index - 1)

    monkeypatch.setattr(files, "VideoReader", Wrong)
    monkeypatch.setattr(files, "SHORT", 20)
    assert (read_frames(folder / "a.mp4", everything)[0] == shown(folder / "a.mp4")[0]).all()
