"""Measures what a toy model can do, against the ground truth of its world."""

import re
from collections import defaultdict
from dataclasses import replace
from itertools import groupby
from statistics import fmean

import numpy as np
import torch

from pasta.benchmarks import benchmark
from pasta.benchmarks.answers import answered
from pasta.models.generate import Request, ask_all
from pasta.policy import text_logps
from pasta.sampling import uniform
from pasta.toy import adversarial_folder, benchmark_folder, world
from pasta.toy.captions import GENERAL, YES_NO, denial, general
from pasta.toy.world import MODES

BATCH = 64  # questions asked at once
MVBENCH = benchmark("mvbench")


def measure(vlm, seed, fully, blind):
    """The measurements of a row of results.jsonl. fully: on all benchmarks. seed: of these."""
    found, bench = scores(vlm, benchmark_folder(seed)), benchmark("adversarial")
    if blind:
        found["blind"] = scores(vlm, benchmark_folder(seed, blind=True))["benchmark"]
    if fully:
        found["adversarial"] = shares(vlm, bench, bench.items(adversarial_folder(seed))[::2])
        found |= other_questions(vlm, seed)
    return found


def scores(vlm, folder):
    """Shares of right answers by mode: lettered (MVBench's form), free (open), and their mean."""
    items = MVBENCH.items(folder)
    asked = [replace(x, task=("lettered", x.task)) for x in items]
    for item in items:
        question = item.prompt.split("\nOption:")[0].removeprefix("Question:")
        asked.append(replace(item, task=("free", item.task), prompt=question))
    # Both forms in one call, so that each video is read once.
    found = shares(vlm, replace(MVBENCH, parse=parse), asked)
    lettered, free = ({mode: found[form, mode] for mode in MODES} for form in ("lettered", "free"))
    both = {mode: fmean((lettered[mode], free[mode])) for mode in MODES}
    return {"benchmark": both, "lettered": lettered, "free": free}


def parse(response, item, parser):
    """The letter of the one option that a response names, or None; item.task is (form, mode)."""
    if item.task[0] == "lettered":
        return MVBENCH.parse(response, item, parser)
    words = re.sub(r"\W+", " ", f" {response.lower()} ")
    found = zip(item.letters, item.options, strict=True)
    letters = [letter for letter, option in found if f" {option} " in words]
    return letters[0] if len(letters) == 1 else None


def shares(vlm, bench, items):
    """{task: share of right answers}, generated."""
    right = defaultdict(list)
    for row in answered(vlm, bench, items, vlm.processor.n_frames, "generate", BATCH):
        right[row["task"]].append(row["correct"])
    return {task: fmean(rows) for task, rows in right.items()}


def other_questions(vlm, seed, n_videos=100):
    """Measurements on other videos than those of the benchmark.

    general: kind of general question -> share of right answers
    nats: of `evidence_and_prior`
    presence_nats: the same for questions about presence; the majority answer is "Yes."
    denying: mean probability, 0..1, of "There is no X." about an X that is in the video
    """
    asked = list(questions_with_inputs(vlm.processor, seed, n_videos))
    right = defaultdict(list)
    for i, answer in ask_all(lambda: vlm, [Request(*row[1:3]) for row in asked], BATCH, 16):
        kind, _, _, options, _ = asked[i]
        right[kind].append(answer.text == options[0])
    closed = [row for row in asked if row[0] in world.KINDS]
    presence = [row for row in asked if row[0] == "presence"]
    logps = option_logps(vlm, closed)
    return {
        "general": {kind: fmean(right[kind]) for kind in GENERAL},
        "nats": evidence_and_prior(logps, closed),
        "presence_nats": evidence_and_prior(option_logps(vlm, presence), presence),
        "denying": {"probability": logps[:, 2].exp().mean().item()},
    }


def questions_with_inputs(processor, seed, n_videos):
    """Yield (kind, VideoInputs, query, options, majority).

    options: the right answer, the wrong one, the denial that the thing exists; or the first of them
    majority: whether the right answer is the majority answer, or "Yes."
    """
    for i in range(n_videos):
        rng = np.random.default_rng([seed, 1000, i])
        video, times = world.draw_video(rng), np.arange(world.N_FRAMES) / world.FPS
        indices = uniform(times, processor.n_frames)
        inputs = processor.prepare(world.render(video)[indices], times[indices])
        for q in world.questions(video, rng)[:4]:
            yield q.kind, inputs, q.query, (q.answer, q.wrong, denial(q.name)), q.majority
        for kind in GENERAL:
            query, answer = general(video, kind, rng)
            if answer in YES_NO:  # colour, too, if no marker is kept
                yes = answer == YES_NO[0]
                yield "presence", inputs, query, YES_NO if yes else YES_NO[::-1], yes
            else:
                yield "colour", inputs, query, (answer,), False


def option_logps(vlm, asked):
    """The log-probabilities of the O options of each question, (len(asked), O) nats."""
    by_video = [list(rows) for _, rows in groupby(asked, key=lambda row: id(row[1]))]
    texts = [[(query, x) for *_, query, options, _ in rows for x in options] for rows in by_video]
    groups = [(rows[0][1], own) for rows, own in zip(by_video, texts, strict=True)]
    found = zip(text_logps(vlm, groups, BATCH), by_video, strict=True)
    return torch.cat([logps.view(len(rows), -1) for logps, rows in found])


def evidence_and_prior(logps, asked):
    """Evidence and prior, nats: what the video adds, and the majority answer in any video.

        mean log-odds of the right answer = evidence + prior   if it is the majority answer
                                            evidence - prior   if it is the other one

    logps: (N, O) of option_logps. asked: their N rows of questions_with_inputs.
    """
    odds = (logps[:, 0] - logps[:, 1]).numpy()  # right over wrong
    majority = np.array([row[-1] for row in asked])
    for_majority, for_other = odds[majority].mean(), odds[~majority].mean()
    evidence, prior = (for_majority + for_other) / 2, (for_majority - for_other) / 2
    return {"evidence": float(evidence), "prior": float(prior)}
