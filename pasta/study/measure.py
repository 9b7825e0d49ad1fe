"""What a toy model can do, measured against the truth that the world knows.

    python -m pasta.study.measure --model data/toy/model --adapter out/dpo/adapter --seed 2

Prints one JSON object: the shares of right answers to the balanced benchmark, behind letters and
freely, to the same in the dark, to false premises, and to general questions that no adversary is
about; then how far the model has gone from the one without adapter.
"""

import json
import re
from argparse import ArgumentParser
from collections import defaultdict
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from pasta.benchmarks import benchmark
from pasta.benchmarks.answers import answered
from pasta.lora import adapted, adapter_off
from pasta.models.generate import Request, ask_all
from pasta.models.load import load_vlm
from pasta.models.peft import load_adapter
from pasta.packs import Segment, pack
from pasta.pairs import MODES
from pasta.policy import Policy, text_logps
from pasta.sampling import uniform
from pasta.toy import adversarial_folder, benchmark_folder, world
from pasta.toy.captions import GENERAL, YES_NO, denial, general

N_VIDEOS = 150  # of the general questions
BATCH = 64  # questions asked at once
MVBENCH = benchmark("mvbench")
BINS = 10  # of the expected calibration error


def exam(vlm, seed, whole=True):
    """All measurements of a model, one dict of numbers by name; not whole: `scores` alone.

    seed: of the benchmarks, and of the videos of the other questions
    """
    found = scores(vlm, benchmark_folder(seed))
    if whole:
        found["blind"] = scores(vlm, benchmark_folder(seed, blind=True))["benchmark"]
        bench = benchmark("adversarial")
        asked = bench.items(adversarial_folder(seed))
        found["adversarial"] = shares(vlm, bench, asked)
        found |= other_questions(vlm, seed, N_VIDEOS)
    return found


def scores(vlm, folder):
    """Shares of right answers to the balanced benchmark, by mode, read as in evaluate.py.

    lettered:  asked as multiple choice, in MVBench's form
    free:      the same questions asked as they are; a right answer names the right option alone
    benchmark: the mean of both
    """
    items = MVBENCH.items(folder)
    asked = [replace(x, task=("lettered", x.task)) for x in items]
    asked += [replace(x, task=("free", x.task), prompt=question_of(x)) for x in items]
    bench = replace(MVBENCH, parse=parse)
    found = shares(vlm, bench, asked)  # both together: each video is read once
    lettered, free = ({mode: found[form, mode] for mode in MODES} for form in ("lettered", "free"))
    both = {mode: fmean((lettered[mode], free[mode])) for mode in MODES}
    return {"benchmark": both, "lettered": lettered, "free": free}


def parse(response, item, parser):
    """The letter that a response means; the item's task is (its form, its mode)."""
    if item.task[0] == "lettered":
        return MVBENCH.parse(response, item, parser)
    return named_option(response, item)


def shares(vlm, bench, items):
    """{task: share of right answers}, generated."""
    right = defaultdict(list)
    for row in answered(vlm, bench, items, vlm.processor.n_frames, "generate", BATCH):
        right[row["task"]].append(row["correct"])
    return {task: fmean(rows) for task, rows in right.items()}


def question_of(item):
    """The question of an item of MVBench's, without what makes it multiple choice."""
    return item.prompt.split("\nOption:")[0].removeprefix("Question:")


def named_option(response, item):
    """The letter of the one option that a response names; None for none and for both."""
    words = re.sub(r"\W+", " ", f" {response.lower()} ")
    found = zip(item.letters, item.options, strict=True)
    letters = [letter for letter, option in found if f" {option} " in words]
    return letters[0] if len(letters) == 1 else None


def other_questions(vlm, seed, n_videos):
    """Measurements on videos drawn for them.

    general:     kind of question that no adversary is about -> share of right answers
    words:       mean length of an answer to those that they are about
    calibration: expected calibration error of choosing between the two answers, see `error_of`
    sight, habit: what the truth and what is usual add to the log-odds of an answer, see `causes`
    presence_sight, presence_habit: the same of questions about presence, "Yes." as the usual answer
    denied:      mean probability, 0..1, of "There is no X." to a question of theirs about an X that
                 is there
    kl:          E_{y ~ policy} [log policy(y) - log reference(y)], nats an answer, of answers drawn
                 at temperature 1; 0.0 for a model without adapter
    """
    asked = list(questions_with_inputs(vlm.processor, seed, n_videos))
    texts = answers(vlm, [Request(inputs, query) for _, inputs, query, *_ in asked])
    right, lengths = defaultdict(list), []
    for (kind, _, _, options, _), text in zip(asked, texts, strict=True):
        right[kind].append(text == options[0])
        lengths += [len(text.split())] * (kind in world.KINDS)
    closed = [row for row in asked if row[0] in world.KINDS]
    presence = [row for row in asked if row[0] == "presence"]
    logps, of_presence = option_logps(vlm, closed), option_logps(vlm, presence)
    odds = log_odds(logps)
    sight, habit = causes(odds, usual_is_right(closed))
    presence_sight, presence_habit = causes(log_odds(of_presence), usual_is_right(presence))
    return {
        "general": {kind: fmean(right[kind]) for kind in GENERAL},
        "words": fmean(lengths),
        "calibration": error_of(1 / (1 + np.exp(-abs(odds))), odds > 0),
        "sight": sight,
        "habit": habit,
        "presence_sight": presence_sight,
        "presence_habit": presence_habit,
        "denied": logps[:, 2].exp().mean().item(),
        "kl": divergence(vlm, closed, seed) if adapted(vlm.model) else 0.0,
    }


def questions_with_inputs(processor, seed, n_videos):
    """Yield (kind, VideoInputs, query, options, usual).

    options: the right answer; the wrong one, if there are two; what denies that the thing is there
    usual: whether the right one is the one that careless lessons give, or "Yes."
    """
    for i in range(n_videos):
        rng = np.random.default_rng([seed, 1000, i])
        video, times = world.draw_video(rng), np.arange(world.N_FRAMES) / world.FPS
        seen = uniform(times, processor.n_frames)
        inputs = processor.prepare(world.render(video)[seen], times[seen])
        for q in world.questions(video, rng)[:4]:
            yield q.kind, inputs, q.query, (q.answer, q.wrong, denial(q.name)), q.usual
        for kind in GENERAL:
            query, answer = general(video, kind, rng)
            if answer in YES_NO:  # whatever kind was wanted
                yes = answer == YES_NO[0]
                yield "presence", inputs, query, YES_NO if yes else YES_NO[::-1], yes
            else:
                yield "colour", inputs, query, (answer,), False


def usual_is_right(asked):
    """Of some questions_with_inputs, `usual` of each, (len(asked),) bool."""
    return np.array([row[-1] for row in asked])


def answers(vlm, requests):
    """The greedy answers to any number of requests, as texts."""
    answers = sorted(ask_all(lambda: vlm, requests, BATCH, max_new_tokens=16))
    return [answer.text for _, answer in answers]


def option_logps(vlm, asked):
    """The log-probabilities of the options of questions, all O of each, (len(asked), O) nats."""
    found = []
    for _, group in groupby(asked, key=lambda row: id(row[1])):
        rows = list(group)
        texts = [(query, option) for _, _, query, options, _ in rows for option in options]
        found.append(text_logps(vlm, rows[0][1], texts).view(len(rows), -1))
    return torch.cat(found)


def log_odds(logps):
    """log p(right answer) - log p(wrong answer) of each row of option_logps, (N,) nats."""
    return (logps[:, 0] - logps[:, 1]).numpy()


def causes(odds, usual):
    """What moves a model's answers, (sight, habit) in nats.

        log-odds of the right answer = sight + habit   where it is the usual one
                                       sight - habit   where it is the other one

    in the mean. odds: (N,) of log_odds. usual: (N,) bool.
    """
    for_usual, for_other = odds[usual].mean(), odds[~usual].mean()
    return float((for_usual + for_other) / 2), float((for_usual - for_other) / 2)


def error_of(sure, right):
    """Expected calibration error, 0..1.

        ECE = sum_b n_b / N |accuracy_b - confidence_b|        (arXiv 1706.04599, eq. 3)

    sure: (N,) confidences in [0.5, 1], in BINS bins of equal width. right: (N,) bool.
    """
    bins = np.minimum(((sure - 0.5) * 2 * BINS).astype(int), BINS - 1)
    inside = [bins == b for b in range(BINS)]
    gaps = [abs(right[b].sum() - sure[b].sum()) for b in inside]
    return float(sum(gaps) / len(sure))


@torch.inference_mode()
def divergence(vlm, asked, seed):
    """The `kl` of other_questions, from one answer to each question."""
    drawn = [Request(row[1], row[2], seed + i, 1.0) for i, row in enumerate(asked)]
    ratios, (video,) = [], vlm.processor.ids(vlm.processor.family.token)
    for i, answer in sorted(ask_all(lambda: vlm, drawn, BATCH, max_new_tokens=16)):
        if video in answer.ids:
            continue  # the model would look for a second video after it
        ids = (*vlm.processor.query_ids(drawn[i].prompt), *answer.ids)
        row = pack(vlm.processor, drawn[i].inputs, [Segment(ids, len(answer.ids))])
        with adapter_off(vlm.model):
            ratios.append(answer.logps - Policy(vlm)(row).item())
    return fmean(ratios)


def main():
    told = "Measure a toy model against the truth of its world."
    parser = ArgumentParser("python -m pasta.study.measure", description=told)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--adapter", type=Path, help="adapter folder")
    parser.add_argument("--seed", type=int, default=2, help="of benchmarks and videos")
    args = parser.parse_args()
    vlm = load_vlm(args.model)
    if args.adapter:
        load_adapter(vlm.model, args.adapter)
    print(json.dumps(exam(vlm, args.seed), indent=1))


if __name__ == "__main__":
    main()
