"""Stage 1: the queries that the asker writes about each video, or the user's own.

The row of a query that asks nothing or repeats another names this `flaw`. It is not answered.
"""

import re
from collections import Counter
from pathlib import Path

from pasta.datasets.read import placed_rows
from pasta.judge import TOKEN, alike
from pasta.models.generate import Request
from pasta.pairs import MODES
from pasta.prompts import PROMPT_VERSION, QUERIES, query_prompt
from pasta.run.digest import seed_of
from pasta.run.schema import ABSENT, schema_error, valid_text
from pasta.video.find import find_video

OWN_QUERY = {"video": str, "mode": MODES, "query": str, "topic": str | None | ABSENT}


def wanted_queries(video, keys, reader, seed):
    """(row, Request) of each key (video, mode, n), the n-th query. Raises VideoError."""
    inputs = reader.processor.prepare(*reader.frames(video)["uniform"])
    wanted, name = [], reader.name(video)
    for _, mode, n in keys:
        topic = topic_of(seed, name, mode, n)
        own_seed = seed_of(seed, name, mode, n)
        request = Request(inputs, query_prompt(mode, topic), own_seed, temperature=1.0)
        wanted.append(({"video": video, "mode": mode, "n": n, "topic": topic}, request))
    return wanted


def topic_of(seed, name, mode, n):
    """Topic of the n-th query: in turn from a random start, so all are used equally often."""
    topics = list(QUERIES[mode])
    return topics[(seed_of(seed, name, mode) + n) % len(topics)]


def query_rows(wanted, earlier, ask, asker):
    """The asker's queries: (rows of queries.jsonl, {video: why a server refused a query}).

    earlier: video -> its queries that were written before. ask: list of Request -> list of Answer.
    A query is compared with those before it, so the result depends on the order, not on batches.
    """
    known, rows, failed = {video: list(queries) for video, queries in earlier.items()}, [], {}
    made_by = {"asker": asker, "prompt_version": PROMPT_VERSION}
    for (row, _), answer in zip(wanted, ask([request for _, request in wanted]), strict=True):
        if answer.error:
            failed[row["video"]] = answer.error
            continue
        text, before = cleaned(answer.text), known.setdefault(row["video"], [])
        flaw = query_flaw(text, before)
        before += [] if flaw else [text]
        more = ({"flaw": flaw} if flaw else {}) | ({} if answer.finished else {"finished": False})
        rows.append(row | {"query": text} | made_by | more)
    return rows, failed


def cleaned(text):
    """The first line with "?", without label, quotes and stars."""
    asking = [line for line in text.splitlines() if "?" in line]
    line = (asking or [text])[0].strip(" \t*\"'“”‘’`")
    label = r"^(?:(?:question|q)\s*\d*\s*[:.]|\d+\s*[.):]|[-•])[\s*]*"
    return re.sub(label, "", line, flags=re.I).strip(" \"'“”‘’`")


def query_flaw(query, earlier):
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
