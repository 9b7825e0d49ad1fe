"""Batched generation with a key/value cache, and log-probabilities of answer letters.

The loop is ours because positions are: decoding continues from the largest position of the prompt,
as in training. An answer does not depend on the rest of its batch, up to bfloat16 rounding.
Rows are padded at the right: causal prefixes then need no mask, and a GPU uses its flash kernel.

Shapes: B requests, D distinct videos among them, P tokens of the longest prefix, T of the longest
query, C = P + T + new tokens in the cache, V vocabulary.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby

import torch
from torch.nn.functional import pad

from pasta.models.load import as_position_ids, branched
from pasta.models.vision import video_features
from pasta.run import ranks
from pasta.run.reasoning import final_answer

say_once = cache(ranks.say)


@dataclass(frozen=True)
class Request:
    """One question about one video. Requests with the same object `inputs` share its prefix."""

    inputs: object  # VideoInputs, or None for a question without video
    prompt: str
    seed: int = 0
    temperature: float = 0.0  # 0 is greedy; above 0 draws from softmax(logits / temperature)


@dataclass(frozen=True)
class Answer:
    text: str
    ids: tuple[int, ...]  # with the end token; () from a server
    logps: float  # the sum over ids in nats, at temperature 1; 0.0 from a server
    finished: bool  # False when cut off at max_new_tokens
    error: str = ""  # why the request was refused


def ask_all(load, requests, batch_size, max_new_tokens=128):
    """Yield (index, Answer without reasoning) of requests; `load` () -> VLM is called per batch."""
    sizes = [r.inputs.n_tokens if r.inputs else 0 for r in requests]
    left = sorted(range(len(requests)), key=lambda i: -sizes[i])  # too little memory shows at once
    while left:
        batch, left, vlm = left[:batch_size], left[batch_size:], load()
        few = [requests[i] for i in batch]
        answers = in_halves(lambda part, vlm=vlm: ask(vlm, part, max_new_tokens), few)
        for i, answer in zip(batch, answers, strict=True):
            text, finished = final_answer(vlm.processor.turn[2] + answer.text, answer.finished)
            yield i, replace(answer, text=text, finished=finished)


def in_halves(function, items):
    """function(items), a list; computed in halves, with a line, if all do not fit in memory."""
    with suppress(torch.OutOfMemoryError):  # the error holds tensors until the block ends
        return function(items)
    n, half = len(items), len(items) // 2
    if n == 1:
        raise torch.OutOfMemoryError("no memory for one prompt; lower --n_frames or --max_pixels")
    say_once(f"no memory for {n} prompts at once: they are halved; next time: --batch_size {half}")
    return [*in_halves(function, items[:half]), *in_halves(function, items[half:])]


@torch.inference_mode()
def ask(vlm, requests, max_new_tokens=128):
    """A list of Answer, in order; for a prompt with one of the model's own tokens an error."""
    if not vlm.shares and len(requests) > 1:  # its layers may not take padding
        return [answer for r in requests for answer in ask(vlm, [r], max_new_tokens)]
    own = [vlm.processor.own.search(request.prompt) for request in requests]
    asked = zip(requests, own, strict=True)
    requests = [replace(request, prompt="") if token else request for request, token in asked]
    draws = [torch.Generator().manual_seed(r.seed) if r.temperature else None for r in requests]
    heat = torch.tensor([r.temperature for r in requests], device=vlm.model.device)
    found, logps, end = [[] for _ in requests], [0.0] * len(requests), vlm.end_ids()
    token_logps, cache, real, positions = read_prompts(vlm, requests, max_new_tokens)
    padded = not real.all()  # padding stays in the cache and must be masked
    for n in range(1, max_new_tokens + 1):
        live = [i for i, row in enumerate(found) if not row or row[-1] not in end]
        tokens = choose(token_logps, heat, draws, live)
        chosen = token_logps.gather(1, tokens[:, None])[:, 0].tolist()
        for i, token in enumerate(tokens.tolist()):
            if i in live:
                found[i].append(token)
                logps[i] += chosen[i]
        if n == max_new_tokens or all(row[-1] in end for row in found):
            break
        real = pad(real, (0, 1), value=True)  # (B, C)
        mask = real[:, None, None] if padded else None  # (B, 1, 1, C)
        logits = forward(vlm, cache, tokens[:, None], positions, mask)[:, -1]  # (B, V)
        token_logps = logits.float().log_softmax(-1)
        positions = positions + 1
    answers, decode = [], vlm.processor.tokenizer.decode
    for ids, logp, token in zip(found, logps, own, strict=True):
        finished = ids[-1] in end
        text = decode(ids[:-1] if finished else ids, skip_special_tokens=True)
        error = f"the prompt contains {token[0]}, a token of {vlm.name}" if token else ""
        answer = Answer(text.strip(), tuple(ids), logp, finished)
        answers.append(Answer("", (), 0.0, False, error) if token else answer)
    return answers


def choose(logps, temperatures, generators, live):
    """The likeliest token of each row, (B,), or at a temperature above 0 one that is drawn.

        token = the first one whose cumulative probability exceeds u, uniform in [0, 1)

    logps: (B, V) nats. generators: a row's own, not its batch's. live: the rows to draw for.
    """
    tokens, rows = logps.argmax(-1), [i for i in live if generators[i]]
    if rows:  # on the logits' device: a pass over V entries on the CPU takes longer than the model
        heated = logps[rows] / temperatures[rows, None]
        sums = heated.double().softmax(-1).cumsum(-1)  # in float32 the sums of V entries are rough
        draws = [torch.rand(1, dtype=torch.float64, generator=generators[i]) for i in rows]
        found = torch.searchsorted(sums, torch.stack(draws).to(sums) * sums[:, -1:], right=True)
        tokens[rows] = found[:, 0]
    return tokens


@torch.inference_mode()
def letter_logps(vlm, requests, letters):
    """Logps, in nats, of each request's letters, a list of lists, as first token of its answer."""
    if not vlm.shares and len(requests) > 1:
        both = zip(requests, letters, strict=True)
        return [row for r, texts in both for row in letter_logps(vlm, [r], [texts])]
    token_logps, *_ = read_prompts(vlm, requests)
    found = []
    for row, texts in zip(token_logps, letters, strict=True):
        tokens = [vlm.processor.ids(vlm.processor.family.lead + text) for text in texts]
        if any(len(token) != 1 for token in tokens):
            raise ValueError(f"letters {texts} are not single tokens in {vlm.name}")
        found.append(row[sum(tokens, [])].tolist())
    return found


def read_prompts(vlm, requests, n_new=0):
    """Read the prefix of every distinct video once, then every query after its own prefix.

    Returns, for the first token of each answer: log-probabilities, (B, V) float32 nats; the
    cache, with room for n_new tokens; (B, P + T) bool, False for padding in it; positions,
    (3 or 1, B, 1) int64.
    """
    processor, device = vlm.processor, vlm.model.device
    videos = {id(request.inputs): request.inputs for request in requests}.values()
    prefixes = [(inputs, processor.prefix_ids(inputs)) for inputs in videos]
    prefixes.sort(key=lambda prefix: len(prefix[1]), reverse=True)
    _, real = right_padded(vlm, [ids for _, ids in prefixes])  # (D, P)
    caches, places = [], []
    for _, same in groupby(prefixes, lambda prefix: len(prefix[1])):  # equal: none is padded
        cache, positions = read_prefixes(vlm, list(same))
        caches.append(cache)
        places += positions
    row_of = {id(inputs): i for i, (inputs, _) in enumerate(prefixes)}
    which = torch.tensor([row_of[id(r.inputs)] for r in requests], device=device)  # (B,)
    tails = [processor.query_ids(r.prompt, r.inputs is not None) for r in requests]
    ids, tail_real = right_padded(vlm, tails)  # (B, T) each
    if vlm.shares:  # all rows decode together, however long their prefixes are
        together = zip(*(cache.layers for cache in caches), strict=True)
        cache.layers = [branched(x, which, ids.shape[1] + n_new) for x in together]
    first = torch.tensor([int(place.max()) + 1 for place in places], device=device)[which, None]
    ahead = first + torch.arange(ids.shape[1], device=device)  # (B, T)
    axes = (len(places[0]), -1, -1)
    mask = None  # causal after the cached tokens
    if not real.all():  # the padding of shorter prefixes must be masked: (B, 1, T, P + T)
        causal = torch.ones(2 * ids.shape[1:], dtype=torch.bool, device=device).tril()
        shape = (len(tails), ids.shape[1], -1)
        mask = torch.cat([real[which, None].expand(shape), causal.expand(shape)], dim=2)[:, None]
    lengths = tail_real.sum(1)  # (B,)
    ends, own = (lengths - 1).unique(return_inverse=True)  # rows of one length have one end
    more = {"logits_to_keep": ends, "real": tail_real}
    logits = forward(vlm, cache, ids, ahead.expand(axes), mask, **more)  # (B, len(ends), V)
    rows = torch.arange(len(tails), device=device)
    token_logps = logits[rows, own].float().log_softmax(-1)
    real = torch.cat([real[which], tail_real], 1)
    return token_logps, cache, real, (first + lengths[:, None]).expand(axes)


def read_prefixes(vlm, prefixes):
    """(The cache after n prefixes (VideoInputs or None, P ids), n positions (3 or 1, P), int64)."""
    ids = torch.tensor([ids for _, ids in prefixes], device=vlm.model.device)
    places = [vlm.processor.positions(own, inputs) for inputs, own in prefixes]
    seen, cache = [inputs for inputs, _ in prefixes if inputs is not None], vlm.new_cache()
    more = {"mm_encoder_outputs": video_features(vlm.model, vlm.processor.family, seen)}
    positions = torch.stack(places, dim=1).to(ids.device)
    forward(vlm, cache, ids, positions, None, logits_to_keep=1, **more)  # causal
    return cache, places


def forward(vlm, cache, ids, positions, mask, **more):
    """The logits of tokens after those in the cache, to which it adds them."""
    more |= {"input_ids": ids, "position_ids": as_position_ids(positions), "attention_mask": mask}
    return vlm.model(past_key_values=cache, use_cache=True, **more).logits


def right_padded(vlm, rows):
    """Lists of token ids as (ids, bool: False for padding), (len(rows), longest) each."""
    lengths, device = torch.tensor([len(row) for row in rows]), vlm.model.device
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.full(real.shape, vlm.processor.tokenizer.pad_token_id or 0)
    ids[real] = torch.tensor(sum(rows, []))
    return ids.to(device), real.to(device)
