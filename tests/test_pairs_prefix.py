"""What pair-making saves by asking for all answers about the same frames at once.

python -m pytest -q tests/test_pairs_prefix.py
"""

import time
from dataclasses import replace
from statistics import median
from types import SimpleNamespace

import numpy as np
import pytest

from pasta.candidates import query_tasks
from pasta.making import roles
from pasta.making.roles import Roles
from pasta.models.generate import Request

K = 3
RECIPE = {"candidates": K, "adversary": "prompt", "temperature": 0.7, "seed": 0, "twins": False}


class Film:
    """A reader whose video has the same frames in every sampling, as one within the budget has."""

    def __init__(self, processor, frames, timestamps):
        self.processor, self.seen = processor, (frames, timestamps)

    def name(self, video):
        return video

    def frames(self, video):
        return dict.fromkeys(("dense", "native", "uniform", "sparse"), self.seen)


@pytest.fixture
def asked(tiny, monkeypatch, tmp_path):
    """(Roles that hold the tiny model, the K + 1 requests of a query about thousands of tokens)."""
    rng = np.random.default_rng(0)
    film = Film(
        tiny.processor, rng.integers(0, 256, (16, 336, 448, 3), np.uint8), np.arange(16) / 2
    )
    query = {"mode": "spatial", "query": "Is the red circle left or right?", "topic": None}
    [work] = query_tasks("film.avi", [query], film, RECIPE)
    requests = [Request(work.clean, query["query"]), *(request for _, request in work.misled)]
    monkeypatch.setattr(roles, "load_vlm", lambda *_: tiny)
    config = SimpleNamespace(dtype="float32", max_pixels=0, max_new_tokens=4, batch_size=8)
    config.out = tmp_path
    return Roles(config, "cpu"), requests


def test_a_query_and_its_misled_prompts_are_about_one_object(asked):
    _, requests = asked
    assert len(requests) == K + 1 and len({request.prompt for request in requests}) == K + 1
    assert len({id(request.inputs) for request in requests}) == 1


@pytest.mark.slow
def test_sharing_the_prefix_is_twice_as_fast_at_three_adversarial_responses(asked):
    who, requests = asked
    own = [replace(r, inputs=replace(r.inputs)) for r in requests]  # the same, not shared
    assert len({id(request.inputs) for request in own}) == K + 1

    def shared():
        return who.ask("tiny", requests)

    def alone():
        return [who.ask("tiny", [request])[0] for request in own]

    assert [a.ids for a in shared()] == [a.ids for a in alone()]
    ratios = []
    for _ in range(5):
        times = []
        for way in (alone, shared):
            start = time.perf_counter()
            way()
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    print(f"{median(ratios):.2f}x")
    assert median(ratios) >= 2
