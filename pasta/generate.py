"""Videos to queries to candidates: what the asker asks, what the responder says, well and badly.

    queries      the asker sees the video and writes a query about one mode
    preferred    the responder answers the query on densely sampled frames
    adversarial  the responder answers K times more, from frames at 1 fps and misled: by an
                 instruction before the query (`prompt`) or by a broken video (`frames`)

Asking and scoring come in as functions, so that each stage can be followed, and tested, without a
model. A request's randomness is a hash of what it is, so that a row is the same in
whatever batch, order or run it is made.

Shapes: K adversarial responses of a query. Frames are (F, H, W, 3) uint8, timestamps (F,) seconds.
"""

import hashlib
from dataclasses import asdict, dataclass
from functools import lru_cache, partial

import numpy as np

from pasta.adversaries import ADVERSARIES, DENSE_FPS, PROMPT_VERSION, SPARSE_FPS, mislead
from pasta.ask import Request
from pasta.pairs import MODES
from pasta.video import VideoError, at_fps, read_frames, uniform


@dataclass(frozen=True)
class Recipe:
    """How candidates are made; it is written into every row."""

    responder: str
    asker: str
    adversary: str  # "prompt", "frames", or "both": frames and prompt in turn
    n_candidates: int  # K
    n_frames: int  # frame budget of every sampling
    temperature: float  # of adversarial responses; preferred ones are greedy
    contrast: bool  # whether each answer is also scored on the clean and on the broken video
    seed: int


@dataclass(frozen=True)
class Work:
    """All that a candidate needs of its video, before anything is asked.

    clean: VideoInputs, densely sampled. broken: list of VideoInputs, the clean frames corrupted.
    misled: list of (how it misleads, Request), K of them.
    """

    row: dict
    clean: object
    broken: list
    misled: list


def samplers(n_frames):
    """Name -> function(timestamps) -> indices, for the samplings that adversaries.py names."""
    return {
        "dense": partial(at_fps, fps=DENSE_FPS, max_frames=n_frames),
        "native": partial(uniform, n=n_frames),  # every frame, thinned evenly to the budget
        "uniform": partial(uniform, n=n_frames),
        "sparse": partial(at_fps, fps=SPARSE_FPS, max_frames=n_frames),
    }


def seed_of(*parts):
    """A 63-bit seed from texts and numbers."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Reader:
    """Reads videos in the samplings of adversaries.py, and remembers those that cannot be read.

    videos: all paths of the run; `other` takes the next one of them.
    failed: path -> reason, filled here
    """

    def __init__(self, videos, processor, n_frames):
        self.videos, self.processor, self.failed = videos, processor, {}
        self.samplers = samplers(n_frames)
        self.place = {video: i for i, video in enumerate(videos)}
        self.frames = lru_cache(maxsize=16)(self.read)  # one video is read for several queries

    def read(self, video, sampling):
        """(frames, timestamps). Raises VideoError, the second time without trying."""
        if video in self.failed:
            raise VideoError(video, self.failed[video])
        try:
            sample, fit = self.samplers[sampling], self.processor.family.fit
            return read_frames(video, sample, fit)
        except VideoError as error:
            self.failed[video] = error.reason
            raise

    def other(self, video):
        """The sparse frames of the next video that can be read; its own if there is none."""
        here = self.place[video]
        for name in (*self.videos[here + 1 :], *self.videos[: here + 1]):
            if name not in self.failed:
                try:
                    return self.frames(name, "sparse")[0]
                except VideoError:
                    continue  # remembered in `failed`, and met again in its own turn
        raise VideoError(video, "no video of the run can be read")


def query_rows(inputs, ask, per_mode, seed):
    """The queries of some videos: rows {video, mode, query} of queries.jsonl.

    inputs: path -> VideoInputs; ask: (requests, temperature) -> list of Answer
    Returns at most len(MODES) * per_mode rows a video: no query twice in a mode.
    """
    asked = [(video, mode, i) for video in inputs for mode in MODES for i in range(per_mode)]
    requests = []
    for video, mode, i in asked:
        instructions = ADVERSARIES[mode].queries
        seed_here = seed_of(seed, video, mode, "query", i)
        text = instructions[(seed_here + i) % len(instructions)]
        requests.append(Request(inputs[video], text, seed_here))
    rows = [
        {"video": video, "mode": mode, "query": answer.text}
        for (video, mode, _), answer in zip(asked, ask(requests, temperature=1.0), strict=True)
    ]
    return list({tuple(row.values()): row for row in rows}.values())


def work_of(row, reader, recipe):
    """Read and break the video of one query. Raises VideoError."""
    video, mode, query = row["video"], row["mode"], row["query"]
    adversary, prepare = ADVERSARIES[mode], reader.processor.prepare
    rng = np.random.default_rng(seed_of(recipe.seed, video, mode, query, "corrupt"))
    frames, timestamps = reader.frames(video, adversary.sampling)
    sparse, sparse_times = reader.frames(video, "sparse")
    sparse_inputs = prepare(sparse, sparse_times)
    corruptions = list(adversary.corruptions.items())

    def broken(which, frames, timestamps):
        name, corrupt = corruptions[which % len(corruptions)]
        damaged = corrupt(frames, rng, reader.other(video))
        return name, prepare(np.ascontiguousarray(damaged), timestamps)

    misled = []
    kinds = {"both": ("frames", "prompt")}.get(recipe.adversary, (recipe.adversary,))
    for k in range(recipe.n_candidates):
        kind, turn = kinds[k % len(kinds)], k // len(kinds)
        seed = seed_of(recipe.seed, video, mode, query, kind, k)
        if kind == "frames":
            name, inputs = broken(turn, sparse, sparse_times)
            how, request = {"corruption": name}, Request(inputs, query, seed)
        else:
            text = adversary.misleading[turn % len(adversary.misleading)]
            how = {"instruction": text}
            request = Request(sparse_inputs, mislead(text, query), seed)
        misled.append(({"kind": kind} | how, request))
    twins = [broken(i, frames, timestamps)[1] for i in range(2)] if recipe.contrast else []
    return Work(row, prepare(frames, timestamps), twins, misled)


def candidate_rows(works, ask, score, recipe):
    """Answer the queries of some works: rows of candidates.jsonl.

    ask:   (requests, temperature) -> list of Answer
    score: (VideoInputs, [(query, response)]) -> list of logps, nats
    Returns the works' rows with preferred, adversarial and recipe; with recipe.contrast also
    logps: [{response, clean, broken}], `broken` the mean over the broken videos.
    """
    preferred = ask([Request(work.clean, work.row["query"]) for work in works], temperature=0.0)
    requests = [request for work in works for _, request in work.misled]
    wrong = ask(requests, temperature=recipe.temperature)
    rows = []
    for i, (work, good) in enumerate(zip(works, preferred, strict=True)):
        bad = wrong[i * recipe.n_candidates : (i + 1) * recipe.n_candidates]
        row = work.row | {
            "preferred": said(good),
            "adversarial": [
                how | said(answer) for (how, _), answer in zip(work.misled, bad, strict=True)
            ],
            "recipe": asdict(recipe) | {"prompt_version": PROMPT_VERSION},
        }
        rows.append(row | {"logps": contrast(row, work, score)} if recipe.contrast else row)
    return rows


def said(answer):
    """An Answer as it stands in a row."""
    return {"response": answer.text, "finished": answer.finished}


def contrast(row, work, score):
    """How much each distinct answer owes to the video: [{response, clean, broken}], nats.

    `clean` is the answer's log-probability with the video as it is, `broken` the mean of it over
    the corrupted twins. An answer that falls far was read off the video; one that does not would
    have been given anyway.
    """
    answers = [row["preferred"], *row["adversarial"]]
    responses = list(dict.fromkeys(a["response"] for a in answers if a["response"]))
    texts = [(row["query"], response) for response in responses]
    if not texts:
        return []
    clean = score(work.clean, texts)
    broken = np.mean([score(inputs, texts) for inputs in work.broken], axis=0).tolist()
    return [
        {"response": response, "clean": c, "broken": b}
        for response, c, b in zip(responses, clean, broken, strict=True)
    ]
