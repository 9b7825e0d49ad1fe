"""--dry_run of make_pairs.py; dry_run.py says how what it would take is reckoned."""

import numpy as np

from pasta.candidates import query_tasks
from pasta.making.queries import own_queries, wanted_queries
from pasta.making.server import is_address
from pasta.making.stages import candidate_reader, query_reader, recipe_of
from pasta.models.generate import Request
from pasta.pairs import MODES
from pasta.run import ranks
from pasta.run.rows import rows_of
from pasta.tools.costs import costs_of
from pasta.tools.dry_run import BEGIN, decoded, opened, reading, size, tell

# In place of queries and answers that are not there yet.
STAND_IN = "Which of the two comes into view first, and where is the other one at that time?"


def pair_making(config, roles, videos, device):
    """Print what make_pairs.py would do. config, roles, videos: its own. All processes call."""
    if ranks.rank() == 0:
        videos = videos[: config.limit or None]
        queries = queries_of(config, videos)
        n = sum(map(len, queries.values()))
        n_answers = n * (1 + config.candidates)
        print(f"{len(videos):,} videos, {n:,} queries, {n_answers:,} answers, at most "
              f"{n * config.candidates:,} pairs; with --target fewer, if it is met")  # fmt: skip
        made = len(rows_of(config.out / "candidates.jsonl"))
        print(f"{made:,} queries are answered already, in {config.out}")
        most = n_answers * config.max_new_tokens * 5  # letters of a token, with the blank
        print(f"disk: {size(most + 1000 * n)} at most for the answers, and as much for the pairs")
        work = np.zeros(2)
        if config.asker and config.stage in ("all", "queries"):
            work += role(config, roles, "asker", config.asker, queries, n)
        if config.stage in ("all", "candidates"):
            work += role(config, roles, "responder", config.responder, queries, n_answers)
        if config.judge != "rules":
            print(f"judge {config.judge}: {n * config.candidates:,} requests at most, not timed")
        tell(device, config.dtype, *work)
        print(BEGIN)


def queries_of(config, videos):
    """video -> rows of its queries; those that an asker would write are stand-ins."""
    if config.queries:
        rows, _ = own_queries(config.queries, videos, config.videos)
        found = {video: [] for video in videos}
        for row in rows:
            found[row["video"]].append(row)
        return found
    row = {"query": STAND_IN, "topic": None}
    return {v: [row | {"mode": mode} for mode in MODES] * config.n_queries for v in videos}


def role(config, roles, who, name, queries, n_rows):
    """(operations, bytes of weights read) of a role, which is also printed; a server's are 0.

    queries: of queries_of. n_rows: how many answers it writes.
    """
    if is_address(name):
        print(f"{who} {name}: {n_rows:,} requests, {config.in_flight} at a time")
        return np.zeros(2)
    costs, videos = costs_of(name), list(queries)
    reader = (query_reader if who == "asker" else candidate_reader)(config, roles, videos)

    def load(video):
        requests = asked_of(config, who, video, queries[video], reader)
        return reading(reader.processor, costs, requests)

    tokens, operations = np.mean(opened(videos, load), axis=0) * len(videos)
    written = n_rows * config.max_new_tokens
    print(f"{who} {name}: about {tokens:,.0f} tokens read, {written:,} written at most")
    return decoded(costs, config, n_rows, config.max_new_tokens) + (operations, 0)


def asked_of(config, who, video, queries, reader):
    """The requests of one video, and a stand-in for each answer that is scored."""
    if who == "asker":
        keys = [(video, row["mode"], i) for i, row in enumerate(queries)]
        return [request(0) for _, request in wanted_queries(video, keys, reader, config.seed)]
    requests = []
    for task in query_tasks(video, queries, reader, recipe_of(config, reader)):
        query = task.row["query"]
        requests += [Request(task.clean, query), *(request for _, request in task.misled)]
        scored = [inputs for view in task.views.values() for inputs in view]
        requests += [Request(x, f"{query} {STAND_IN}") for x in scored] * (1 + config.candidates)
    return requests
