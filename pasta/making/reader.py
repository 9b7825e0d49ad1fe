"""What each role sees of a video: its samplings, decoded once, and a video to break it with.

Shapes: F frames, H, W pixels. Frames are (F, H, W, 3) uint8, timestamps (F,) seconds.
"""

import os
from contextlib import suppress
from functools import lru_cache

import numpy as np

from pasta.sampling import samplers
from pasta.video import VideoError, read_frames


class Reader:
    """Decodes each video once for all samplings, and remembers those that cannot be read.

    videos: all paths there are; `other` takes the next one of them
    root: folder that they are in; their names begin there, so that seeds do not depend on it
    processor: gives `prepare`, `fit` and `n_frames`: a vlm.Processor, or an Endpoint
    n_frames: frame budget; 0 is the checkpoint's own
    failed: path -> reason, filled here
    sparse_frames: budget of adversarial responses; 0 is n_frames
    """

    def __init__(self, videos, root, processor, n_frames, failed, sparse_frames=0):
        self.videos, self.root, self.processor, self.failed = videos, root, processor, failed
        self.n_frames = n_frames or processor.n_frames
        self.samplers = samplers(self.n_frames, sparse_frames or self.n_frames)
        self.frames = lru_cache(maxsize=2)(self.read)  # the video at work and its `other`

    def name(self, video):
        """What a video is called below the root: two folders may hold clips of one name."""
        return os.path.relpath(video, self.root)

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
            # all samplings at the size of n_frames: some families give fewer frames more pixels
            frames, timestamps = read_frames(video, sample, self.fit)
        except (VideoError, ValueError) as error:  # a family refuses some sizes by ValueError
            self.failed[video] = getattr(error, "reason", str(error))
            raise VideoError(video, self.failed[video]) from error
        places = {name: np.searchsorted(together, indices) for name, indices in chosen.items()}
        return {name: (frames[place], timestamps[place]) for name, place in places.items()}

    def fit(self, _, height, width):
        """The (height, width) at which the model sees n_frames, as in training."""
        return self.processor.fit(self.n_frames, height, width)

    def other(self, video):
        """The sparse frames of the next video that can be read; its own if there is none."""
        after = self.videos.index(video) + 1
        for name in self.videos[after:] + self.videos[:after]:
            with suppress(VideoError):
                return self.frames(name)["sparse"][0]
