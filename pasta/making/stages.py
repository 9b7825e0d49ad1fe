"""The three stages of pair making: resumable, and shared by the processes of torchrun.

    write_queries      videos → queries.jsonl       one row per query
    write_candidates   → candidates.jsonl           one row per query with all answers; costly
    write_pairs        → pairs.jsonl, dropped.jsonl

The first two append the rows that their file lacks, so a rerun continues. They return
{video: reason} for videos that cannot be read or that a server refuses.
"""

import time
from collections import Counter, defaultdict
from contextlib import closing, suppress
from functools import partial
from itertools import product

from pasta.candidates import candidate_rows, query_tasks
from pasta.making.queries import own_queries, query_rows, wanted_queries
from pasta.making.reader import Reader
from pasta.making.server import ServerError
from pasta.pairs import MODES
from pasta.run import ranks
from pasta.run.ahead import prefetch
from pasta.run.rows import Appender, rows_of, write_rows
from pasta.run.schema import ABSENT, NUMBER
from pasta.selection import make_pairs, proposals, query_key
from pasta.video import VideoError, file_digest

RECIPE = "responder asker adversary candidates temperature sparse_frames max_pixels seed".split()
TASK = {"video": str, "mode": MODES, "query": str, "topic": str | None, "digest": str | ABSENT}
QUERY = TASK | {"n": int, "flaw": str | ABSENT}
ANSWER = {"response": str, "finished": bool}
LOGPS = {"response": str, "blind": NUMBER, "clean": NUMBER | ABSENT, "broken": NUMBER | ABSENT}
CANDIDATE = TASK | {"preferred": ANSWER, "adversarial": [ANSWER | {"kind": str}]}
CANDIDATE |= {"logps": [LOGPS], "recipe": {"twins": bool}}
FIRST = 16  # videos: if none of them gets a row, the run stops
AWAY = "is not in --videos"
CHANGED = "changed after its rows were written"


def reader_for(model, config, videos, sparse_frames=0):
    return Reader(videos, config.videos, model.processor, config.n_frames, sparse_frames)


def recipe_of(config, reader):
    """The settings that every candidate row records."""
    recipe = {name: getattr(config, name) for name in RECIPE}
    return recipe | {"n_frames": reader.n_frames, "twins": config.select == "contrast"}


def write_queries(config, roles, videos, n, modes, unusable=()):
    """Stage 1: queries of some modes about the first n videos; or all of the user's own."""
    path = config.out / "queries.jsonl"
    if config.queries:
        rows, missing = own_queries(config.queries, videos, config.videos)
        if ranks.rank() == 0:
            write_rows(path, rows)
        ranks.gather([])  # no rank reads the file before it is there
        return missing
    rows, earlier = rows_of(path, QUERY), defaultdict(list)
    for row in rows:
        earlier[row["video"]] += [row["query"]] * ("flaw" not in row)
    done = {(row["video"], row["mode"], row["n"]) for row in rows}
    wanted = product(ranks.share(videos[:n]), modes, range(config.n_queries))
    items = [(key[0], key) for key in wanted if key not in done and key[0] not in unusable]
    reader, asker = reader_for(roles.model(config.asker), config, videos), config.asker
    read = partial(wanted_queries, reader=reader, seed=config.seed)
    make = partial(query_rows, earlier=earlier, ask=partial(roles.ask, asker), asker=asker)
    work = f"{asker} writes {len(items)} queries"
    return append_rows(path, rows, items, config.batch_videos, read, make, work)


def write_candidates(config, roles, videos, n, unusable=()):
    """Stage 2: answers to the queries about the first n videos."""
    path, own_videos = config.out / "candidates.jsonl", {*ranks.share(videos[:n])} - {*unusable}
    rows, wanted = rows_of(path, CANDIDATE), {}
    done = set(map(query_key, rows))
    for row in usable_queries(config):
        if row["video"] in own_videos and query_key(row) not in done:
            wanted.setdefault(query_key(row), row)  # each query once
    items = [(row["video"], row) for row in wanted.values()]
    responder = roles.model(config.responder)
    reader = reader_for(responder, config, videos, config.sparse_frames)
    recipe, ask = recipe_of(config, reader), partial(roles.ask, config.responder)
    read = partial(query_tasks, reader=reader, recipe=recipe)
    make = partial(candidate_rows, ask=ask, score=responder.score, recipe=recipe)
    work = f"{config.responder} gives {1 + config.candidates} answers to {len(items)} queries"
    return append_rows(path, rows, items, config.batch_videos, read, make, work)


def append_rows(path, rows, items, n, read, make, work):
    """Append the rows of items to `path`, n videos at a time. Returns {video: why it has none}.

    rows: those in the file. items: list of (video, item).
    read: (video, its items) -> list of tasks, or raises VideoError.
    make: list of tasks -> (rows, {video: reason}). work: what the user reads before it begins.
    Raises ServerError if neither the file nor the first videos have a row.
    """
    by_video, digests, works = defaultdict(list), {}, bool(rows)
    for video, item in items:
        by_video[video].append(item)
    groups = list(by_video.items())

    def read_batch(batch):
        tasks, unread = [], {}
        for video, wanted in batch:
            try:
                found, digests[video] = read(video, wanted), file_digest(video)
                tasks += found
            except VideoError as error:
                unread[video] = error.reason
        return len(batch), tasks, unread

    batches = [groups[start : start + n] for start in range(0, len(groups), n)]
    failed, tried, start = {}, 0, time.perf_counter()
    part = f", on each of {ranks.size()} ranks" * (ranks.size() > 1)
    if groups:
        ranks.say(f"{path.stem}: {work} about {len(groups)} videos{part}")
    bar = ranks.progress(name=path.stem, total=len(groups), unit="videos")
    ahead = prefetch(read_batch, batches, workers=1, ahead=1)
    with Appender(ranks.rank_path(path)) as out, closing(ahead), bar:
        for size, tasks, unread in ahead:
            made, refused = make(tasks) if tasks else ((), {})
            for row in made:
                out.write(row | {"digest": digests[row["video"]]})
            failed |= unread | refused
            bar.update(size)
            tried += size - len(unread)
            works = works or bool(made)
            if not works and tried >= FIRST:
                why = next(iter(refused.values()), "")
                raise ServerError(f"no {path.stem} for the first {tried} videos: {why}")
    if groups:
        rate = 3600 * len(groups) / (time.perf_counter() - start)
        ranks.say(f"{path.stem}: {len(groups)} videos, {rate:,.0f} videos/hour{part}")
    return failed


def write_pairs(config, roles, videos, asked, unusable=()):
    """Stage 3: pairs from the answers, see candidates_in_order. Returns mode -> number of pairs."""
    ranks.gather([])  # a slower process may still write answers
    rows = candidates_in_order(config, videos, asked)
    rows = [row for row in rows if row["video"] not in unusable]
    ranks.say(f"pairs: judge {config.judge} reads the answers to {len(rows)} queries")
    if ranks.size() > 1:  # each asks the judge about its own videos; rank 0 uses all replies
        own_videos = set(ranks.share(videos))
        proposals([row for row in rows if row["video"] in own_videos], roles.judge, config.select)
        ranks.gather([])
        roles.read_replies()
    pairs, c = [], config
    if ranks.rank() == 0:
        share = c.target // len(MODES)
        pairs, dropped = make_pairs(rows, roles.judge, c.select, c.keep, c.balance, share, c.seed)
        if len(before := rows_of(c.out / "pairs.jsonl")) > len(pairs):
            print(f"{len(pairs)} pairs replace {len(before)}; the earlier command makes them again")
        write_rows(c.out / "pairs.jsonl", pairs)
        write_rows(c.out / "dropped.jsonl", dropped)
    return ranks.gather([Counter(pair["mode"] for pair in pairs)])[0]


def candidates_in_order(config, videos, asked):
    """The rows of candidates.jsonl in the order of the videos; rows of other runs are left out.

    asked: mode -> how many of the videos it has queries about.
    """
    place = {video: i for i, video in enumerate(videos)}
    n_of = {query_key(q): place.get(q["video"], len(videos)) for q in usable_queries(config)}
    made = rows_of(config.out / "candidates.jsonl", CANDIDATE)
    rows = [row for row in made if n_of.get(query_key(row), len(videos)) < asked[row["mode"]]]
    rows.sort(key=lambda row: (place[row["video"]], MODES.index(row["mode"]), row["query"]))
    return [row | {"recipe": row["recipe"] | {"judge": config.judge}} for row in rows]


def usable_queries(config):
    return [row for row in rows_of(config.out / "queries.jsonl", QUERY) if "flaw" not in row]


def unusable_videos(config, videos):
    """{video: reason} of those that have rows, and are gone or changed."""
    digests = defaultdict(set)
    for name in ("queries.jsonl", "candidates.jsonl"):
        for row in rows_of(config.out / name, TASK):
            digests[row["video"]] |= {row["digest"]} if "digest" in row else set()
    here, found = set(videos), []
    for video in ranks.progress(ranks.share(list(digests)), "hashing videos", unit="videos"):
        with suppress(VideoError):  # the stages name what cannot be read
            if video not in here:
                found.append((video, AWAY))
            elif digests[video] and digests[video] != {file_digest(video)}:
                found.append((video, CHANGED))
    return dict(ranks.gather(found))
