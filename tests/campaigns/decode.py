"""Thousands of damaged videos: each is decoded or refused, and none ends the program.

    python tests/campaigns/decode.py --n 2000 --seed 0

Good clips of many codecs and containers are made with ffmpeg, damaged as in spoil.py, and decoded
whole. If ffmpeg reports no error and finds as many frames, no frame may be in the place of another;
the content of a damaged frame depends on the decoder. Prints the results for each kind of damage;
exit status 1 if a clip was read wrongly.

N is the number of frames of a clip, H and W their pixels.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from tqdm import tqdm

sys.path[:0] = [str(Path(__file__).parents[i]) for i in (1, 2)]
from campaigns.spoil import spoil_folder  # noqa: E402 (after the path to it)

from pasta.video import VideoError, read_frames  # noqa: E402

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
}
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
        if "not read in" in error.reason:
            return "stopped"
        return "crashed" if "decord crashed" in error.reason else "refused"
    if len(frames) != len(times) or not (np.diff(times) > 0).all():
        return "wrong"
    same = as_ffmpeg_reads_it(path, frames.shape)
    if same is None or source.startswith(APPROXIMATE):
        return "read"
    changed = kind in WHOLE and (frames != same).any()
    return "wrong" if changed or misplaced(frames, same) else "read"


def misplaced(frames, same):
    """Whether a frame is not ffmpeg's in its place, and is ffmpeg's in another one."""
    changed = np.flatnonzero((frames != same).any((1, 2, 3)))
    return any((same == frames[i]).all((1, 2, 3)).any() for i in changed)


def as_ffmpeg_reads_it(path, shape):
    """(N, H, W, 3) uint8 by ffmpeg; None if it complains or finds another number of frames."""
    rgb = ("-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    done = ffmpeg("-i", path, *rgb)
    if done.returncode or done.stderr or len(done.stdout) != np.prod(shape):
        return None
    return np.frombuffer(done.stdout, np.uint8).reshape(shape)


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--n", type=int, default=2000, help="damaged clips")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--keep", type=Path, help="new folder that keeps the clips")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if given.keep:
            given.keep.mkdir(parents=True)
        fates, wrong = campaign(given.keep or made, given.n, given.seed)
        print(*table(fates), sep="\n")
        if wrong:
            sys.exit("read wrongly: " + ", ".join(path.name for path in wrong))


if __name__ == "__main__":
    main()
