"""Opening and decoding video files.                               (the only file that knows decord)

decord is fast, and on some files wrong or endless; each step says which trap it avoids.

Shapes: N frames of the video, F sampled frames, H, W pixels.
"""

import numpy as np
from decord import VideoReader

SHORT = 1500  # frames; up to here decoding all of them takes at most about twice as long as seeking


def open_file(name):
    """A video file's (N,) seconds, its (H, W), and a function that decodes some of its frames."""
    reader = VideoReader(name, num_threads=1)  # VP9 fails with the default, 0
    count, fps = len(reader), reader.get_avg_fps()
    seconds = reader.get_frame_timestamp(range(count))[:, 0].astype(float)
    # A file cut with `ffmpeg -ss 4 -c copy` begins at the keyframe before the cut and hides all
    # up to the cut behind times below 0. decord counts that too, and seeking gives wrong frames or
    # never ends (dmlc/decord#269, #373, #375). Decoded in order, it gives what it shows, first.
    unknown = np.abs(seconds) > 1e7  # AVI and MPEG-PS files with B-frames say -3e17
    hidden = int((~unknown & (seconds < -1e-6)).sum())
    sound = not unknown.any() and (np.diff(seconds[hidden:]) > 0).all()
    if hidden == count or not (sound or fps > 0):
        raise ValueError(f"damaged times: {count} frames, {hidden} hidden, {fps:g} per second")
    timestamps = seconds[hidden:] if sound else np.arange(count - hidden) / fps  # (N,)
    # Seeking is off in HEVC, WMV2, and H.264 and MPEG-4 of some kinds, too: only for long files.
    in_order = hidden or not sound or count <= SHORT

    def decode(indices, height, width):
        sized = VideoReader(name, width=width, height=height, num_threads=1)
        return in_turn(sized, indices) if in_order else sized.get_batch(indices).asnumpy()

    return timestamps, reader.next().shape[:2], decode


def in_turn(reader, indices):
    """Decode from the first frame to the last that is wanted, and keep only the wanted ones."""
    decoded = enumerate(reader.next() for _ in range(indices.max() + 1))
    kept = {i: pixels(frame) for i, frame in decoded if i in indices}
    return np.stack([kept[i] for i in indices])


def pixels(frame):
    """(H, W, 3) uint8: decord takes the padding of narrow rows, say W = 48, for more channels."""
    height, width, _ = frame.shape
    return frame.asnumpy().reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)
