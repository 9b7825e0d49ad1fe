"""The three stages of pair-making, each resumable and shared out over the processes of torchrun.

    write_queries      videos → queries.jsonl       one row a query that the asker wrote
    write_candidates   → candidates.jsonl           one row a query with all its answers, costly
    write_pairs        → pairs.jsonl, dropped.jsonl

Each does what is missing in its file, so calling it again after a kill, or with more videos, goes
on where it was. `config` is make_pairs.py's, `roles` says who answers, `videos` are all there are,
and `failed` takes video -> reason for those that could not be read.
"""

from collections import Counter, defaultdict
from functools import partial
from itertools import product

from pasta.candidates import candidate_rows, works_of
from pasta.making.grow import Clock, grow
from pasta.making.made import CANDIDATE, QUERY
from pasta.making.own_queries import own_queries
from pasta.making.queries import query_flaw, query_rows, wanted_queries
from pasta.making.reader import Reader
from pasta.making.server import is_address
from pasta.pairs import MODES
from pasta.run import ranks
from pasta.run.rows import rows_of, write_rows
from pasta.selection import make_pairs, proposals, query_key

RECIPE = "responder asker adversary candidates temperature sparse_frames max_pixels seed".split()


def query_reader(config, roles, videos):
    """The Reader of the asker."""
    root = config.videos.absolute()
    return Reader(videos, root, roles.eyes(config.asker), config.n_frames, {})


def candidate_reader(config, roles, videos):
    """The Reader of the responder."""
    eyes, root = roles.eyes(config.responder), config.videos.absolute()
    return Reader(videos, root, eyes, config.n_frames, {}, config.sparse_frames)


def recipe_of(config, reader):
    """The settings of an answer, which its row keeps."""
    recipe = {name: getattr(config, name) for name in RECIPE}
    return recipe | {"n_frames": reader.n_frames, "twins": config.select == "contrast"}


def write_queries(config, roles, videos, n, modes, failed):
    """Stage 1: queries about the first n videos, of the given modes; or somebody's own, whole."""
    path = config.out / "queries.jsonl"
    if config.queries:
        rows, missing = own_queries(config.queries, videos, config.videos)
        failed |= missing
        if ranks.rank() == 0:
            told = [{"flaw": flaw} if (flaw := query_flaw(r["query"], [])) else {} for r in rows]
            write_rows(path, [row | more for row, more in zip(rows, told, strict=True)])
        ranks.gather([])  # nobody reads it before it is there
        return
    rows, earlier = rows_of(path, QUERY), defaultdict(list)
    for row in rows:
        earlier[row["video"]] += [row["query"]] * ("flaw" not in row)
    done = {(row["video"], row["mode"], row["n"]) for row in rows}
    wanted = product(ranks.share(videos[:n]), modes, range(config.n_queries))
    todo = grouped((key[0], key) for key in wanted if key not in done)
    # Not `failed`: Reader gives up on a video in it, and a server may refuse one query alone.
    reader, clock = query_reader(config, roles, videos), Clock()
    ask = clock.timed("asking", partial(roles.ask, config.asker))
    read = partial(wanted_queries, reader=reader, seed=config.seed)
    make = partial(query_rows, earlier=earlier, ask=ask, asker=config.asker, failed=failed)
    grow(path, todo, config.batch_videos, read, make, clock)
    failed |= reader.failed


def write_candidates(config, roles, videos, n, failed):
    """Stage 2: answers to the queries about the first n videos."""
    path, mine = config.out / "candidates.jsonl", set(ranks.share(videos[:n]))
    done = set(map(query_key, rows_of(path, CANDIDATE)))
    wanted = {}
    for row in sound_queries(config):
        if row["video"] in mine and query_key(row) not in done:
            wanted.setdefault(query_key(row), row)  # each query once
    # Not `failed`: it also gets videos that only break others, which are not missed.
    reader, clock = candidate_reader(config, roles, videos), Clock()
    recipe = recipe_of(config, reader)
    score = clock.timed("scoring", partial(roles.score, config.responder))
    made_by = {"score": None if is_address(config.responder) else score, "recipe": recipe}
    ask = clock.timed("answering", partial(roles.ask, config.responder))
    make = partial(candidate_rows, ask=ask, failed=failed, **made_by)
    todo = grouped((row["video"], row) for row in wanted.values())
    read = partial(works_of, reader=reader, recipe=recipe)
    grow(path, todo, config.batch_videos, read, make, clock)
    failed |= {video: reader.failed[video] for video, _ in todo if video in reader.failed}


def write_pairs(config, roles, videos, asked):
    """Stage 3: pairs from the answers. Returns mode -> number of pairs.

    asked: mode -> about how many of the videos its queries are.
    Each process has the judge read the answers about its share of the videos; then the first one,
    with all replies at hand, makes the pairs of all.
    """
    ranks.gather([])  # until then a slower process may still write answers
    rows = candidates_in_order(config, videos, asked)
    if ranks.size() > 1:
        mine = set(ranks.share(videos))
        share = [row for row in rows if row["video"] in mine]
        roles.judged(config.judge, partial(proposals, share, select=config.select))
        ranks.gather([])
        roles.replies.read()  # those of the other processes, too
    counts = Counter()
    if ranks.rank() == 0:
        choices = {"select": config.select, "keep": config.keep, "balance": config.balance}
        choices |= {"share": config.target // len(MODES), "seed": config.seed}
        decide = partial(make_pairs, rows, **choices)
        pairs, dropped = roles.judged(config.judge, lambda judge: decide(judge=judge))
        write_rows(config.out / "pairs.jsonl", pairs)
        write_rows(config.out / "dropped.jsonl", dropped)
        counts.update(pair["mode"] for pair in pairs)
    return ranks.gather([counts])[0]


def candidates_in_order(config, videos, asked):
    """The rows of candidates.jsonl about the videos asked about, in the order of the videos.

    asked: as of `write_pairs`. What a longer run left about others is not looked at, nor are
    answers to queries that are no longer asked.
    """
    place = {video: i for i, video in enumerate(videos)}
    wanted = {
        query_key(row)
        for row in sound_queries(config)
        if place.get(row["video"], len(videos)) < asked[row["mode"]]
    }
    made = rows_of(config.out / "candidates.jsonl", CANDIDATE)
    rows = [row for row in made if query_key(row) in wanted]
    rows.sort(key=lambda row: (place[row["video"]], MODES.index(row["mode"]), row["query"]))
    return [row | {"recipe": row["recipe"] | {"judge": config.judge}} for row in rows]


def sound_queries(config):
    """The rows of queries.jsonl to which answers are made."""
    return [row for row in rows_of(config.out / "queries.jsonl", QUERY) if "flaw" not in row]


def grouped(things):
    """List of (video, list of its things) from (video, thing), in order of appearance."""
    groups = defaultdict(list)
    for video, thing in things:
        groups[video].append(thing)
    return list(groups.items())
