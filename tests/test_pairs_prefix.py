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
from pasta.models.generate import Request, ask

K = 3
RECIPE = {"candidates": K, "adversary": "prompt", "temperature": 0.7, "seed": 0, "twins": False}


@pytest.fixture
def requests(tiny):
    """The K + 1 requests of a query about thousands of tokens, equal in every sampling."""
    frames = np.random.default_rng(0).integers(0, 256, (16, 336, 448, 3), np.uint8)
    names = ("dense", "native", "uniform", "sparse")
    found = dict.fromkeys(names, (frames, np.arange(16) / 2))
    reader = SimpleNamespace(processor=tiny.processor, name=str, frames=lambda video: found)
    query = {"mode": "spatial", "query": "Is the red circle left or right?", "topic": None}
    [task] = query_tasks("film.avi", [query], reader, RECIPE)
    return [Request(task.clean, query["query"]), *(request for _, request in task.misled)]


@pytest.mark.slow
def test_sharing_the_prefix_is_twice_as_fast_at_three_adversarial_responses(tiny, requests):
    assert len({request.prompt for request in requests}) == K + 1
    assert len({id(request.inputs) for request in requests}) == 1
    own = [replace(r, inputs=replace(r.inputs)) for r in requests]  # the same, not shared
    ways = [lambda: [ask(tiny, [r], 4)[0] for r in own], lambda: ask(tiny, requests, 4)]
    assert [a.ids for a in ways[0]()] == [a.ids for a in ways[1]()]
    ratios = []
    for _ in range(5):
        times = []
        for way in ways:
            start = time.perf_counter()
            way()
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    print(f"{median(ratios):.2f}x")
    assert median(ratios) >= 2
