"""What each role sees of a video: its samplings, decoded once, and a video to break it with.

Shapes: F frames, H, W pixels. Frames are (F, H, W, 3) uint8, timestamps (F,) seconds.
"""

import hashlib
from contextlib import suppress
from functools import lru_cache, partial

import numpy as np

from pasta.adversaries import DENSE_FPS, SPARSE_FPS
from pasta.video import VideoError, at_fps, read_frames, uniform


def seed_of(*parts):
    """A 63-bit seed from texts and numbers."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def samplers(n_frames, sparse_frames):
    """Name -> function(timestamps) -> indices, for the samplings that adversaries.py names.

    n_frames: frame budget. sparse_frames: that of the sparse sampling, or 1 fps would be as dense
    as the others in a video as long in seconds as their budget is in frames.
    """
    return {
        "dense": partial(at_fps, fps=DENSE_FPS, max_frames=n_frames),
        "native": partial(uniform, n=n_frames),  # every frame, thinned evenly to the budget
        "uniform": partial(uniform, n=n_frames),
        "sparse": partial(at_fps, fps=SPARSE_FPS, max_frames=sparse_frames),
    }


class Reader:
    """Decodes each video once for all samplings, and remembers those that cannot be read.

    videos: all paths of the run; `other` takes the next one of them
    processor: gives `prepare`, `fit` and `n_frames`: a vlm.Processor, or an Endpoint
    n_frames: frame budget; 0 is the checkpoint's own
    failed: path -> reason, filled here
    sparse_frames: budget of adversarial responses; 0 is n_frames
    Raises ValueError for a processor of a language model, which sees no frames.
    """

    def __init__(self, videos, processor, n_frames, failed, sparse_frames=0):
        if not processor.n_frames:
            raise ValueError(
                "asker and responder must see videos, and this model reads text alone; "
                "name a Video-LLM: only a --judge may be a language model"
            )
        self.videos, self.processor, self.failed = videos, processor, failed
        self.n_frames = n_frames or processor.n_frames
        self.samplers = samplers(self.n_frames, sparse_frames or self.n_frames)
        self.frames = lru_cache(maxsize=2)(self.read)  # the video at work and its `other`

    def read(self, video):
        """Sampling -> (frames, timestamps). Raises VideoError, the second time without trying."""
        if video in self.failed:
            raise VideoError(video, self.failed[video])
        chosen, together = {}, None

        def sample(timestamps):
            nonlocal together
            chosen.update({name: choose(timestamps) for name, choose in self.samplers.items()})
            together = np.unique(np.concatenate(list(chosen.values())))
            return together

        try:
            frames, timestamps = read_frames(video, sample, self.processor.fit)
        except (VideoError, ValueError) as error:  # a family refuses some sizes by ValueError
            self.failed[video] = getattr(error, "reason", str(error))
            raise VideoError(video, self.failed[video]) from error
        places = {name: np.searchsorted(together, indices) for name, indices in chosen.items()}
        return {name: (frames[place], timestamps[place]) for name, place in places.items()}

    def other(self, video):
        """The sparse frames of the next video that can be read; its own if there is none."""
        after = self.videos.index(video) + 1
        for name in self.videos[after:] + self.videos[:after]:
            with suppress(VideoError):
                return self.frames(name)["sparse"][0]
