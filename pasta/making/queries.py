"""Stage 1: what the asker asks about each video.

A mode's kinds of query are used in turn, the first one by chance, so that each is used as often as
the others. A query that asks nothing or repeats another of its video is asked for again with
another seed; when that does not help, its row says what its `flaw` is and no answer is made to it.
"""

import re
from collections import defaultdict
from functools import partial

from pasta.judge import TOKEN, alike
from pasta.models.generate import Request
from pasta.prompts import PROMPT_VERSION, QUERIES, query_prompt
from pasta.run.rows import seed_of
from pasta.video import VideoError

TRIES = 3  # how often a query is asked for


def wanted_queries(video, keys, reader, seed):
    """(row, attempt -> Request) of each query about a video; [] if it is unreadable.

    keys: list of (video, mode, n), the n-th query of a mode. A row is {video, mode, n, topic}.
    """
    try:
        inputs = reader.processor.prepare(*reader.frames(video)["uniform"])
    except VideoError:
        return []
    wanted, name = [], reader.name(video)
    for _, mode, n in keys:
        parts, topic = (seed, name, mode, n), topic_of(seed, name, mode, n)
        request = partial(query_request, inputs, query_prompt(mode, topic), parts)
        wanted.append(({"video": video, "mode": mode, "n": n, "topic": topic}, request))
    return wanted


def topic_of(seed, name, mode, n):
    """The topic of the n-th query of a mode: the mode's topics in turn, the first one by chance."""
    kinds = list(QUERIES[mode])
    return kinds[(seed_of(seed, name, mode) + n) % len(kinds)]


def query_rows(wanted, earlier, ask, asker, failed):
    """The asker's queries: a row of queries.jsonl for each.

    It is {video, mode, n, topic, query, asker, prompt_version}.

    wanted:  of wanted_queries. ask: list of Request -> list of Answer
    earlier: video -> its queries that were written before
    A row with a `flaw` still had it after TRIES. A query that a server refuses gets no row, and its
    video's reason is put into `failed`.
    """
    texts, asked = [[] for _ in wanted], list(range(len(wanted)))
    while asked:
        answers = ask([wanted[i][1](len(texts[i])) for i in asked])
        for i, answer in zip(asked, answers, strict=True):
            if answer.error:
                failed[wanted[i][0]["video"]] = answer.error
            texts[i].append(None if answer.error else cleaned(answer.text))
        settled, asked = settle([row for row, _ in wanted], texts, earlier)
    made_by = {"asker": asker, "prompt_version": PROMPT_VERSION}
    return [row | {"query": text} | made_by | flaw for row, text, flaw in settled]


def settle(rows, texts, earlier):
    """The first flawless text of each row, and which rows need another one.

    A text is compared with what was settled before it, so the outcome depends on the order of the
    rows and not on how many were asked for at a time.
    rows: with their `video`. texts: for each row those tried so far, None for a refused one.
    Returns (list of (row, text, {} or {"flaw"}), list of indices).
    """
    known = defaultdict(list, {video: list(queries) for video, queries in earlier.items()})
    settled, again = [], []
    for i, (row, tried) in enumerate(zip(rows, texts, strict=True)):
        said = [text for text in tried if text is not None]
        flaws = [query_flaw(text, known[row["video"]]) for text in said]
        if "" in flaws:
            text = said[flaws.index("")]
            known[row["video"]].append(text)
            settled.append((row, text, {}))
        elif len(said) < len(tried):
            continue  # refused: not tried again now
        elif len(tried) < TRIES:
            again.append(i)
        else:
            settled.append((row, said[-1], {"flaw": flaws[-1]}))
    return settled, again


def query_request(inputs, prompt, parts, attempt):
    """The Request for a query; each attempt, counted from 0, has a seed of its own."""
    return Request(inputs, prompt, seed_of(*parts, *[attempt] * bool(attempt)), 1.0)


def cleaned(text):
    """A query as the asker meant it: its first line that asks, without label, quotes and stars."""
    asking = [line for line in text.splitlines() if "?" in line]
    line = (asking or [text])[0].strip(" \t*\"'“”‘’`")
    label = r"^(?:(?:question|q)\s*\d*\s*[:.]|\d+\s*[.):]|[-•])[\s*]*"
    return re.sub(label, "", line, flags=re.I).strip(" \"'“”‘’`")


def query_flaw(query, earlier):
    """What is wrong with a query, or an empty string. earlier: others about the same video."""
    if "?" not in query:
        return "asks nothing"
    if TOKEN.search(query):
        return "holds a model's own token"
    if any(alike(query, other) for other in earlier):
        return "repeats another"
    return ""
