"""VideoError: what is wrong with a video, and what to do about it."""

import re
from contextlib import contextmanager

MEANING = {  # regex for decord's message: its meaning
    "Error reading": "not a video, or cut short before its index",
    "av_read|ing packet|e buffer|open codec|stream info|Check failed|EOF": "damaged or cut short",
    "[Oo]ut of bound|StopIteration": "cut short; remux it: `ffmpeg -i IN -c copy OUT.mkv`",
    "measure duration": "no frame count in it; convert it: `ffmpeg -i IN OUT.mp4`",
    "find video stream": "nothing decord can decode; if it is AV1: `pip install decord2` instead",
}


class VideoError(Exception):
    """A video that cannot be read correctly: its `path` and the `reason`."""

    def __init__(self, path, reason):
        super().__init__(path, reason)  # both are needed to unpickle it in another process
        self.path, self.reason = path, reason

    def __str__(self):
        return f"{self.path}: {self.reason}"


@contextmanager
def reading(path, part=""):
    """Turn any error in reading a video into a VideoError that explains it. part: a prefix."""
    try:
        yield
    except VideoError:
        raise
    except Exception as error:  # decord alone raises five types
        text = (str(error).strip() or type(error).__name__).splitlines()[-1]
        text = re.sub(r"(\[[\d:]+\] \S+:\d+: )+(Check failed: .*? \(.*?\) )?", "", text)
        found = [meaning for words, meaning in MEANING.items() if re.search(words, text)]
        reason = f"{found[0]} (decord: {text})" if found else text
        raise VideoError(path, part + reason) from error
