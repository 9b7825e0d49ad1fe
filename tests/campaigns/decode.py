"""Thousands of damaged videos: each is decoded or refused, and none ends the program.

    python tests/campaigns/decode.py --n 2000 --seed 0
    python tests/campaigns/decode.py --long 600

Good clips of many codecs and containers are made with ffmpeg, damaged as in spoil.py, and decoded
whole. If ffmpeg reports no error and finds as many frames, no frame may be in the place of another;
the content of a damaged frame depends on the decoder. A whole clip must also have ffmpeg's times.
Prints the results for each kind of damage; exit status 1 if a clip was read wrongly.

--long S: files of S seconds instead, of many codecs and containers. Prints whether each is seeked
in, decoded in order or refused, and the seconds of processor time for 32 frames: those of seeking,
and those of an hour in order, which grow with its length. Exit status 1 if a frame is wrong.

N is the number of frames of a clip, H and W their pixels.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from tqdm import tqdm

sys.path[:0] = [str(Path(__file__).parents[i]) for i in (1, 2)]
from campaigns.spoil import spoil_folder  # noqa: E402 (after the path to it)

from pasta.sampling import uniform  # noqa: E402
from pasta.video import VideoError, read_frames  # noqa: E402
from pasta.video import decord_files as files  # noqa: E402

X264 = ("-c:v", "libx264", "-bf", "3", "-g", "20", "-sc_threshold", "0")
FRAGMENTS = ("-movflags", "+frag_keyframe+empty_moov")
VFR = ("-vf", "select='lt(n,10)+gt(n,29)'", "-fps_mode", "vfr")
CLIPS = {  # name: options of ffmpeg
    "plain.mp4": X264,
    "faststart.mp4": (*X264, "-movflags", "+faststart"),
    "fragments.mp4": (*X264, *FRAGMENTS),
    "vfr.mp4": (*X264, *VFR),
    "one_frame.mp4": (*X264, "-frames:v", "1"),
    "ten_bit.mp4": (*X264, "-pix_fmt", "yuv420p10le"),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "log-level=error"),
    "plain.mov": X264,
    "prores.mov": ("-c:v", "prores_ks"),
    "plain.mkv": X264,
    "odd.mkv": ("-c:v", "ffv1", "-pix_fmt", "bgr0", "-vf", "scale=35:27"),  # exact without chroma
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "mpeg4.avi": ("-c:v", "mpeg4"),
    "b_frames.avi": ("-c:v", "mpeg4", "-bf", "2"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "wmv2.wmv": ("-c:v", "wmv2"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-bf", "2"),
    "raw.y4m": ("-pix_fmt", "yuv420p"),
    "h264.avi": X264,
    "vfr.webm": ("-c:v", "libvpx", "-deadline", "realtime", *VFR),
    "plain.flv": X264,
    "mpeg1.vob": ("-c:v", "mpeg1video"),
    "plain.ts": X264,
}
REFUSED = ("wmv2.wmv", "mpeg2.mpg", "plain.flv", "mpeg1.vob", "plain.ts")  # good clips
FAST = ("-c:v", "libx264", "-preset", "veryfast")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params")
LONG = {
    "h264.mp4": FAST,
    "h264.mkv": FAST,
    "h264 open GOPs.mp4": (*FAST, "-x264-params", "open-gop=1:keyint=60"),
    "h264 fragments.mp4": (*FAST, *FRAGMENTS),
    "h264.avi": FAST,
    "hevc.mp4": (*X265, "log-level=none:open-gop=0"),
    "hevc open GOPs.mp4": (*X265, "log-level=none:open-gop=1"),
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "mpeg4.avi": ("-c:v", "mpeg4"),
    "mpeg4 B-frames.avi": ("-c:v", "mpeg4", "-bf", "2"),
    "mpeg4 B-frames.mp4": ("-c:v", "mpeg4", "-bf", "2"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "wmv2.mkv": ("-c:v", "wmv2"),
    "wmv2.wmv": ("-c:v", "wmv2"),
    "h264.flv": FAST,
    "h264.ts": FAST,
    "mpeg2.mpg": ("-c:v", "mpeg2video"),
}
ROUNDING = 2  # of 255: versions of FFmpeg round MPEG-4 and MJPEG differently
PART = 20  # seconds, which are repeated to fill an hour
LIMIT = 20.0  # seconds for a clip; good ones need hundredths
WHOLE = ("none", "suffix", "appended")  # damage to no frame: all are the same, bit for bit
APPROXIMATE = ("ten_bit",)  # decord's conversion to 8 bits rounds otherwise than ffmpeg's


def everything(timestamps):
    return np.arange(len(timestamps))


def ffmpeg(*arguments):
    command = [get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, capture_output=True)


def make_clips(folder):
    """Write the good clips, of 50 frames at most, and one cut from another without re-encoding."""
    picture = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=2")
    for name, options in CLIPS.items():
        pixels = () if "-pix_fmt" in options or "prores" in name else ("-pix_fmt", "yuv420p")
        same = ("-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact")  # bytes each time
        done = ffmpeg(*picture, *pixels, *options, *same, folder / name)
        assert not done.returncode, done.stderr.decode()
    ffmpeg("-ss", "1.1", "-i", folder / "plain.mp4", "-c", "copy", folder / "cut.mp4")


def fate(path, kind, source):
    """What becomes of a clip: one of "read", "refused", "stopped", "crashed" or "wrong".

    kind: of damage. source: name of the good clip that it was made from
    """
    try:
        frames, times = read_frames(path, everything, timeout=LIMIT)
    except VideoError as error:
        if kind in WHOLE and source not in REFUSED:
            return "wrong"
        if "not read in" in error.reason:
            return "stopped"
        return "crashed" if "decord crashed" in error.reason else "refused"
    if len(frames) != len(times) or not (np.diff(times) > 0).all():
        return "wrong"
    same, shown = as_ffmpeg_reads_it(path, frames.shape)
    if same is None or source.startswith(APPROXIMATE):
        return "read"
    if kind in WHOLE:
        late = np.abs((times - times[0]) - (shown - shown[0])).max()
        return "wrong" if (frames != same).any() or late > 2e-3 else "read"
    return "wrong" if misplaced(frames, same) else "read"


def misplaced(frames, same):
    """Whether a frame is not ffmpeg's in its place, and is ffmpeg's in another one."""
    changed = np.flatnonzero((frames != same).any((1, 2, 3)))
    return any((same == frames[i]).all((1, 2, 3)).any() for i in changed)


def as_ffmpeg_reads_it(path, shape):
    """(N, H, W, 3) uint8 and (N,) seconds by ffmpeg; None if it complains or N is another."""
    rgb = ("-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    done = ffmpeg("-i", path, *rgb)
    if done.returncode or done.stderr or len(done.stdout) != np.prod(shape):
        return None, None
    lines = ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "framemd5", "-").stdout.decode()
    unit = np.divide(*map(int, re.search(r"#tb 0: (\d+)/(\d+)", lines).groups()))
    times = [int(line.split(",")[2]) * unit for line in lines.splitlines() if line[0] != "#"]
    return np.frombuffer(done.stdout, np.uint8).reshape(shape), np.array(times)


def make_long(folder, name, seconds):
    """Write a file of `seconds`, of a part that is repeated without encoding it again."""
    part, whole = folder / f"part {name}", folder / name
    picture = f"testsrc2=size=640x360:rate=25:duration={min(PART, seconds)}"
    form = () if "-pix_fmt" in LONG[name] else ("-pix_fmt", "yuv420p")
    copy = ("-c", "copy", *(FRAGMENTS if "fragments" in name else ()))
    for arguments in (
        ("-f", "lavfi", "-i", picture, *form, *LONG[name], part),
        ("-stream_loop", max(0, seconds // PART - 1), "-i", part, *copy, whole),
    ):
        done = ffmpeg(*arguments)
        assert not done.returncode, done.stderr.decode()
    part.unlink()
    return whole


def read_long(path, short):
    """(how, processor seconds, (F,) indices, (F, H, W, 3) uint8) of 32 frames of a file."""
    last, began = [], time.process_time()

    def in_order(reader, indices, original=files.in_order):
        last.append(max(indices, default=0))
        return original(reader, indices)

    with patch.object(files, "in_order", in_order), patch.object(files, "SHORT", short):
        timestamps, size, decode = files.open_video(path)
        indices = uniform(timestamps, 32)
        frames = decode(indices, *size)
    how = "in order" if last[-1] == indices[-1] else "seeked"
    return how, time.process_time() - began, indices, frames


def long_row(folder, name, seconds):
    """A line of text about a long file, and whether all frames were ffmpeg's."""
    path, line = make_long(Path(folder), name, seconds), partial("{:22}{:>10}{:>10}{:>10}".format)
    try:
        how, took, indices, frames = read_long(path, files.SHORT)
    except (ValueError, VideoError):
        return line(name, "refused", "-", "-"), True
    plain = took if how == "in order" else read_long(path, np.inf)[1]
    chosen = "select=" + "+".join(f"eq(n\\,{i})" for i in indices)
    rgb = ("-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    same = np.frombuffer(ffmpeg("-i", path, "-vf", chosen, *rgb).stdout, np.uint8)
    path.unlink()
    off = np.abs(frames.astype(int) - same.reshape(frames.shape)).max((1, 2, 3)) > ROUNDING
    seeked = f"{took:.1f} s" if how == "seeked" else "-"
    hour = f"{plain * 3600 / seconds:.0f} s"
    return line(name, how, seeked, hour) + f"{off.sum():8}", not off.any()


def campaign(folder, n, seed):
    """Make, damage and decode. Returns ({kind: Counter of fates}, [paths read wrongly])."""
    good, bad = Path(folder, "good"), Path(folder, "bad")
    good.mkdir()
    make_clips(good)
    damaged = spoil_folder(good, bad, n, seed)
    damaged |= {path: ("none", path) for path in sorted(good.iterdir())}
    fates, wrong = defaultdict(Counter), []
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda path: fate(path, damaged[path][0], damaged[path][1].name), damaged)
        rows = zip(damaged, found, strict=True)
        for path, what in tqdm(rows, "clips", len(damaged), unit="clip"):
            fates[damaged[path][0]][what] += 1
            wrong += [path] * (what == "wrong")
    return fates, wrong


def table(fates):
    """Lines of text: a kind of damage each, and all of them."""
    names = ("read", "refused", "stopped", "crashed", "wrong")
    rows = [*fates.items(), ("all", sum(fates.values(), Counter()))]
    line = partial("{:12}".format)
    head = line("damage") + "".join(f"{name:>9}" for name in names)
    return [head, *(line(kind) + "".join(f"{n[name]:9}" for name in names) for kind, n in rows)]


def long_files(seconds, names=LONG):
    """Print a line for each long file; exit status 1 if a frame is not ffmpeg's."""
    print(f"{'file':22}{'read':>10}{'seeking':>10}{'an hour':>10}{'wrong':>8}")
    with tempfile.TemporaryDirectory() as folder:
        fine = []
        for name in names:
            row, good = long_row(folder, name, seconds)
            print(row, flush=True)
            fine.append(good)
    if not all(fine):
        sys.exit("read wrongly")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--n", type=int, default=2000, help="damaged clips")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--keep", type=Path, help="new folder that keeps the clips")
    parser.add_argument("--long", type=int, metavar="S", help="files of S seconds instead")
    given = parser.parse_args()
    if given.long:
        return long_files(given.long)
    with tempfile.TemporaryDirectory() as made:
        if given.keep:
            given.keep.mkdir(parents=True)
        fates, wrong = campaign(given.keep or made, given.n, given.seed)
        print(*table(fates), sep="\n")
        if wrong:
            sys.exit("read wrongly: " + ", ".join(path.name for path in wrong))


if __name__ == "__main__":
    main()
