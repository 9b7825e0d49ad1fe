"""campaigns/peers.py without a peer: its files, its measurements and its tables.

python -m pytest -q tests/test_peers.py
"""

import re
import sys
from functools import partial
from statistics import median

import pytest
from campaigns import peer_files, peers
from campaigns.ways import RESPONSES
from conftest import ROOT, linux

from pasta.models.load import load_processor
from pasta.run.rows import read_rows

PROMPT = """<|im_start|>system
You are a helpful assistant.<|im_end|>
<|im_start|>user
<|vision_start|><|video_pad|><|vision_end|>Why?<|im_end|>
<|im_start|>assistant
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder of a campaign with small videos, what `compare` found, calls of the peer)."""
    folder, calls = tmp_path_factory.mktemp("peers"), []

    def peer(model, pairs, out):
        calls.append(out.name)
        return 30.0 * len(read_rows(pairs)), 10**9

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peer_files, "FRAME", "56x56")
        patch.setattr(peers, "VIDEOS", {3: ((1, 2), (1, 2))})
        return folder, peers.compare(peer, "peer", 3, 1, folder), calls


def test_responses_have_the_tokens_of_the_list(run):
    rows = read_rows(run[0] / "1-videos/pairs.jsonl")
    texts = [rows[0]["chosen"], *(row["rejected"] for row in rows)]
    processor = load_processor(run[0] / "model")
    assert tuple(len(processor.response_ids(text)) for text in texts) == RESPONSES


def test_the_prompt_is_that_of_qwen(run):
    assert load_processor(run[0] / "model").prompt("Why?", with_video=True) == PROMPT


def test_the_first_epoch_computes_the_reference_and_the_next_run_has_it(run):
    logs = [run[0] / f"{name}-2-0/log.txt" for name in (peers.FIRST, "pasta")]
    found = [" 0 log-probs computed" in log.read_text() for log in logs]
    assert found == [False, True]


def test_pasta_has_the_seconds_and_the_memory_of_its_processes(run):
    seconds, memory = run[1]["pasta"]
    assert len(seconds) == 1 and 10**8 < memory < 10**10


def test_the_peer_runs_with_few_and_with_many_videos(run):
    assert run[2] == ["peer-1-0", "peer-2-0"]


def test_the_seconds_of_a_pair_leave_out_the_run_of_few_videos(run):
    assert run[1]["peer"] == ([30.0], 10**9)
    assert peers.per_pair(10, 40, 3, (1, 3)) == 5


def test_ratios_are_medians_over_rounds():
    found = {"pasta": ([1.0, 2.0, 4.0], 10**9), "peer": ([6.0, 8.0, 8.0], 2 * 10**9)}
    *_, line = peers.table(found, 3)
    assert line == "| 3 | peer | 8.00 | 6.00, 8.00, 8.00 | 4.0 | 2,000 | 2.0 |"


@linux
def test_processes_that_outlive_their_command_count(tmp_path):
    burn = "import time\nwhile time.process_time() < 1: pass"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"
    seconds, memory = peers.measured([sys.executable, "-c", code], tmp_path / "run")
    assert seconds > 1 and memory > 10**6


def test_a_command_that_fails_is_named_with_its_last_lines(tmp_path):
    with pytest.raises(RuntimeError, match="failed; .*log.txt ends: no such model"):
        peers.measured([sys.executable, "-c", "exit('no such model')"], tmp_path / "run")


@pytest.mark.parametrize("n", [31, 32])
def test_other_visual_tokens_than_those_of_pasta_are_refused(run, tmp_path, n):
    folder, log = run[0], tmp_path / "log.txt"
    ids = [5, *[peers.token_id(folder / "model", "video")] * n, 7]
    log.write_text(f"[CHOSEN_INPUT_IDS] {ids}\n[CHOSEN_INPUT] ...")
    check = partial(peers.check_tokens, folder / "model", folder / "1-videos/pairs.jsonl", log)
    if n == 32:
        return check()
    with pytest.raises(RuntimeError, match="31 visual tokens .* expected as many as in pasta, 32"):
        check()


def test_the_ratios_of_docs_speed_are_those_of_its_rounds():
    page = (ROOT / "docs/speed.md").read_text()
    section = page.split("## Compared with other trainers")[1].split("\n## ")[0]
    rows = re.findall(r"^\| \d \| ([^|]+) \| [\d.]+ \| ([\d., ]+) \| ([\d.]+) \|", section, re.M)
    rows = [(name, list(map(float, seconds.split(", "))), float(x)) for name, seconds, x in rows]
    runs = [rows[i : i + 3] for i in range(0, len(rows), 3)]
    assert {run[2][0] for run in runs} == {"ms-swift", "LLaMA-Factory", "TRL"}
    for run in runs:
        for _, seconds, ratio in run:
            expected = median(a / b for a, b in zip(seconds, run[1][1], strict=True))
            assert ratio == pytest.approx(expected, abs=0.06, rel=0.02)  # all are rounded
    spread = max(max(seconds) / min(seconds) for run in runs for _, seconds, _ in run)
    assert f"differ by up to {100 * (spread - 1):.0f} %" in section
    said = re.search(r"needs ([\d.]+) times the seconds with k = 1, and ([\d.]+) times", section)
    for text, (first, _, peer) in zip(said.groups(), runs[:2], strict=True):  # of ms-swift
        assert float(text) == pytest.approx(median(peer[1]) / median(first[1]), abs=0.06)
