"""make_pairs.py as real processes, killed at many points: the files equal those of an unbroken run.

The model is the untrained toy with other words: its random answers ask, end and contradict.

    python -m pytest -q tests/test_pairs_killed.py
"""

import json
import random
import time
from types import SimpleNamespace
from zlib import crc32

import pytest
from campaigns.world import queries
from conftest import finish, kill_all, launch, linux, pairs_or_none
from server import FakeServer, prompt_of
from tiny_models import write_babbler

import make_pairs
from pasta.pairs import MODES
from pasta.run.rows import write_rows
from pasta.toy.files import write_videos

N_VIDEOS = 8  # and a corrupted one


def draw(body):
    """A number that depends on prompt and seed of a request to a server."""
    return crc32(f"{prompt_of(body)} {body['seed']}".encode())


def canned(body):
    """A server's reply: a verdict or a question."""
    contradicts = "yes" if draw(body) % 3 else "no"
    verdict = f"fits: yes\ncontradicts: {contradicts}"
    return verdict if "fits:" in prompt_of(body) else f"Is it number {draw(body)}?"


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_folder):
    """Model, videos, queries and servers of all runs here; `unbroken` keeps what those made."""
    folder = tmp_path_factory.mktemp("place")
    write_babbler(folder / "model", tiny_folder)
    (folder / "videos").mkdir()
    write_videos(folder / "videos", N_VIDEOS, seed=0)
    (folder / "videos/00002b.avi").write_bytes(b"no video")
    write_rows(folder / "queries.jsonl", queries(N_VIDEOS))
    # The delay is long enough for a kill.
    with FakeServer(canned, 0.03) as server, FakeServer(canned, 0.03) as picky:
        picky.fault = lambda number, body: "400" if draw(body) % 4 == 0 else None
        addresses = {"server": server.address, "picky": picky.address}
        yield SimpleNamespace(folder=folder, unbroken={}, **addresses)


def flags(place, out, name):
    """The settings of one configuration, by its name."""
    model = place.folder / "model"
    common = {"responder": model, "videos": place.folder / "videos", "out": out}
    common |= {"select": "contrast", "keep": 0.9, "max_new_tokens": 16, "max_pixels": 0}
    common |= {"dtype": "float32", "device": "cpu", "seed": 3}
    servers = {"asker": place.server, "judge": place.server}
    own = {
        "own queries, rules": {"queries": place.folder / "queries.jsonl"},
        "a model as judge": {"n_queries": 3, "judge": model, "judge_tokens": 24},
        "to a target, by a server": {"n_queries": 2, "target": 9, "keep": 1.0, "in_flight": 2},
        "a server refuses some": {"n_queries": 2, "asker": place.picky},
    }[name]
    return common | own | (servers if "by a server" in name else {})


def start(place, n, out, name):
    """Start a run of a configuration under torchrun with n processes, or plainly with n = 0."""
    switches = [] if "target" in name else ["--no-balance"]  # of few pairs, none may be left
    return launch("make_pairs.py", n, flags(place, out, name), *switches)


def lines(folder, stem):
    """The lines of one kind of file, of all processes."""
    paths = [folder / f"{stem}.jsonl", *sorted(folder.glob(f"{stem}.rank*.jsonl"))]
    return [line for path in paths if path.exists() for line in path.read_text().splitlines()]


def contents(folder):
    """All that a run leaves: each process's rows in their order, replies in any order."""
    names = [path.name for path in folder.glob("[!.r]*.json*")]  # not a killed writer's, no replies
    assert {"pairs.jsonl", "dropped.jsonl", "skipped.jsonl", "audit.json"} <= set(names)
    kept = {name: (folder / name).read_text() for name in names if name != "config.json"}
    return kept | {"replies": sorted(lines(folder, "replies"))}


def unbroken(place, name, n):
    """What a run that nobody stops leaves; made once."""
    if (name, n) not in place.unbroken:
        out = place.folder / f"unbroken {name} {n}"
        finish(start(place, n, out, name))
        place.unbroken[name, n] = contents(out)
    return place.unbroken[name, n]


STAGES = {"queries": "queries", "candidates": "candidates", "replies": "judge"}  # stem -> stage


def growing(folder):
    """The files to which rows are added, the newest last.

    Ties count as if the reply came first: a reply is written before the query that it becomes.
    """
    stems = ("replies", "queries", "candidates")
    paths = [path for stem in stems for path in folder.glob(f"{stem}*.jsonl")]
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns)


def n_rows(folder, stem="*"):
    """How many whole rows there are; "*": of all stages."""
    names = [path for path in growing(folder) if stem in ("*", path.name.split(".")[0])]
    return sum(path.read_bytes().count(b"\n") for path in names)


def kill_at(process, folder, goal, rng, stem="*"):
    """Kill a run soon after it has that many rows. Returns whether it was still running."""
    begun, deadline = time.time_ns(), time.monotonic() + 200
    config = folder / "config.json"  # written again before the first stage
    while not (
        config.exists() and config.stat().st_mtime_ns > begun and n_rows(folder, stem) >= goal
    ):
        assert time.monotonic() < deadline, "the run makes no progress"
        if process.poll() is not None:
            break
        time.sleep(0.001)
    time.sleep(rng.choice([0, rng.uniform(0, 0.01), rng.uniform(0, 0.1)]))
    alive = process.poll() is None
    process.kill()
    kill_all(str(folder))  # those of torchrun, too
    printed, _ = process.communicate()
    assert alive or process.returncode == 0, printed[-5000:]
    return alive


def tear(path, rng):
    """Cut a file's last row, as a kill within a write leaves it."""
    data = path.read_bytes()
    start = data.rstrip(b"\n").rfind(b"\n") + 1
    path.write_bytes(data[: rng.randint(start + 1, max(start + 1, len(data) - 2))])


def killed(place, name):
    """The folder of a run that was killed four times per stage, and stage -> number of kills.

    A judge by rules writes no rows: there the kills come when all other rows are written.
    """
    out, rng = place.folder / f"killed {name}", random.Random(f"{name} 0")
    whole = {stem: n_rows(place.folder / f"unbroken {name} 0", stem) for stem in STAGES}
    goals = [
        (stem, rng.randint(1, whole[stem])) for stem in STAGES if whole[stem] for _ in range(4)
    ]
    goals += [("candidates", whole["candidates"])] * (0 if whole["replies"] else 4)
    stems, rounds = list(STAGES), "target" in name  # in rounds, the stages alternate
    goals.sort(key=lambda goal: (not rounds and stems.index(goal[0]), goal[1] / whole[goal[0]]))
    hit = dict.fromkeys(STAGES.values(), 0)
    for stem, goal in goals:
        goal = max(goal, min(whole[stem], n_rows(out, stem) + 1))
        if not kill_at(start(place, 0, out, name), out, goal, rng, stem):
            continue
        newest, left = growing(out)[-1], n_rows(out) < sum(whole.values())
        hit[STAGES[newest.name.split(".")[0]] if left else "judge"] += 1
        if left and newest.stat().st_size and rng.random() < 0.5:
            tear(newest, rng)
    finish(start(place, 0, out, name))
    return out, hit


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["own queries, rules", "a model as judge", "to a target, by a server"]
)
def test_killed_ten_times_the_files_equal_those_of_an_unbroken_run(place, name):
    expected = unbroken(place, name, 0)
    out, hit = killed(place, name)
    print(name, hit)
    left = contents(out)
    assert set(left["replies"]) ^ set(expected["replies"]) == set()  # a short message first
    assert left == expected
    assert sum(hit.values()) >= 10 and hit["candidates"] and hit["judge"]
    assert hit["queries"] or name != "a model as judge"  # own queries are copied in a moment


@linux
@pytest.mark.slow
def test_a_run_of_two_processes_may_be_ended_by_one_and_the_other_way_round(place):
    name = "a model as judge"
    one, rng = unbroken(place, name, 0), random.Random(0)
    goals = {share: share * n_rows(place.folder / f"unbroken {name} 0") for share in (0.3, 0.7)}
    for numbers in [(2, 0, 2), (0, 2, 0)]:
        out = place.folder / f"changed {numbers}"
        for n, goal in zip(numbers, goals.values(), strict=False):
            assert kill_at(start(place, n, out, name), out, goal, rng)
        finish(start(place, numbers[-1], out, name))
        for stem in ("queries", "candidates", "replies"):
            assert sorted(lines(out, stem)) == sorted(
                lines(place.folder / f"unbroken {name} 0", stem)
            )
        for path in ("pairs.jsonl", "dropped.jsonl", "skipped.jsonl"):
            assert (out / path).read_text() == one[path]


# The same in short, in this process


@pytest.fixture
def main(place, tmp_path):
    """Run the script in this process. Returns what is in its folder then."""

    def main(name, out="out", **settings):
        settings = flags(place, tmp_path / out, name) | {"limit": 3, "balance": False} | settings
        settings["responder"], settings["judge"] = (
            str(settings.get(role, "rules")) for role in ("responder", "judge")
        )
        with pairs_or_none():
            make_pairs.main(make_pairs.PairsConfig(**settings))
        return contents(tmp_path / out)

    return main


@linux
def test_killed_twice_the_files_equal_those_of_an_unbroken_run(place, main, tmp_path):
    name = "to a target, by a server"
    expected, rng = main(name, "unbroken"), random.Random(0)
    settings = flags(place, tmp_path / "killed", name) | {"limit": 3}
    for share in (0.2, 0.7):
        process = launch("make_pairs.py", 0, settings, "--no-balance")
        assert kill_at(process, tmp_path / "killed", share * n_rows(tmp_path / "unbroken"), rng)
        tear(growing(tmp_path / "killed")[-1], rng)
    with pytest.warns(UserWarning, match="cut short"):
        assert main(name, "killed") == expected


@pytest.mark.parametrize(
    "name", ["own queries, rules", "a model as judge", "a server refuses some"]
)
def test_one_stage_after_another_leaves_what_all_at_once_do(main, name, capsys):
    for stage in ("queries", "candidates"):
        with pytest.raises(AssertionError):  # pairs.jsonl is missing
            main(name, stage=stage, limit=4)
    by_stage, printed = main(name, stage="judge", limit=4), capsys.readouterr().out
    assert by_stage == main(name, "all", limit=4)
    counts = [text.splitlines()[-1].split(";")[0] for text in (printed, capsys.readouterr().out)]
    assert counts[0] == counts[1]  # so many skipped


def test_a_refused_query_leaves_the_other_queries_of_its_video(main):
    left = main("a server refuses some")
    asked = [json.loads(line) for line in left["queries.jsonl"].splitlines()]
    refused = [json.loads(line)["video"] for line in left["skipped.jsonl"].splitlines()]
    assert len(asked) < 3 * 3 * 2 and {row["video"] for row in asked} & set(refused)
    assert len(left["candidates.jsonl"].splitlines()) == len(asked)


def test_a_video_that_only_corrupts_others_is_not_skipped(main):
    first = main("own queries, rules", limit=0)
    assert first["skipped.jsonl"] == "" and main("own queries, rules", limit=0) == first


@pytest.mark.slow
def test_pairs_wait_for_the_slower_process(place, tmp_path, main):
    rows = [{"video": "00001.avi", "mode": mode, "query": f"Is the {colour} square left?"}
            for mode in MODES for colour in ("red", "pink", "blue", "white")]  # fmt: skip
    rows.append(rows[0] | {"video": "00000.avi"})  # is all that the first process has to do
    write_rows(tmp_path / "few.jsonl", rows)
    own = {"queries": tmp_path / "few.jsonl", "limit": 2}
    settings = flags(place, tmp_path / "two", "own queries, rules") | own
    finish(launch("make_pairs.py", 2, settings, "--no-balance"))
    one, two = main("own queries, rules", **own), contents(tmp_path / "two")
    assert len(two["candidates.rank1.jsonl"].splitlines()) == 12
    assert all(one[name] == two[name] for name in ("pairs.jsonl", "dropped.jsonl", "audit.json"))
