"""Videos to queries to candidates: what the asker asks, what the responder says, well and badly.

    queries      the asker sees the video and writes a query about one mode
    preferred    the responder answers the query on densely sampled frames
    adversarial  the responder answers K times more, from frames at 1 fps and misled: by an
                 instruction before the query (`prompt`) or by a broken video (`frames`)

Asking and scoring come in as functions, so that each stage can be followed, and tested, without a
model. A request's randomness is a hash of what it is, so that a row is the same in whatever batch,
order or run it is made.

Shapes: K adversarial responses of a query. Frames are (F, H, W, 3) uint8, timestamps (F,) seconds.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from statistics import fmean

import numpy as np

from pasta.adversaries import ADVERSARIES, DENSE_FPS, PROMPT_VERSION, SPARSE_FPS, mislead
from pasta.ask import Request
from pasta.video import VideoError, at_fps, read_frames, uniform

KINDS = {"prompt": ["prompt"], "frames": ["frames"], "both": ["frames", "prompt"]}  # in turn


@dataclass(frozen=True)
class Work:
    """One query with all that it needs of its video, before it is asked.

    row:    {video, mode, query}
    clean:  VideoInputs, densely sampled
    misled: K of (how it misleads, Request)
    views:  name -> list of what the responses are scored on: "blind" is [None], no video; with
            twins also "clean", and "broken", the mode's twins of the clean frames
    """

    row: dict
    clean: object
    misled: list
    views: dict


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
    n_frames: frame budget; 0 is the checkpoint's own
    failed: path -> reason, filled here
    sparse_frames: budget of adversarial responses; 0 is n_frames
    """

    def __init__(self, videos, processor, n_frames, failed, sparse_frames=0):
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
            frames, timestamps = read_frames(video, sample, self.processor.family.fit)
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


def query_rows(asked, reader, ask, asker, seed):
    """The asker's queries: a row {video, mode, n, query, asker} of queries.jsonl for each.

    asked: list of (video, [(video, mode, n)]), the n-th query of a mode about it
    ask:   (requests, temperature) -> list of Answer
    A video that cannot be read gets no row and is in `reader.failed`.
    """
    keys, requests = [], []
    for video, here in asked:
        with suppress(VideoError):
            inputs = reader.processor.prepare(*reader.frames(video)["uniform"])
            keys += here
            requests += [query_request(inputs, seed, *key) for key in here]
    answers = ask(requests, temperature=1.0)
    return [
        {"video": video, "mode": mode, "n": n, "query": answer.text, "asker": asker}
        for (video, mode, n), answer in zip(keys, answers, strict=True)
    ]


def query_request(inputs, seed, video, mode, n):
    """The Request for a query: a mode's instructions in turn, the first one by chance."""
    instructions, name = ADVERSARIES[mode].queries, Path(video).name
    text = instructions[(seed_of(seed, name, mode) + n) % len(instructions)]
    return Request(inputs, text, seed_of(seed, name, mode, n))


def works_of(video, queries, reader, recipe):
    """A Work for each of a video's queries, (video, mode, query). Raises VideoError.

    Equal frames are prepared once, and a batch computes the features of one VideoInputs once.
    """
    frames, name, ready = reader.frames(video), Path(video).name, {}

    def prepared(sampling, corrupt=None):
        pictures, timestamps = frames[sampling]
        key = (timestamps.tobytes(), corrupt)
        if key not in ready:
            if corrupt:
                rng = np.random.default_rng(seed_of(recipe["seed"], name, corrupt.__name__))
                pictures = corrupt(pictures, rng, reader.other(video))
            ready[key] = reader.processor.prepare(pictures, timestamps)
        return ready[key]

    works = []
    for _, mode, query in queries:
        adversary, parts = ADVERSARIES[mode], (recipe["seed"], name, mode, query)
        clean, views = prepared(adversary.sampling), {"blind": [None]}
        if recipe["twins"]:
            twins = [adversary.corruptions[name] for name in adversary.twins]
            broken = [prepared(adversary.sampling, corrupt) for corrupt in twins]
            views |= {"clean": [clean], "broken": broken}
        row = {"video": video, "mode": mode, "query": query}
        works.append(Work(row, clean, misled(adversary, query, prepared, recipe, parts), views))
    return works


def misled(adversary, query, prepared, recipe, parts):
    """K of (how it misleads, Request), the recipe's kinds in turn.

    prepared: (sampling, corruption) -> VideoInputs. parts: what the seeds are made of.
    """
    kinds, corruptions = KINDS[recipe["adversary"]], list(adversary.corruptions.items())
    found = []
    start = seed_of(*parts)  # so that no corruption and no instruction is used more than others
    for k in range(recipe["candidates"]):
        kind, turn, seed = kinds[k % len(kinds)], start + k // len(kinds), seed_of(*parts, k)
        if kind == "frames":
            name, corrupt = corruptions[turn % len(corruptions)]
            how, request = {"corruption": name}, Request(prepared("sparse", corrupt), query, seed)
        else:
            text = adversary.misleading[turn % len(adversary.misleading)]
            how = {"instruction": text}
            request = Request(prepared("sparse"), mislead(text, query), seed)
        found.append(({"kind": kind} | how, request))
    return found


def candidate_rows(asked, reader, ask, score, recipe):
    """Answer queries: a row of candidates.jsonl for each.

    asked: list of (video, [(video, mode, query)])
    ask:   (requests, temperature) -> list of Answer
    score: (VideoInputs or None, [(query, response)]) -> list of logps, nats
    recipe: written into every row; here count candidates (K), adversary (one of KINDS), temperature
            (preferred responses are greedy), seed, and whether twins are wanted, see Work
    Returns {video, mode, query, preferred, adversarial, logps, recipe}. A video that cannot be read
    gets no row and is in `reader.failed`.
    """
    works = []
    for video, queries in asked:
        with suppress(VideoError):
            works += works_of(video, queries, reader, recipe)
    preferred = ask([Request(work.clean, work.row["query"]) for work in works], temperature=0.0)
    requests = [request for work in works for _, request in work.misled]
    wrong = iter(ask(requests, temperature=recipe["temperature"]))
    rows = []
    for work, good in zip(works, preferred, strict=True):
        bad = [how | said(next(wrong)) for how, _ in work.misled]
        rows.append(work.row | {"preferred": said(good), "adversarial": bad})
    about = {"recipe": recipe | {"prompt_version": PROMPT_VERSION}}
    return [
        row | {"logps": logps} | about
        for row, logps in zip(rows, scores(works, rows, score), strict=True)
    ]


def said(answer):
    """An Answer as it stands in a row."""
    return {"response": answer.text, "finished": answer.finished}


def scores(works, rows, score):
    """What each response owes to the video: for every row a list of {response, VIEW: logp}, nats.

    The views are those of its Work; a logp is the mean over a view. A response that falls far from
    clean to broken was read off the video; one that does not would have been given anyway.
    Fewer than two responses make no pair and are not scored. All said about one video is, at once.
    """
    texts, groups = [], {}
    for work, row in zip(works, rows, strict=True):
        answers = [row["preferred"], *row["adversarial"]]
        here = dict.fromkeys((row["query"], a["response"]) for a in answers if a["response"])
        texts.append(here if len(here) > 1 else {})
        for inputs in chain(*work.views.values()):
            groups.setdefault(id(inputs), (inputs, {}))[1].update(texts[-1])
    logps = {
        key: dict(zip(group, score(inputs, list(group)), strict=True))
        for key, (inputs, group) in groups.items()
        if group
    }

    def mean(view, text):  # rounded: the last digits depend on what else was scored
        return round(fmean(logps[id(inputs)][text] for inputs in view), 4)

    return [
        [{"response": text[1]} | {k: mean(v, text) for k, v in work.views.items()} for text in here]
        for work, here in zip(works, texts, strict=True)
    ]
