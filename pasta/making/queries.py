"""Stage 1: the queries that the asker writes about each video, or the user's own.

A query that asks nothing or repeats another about its video is requested again with another seed.
After TRIES, its row names the `flaw`, and it is not answered.
"""

import re
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

from pasta.datasets.read import placed_rows
from pasta.judge import TOKEN, alike
from pasta.models.generate import Request
from pasta.pairs import MODES
from pasta.prompts import PROMPT_VERSION, QUERIES, query_prompt
from pasta.run.digest import seed_of
from pasta.run.schema import ABSENT, schema_error, valid_text
from pasta.video.find import find_video

TRIES = 3
OWN_QUERY = {"video": str, "mode": MODES, "query": str, "topic": str | None | ABSENT}


def wanted_queries(video, keys, reader, seed):
    """(row, attempt -> Request) of each key (video, mode, n), the n-th query. Raises VideoError."""
    inputs = reader.processor.prepare(*reader.frames(video)["uniform"])
    wanted, name = [], reader.name(video)
    for _, mode, n in keys:
        topic = topic_of(seed, name, mode, n)
        request = partial(query_request, inputs, query_prompt(mode, topic), (seed, name, mode, n))
        wanted.append(({"video": video, "mode": mode, "n": n, "topic": topic}, request))
    return wanted


def topic_of(seed, name, mode, n):
    """Topic of the n-th query: in turn from a random start, so all are used equally often."""
    topics = list(QUERIES[mode])
    return topics[(seed_of(seed, name, mode) + n) % len(topics)]


def query_request(inputs, prompt, seed_parts, attempt):
    parts = (*seed_parts, attempt) if attempt else seed_parts
    return Request(inputs, prompt, seed_of(*parts), temperature=1.0)


def query_rows(wanted, earlier, ask, asker):
    """The asker's queries: (rows of queries.jsonl, {video: why a server refused a query}).

    earlier: video -> its queries that were written before. ask: list of Request -> list of Answer.
    """
    texts, asked, failed = [[] for _ in wanted], list(range(len(wanted))), {}
    while asked:
        answers = ask([wanted[i][1](len(texts[i])) for i in asked])
        for i, answer in zip(asked, answers, strict=True):
            if answer.error:
                failed[wanted[i][0]["video"]] = answer.error
            texts[i].append(None if answer.error else cleaned(answer.text))
            if not answer.finished:
                wanted[i][0]["finished"] = False
        settled, asked = settle([row for row, _ in wanted], texts, earlier)
    made_by = {"asker": asker, "prompt_version": PROMPT_VERSION}
    return [row | {"query": text} | made_by | flaw for row, text, flaw in settled], failed


def settle(rows, texts, earlier):
    """(list of (row, text, {} or {"flaw"}), indices of the rows that need another text).

    texts: those of each row so far, None for a refused request. A text is compared with those
    of earlier rows, so the result depends on the order of the rows, but not on the batches.
    """
    known = defaultdict(list, {video: list(queries) for video, queries in earlier.items()})
    settled, again = [], []
    for i, (row, tried) in enumerate(zip(rows, texts, strict=True)):
        answered = [text for text in tried if text is not None]
        flaws = [query_flaw(text, known[row["video"]]) for text in answered]
        if "" in flaws:
            text = answered[flaws.index("")]
            known[row["video"]].append(text)
            settled.append((row, text, {}))
        elif len(answered) < len(tried):
            continue  # refused: the next run asks again
        elif len(tried) < TRIES:
            again.append(i)
        else:
            settled.append((row, answered[-1], {"flaw": flaws[-1]}))
    return settled, again


def cleaned(text):
    """The first line with "?", without label, quotes and stars."""
    asking = [line for line in text.splitlines() if "?" in line]
    line = (asking or [text])[0].strip(" \t*\"'“”‘’`")
    label = r"^(?:(?:question|q)\s*\d*\s*[:.]|\d+\s*[.):]|[-•])[\s*]*"
    return re.sub(label, "", line, flags=re.I).strip(" \"'“”‘’`")


def query_flaw(query, earlier):
    """What is wrong with a query, or "". earlier: others about the same video."""
    if "?" not in query:
        return "asks nothing"
    if TOKEN.search(query):
        return "contains a special token"
    return "repeats another" if any(alike(query, other) for other in earlier) else ""


def own_queries(path, videos, root):
    """The user's queries about videos: (rows of queries.jsonl, {other video: why it is left out}).

    path: .jsonl, or .json with one list. Raises ValueError at FILE:LINE for a malformed row.
    """
    known, counts, rows, missing = set(videos), Counter(), [], {}
    for place, row in placed_rows(path):
        try:
            if wrong := schema_error(row, OWN_QUERY):
                raise ValueError(wrong)
            video, mode = str(Path(find_video(row["video"], root)).absolute()), row["mode"]
            query = valid_text(row["query"], "query").strip()
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        if video not in known:
            missing[video] = f"{place} asks about it, and --videos {root} does not have it"
            continue
        about = {"video": video, "mode": mode, "n": counts[video, mode], "topic": row.get("topic")}
        counts[video, mode] += 1
        about |= {"query": query, "asker": str(path)}
        rows.append(about | ({"flaw": flaw} if (flaw := query_flaw(query, [])) else {}))
    return rows, missing
