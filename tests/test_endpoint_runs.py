"""make_pairs.py with servers in all three roles: faults, dead servers, several processes.

The oracle is the same run on a server without faults: no answer is lost, none asked for twice.

    python -m pytest -q tests/test_endpoint_runs.py
"""

import json
import re
import time
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
import server as fake
from conftest import finish, launch
from server import (
    FakeServer,
    at_random,
    completion,
    from_number,
    pictures_of,
    prompt_of,
    replying,
    role_of,
    sensible,
    status,
)

import make_pairs
from pasta.making import roles, stages
from pasta.making.reader import Reader
from pasta.making.server import Server
from pasta.models.generate import Request
from pasta.pairs import MODES
from pasta.run.rows import read_rows
from pasta.toy.files import write_videos

N_VIDEOS, K = 3, 3
QUERIES = N_VIDEOS * len(MODES)
ANSWERS = QUERIES * (K + 1)
ROWS = ("queries.jsonl", "candidates.jsonl", "pairs.jsonl", "dropped.jsonl", "skipped.jsonl")
KEY = "sk-very-secret-0123456789"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder, N_VIDEOS, seed=0)
    return folder


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Endpoints that wait little between tries, and try often enough for any share of faults."""
    monkeypatch.setattr(roles, "Server", partial(Server, tries=12, wait=0.001))


@pytest.fixture
def server():
    with FakeServer() as running:
        yield running


@pytest.fixture
def run(server, videos, tmp_path):
    """Run the script in this process, all roles on the server. Returns its folder."""

    def run(name="out", **settings):
        defaults = {"videos": videos, "out": tmp_path / name, "device": "cpu", "balance": False}
        defaults |= {role: server.address for role in ("responder", "asker", "judge")}
        defaults |= {"select": "none", "timeout": 20.0, "batch_videos": 2}
        make_pairs.main(make_pairs.PairsConfig(**defaults | settings))
        return tmp_path / name

    return run


@pytest.fixture
def stop(run, capsys):
    """Run a script that must end with an error. Returns its message; no next command is printed."""

    def stop(**settings):
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            run(**settings)
        assert caught.value.code and "next: " not in capsys.readouterr().out
        return str(caught.value.code)

    return stop


def contents(folder):
    """What a run wrote; replies come in any order."""
    found = {name: (folder / name).read_text() for name in ROWS}
    lines = [line for path in folder.glob("replies*.jsonl") for line in path.open()]
    return found | {"replies.jsonl": sorted(lines)}


@pytest.fixture
def whole(run, server):
    """What a run without faults writes; its requests are forgotten."""
    found = contents(run("whole"))
    server.seen.clear()
    return found


def roles_of(server):
    return Counter(seen.role for seen in server.seen)


# All three roles


@pytest.mark.parametrize("select", ["none", "flip"])
def test_three_servers_make_pairs(run, server, select):
    with FakeServer() as asker, FakeServer() as judge:
        out = run(asker=asker.address, judge=judge.address, select=select)
        assert roles_of(asker) == {"asker": QUERIES}
        assert roles_of(server) == {"responder": ANSWERS}
        assert set(roles_of(judge)) == {"judge"}
        assert not any(pictures_of(seen.body) for seen in judge.seen)  # it reads and sees nothing
    pairs, dropped = read_rows(out / "pairs.jsonl"), read_rows(out / "dropped.jsonl")
    assert {pair["mode"] for pair in pairs} == set(MODES)
    assert len(pairs) + len(dropped) == QUERIES * K
    reasons = {row["reason"] for row in dropped}
    assert reasons <= {"duplicate", "not contradicted on the corrupted video"}
    for pair in pairs:
        chosen, rejected = ("left" in pair[name] for name in ("chosen", "rejected"))
        assert chosen != rejected


def test_each_request_about_a_video_shows_its_frames(run, server):
    run()
    asker = [seen for seen in server.seen if seen.role == "asker"]
    assert {len(pictures_of(seen.body)) for seen in asker} == {32}  # all frames of a toy video
    assert len({tuple(pictures_of(seen.body)) for seen in asker}) == N_VIDEOS


def test_a_second_run_asks_nothing_and_batches_change_nothing(run, server, whole):
    assert contents(run("whole")) == whole and not server.seen
    for settings in ({"batch_videos": 1, "in_flight": 1}, {"batch_videos": 3, "in_flight": 32}):
        assert contents(run(str(settings["in_flight"]), **settings)) == whole


def test_a_model_folder_answers_what_a_server_asks(stop, server, tiny_folder, tmp_path):
    out, numbers = tmp_path / "out", {"max_new_tokens": 4, "max_pixels": 0}
    assert "cut off" in stop(responder=str(tiny_folder), dtype="float32", **numbers)
    assert roles_of(server)["asker"] == QUERIES and not roles_of(server)["responder"]
    asked = [row["query"] for row in read_rows(out / "queries.jsonl")]
    assert [row["query"] for row in read_rows(out / "candidates.jsonl")] == asked


def test_a_model_folder_judges_what_a_server_answers(
    stop, server, tiny_folder, monkeypatch, tmp_path
):
    judge = {"judge": str(tiny_folder), "dtype": "float32"}
    message = stop(**judge)  # it is no judge
    assert re.search("judge's replies cannot be read in (\\d+) of \\1, such as '", message)
    before = contents(tmp_path / "out")
    assert set(roles_of(server)) == {"asker", "responder"}
    by = Counter(json.loads(line)["by"].split()[0] for line in before["replies.jsonl"])
    assert by[f"{server.address}#tiny"] == QUERIES + ANSWERS and by[str(tiny_folder)] > 0
    monkeypatch.setattr(roles, "load_vlm", None)
    assert stop(**judge) == message and contents(tmp_path / "out") == before


# Faults that pass


PASSING = [*([name] for name in fake.PASSING), [*fake.PASSING, "hang"]]


@pytest.mark.parametrize("names", PASSING, ids=str)
def test_faults_that_pass_change_no_file(run, server, whole, names):
    share = 0.04 if "hang" in names else 0.3
    server.fault = at_random(share, names)
    assert contents(run("faulty", timeout=1.0 if "hang" in names else 20.0)) == whole
    assert set(names) & {seen.fate for seen in server.seen}
    once = Counter(server.answered())
    assert set(once.values()) == {1} and len(once) == len(whole["replies.jsonl"])


# Failures that stop a stage


STAGES = {"queries": 4, "candidates": QUERIES + 13, "judge": QUERIES + ANSWERS + 3}


@pytest.mark.parametrize("name", ["500", "cut", "not JSON", "401", "307"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_failing_server_stops_the_run_and_the_next_one_asks_what_is_missing(
    run, server, whole, tmp_path, monkeypatch, stage, name
):
    monkeypatch.setattr(roles, "Server", partial(Server, tries=2, wait=0.001))
    fault = status(307, Location="http://127.0.0.1:9/v1") if name == "307" else name
    server.fault = from_number(STAGES[stage], fault)
    with pytest.raises(SystemExit) as caught:
        run()
    message = str(caught.value)
    trouble = "" if name == "cut" else "HTTP"
    assert f"{server.address}/chat/completions: {trouble}" in message
    assert f"kept in {tmp_path / 'out'}" in message
    stored = read_rows(tmp_path / "out/replies.jsonl")
    assert len(stored) == len(server.answered()) == STAGES[stage]

    server.fault = lambda number, body: None
    assert contents(run()) == whole
    once = Counter(server.answered())
    assert set(once.values()) == {1} and len(once) == len(whole["replies.jsonl"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_server_that_goes_away_may_come_back(run, server, whole, monkeypatch, stage):
    monkeypatch.setattr(roles, "Server", partial(Server, tries=3, wait=0.001))

    def fault(number, body):
        if number >= STAGES[stage]:
            server.http.server_close()  # nobody listens any more
            return "cut"

    server.fault = fault
    with pytest.raises(SystemExit, match="ConnectionRefusedError|RemoteDisconnected|ResetError"):
        run()
    with pytest.raises(SystemExit, match="ConnectionRefusedError.*rerun the same command"):
        run()  # it is still away, and is missed before any work
    server.__exit__()
    server.fault = lambda number, body: None
    with server:
        assert contents(run()) == whole
    assert set(Counter(server.answered()).values()) == {1}


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_keeps_what_was_answered(run, server, whole, tmp_path, monkeypatch, stage):
    write, written = roles.Appender.write, []

    def interrupted(appender, row):
        write(appender, row)
        if "key" in row:
            written.append(row)
            if len(written) == STAGES[stage]:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(roles.Appender, "write", interrupted)
        patch.setattr(server, "delay", 0.05)  # else a busy machine writes after the next answers
        run(in_flight=1)
    assert len(read_rows(tmp_path / "out/replies.jsonl")) == STAGES[stage]
    lost = len(server.seen) - STAGES[stage]
    assert lost <= 2  # what was in flight
    assert contents(run()) == whole
    assert len(server.answered()) == len(whole["replies.jsonl"]) + lost


def test_an_answer_that_cannot_be_written_ends_the_asking(server, tmp_path, monkeypatch):
    def full(appender, row):
        raise OSError("no space left on device")

    monkeypatch.setattr(roles.Appender, "write", full)
    requests = [Request(None, f"Is number {i} left?") for i in range(200)]
    server.delay = 0.01
    config = SimpleNamespace(out=tmp_path, max_pixels=0, in_flight=2, timeout=20.0)
    with pytest.raises(OSError, match="no space") as caught:
        roles.Roles(config, "cpu").ask_once(server.address, requests, 8)
    n = len(server.seen)
    time.sleep(0.1)
    assert len(server.seen) == n < 100 and caught  # its traceback holds the generator


# A server that cannot do what the run needs


def refusing(text, code=400):
    return replying({"error": {"message": text}}, code)


def saying(text, finish="stop"):
    return replying(completion(text, finish))


USELESS = {  # name -> (role, fault, what the message must have)
    "no pictures": ("asker", refusing("M is not a multimodal model"), "not a multimodal model"),
    "short context": (
        "asker",
        refusing("Input length (25067) exceeds", 422),
        "Input length .25067",
    ),
    "pinned": ("responder", refusing("Server is pinned to X"), "pinned to X.*docs/pairs.md"),
    "one picture": ("responder", refusing("At most 1 image(s)", 413), r"At most 1 image\(s\)"),
    "refusing judge": ("judge", refusing("no such model"), "27 of 27, .*no such model"),
    "asker thinks": ("asker", saying(None, "length"), "asks nothing, .*''"),
    "asker chats": ("asker", saying("Nice video!"), "asks nothing, .*'Nice video!'"),
    "asker repeats": ("asker", saying("<video>?"), "'<video>.'"),
    "cut off": ("responder", saying("It is", "length"), "36 of 36|27 of 27.*cut off, .*'It is "),
    "empty": ("responder", saying(""), "of 27 pairs: preferred empty, "),
    "one answer": ("responder", saying("It is left."), "of 27 pairs: same as preferred"),
    "refuses": ("responder", saying("Sorry, no."), "of 27 pairs: preferred ref.*'Sorry, no. "),
    "wrong judge": ("judge", saying("Yes, it is."), "read in 27 of 27, .*'Yes, it is.'"),
    "judge thinks": ("judge", saying(None, "length"), "judge's replies .* 27 of 27, .*''"),
    "strict judge": ("judge", saying("fits: no\ncontradicts: no"), "27 pairs: judge says that pr"),
}


REFUSALS = ("no pictures", "short context", "pinned", "one picture", "refusing judge")


@pytest.mark.parametrize("name", USELESS)
def test_a_run_without_pairs_is_an_error_with_the_reason(run, stop, server, whole, tmp_path, name):
    role, fault, message = USELESS[name]
    server.fault = lambda number, body: fault if role_of(body) == role else None
    assert re.search(message, stop(), re.S)
    server.fault = lambda number, body: None
    stored = [row["key"] for row in read_rows(tmp_path / "out/replies.jsonl")]
    assert len(stored) == len(set(stored)) >= (0 if role == "asker" else QUERIES)
    if name in REFUSALS:
        assert contents(run()) == whole  # what was refused is asked again


@pytest.mark.parametrize("stage", ["queries", "candidates"])
def test_a_stage_without_rows_is_an_error_too(run, stop, server, stage):
    if stage == "candidates":
        run(stage="queries")
    server.fault = from_number(0, refusing("not a multimodal model"))
    assert re.search(f"no {stage}: .* of 3 videos: http.* refused", stop(stage=stage))
    server.fault = lambda number, body: None
    run(stage=stage)


@pytest.mark.parametrize("name", ["no pictures", "pinned"])
def test_a_server_that_refuses_all_stops_the_run_early(
    run, stop, server, whole, monkeypatch, tmp_path, name
):
    monkeypatch.setattr(stages, "FIRST", 2)
    role, fault, message = USELESS[name]
    server.fault = lambda number, body: fault if role_of(body) == role else None
    text = stop(batch_videos=1)
    assert f"kept in {tmp_path / 'out'}" in text and "2 videos" in text
    used = roles_of(server)[role]
    assert used <= {"asker": 2 * 9, "responder": 2 * 12}[role]
    server.fault = lambda number, body: None
    assert contents(run()) == whole


@pytest.mark.parametrize("role", ["asker", "responder"])
def test_bad_videos_at_the_start_stop_no_run_that_has_worked(
    run, server, videos, monkeypatch, role
):
    shows = only_shows(videos / "00001.avi", server)  # the second of three
    monkeypatch.setattr(stages, "FIRST", 1)
    server.fault = lambda number, body: "400" if role_of(body) == role and shows(body) else None
    assert len(read_rows(run("other") / "skipped.jsonl")) == 1  # the next run asks about it alone
    assert len(read_rows(run("other") / "skipped.jsonl")) == 1


# Refused videos


@pytest.mark.parametrize("role", ["asker", "responder"])
def test_a_refused_video_is_named_and_the_others_continue(run, server, whole, videos, role):
    video = videos / "00001.avi"
    shows = only_shows(video, server)
    server.fault = lambda number, body: "400" if role_of(body) == role and shows(body) else None
    out = run()
    [skipped] = read_rows(out / "skipped.jsonl")
    assert skipped["video"] == str(video)
    assert skipped["reason"].startswith(f"{server.address} refused: HTTP 400")
    assert "400" in {seen.fate for seen in server.seen}
    for name in ROWS[role == "responder" : 4]:
        rows = [json.loads(line) for line in whole[name].splitlines()]
        assert read_rows(out / name) == [row for row in rows if row["video"] != str(video)]
    server.fault = lambda number, body: None
    assert contents(run())["skipped.jsonl"] == ""  # the next run asks again
    assert read_rows(out / "candidates.jsonl")[-1]["video"] == str(video)


def only_shows(video, server):
    """A function of a request's body: whether its frames, if any, are all of one video."""
    model = Server(server.address)
    frames = Reader([str(video)], "/", model, 0).frames(str(video))["uniform"]  # all of them
    parts = model.prepare(*frames).content()
    its = {part["image_url"]["url"] for part in parts if part["type"] == "image_url"}
    return lambda body: its.issuperset(pictures_of(body) or ["none"])


# The judge


def test_a_refusing_judge_is_reported_and_asked_again_by_the_next_run(run, stop, server, whole):
    server.fault = lambda number, body: "400" if role_of(body) == "judge" else None
    bad = f"judge's replies cannot be read in 27 of 27, such as {server.address} refused"
    assert f"{bad}: HTTP 400" in stop()
    server.fault = lambda number, body: None
    assert contents(run()) == whole


def test_a_judge_that_misreads_some_cases_is_reported_with_their_number(run, server, capsys):
    queries = []  # those of the judge's cases; it misreads what is about the first

    def say(body):
        if role_of(body) != "judge":
            return sensible(body)
        queries.append(re.search(r"Is \w+ left", prompt_of(body))[0])
        return "I think \x1b[31mso." if queries[-1] == queries[0] else sensible(body)

    server.say = say
    run()
    printed = capsys.readouterr().out
    [line] = [
        line.partition("; ")[2] for line in printed.splitlines() if "cannot be read in" in line
    ]
    assert re.match(r"judge's replies cannot be read in \d of 27, such as 'I think ", line)
    assert "\x1b" not in printed


def test_a_judge_is_asked_in_batches(run, server):
    with FakeServer(delay=0.1) as judge:
        run(judge=judge.address, in_flight=8)
        assert judge.most == 8


# The key


@pytest.mark.parametrize("name", [None, "401", "400", "500"])
def test_the_key_is_in_no_file_and_in_no_output(run, server, monkeypatch, tmp_path, capfd, name):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(roles, "Server", partial(Server, tries=2, wait=0.001))
    server.fault = lambda number, body: name if number % 5 == 4 or name == "401" else None
    stopped = ""
    try:
        run()
    except SystemExit as error:
        stopped = str(error)
    assert bool(stopped) == (name in ("401", "500") and "HTTP" in stopped)
    assert {seen.headers["Authorization"] for seen in server.seen} == {f"Bearer {KEY}"}
    printed = capfd.readouterr()
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3 and (name != "400" or b"***" in b"".join(files))
    assert KEY not in stopped + printed.out + printed.err
    assert not any(KEY.encode() in data for data in files)


@pytest.mark.parametrize("role", ["asker", "responder", "judge"])
def test_an_address_with_a_password_is_refused_before_anything_is_written(run, tmp_path, role):
    with pytest.raises(ValueError, match="expected http://HOST:PORT/v1") as caught:
        run(**{role: "http://me:hunter2@127.0.0.1:8000/v1"})
    assert "hunter2" not in str(caught.value) and not list(tmp_path.glob("out/*"))


# Processes


@pytest.fixture
def two(server, videos, tmp_path):
    """Start the script in two processes; how to see that a request is of the second one."""
    flags = {"videos": videos, "out": tmp_path / "out", "device": "cpu", "select": "none"}
    flags |= {role: server.address for role in ("responder", "asker", "judge")}
    late = only_shows(videos / "00001.avi", server)
    return lambda: launch("make_pairs.py", 2, flags, "--no-balance"), late


def test_two_processes_make_the_same_pairs_as_one(run, server, whole, two, tmp_path):
    start, late = two

    def say(body):
        time.sleep(0.5 * late(body))
        return sensible(body)

    server.say = say
    finish(start())
    for name in ("pairs.jsonl", "dropped.jsonl", "skipped.jsonl"):
        assert (tmp_path / "out" / name).read_text() == whole[name]
    assert (tmp_path / "out/candidates.rank1.jsonl").exists()


@pytest.mark.slow
def test_a_server_that_fails_one_of_two_processes_stops_both(run, server, whole, two):
    start, late = two
    server.fault = lambda _, body: "401" if role_of(body) == "responder" and late(body) else None
    process = start()
    printed, _ = process.communicate(timeout=120)
    assert process.returncode != 0 and "HTTP 401" in printed and "kept in" in printed
    server.fault = lambda number, body: None
    assert (run() / "pairs.jsonl").read_text() == whole["pairs.jsonl"]  # by one process
    assert len(server.answered()) - len(whole["replies.jsonl"]) <= 16  # in flight when both ended
