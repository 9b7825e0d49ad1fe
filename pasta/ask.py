"""Asking a Video-LLM: batched generation over the key/value cache, and letters without decoding.

The loop is our own because the positions are: decoding goes on from the largest position of the
prompt, as training does. A request that is sampled has a seed of its own, so its answer does not
depend on what else is in the batch.

Rows are padded at the right. A causal prompt never looks there, so it is read without a mask, and
the flash kernel can take it on a GPU: a mask of a long video's prompt would be gigabytes.

Shapes: B rows of a batch, T tokens of the longest prompt, C cached tokens, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from pasta.vlm import video_features


@dataclass(frozen=True)
class Request:
    """One question about one video. Requests that share `inputs` share its features."""

    inputs: object  # VideoInputs, or None for a question without video
    prompt: str
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """What was generated: text, token ids with the end token, their log-probability in nats."""

    text: str
    ids: tuple[int, ...]
    logps: float
    finished: bool  # False when cut off at max_new_tokens


@torch.inference_mode()
def ask(vlm, requests, max_new_tokens=128, temperature=0.0):
    """Answer a batch of requests. Returns a list of Answer, in the order of the requests.

    temperature: 0 is greedy; above, tokens are drawn from softmax(logits / temperature).
    `Answer.logps` is under the untempered model, so it equals the answer's score as a response.
    """
    prompts, ids, positions, features = right_padded(vlm, requests)
    draws = [torch.Generator().manual_seed(request.seed) for request in requests]
    found, logps, end = [[] for _ in requests], [0.0] * len(requests), vlm.end_ids()
    cache = vlm.new_cache()
    token_logps = first_logps(vlm, prompts, ids, positions, features, cache)
    lengths = torch.tensor([[len(prompt)] for prompt in prompts], device=ids.device)  # (B, 1)
    real = torch.arange(ids.shape[1], device=ids.device) < lengths  # (B, T)
    padded = not real.all()  # the padding stays in the cache, and must not be seen from there
    for n in range(max_new_tokens):
        if n:
            logits = vlm.model(
                input_ids=ids,
                position_ids=positions,
                attention_mask=real[:, None, None] if padded else None,  # (B, 1, 1, C)
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]  # (B, V)
            token_logps = logits.float().log_softmax(-1).cpu()
        tokens = choose(token_logps, temperature, draws)
        for i, token in enumerate(tokens):
            if not found[i] or found[i][-1] not in end:
                found[i].append(token)
                logps[i] += token_logps[i, token].item()
        if all(row[-1] in end for row in found):
            break
        ids = torch.tensor(tokens, device=ids.device)[:, None]  # (B, 1)
        positions = positions.amax(dim=(0, 2))[None, :, None].expand(3, -1, 1) + 1  # (3, B, 1)
        real = pad(real, (0, 1), value=True)  # (B, C)
    return [answer(vlm, row, sum_, end) for row, sum_ in zip(found, logps, strict=True)]


def choose(token_logps, temperature, draws):
    """The next token of each row: the likeliest, or one drawn by the row's own generator."""
    if temperature == 0:
        return token_logps.argmax(-1).tolist()
    shares = (token_logps / temperature).softmax(-1)  # (B, V)
    return [
        torch.multinomial(row, 1, generator=draw).item()
        for row, draw in zip(shares, draws, strict=True)
    ]


def answer(vlm, ids, logps, end):
    """An Answer from generated ids; the end token is not part of its text."""
    finished = ids[-1] in end
    text = vlm.processor.tokenizer.decode(ids[:-1] if finished else ids, skip_special_tokens=True)
    return Answer(text.strip(), tuple(ids), logps, finished)


@torch.inference_mode()
def letter_logps(vlm, requests, letters):
    """Log-probability of each letter as the first token of the answer, without decoding.

    letters: for each request a list of texts of one token each, such as ["A", "B"].
    Returns a list of lists of floats, nats. Raises ValueError for a text of several tokens.
    """
    token_logps = first_logps(vlm, *right_padded(vlm, requests))
    found = []
    for row, texts in zip(token_logps, letters, strict=True):
        tokens = [vlm.processor.ids(text) for text in texts]
        if any(len(token) != 1 for token in tokens):
            raise ValueError(f"letters {texts} are not single tokens in {vlm.name}")
        found.append([row[token[0]].item() for token in tokens])
    return found


def right_padded(vlm, requests):
    """Prompts as rows that all begin in the first column.

    Returns the B lists of token ids, the same as ids (B, T), their positions (3, B, T), and the
    video features of all rows (None if no request has a video). Padding has position 0.
    """
    prompts = [prompt_ids(vlm.processor, request) for request in requests]
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), vlm.processor.tokenizer.pad_token_id or 0)
    positions = torch.zeros((3, *ids.shape), dtype=torch.int64)
    for i, (request, row) in enumerate(zip(requests, prompts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        positions[:, i, : len(row)] = vlm.processor.positions(row, request.inputs)
    inputs = [request.inputs for request in requests if request.inputs is not None]
    features = video_features(vlm.model, vlm.processor.family, inputs)
    return prompts, ids.to(vlm.model.device), positions.to(vlm.model.device), features


def first_logps(vlm, prompts, ids, positions, features, cache=None):
    """Log-probabilities of the first token of each answer, (B, V) float32 nats, on the CPU.

    cache: takes the keys and values of the prompts, if given. The other arguments are as
    right_padded returns them.
    """
    rows = torch.arange(len(prompts), device=ids.device)
    last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=ids.device)  # (B,)
    logits = vlm.model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=None,  # causal
        mm_encoder_outputs=features,
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=last,
    ).logits[rows, rows]  # of (B, B, V), each row's own
    return logits.float().log_softmax(-1).cpu()


def prompt_ids(processor, request):
    """The token ids of a whole prompt, ready for an answer."""
    query = processor.query_ids(request.prompt, request.inputs is not None)
    return processor.prefix_ids(request.inputs) + query
