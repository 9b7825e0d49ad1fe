"""Stage 2, queries to candidates: the responder answers each query once well and K times misled.

    preferred    answer to the query on densely sampled frames
    adversarial  K answers on frames at 1 fps, misled by a false premise before the query (`prompt`)
                 or by a corrupted video (`frames`); or, as a baseline without adversaries, K draws
                 on the frames of the preferred answer (`sample`)

Seeds are hashes of the content: a row does not depend on its batch, its order or the run, up to
the rounding of bfloat16 in batches of other shapes.
"""

from dataclasses import dataclass
from itertools import chain
from statistics import fmean

import numpy as np

from pasta.adversaries import ADVERSARIES
from pasta.judge import TOKEN
from pasta.models.generate import Request
from pasta.prompts import PREMISES, PROMPT_VERSION, misled_prompt
from pasta.run.digest import seed_of

# --adversary -> the kinds of misleading, which the K adversarial responses of a query alternate
KINDS = dict(prompt=["prompt"], frames=["frames"], sample=["sample"], both=["frames", "prompt"])


@dataclass(frozen=True)
class QueryTask:
    """One query, with the inputs and requests that make its candidate.

    row: {video, mode, query, topic}. misled: K of (how it is misled, Request).
    views: name -> list of the inputs that responses are scored on. "blind" is [None], no video;
    recipes with `twins` add "clean", and "broken", the mode's counterfactuals.
    """

    row: dict
    clean: object  # VideoInputs, densely sampled
    misled: list
    views: dict


def query_tasks(video, queries, reader, recipe):
    """A QueryTask for each query about a video. Raises VideoError if it cannot be read.

    recipe: candidates (K), adversary (one of KINDS), temperature (of adversarial responses), seed,
    and twins: whether to score on counterfactuals.
    """
    frames, name, ready = reader.frames(video), reader.name(video), {}

    def prepared(sampling, corrupt=None):  # once, so that a batch computes equal frames once
        images, timestamps = frames[sampling]
        key = (timestamps.tobytes(), corrupt)
        if key not in ready:
            if corrupt:
                images = corrupted_frames(images, video, corrupt, reader, recipe["seed"])
            ready[key] = reader.processor.prepare(images, timestamps)
        return ready[key]

    tasks = []
    for query in queries:
        mode, text = query["mode"], query["query"]
        adversary, seed_parts = ADVERSARIES[mode], (recipe["seed"], name, mode, text)
        clean, views = prepared(adversary.sampling), {"blind": [None]}
        if recipe["twins"]:
            twins = [adversary.corruptions[twin] for twin in adversary.twins]
            corrupted = [prepared(adversary.sampling, corrupt) for corrupt in twins]
            views |= {"clean": [clean], "broken": corrupted}  # `broken` is the file's name for it
        row = {"video": video, "mode": mode, "query": text, "topic": query["topic"]}
        tasks.append(QueryTask(row, clean, misled(mode, text, prepared, recipe, seed_parts), views))
    return tasks


def corrupted_frames(frames, video, corrupt, reader, seed):
    """(F, H, W, 3) uint8 frames of a video after a corruption: the same in every run."""
    rng = np.random.default_rng(seed_of(seed, reader.name(video), corrupt.__name__))
    return corrupt(frames, rng, reader.other(video))


def misled(mode, query, prepared, recipe, seed_parts):
    """K of (how it is misled, Request). prepared: (sampling, corruption) -> VideoInputs."""
    kinds, premises = KINDS[recipe["adversary"]], list(PREMISES[mode])
    corruptions, found = list(ADVERSARIES[mode].corruptions.items()), []
    start = seed_of(*seed_parts)  # a random start uses all corruptions and premises equally often
    for k in range(recipe["candidates"]):
        kind, turn = kinds[k % len(kinds)], start + k // len(kinds)
        how, prompt, sampling, corrupt = {"kind": kind}, query, "sparse", None
        if kind == "frames":
            how["corruption"], corrupt = corruptions[turn % len(corruptions)]
        elif kind == "prompt":
            how["instruction"] = premises[turn % len(premises)]
            prompt = misled_prompt(mode, how["instruction"], query)
        else:
            sampling = ADVERSARIES[mode].sampling
        inputs, seed = prepared(sampling, corrupt), seed_of(*seed_parts, k)
        found.append((how, Request(inputs, prompt, seed, recipe["temperature"])))
    return found


def candidate_rows(tasks, ask, score, recipe):
    """(rows of candidates.jsonl, {video: why a server refused it}); a refused task has no row.

    ask: list of Request -> list of Answer; requests on the same frames share their prefix.
    score: list of (VideoInputs or None, [(query, response)]) -> for each a list of logps, nats;
    None for a server.
    """
    requests = [[Request(t.clean, t.row["query"]), *(r for _, r in t.misled)] for t in tasks]
    answers, done, failed = iter(ask(list(chain(*requests)))), [], {}
    for task, own in zip(tasks, requests, strict=True):
        own = [next(answers) for _ in own]
        if errors := [answer.error for answer in own if answer.error]:
            failed[task.row["video"]] = errors[0]
            continue
        preferred, *others = ({"response": a.text, "finished": a.finished} for a in own)
        adversarial = [how | text for (how, _), text in zip(task.misled, others, strict=True)]
        done.append((task, task.row | {"preferred": preferred, "adversarial": adversarial}))
    logps = view_logps(*zip(*done, strict=True), score) if score and done else [[] for _ in done]
    recipe, scored = recipe | {"prompt_version": PROMPT_VERSION}, zip(done, logps, strict=True)
    return [row | {"logps": own, "recipe": recipe} for (_, row), own in scored], failed


def view_logps(tasks, rows, score):
    """Per row a list of {response, VIEW: mean logp, nats}, [] for fewer than two responses."""
    texts, groups = [], {}
    for task, row in zip(tasks, rows, strict=True):
        own = [answer["response"] for answer in (row["preferred"], *row["adversarial"])]
        # no judge keeps an answer with a special token, and no model can score some of them
        own = dict.fromkeys((row["query"], x) for x in own if x and not TOKEN.search(x))
        texts.append(own if len(own) > 1 else {})
        for inputs in chain(*task.views.values()):
            groups.setdefault(id(inputs), (inputs, {}))[1].update(texts[-1])
    wanted = {key: (inputs, list(own)) for key, (inputs, own) in groups.items() if own}
    scored = zip(wanted.items(), score(list(wanted.values())), strict=True)
    logps = {key: dict(zip(own, found, strict=True)) for (key, (_, own)), found in scored}

    def mean(view, text):  # rounded: the last digits depend on what else was scored
        return round(fmean(logps[id(inputs)][text] for inputs in view), 4)

    return [
        [{"response": text[1]} | {k: mean(v, text) for k, v in task.views.items()} for text in own]
        for task, own in zip(tasks, texts, strict=True)
    ]
