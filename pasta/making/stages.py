"""The three stages of pair making: resumable, and shared by the processes of torchrun.

    write_queries      videos → queries.jsonl       one row per query
    write_candidates   → candidates.jsonl           one row per query with all answers; costly
    write_pairs        → pairs.jsonl, dropped.jsonl

The first two append the rows that their file lacks, so a rerun continues. All return
{video: reason} for videos that cannot be read, that changed, or that a server refuses.
"""

import time
from collections import Counter, defaultdict
from contextlib import closing
from functools import partial
from itertools import product

from pasta.adversaries import ADVERSARIES
from pasta.candidates import candidate_rows, query_tasks
from pasta.judge import OPPOSITES, flaw
from pasta.making.queries import own_queries, query_rows, wanted_queries
from pasta.making.reader import Reader
from pasta.making.server import FIRST, ServerError
from pasta.pairs import MODES
from pasta.prompts import ABOUT, PREMISES, PROMPT_VERSION, QUERIES
from pasta.run import ranks
from pasta.run.ahead import prefetch
from pasta.run.config import changed_settings
from pasta.run.rows import Appender, rows_of, write_rows
from pasta.run.schema import ABSENT, NUMBER, printable
from pasta.selection import make_pairs, proposals, query_key
from pasta.video import VideoError, file_digest

RECIPE = "responder asker adversary candidates temperature sparse_frames max_pixels seed".split()
TASK = {"video": str, "mode": MODES, "query": str, "topic": str | None, "digest": str | ABSENT}
QUERY = TASK | {"n": int, "flaw": str | ABSENT}
ANSWER = {"response": str, "finished": bool}
LOGPS = {"response": str, "blind": NUMBER, "clean": NUMBER | ABSENT, "broken": NUMBER | ABSENT}
CANDIDATE = TASK | {"preferred": ANSWER, "adversarial": [ANSWER | {"kind": str}]}
CANDIDATE |= {"logps": [LOGPS], "recipe": {"twins": bool}}
TABLES = {"ADVERSARIES": ADVERSARIES, "ABOUT": ABOUT, "OPPOSITES": OPPOSITES}
TABLES |= {"QUERIES": QUERIES, "PREMISES": PREMISES}
AWAY = "not in --videos"
CHANGED = "its file changed after its rows were written; restore it, or choose another --out"
for name, table in TABLES.items():  # checked now, not after hours of answers
    if missing := ", ".join(mode for mode in MODES if mode not in table):
        raise ImportError(f"{name} has no entry for {missing}; docs/changing.md lists the tables")


def reader_for(model, config, videos, sparse_frames=0):
    root = config.videos.absolute()
    return Reader(videos, root, model.processor, config.n_frames, sparse_frames)


def recipe_of(config, reader):
    """The settings that every candidate row records."""
    recipe = {name: getattr(config, name) for name in RECIPE}
    return recipe | {"n_frames": reader.n_frames, "twins": config.select == "contrast"}


def write_queries(config, roles, videos, n, modes):
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
    items = [(key[0], key) for key in wanted if key not in done]
    reader, asker = reader_for(roles.model(config.asker), config, videos), config.asker
    read = partial(wanted_queries, reader=reader, seed=config.seed)
    make = partial(query_rows, earlier=earlier, ask=partial(roles.ask, asker), asker=asker)
    return append_rows(path, rows, items, config.batch_videos, read, make, query_problem)


def query_problem(row):
    return f"{row['query']!r:.200} {row['flaw']}" if "flaw" in row else ""


def write_candidates(config, roles, videos, n):
    """Stage 2: answers to the queries about the first n videos."""
    path, own_videos = config.out / "candidates.jsonl", set(ranks.share(videos[:n]))
    rows, queries, wanted = rows_of(path, CANDIDATE), sound_queries(config), {}
    done = set(map(query_key, rows))
    for row in queries:
        if row["video"] in own_videos and query_key(row) not in done:
            wanted.setdefault(query_key(row), row)  # each query once
    items = [(row["video"], row) for row in wanted.values()]
    responder = roles.model(config.responder)
    reader = reader_for(responder, config, videos, config.sparse_frames)
    recipe, ask = recipe_of(config, reader), partial(roles.ask, config.responder)
    read = partial(query_tasks, reader=reader, recipe=recipe)
    make = partial(candidate_rows, ask=ask, score=responder.score, recipe=recipe)
    n = config.batch_videos
    return append_rows(path, rows, items, n, read, make, answer_problem, queries)


def answer_problem(row):
    """What is wrong with all answers of a candidate, with the first one; "" if one is sound."""
    flaws = [flaw(answer, row["query"]) for answer in [row["preferred"], *row["adversarial"]]]
    return f"{row['preferred']['response']!r:.200} {flaws[0]}" if all(flaws) else ""


def append_rows(path, rows, items, n, read, make, problem, queries=()):
    """Append the rows of items to `path`, n videos at a time. Returns {video: why it has none}.

    rows: those in the file. Where they, or queries, have a digest of a video, it must be the same.
    items: list of (video, item). read: (video, its items) -> list of tasks, or raises VideoError.
    make: list of tasks -> (rows, {video: reason}). problem: row -> why no pair can use it, or "".
    Raises ServerError if neither `rows` nor the first videos have a row without a problem.
    """
    by_video, works = defaultdict(list), not all(map(problem, rows))
    digests = {row["video"]: row["digest"] for row in (*queries, *rows) if "digest" in row}
    for video, item in items:
        by_video[video].append(item)
    groups = list(by_video.items())

    def read_batch(batch):
        tasks, unread = [], {}
        for video, wanted in batch:
            try:
                found = read(video, wanted)
                check_content(video, digests)
                tasks += found
            except VideoError as error:
                unread[video] = error.reason
        return len(batch), tasks, unread

    batches = [groups[start : start + n] for start in range(0, len(groups), n)]
    failed, tried, start = {}, 0, time.perf_counter()
    bar = ranks.progress(name=path.stem, total=len(groups), unit="video")
    ahead = prefetch(read_batch, batches, workers=1, ahead=1)
    with Appender(ranks.rank_path(path)) as out, closing(ahead), bar:
        for size, tasks, unread in ahead:
            rows, refused = make(tasks) if tasks else ((), {})
            for row in rows:
                out.write(row | {"digest": digests[row["video"]]})
            failed |= unread | refused
            bar.update(size)
            tried += size - len(unread)
            problems = [*refused.values(), *map(problem, rows)]
            works |= not all(problems)
            if not works and tried >= FIRST:
                text = f"{path.stem}: none of the first {tried} videos has a usable one"
                raise ServerError(f"{text}, for example: {problems[0]}")
    if groups and ranks.rank() == 0:
        rate = 3600 * len(groups) / (time.perf_counter() - start)
        print(f"{path.stem}: {len(groups)} videos, {rate:,.0f} videos/hour")
    return failed


def check_content(video, digests):
    """Raise VideoError if a video is not that of its rows. digests: path -> sha256; adds it."""
    digest = file_digest(video)
    if digests.setdefault(video, digest) != digest:
        raise VideoError(video, CHANGED)


def write_pairs(config, roles, videos, asked):
    """Stage 3: pairs from the answers, see candidates_in_order.

    Returns (mode -> number of pairs, {video: reason} of those that changed).
    """
    ranks.gather([])  # a slower process may still write answers
    rows = candidates_in_order(config, videos, asked)
    digests = {row["video"]: row["digest"] for row in rows if "digest" in row}
    changed = {}
    for video in ranks.share(list(digests)):
        try:
            check_content(video, digests)
        except VideoError as error:
            changed[video] = error.reason
    changed = dict(ranks.gather(list(changed.items())))
    rows = [row for row in rows if row["video"] not in changed]
    if ranks.size() > 1:  # each asks the judge about its own videos; rank 0 uses all replies
        own_videos = set(ranks.share(videos))
        proposals([row for row in rows if row["video"] in own_videos], roles.judge, config.select)
        ranks.gather([])
        roles.replies.read()
    pairs, c = [], config
    if ranks.rank() == 0:
        share = c.target // len(MODES)
        pairs, dropped = make_pairs(rows, roles.judge, c.select, c.keep, c.balance, share, c.seed)
        write_rows(c.out / "pairs.jsonl", pairs)
        write_rows(c.out / "dropped.jsonl", dropped)
    return ranks.gather([Counter(pair["mode"] for pair in pairs)])[0], changed


def candidates_in_order(config, videos, asked):
    """The rows of candidates.jsonl in the order of the videos; rows of other runs are left out.

    asked: mode -> how many of the videos it has queries about.
    """
    place = {video: i for i, video in enumerate(videos)}
    n_of = {query_key(q): place.get(q["video"], len(videos)) for q in sound_queries(config)}
    made = rows_of(config.out / "candidates.jsonl", CANDIDATE)
    rows = [row for row in made if n_of.get(query_key(row), len(videos)) < asked[row["mode"]]]
    rows.sort(key=lambda row: (place[row["video"]], MODES.index(row["mode"]), row["query"]))
    return [row | {"recipe": row["recipe"] | {"judge": config.judge}} for row in rows]


def sound_queries(config):
    """The rows of queries.jsonl without a flaw."""
    return [row for row in rows_of(config.out / "queries.jsonl", QUERY) if "flaw" not in row]


def check_rows(config):
    """Refuse to add to rows of other settings: config.json may be gone, but rows have a recipe."""
    recipe = {name: getattr(config, name) for name in RECIPE} | {"prompt_version": PROMPT_VERSION}
    recipe |= {"n_frames": config.n_frames} if config.n_frames else {}  # 0: the checkpoint's
    # The user's own queries are read anew.
    files = {"candidates": CANDIDATE} | ({} if config.queries else {"queries": QUERY})
    for name, shape in files.items():
        rows = rows_of(config.out / f"{name}.jsonl", shape)
        befores = [row.get("recipe", row) for row in rows]  # a query has its asker only
        found = [changed_settings(x, {k: v for k, v in recipe.items() if k in x}) for x in befores]
        if other := [changed for changed in found if changed]:
            text = f"{len(other)} rows of {config.out}/{name}.jsonl are of other settings"
            text += f": {', '.join(other[0])}; choose another --out"
            if config.stage != "judge":
                raise SystemExit(text)
            print(printable(text))


def print_unused(config, videos):
    """Print which rows no stage can use. Returns {video: reason} of videos that are not there."""
    here, asked, lost = set(videos), set(map(query_key, sound_queries(config))), {}
    for name in ("queries", "candidates"):
        rows = rows_of(config.out / f"{name}.jsonl", TASK)
        away = [row["video"] for row in rows if row["video"] not in here]
        present = [row for row in rows if row["video"] in here and name == "candidates"]
        unasked = [row["video"] for row in present if query_key(row) not in asked]
        about = {f"are about videos that are {AWAY} {config.videos}": away}
        for text, found in (about | {"answer no query of queries.jsonl": unasked}).items():
            if found:
                some = ", ".join(list(dict.fromkeys(found))[:3])
                print(printable(f"{len(found)} rows of {name}.jsonl {text}, such as {some}"))
        lost |= dict.fromkeys(away, f"{AWAY}, and {name}.jsonl has rows about it")
    return lost
