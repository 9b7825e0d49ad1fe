"""evaluate.py as real processes: killed and begun again, two at once; and what sharing saves.

The model is the untrained toy, whose answers are nonsense that depends on all that it is shown.

    python -m pytest -q tests/test_evaluate_runs.py
"""

import json
import os
import random
import time
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
import torch
from conftest import end_of, finish, kill_all, launch, linux, numbers

from pasta.benchmarks import benchmark
from pasta.benchmarks.answers import answered
from pasta.models.generate import Request, ask
from pasta.models.load import load_vlm
from pasta.run import locks
from pasta.run.rows import read_rows
from pasta.toy import files
from pasta.toy.pretrain import make_folder


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A benchmark in MVBench's layout."""
    folder = tmp_path_factory.mktemp("bench")
    files.write_benchmark(folder, 20, seed=0)
    return folder


@pytest.fixture
def evaluate(tmp_path, tiny_folder, bench):
    """Start evaluate.py under torchrun with n processes, or plainly with n = 0. Returns a Popen."""

    def start(n, out, **flags):
        settings = {"model": tiny_folder, "data": bench, "dtype": "float32", "device": "cpu"}
        settings |= {"max_pixels": 0, "batch_size": 4, "out": tmp_path / out} | flags
        return launch("evaluate.py", n, settings, cwd=tmp_path)

    return start


def scores(folder):
    """The numbers of scores.json."""
    saved = json.loads((folder / "mvbench/scores.json").read_text())
    return saved["runs"], saved["differences"]


def answers(folder):
    """The rows of all answers.jsonl, in the order of the files."""
    paths = sorted((folder / "mvbench/tiny").glob("answers*.jsonl"))
    return [row for path in paths for row in read_rows(path)]


def test_a_second_instance_is_refused_and_writes_nothing(evaluate, tmp_path):
    locks.lock_folder(tmp_path / "run/mvbench")
    process = evaluate(0, "run")
    assert f"process {os.getpid()} on" in end_of(process) and process.returncode == 1
    assert os.listdir(tmp_path / "run/mvbench") == [".lock"]


@linux
@pytest.mark.slow
def test_killed_and_begun_again_no_question_is_asked_twice(evaluate, tmp_path):
    finish(evaluate(0, "unbroken"))
    expected = answers(tmp_path / "unbroken")
    rng, path, kills = random.Random(0), tmp_path / "killed/mvbench/tiny/answers.jsonl", 0
    for _ in range(3):
        process, before = evaluate(0, "killed"), len(read_rows(path)) if path.exists() else 0
        goal, deadline = before + rng.randint(1, 12), time.monotonic() + 100
        while not path.exists() or path.read_bytes().count(b"\n") < goal:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        kills += process.poll() is None
        kill_all(str(tmp_path / "killed"))
        process.communicate()
    assert kills == 3
    finish(evaluate(0, "killed"))
    rows = answers(tmp_path / "killed")
    assert len(rows) == len({row["id"] for row in rows}) == len(expected)
    assert {r["id"]: r["response"] for r in rows} == {r["id"]: r["response"] for r in expected}
    assert scores(tmp_path / "killed") == scores(tmp_path / "unbroken")
    kept = [tmp_path / name / "mvbench/tiny/scored.jsonl" for name in ("killed", "unbroken")]
    assert numbers(read_rows(kept[0])) == numbers(read_rows(kept[1]))


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one_and_share_the_videos(evaluate, tmp_path):
    for process in [evaluate(0, "one"), evaluate(2, "two")]:
        finish(process)
    assert scores(tmp_path / "one") == scores(tmp_path / "two")
    folder = tmp_path / "two/mvbench/tiny"
    first, second = (read_rows(folder / f"answers{x}.jsonl") for x in ("", ".rank1"))
    assert first and second
    assert not {row["video"] for row in first} & {row["video"] for row in second}
    finish(evaluate(0, "two"))  # finds the answers of both
    assert len(answers(tmp_path / "two")) == len(first) + len(second)


@pytest.fixture
def chatty(tmp_path, bench):
    """A model that begins most answers with A or B, whichever its last hidden state leans to."""
    make_folder(tmp_path / "model")
    vlm, states = load_vlm(tmp_path / "model"), []
    hook = vlm.model.lm_head.register_forward_pre_hook(lambda _, args: states.append(args[0][0]))
    mvbench = benchmark("mvbench")
    list(answered(vlm, mvbench, mvbench.items(bench), 16, "letter", 1))
    hook.remove()
    last = torch.stack([state[-1] for state in states[1::2]])  # of a prefix, of a question, ...
    mean = last.mean(0) / last.mean(0).norm()
    lean = torch.linalg.svd(last - last.mean(0))[2][0]  # where questions differ most
    lean = lean - (lean @ mean) * mean  # and none of what they have in common
    letters = [vlm.processor.ids(letter)[0] for letter in "AB"]
    weight = vlm.model.lm_head.weight.detach().clone()  # untied from the embeddings
    weight[letters] = 100 * torch.stack([lean, -lean])
    vlm.model.lm_head.weight = torch.nn.Parameter(weight)
    return vlm


def test_letter_and_generate_agree_on_the_toy_benchmark_where_a_letter_comes_first(chatty, bench):
    first = replace(benchmark("mvbench"), max_new_tokens=1)  # one token is the response
    items = first.items(bench)
    texts, chosen = (
        {row["id"]: row["response"] for row in answered(chatty, first, items, 16, scoring, 4)}
        for scoring in ("generate", "letter")
    )
    lettered = {id_: text for id_, text in texts.items() if text in ("A", "B")}
    assert len(lettered) > 10 and set(lettered.values()) == {"A", "B"}
    assert lettered == {id_: chosen[id_] for id_ in lettered}


@pytest.mark.slow
def test_sharing_the_prefix_is_twice_as_fast_at_three_questions_a_video(tiny):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (16, 336, 448, 3), np.uint8)
    inputs = tiny.processor.prepare(frames, np.arange(16) / 2)  # thousands of tokens
    requests = [Request(inputs, f"Is the {x} circle left?") for x in ("red", "pink", "blue")]

    def shared():
        return ask(tiny, requests, 4)

    def one_by_one():
        return [ask(tiny, [request], 4)[0] for request in requests]

    assert [a.ids for a in shared()] == [a.ids for a in one_by_one()]
    ratios = []
    for _ in range(5):
        times = []
        for way in (one_by_one, shared):
            start = time.perf_counter()
            way()
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    print(f"{median(ratios):.2f}x")
    assert median(ratios) > 2
