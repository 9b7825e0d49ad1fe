"""What is wrong with a video, in words that say what to do."""

import re
from contextlib import contextmanager

MEANING = {  # what decord says: what it means
    "Error reading": "not a video, or cut short before its index",
    "av_read|ing packet|e buffer|open codec|stream info|Check failed|EOF": "damaged or cut short",
    "[Oo]ut of bound|StopIteration": "cut short; remux it: `ffmpeg -i IN -c copy OUT.mkv`",
    "measure duration": "no frame count in it; convert it: `ffmpeg -i IN OUT.mp4`",
    "find video stream": "nothing decord can decode; if it is AV1: `pip install decord2` instead",
}


class VideoError(Exception):
    """A video that cannot be read rightly: its `path` and the `reason`."""

    def __init__(self, path, reason):
        super().__init__(path, reason)  # both, or it cannot be unpickled from a worker process
        self.path, self.reason = path, reason

    def __str__(self):
        return f"{self.path}: {self.reason}"


@contextmanager
def reading(path, part=""):
    """Turn whatever goes wrong in reading a video into a VideoError that says what it means."""
    try:
        yield
    except VideoError:
        raise
    except Exception as error:  # decord alone raises five types, DECORDError being one
        said = (str(error).strip() or type(error).__name__).splitlines()[-1]
        said = re.sub(r"(\[[\d:]+\] \S+:\d+: )+(Check failed: .*? \(.*?\) )?", "", said)
        text = [meaning for words, meaning in MEANING.items() if re.search(words, said)]
        raise VideoError(path, part + (f"{text[0]} (decord: {said})" if text else said)) from error
