"""Asking a Video-LLM: batched generation over the key/value cache, and letters without decoding.

The loop is our own because the positions are: decoding goes on from the largest position of the
prompt, as training does. A request that is sampled has a seed of its own, so its answer does not
depend on what else is in the batch.

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
    ids, positions, visible, features = left_padded(vlm, requests)
    draws = [torch.Generator().manual_seed(request.seed) for request in requests]
    found, logps, end = [[] for _ in requests], [0.0] * len(requests), vlm.end_ids()
    cache = vlm.new_cache()
    for _ in range(max_new_tokens):
        logits = vlm.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=visible,
            mm_encoder_outputs=features,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
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
        visible = pad(visible[:, :, -1:], (0, 1), value=True)  # (B, 1, 1, C)
        features = None
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
    ids, positions, mask, features = left_padded(vlm, requests)
    logits = vlm.model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=mask,
        mm_encoder_outputs=features,
        use_cache=False,
        logits_to_keep=1,
    ).logits[:, -1]  # (B, V)
    token_logps = logits.float().log_softmax(-1).cpu()
    found = []
    for row, texts in zip(token_logps, letters, strict=True):
        tokens = [vlm.processor.ids(text) for text in texts]
        if any(len(token) != 1 for token in tokens):
            raise ValueError(f"letters {texts} are not single tokens in {vlm.name}")
        found.append([row[token[0]].item() for token in tokens])
    return found


def left_padded(vlm, requests):
    """Prompts as rows that all end in the last column.

    Returns ids (B, T), positions (3, B, T), mask (B, 1, T, T) bool with True for "may see", and
    the video features of all rows (None if no request has a video).
    """
    prompts = [prompt_ids(vlm.processor, request) for request in requests]
    longest, rows = max(len(ids) for ids in prompts), len(prompts)
    filler = vlm.processor.tokenizer.pad_token_id or 0
    ids = torch.full((rows, longest), filler)
    positions = torch.zeros((3, rows, longest), dtype=torch.int64)
    mask = torch.eye(longest, dtype=torch.bool).repeat(rows, 1, 1, 1)  # a pad sees itself: no nan
    for i, (request, row) in enumerate(zip(requests, prompts, strict=True)):
        start = longest - len(row)
        ids[i, start:] = torch.tensor(row)
        positions[:, i, start:] = vlm.processor.positions(row, request.inputs)
        mask[i, 0, start:, start:] = torch.ones(len(row), len(row), dtype=torch.bool).tril()
    inputs = [request.inputs for request in requests if request.inputs is not None]
    device = vlm.model.device
    features = video_features(vlm.model, vlm.processor.family, inputs)
    return ids.to(device), positions.to(device), mask.to(device), features


def prompt_ids(processor, request):
    """The token ids of a whole prompt, ready for an answer."""
    query = processor.query_ids(request.prompt, request.inputs is not None)
    return processor.prefix_ids(request.inputs) + query
