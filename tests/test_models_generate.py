"""Generation against scoring, against full logits, and against itself in other batches.

python -m pytest tests/test_models_generate.py
"""

import pytest
import torch
from rounding import close_sums

from pasta.models.generate import Request, ask, letter_logps
from pasta.packs import Segment, pack
from pasta.policy import Policy

QUERIES = ("Is the red circle left or right?", "Describe the video.", "Where is the blue square?")


def requests(inputs, **more):
    """Prompts of several lengths about several videos, and one about none."""
    return [Request(x, q, **more) for q in QUERIES for x in (*inputs, None)]


def test_greedy_answer_scores_as_it_was_decoded(tiny, tiny_inputs):
    policy = Policy(tiny)
    wanted = requests(tiny_inputs)
    for request, answer in zip(wanted, ask(tiny, wanted, max_new_tokens=12), strict=True):
        query = tuple(tiny.processor.query_ids(request.prompt, request.inputs is not None))
        segment = Segment(query + answer.ids, len(answer.ids))
        score = policy(pack(tiny.processor, request.inputs, [segment]))[0].item()
        assert close_sums(score, answer.logps, len(answer.ids))


def test_an_answer_does_not_depend_on_its_batch(tiny, tiny_inputs):
    for temperature in (0.0, 1.0):
        wanted = requests(tiny_inputs, seed=7, temperature=temperature)
        together = ask(tiny, wanted, 8)
        alone = [ask(tiny, [request], 8)[0] for request in wanted]
        assert [a.ids for a in together] == [a.ids for a in alone]


def test_greedy_and_sampled_requests_share_a_batch(tiny, tiny_inputs):
    wanted = [Request(tiny_inputs[0], QUERIES[0], 7, t) for t in (0.0, 1.0, 0.0)]
    together = [answer.ids for answer in ask(tiny, wanted, 8)]
    alone = [ask(tiny, [request], 8)[0].ids for request in wanted]
    assert together == alone and alone[0] != alone[1]


def test_questions_about_one_video_read_its_prefix_once(tiny, tiny_inputs):
    rows = []

    def note(module, args, kwargs):
        assert torch.is_inference_mode_enabled()  # else an adapter's graph fills the memory
        rows.append(tuple(kwargs["input_ids"].shape))

    tiny.model.register_forward_pre_hook(note, with_kwargs=True)
    ask(tiny, [Request(tiny_inputs[0], q) for q in QUERIES], max_new_tokens=2)
    prefix = len(tiny.processor.prefix_ids(tiny_inputs[0]))
    longest = max(len(tiny.processor.query_ids(q)) for q in QUERIES)
    assert rows == [(1, prefix), (3, longest), (3, 1)]


def test_sampling_follows_its_seed(tiny, tiny_inputs):
    drawn = [
        ask(tiny, [Request(tiny_inputs[0], QUERIES[0], seed, 1.0)], 8)[0].ids for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_letters_of_several_tokens_are_refused(tiny, tiny_inputs):
    with pytest.raises(ValueError, match="not single tokens"):
        letter_logps(tiny, [Request(tiny_inputs[0], QUERIES[0])], [["A", "red circle"]])
