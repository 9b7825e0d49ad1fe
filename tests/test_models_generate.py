"""Generation against scoring, against full logits, and against itself in other batches.

python -m pytest tests/test_models_generate.py
"""

from types import SimpleNamespace

import pytest
import torch
from rounding import close_sums

from pasta import policy
from pasta.models import generate
from pasta.models.generate import Answer, Request, ask, ask_all, letter_logps
from pasta.models.load import VLM
from pasta.packs import Segment, pack
from pasta.policy import Policy, text_logps

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


def test_the_cache_is_not_copied_at_each_token(tiny, tiny_inputs, monkeypatch):
    monkeypatch.setattr(VLM, "end_ids", lambda _: set())  # no answer ends early
    places = []

    def note(module, args, kwargs, output):
        layers = kwargs["past_key_values"].layers
        places.append([x.data_ptr() for layer in layers for x in (layer.keys, layer.values)])

    tiny.model.register_forward_hook(note, with_kwargs=True)
    ask(tiny, [Request(tiny_inputs[0], q) for q in QUERIES], max_new_tokens=6)
    _, queries, *tokens = places
    assert tokens == [queries] * 5  # the sixth token is not read


def test_a_row_that_has_ended_draws_no_more(tiny, tiny_inputs, monkeypatch):
    monkeypatch.setattr(VLM, "end_ids", lambda _: {*range(0, 10_000, 3)})
    made, real = [], torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda: made.append(real()) or made[-1])
    wanted = [Request(tiny_inputs[0], QUERIES[0], seed, 1.0) for seed in range(6)]
    assert len({len(answer.ids) for answer in ask(tiny, wanted, 8)}) > 2
    for request, generator in zip(wanted, [*made], strict=True):
        ask(tiny, [request], 8)
        assert torch.equal(generator.get_state(), made[-1].get_state())


def test_the_longest_prompts_come_first(tiny, monkeypatch):
    sizes, batches = [10, 100, 74, 100, 0, 75, 100], []

    def note(vlm, batch, max_new_tokens):
        batches.append([request.inputs.n_tokens for request in batch])
        return [Answer(request.prompt, (), 0.0, True) for request in batch]

    monkeypatch.setattr(generate, "ask", note)
    wanted = [Request(SimpleNamespace(n_tokens=n), f"{i}") for i, n in enumerate(sizes)]
    answers = {i: answer.text for i, answer in ask_all(lambda: tiny, wanted, batch_size=5)}
    assert batches == [[100, 100, 100, 75, 74], [10, 0]]
    assert answers == {i: f"{i}" for i in range(7)}


def test_prefixes_are_read_without_padding_and_all_answers_decode_together(tiny, tiny_inputs):
    lengths = {len(tiny.processor.prefix_ids(x)) for x in (*tiny_inputs, None)}
    assert len(lengths) > 1
    rows = []
    tiny.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    wanted = requests(tiny_inputs)
    ask(tiny, wanted, max_new_tokens=2)
    *prefixes, queries, token = rows
    assert {length for _, length in prefixes} == lengths
    assert sum(n for n, _ in prefixes) == len(tiny_inputs) + 1
    assert queries[0] == len(wanted) and token == (len(wanted), 1)


def fit(monkeypatch, n):
    """From now on the memory is enough for n prompts."""

    def ask_few(vlm, batch, max_new_tokens):
        if len(batch) > n:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return ask(vlm, batch, max_new_tokens)

    monkeypatch.setattr(generate, "ask", ask_few)


def test_a_batch_that_does_not_fit_is_halved(tiny, tiny_inputs, monkeypatch, capsys):
    wanted = requests(tiny_inputs, temperature=1.0)
    expected = {i: answer.ids for i, answer in ask_all(lambda: tiny, wanted, 4, 6)}
    fit(monkeypatch, 2)
    assert {i: answer.ids for i, answer in ask_all(lambda: tiny, wanted, 4, 6)} == expected
    line, *_ = capsys.readouterr().out.splitlines()
    assert line == "no memory for 4 prompts at once: they are halved; next time: --batch_size 2"


def test_a_prompt_that_does_not_fit_alone_is_an_error(tiny, tiny_inputs, monkeypatch):
    fit(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError, match="lower --n_frames or --max_pixels"):
        [*ask_all(lambda: tiny, [Request(tiny_inputs[0], QUERIES[0])] * 3, 4)]


def test_scoring_and_letters_that_do_not_fit_are_halved_too(tiny, tiny_inputs, monkeypatch, capsys):
    texts = [(query, "The red circle is left.") for query in QUERIES]
    groups = [(inputs, texts) for inputs in tiny_inputs]
    expected = text_logps(tiny, groups, batch_size=6)
    exact, sizes = policy.pairs_logps, []

    def pairs_logps(model, row):
        sizes.append(len(row))
        if len(row) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return exact(model, row)

    monkeypatch.setattr(policy, "pairs_logps", pairs_logps)
    found = text_logps(tiny, groups, batch_size=6)
    assert sizes == [2, 1, 1] and "--batch_size 1" in capsys.readouterr().out
    for one, other in zip(found, expected, strict=True):
        assert close_sums(one, other, 10)
