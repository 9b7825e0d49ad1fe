"""Stage 2: queries to candidates, what the responder says, well and badly.

    preferred    the responder answers the query on densely sampled frames
    adversarial  the responder answers K times more, from frames at 1 fps and misled: by a premise
                 before the query (`prompt`) or by a broken video (`frames`). Or not misled: drawn
                 from what it says anyway (`sample`), the baseline without adversaries

Asking and scoring come in as functions, so that each stage can be followed, and tested, without a
model. A request's randomness is a hash of what it is, so that a row is the same in whatever batch,
order or run it is made, up to how bfloat16 rounds in batches of other shapes.

Shapes: K adversarial responses of a query. Frames are (F, H, W, 3) uint8, timestamps (F,) seconds.
"""

from dataclasses import dataclass
from itertools import chain
from statistics import fmean

import numpy as np

from pasta.adversaries import ADVERSARIES
from pasta.models.generate import Request
from pasta.prompts import PREMISES, PROMPT_VERSION, misled_prompt
from pasta.run.rows import seed_of
from pasta.video import VideoError

# --adversary -> the kinds of misleading that a query's K adversarial responses take in turn
KINDS = dict(prompt=["prompt"], frames=["frames"], sample=["sample"], both=["frames", "prompt"])


@dataclass(frozen=True)
class Work:
    """One query with all that it needs of its video, before it is asked.

    row:    {video, mode, query, topic}
    clean:  VideoInputs, densely sampled
    misled: K of (how it misleads, Request)
    views:  name -> list of what the responses are scored on: "blind" is [None], no video; with
            twins also "clean", and "broken", the mode's twins of the clean frames
    """

    row: dict
    clean: object
    misled: list
    views: dict


def works_of(video, queries, reader, recipe):
    """A Work for each of a video's queries, [] for a video that cannot be read.

    queries: rows of queries.jsonl
    recipe: of `candidate_rows`; here count candidates (K), adversary (one of KINDS), temperature
        (preferred responses are greedy), seed, and whether twins are wanted, see Work
    Equal frames are prepared once, and a batch computes the features of one VideoInputs once. A
    video that cannot be read is in `reader.failed`.
    """
    try:
        frames, name, ready = reader.frames(video), reader.name(video), {}
    except VideoError:
        return []

    def prepared(sampling, corrupt=None):
        pictures, timestamps = frames[sampling]
        key = (timestamps.tobytes(), corrupt)
        if key not in ready:
            if corrupt:
                pictures = broken_frames(pictures, video, corrupt, reader, recipe["seed"])
            ready[key] = reader.processor.prepare(pictures, timestamps)
        return ready[key]

    found = []
    for query in queries:
        mode, text = query["mode"], query["query"]
        adversary, parts = ADVERSARIES[mode], (recipe["seed"], name, mode, text)
        clean, views = prepared(adversary.sampling), {"blind": [None]}
        if recipe["twins"]:
            twins = [adversary.corruptions[twin] for twin in adversary.twins]
            broken = [prepared(adversary.sampling, corrupt) for corrupt in twins]
            views |= {"clean": [clean], "broken": broken}
        row = {"video": video, "mode": mode, "query": text, "topic": query["topic"]}
        found.append(Work(row, clean, misled(mode, text, prepared, recipe, parts), views))
    return found


def broken_frames(frames, video, corrupt, reader, seed):
    """(F, H, W, 3) frames of a video as a corruption leaves them: the same in every run."""
    rng = np.random.default_rng(seed_of(seed, reader.name(video), corrupt.__name__))
    return corrupt(frames, rng, reader.other(video))


def misled(mode, query, prepared, recipe, parts):
    """K of (how it misleads, Request), the recipe's kinds in turn.

    prepared: (sampling, corruption) -> VideoInputs. parts: what the seeds are made of.
    """
    kinds, premises = KINDS[recipe["adversary"]], list(PREMISES[mode])
    corruptions, found = list(ADVERSARIES[mode].corruptions.items()), []
    start = seed_of(*parts)  # so that no corruption and no premise is used more than others
    for k in range(recipe["candidates"]):
        kind, turn, seed = kinds[k % len(kinds)], start + k // len(kinds), seed_of(*parts, k)
        if kind == "frames":
            name, corrupt = corruptions[turn % len(corruptions)]
            how, inputs, prompt = {"corruption": name}, prepared("sparse", corrupt), query
        elif kind == "sample":
            how, inputs, prompt = {}, prepared(ADVERSARIES[mode].sampling), query
        else:
            premise = premises[turn % len(premises)]
            how, inputs = {"instruction": premise}, prepared("sparse")
            prompt = misled_prompt(mode, premise, query)
        request = Request(inputs, prompt, seed, recipe["temperature"])
        found.append(({"kind": kind} | how, request))
    return found


def candidate_rows(works, ask, score, recipe, failed):
    """Answer queries: a row of candidates.jsonl for each Work.

    ask:   list of Request -> list of Answer
    score: (VideoInputs or None, [(query, response)]) -> list of logps, nats; None if the responder
           is a server, which gives none
    recipe: written into every row
    Returns {video, mode, query, topic, preferred, adversarial, logps, recipe}. The K + 1 requests
    of a query, and all others about the video, are asked for together: those that see the same
    frames share what is computed of them. A Work of which a request is refused gets no row, and
    its video's reason is put into `failed`.
    """
    requests = [[Request(w.clean, w.row["query"]), *(r for _, r in w.misled)] for w in works]
    answers, found = iter(ask(list(chain(*requests)))), []
    for work, asked in zip(works, requests, strict=True):
        answered = [next(answers) for _ in asked]
        if errors := [answer.error for answer in answered if answer.error]:
            failed[work.row["video"]] = errors[0]
            continue
        preferred, *others = map(said, answered)
        adversarial = [how | text for (how, _), text in zip(work.misled, others, strict=True)]
        found.append((work, work.row | {"preferred": preferred, "adversarial": adversarial}))
    logps = scores(*zip(*found, strict=True), score) if score and found else [[] for _ in found]
    about = {"recipe": recipe | {"prompt_version": PROMPT_VERSION}}
    return [row | {"logps": one} | about for (_, row), one in zip(found, logps, strict=True)]


def said(answer):
    """An Answer as it stands in a row."""
    return {"response": answer.text, "finished": answer.finished}


def scores(works, rows, score):
    """What each response owes to the video: for every row a list of {response, VIEW: logp}, nats.

    The views are those of its Work; a logp is the mean over a view. A response that falls far from
    clean to broken was read off the video; one that does not would have been given anyway.
    A query with fewer than two different responses makes no pair: its are not scored. All texts on
    one VideoInputs are scored in one pack; without a video, those of the whole batch.
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
