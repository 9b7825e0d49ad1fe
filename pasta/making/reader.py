"""Decodes a video once for all samplings; also gives another video's frames for corruptions."""

import os
from contextlib import suppress
from functools import lru_cache

import numpy as np

from pasta.sampling import samplers
from pasta.video import VideoError, read_frames


class Reader:
    """Reads the videos of a run for one model, whose processor is a Processor or a Server.

    root: folder of the videos; names are relative to it, so that seeds do not depend on it.
    n_frames: frame budget; 0: the checkpoint's own. sparse_frames: the same for 1 fps; 0: n_frames.
    """

    def __init__(self, videos, root, processor, n_frames, sparse_frames=0):
        self.videos, self.root, self.processor, self.failed = videos, root, processor, {}
        self.n_frames = n_frames or processor.n_frames
        self.samplers = samplers(self.n_frames, sparse_frames or self.n_frames)
        self.frames = lru_cache(maxsize=2)(self.read)  # the current video and its `other`

    def name(self, video):  # a path: clips in two folders may have the same file name
        return os.path.relpath(video, self.root)

    def read(self, video):
        """Sampling -> ((F, H, W, 3) uint8 frames, (F,) seconds). Raises VideoError."""
        if video in self.failed:  # path -> reason; not tried again
            raise VideoError(video, self.failed[video])
        chosen = {}

        def sample(timestamps):
            chosen.update({name: choose(timestamps) for name, choose in self.samplers.items()})
            return np.unique(np.concatenate(list(chosen.values())))

        try:
            # All samplings have the size of n_frames: some families give fewer frames more pixels.
            fit, n = self.processor.fit, self.n_frames
            frames, timestamps = read_frames(video, sample, lambda _, *size: fit(n, *size))
        except (VideoError, ValueError) as error:  # a family refuses some sizes by ValueError
            self.failed[video] = getattr(error, "reason", str(error))
            raise VideoError(video, self.failed[video]) from error
        together = np.unique(np.concatenate(list(chosen.values())))
        places = {name: np.searchsorted(together, indices) for name, indices in chosen.items()}
        return {name: (frames[place], timestamps[place]) for name, place in places.items()}

    def other(self, video):
        """The sparse frames of the next video that can be read; its own if there is none."""
        after = self.videos.index(video) + 1
        for name in self.videos[after:] + self.videos[:after]:
            with suppress(VideoError):
                return self.frames(name)["sparse"][0]
