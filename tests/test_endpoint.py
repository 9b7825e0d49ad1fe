"""A server as a model: what is sent, what is tried again, and what never leaves or comes in.

python -m pytest -q tests/test_endpoint.py
"""

import base64
import html
import io
import json
import re
import shutil
import ssl
import subprocess
import time
from itertools import count
from threading import Lock
from urllib.parse import quote

import numpy as np
import pytest
import server as fake
from PIL import Image
from server import FakeServer, completion, from_number, pictures_of, prompt_of, replying, status

from pasta.making import server as module
from pasta.making.server import LONGEST_WAIT, Pictures, Server, ServerError, png
from pasta.models.generate import Request, ask
from pasta.toy import world

KEY = "sk-very-secret-0123456789"
FAST = {"timeout": 5.0, "tries": 4, "wait": 0.001}


@pytest.fixture
def server():
    with FakeServer() as running:
        yield running


def asked(server, requests=None, **settings):
    """The Answers of a server, in order."""
    requests = requests or [Request(None, "Is it left?")]
    found = dict(Server(server.address, **FAST | settings).answers(requests))
    return [found[i] for i in range(len(requests))]


def questions(n):
    return [Request(None, f"Is number {i} left?") for i in range(n)]


def tiny_video(n=2, side=4):
    frames = np.random.default_rng(0).integers(0, 256, (n, side, side, 3)).astype(np.uint8)
    return frames, np.arange(n) * 0.5


# What is sent


def test_a_request_about_a_video_is_one_of_openai_s_shape(server):
    frames, times = tiny_video()
    video = Server(server.address).prepare(frames, times)
    asked(server, [Request(video, "Is it left?", seed=2**40 + 5, temperature=0.7)])
    urls = ["data:image/png;base64," + base64.b64encode(png(frame)).decode() for frame in frames]
    assert server.seen[0].path == "/v1/chat/completions"
    assert server.seen[0].headers["Content-Type"] == "application/json"
    assert server.seen[0].body == {
        "model": "tiny",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "0.0 s"},
                    {"type": "image_url", "image_url": {"url": urls[0]}},
                    {"type": "text", "text": "0.5 s"},
                    {"type": "image_url", "image_url": {"url": urls[1]}},
                    {"type": "text", "text": "Is it left?"},
                ],
            }
        ],
        "max_tokens": 128,
        "temperature": 0.7,
        "top_p": 1.0,
        "seed": 5,
    }


def test_a_request_without_video_is_a_plain_text(server):
    asked(server, [Request(None, "Is it left?")])
    assert server.seen[0].body["messages"] == [{"role": "user", "content": "Is it left?"}]


def test_the_time_of_a_frame_is_sent_to_a_tenth_of_a_second():
    times = Pictures((b"",) * 4, (0.0, 0.04, 12.345, 3600.0)).content()[::2]
    assert [part["text"] for part in times] == ["0.0 s", "0.0 s", "12.3 s", "3600.0 s"]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (3, 5), (56, 56), (123, 77)])
def test_pillow_reads_the_same_pixels_from_a_png(size):
    rng = np.random.default_rng(sum(size))
    for frame in (rng.integers(0, 256, (*size, 3)), np.zeros((*size, 3)), np.full((*size, 3), 255)):
        frame = frame.astype(np.uint8)
        with Image.open(io.BytesIO(png(frame))) as image:
            image.verify()  # the checksums too
        with Image.open(io.BytesIO(png(frame))) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert np.array_equal(np.asarray(image), frame)


def test_frames_are_shrunk_to_the_bound_and_never_grown(server):
    fitted = {(10, 10): (10, 10), (4, 5): (4, 5), (40, 90): (6, 15)}  # 3600 pixels: a sixth each
    fit = Server(server.address, max_pixels=100).fit
    assert {size: fit(8, *size) for size in fitted} == fitted


def test_a_real_model_behind_a_server_sees_the_same_pixels_and_answers_the_same(tiny, server):
    frames, times = world.render(world.draw_video(np.random.default_rng(3))), np.arange(32) / 2
    lock, seen = Lock(), []

    def say(body):
        content = body["messages"][0]["content"]
        got = [base64.b64decode(url.partition(",")[2]) for url in pictures_of(body)]
        got = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in got])
        texts = [p["text"] for p in content if p["type"] == "text"][:-1]
        inputs = tiny.processor.prepare(got, np.array([float(t.split()[0]) for t in texts]))
        request = Request(inputs, prompt_of(body), body["seed"], body["temperature"])
        with lock:
            seen.append(got)
            [answer] = ask(tiny, [request], body["max_tokens"])
        return completion(answer.text, "stop" if answer.finished else "length")

    server.say = say
    model = Server(server.address, timeout=60.0)
    wanted = [("Is the red circle left?", 0, 0.0), ("What comes first?", 7, 1.0)]
    video, inputs = model.prepare(frames, times), tiny.processor.prepare(frames, times)
    over_http = dict(model.answers([Request(video, *rest) for rest in wanted], 8))
    direct = ask(tiny, [Request(inputs, *rest) for rest in wanted], 8)
    assert all(np.array_equal(got, frames) for got in seen) and len(seen) == 2
    for i, answer in enumerate(direct):
        assert (over_http[i].text, over_http[i].finished) == (answer.text, answer.finished)


# What is tried again


@pytest.fixture
def naps(monkeypatch):
    """The seconds slept between tries, without sleeping."""
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize("name", fake.PASSING)
def test_what_may_pass_is_tried_again_until_it_does(server, name):
    server.fault = lambda number, body: name if number < 3 else None
    [answer] = asked(server)
    assert answer.text in fake.ONE.values() and answer.finished and not answer.error
    assert [seen.fate for seen in server.seen] == [name] * 3 + ["answered"]
    assert len({seen.key for seen in server.seen}) == 1  # the same request


@pytest.mark.parametrize("name", fake.PASSING)
def test_what_does_not_pass_is_tried_so_often_and_no_more(server, name):
    server.fault = from_number(0, name)
    with pytest.raises(ServerError, match=f"{server.address}/chat/completions: .* 4 times"):
        asked(server)
    assert len(server.seen) == 4


@pytest.mark.parametrize("data", [5, None, [], {}, "text", {"choices": None}, {"choices": {}},
                                  {"choices": [5]}, {"choices": [{"message": {}}]},
                                  completion(["It is left."]), completion(5), b"", b"\xff{}",
                                  b"[" * 10**6, b'{"choices": [{"mess'])  # fmt: skip
def test_any_other_reply_is_an_error_and_no_crash(server, data):
    server.fault = from_number(0, replying(data))
    with pytest.raises(ServerError, match="HTTP 200: .*expected JSON as OpenAI sends it"):
        asked(server, tries=1)


def raw(data):
    """A fault: these bytes instead of an HTTP reply."""
    return lambda handler, body: handler.wfile.write(data)


def chunks(data):
    return raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)


BAD_HTTP = {
    "negative chunk": chunks(b"-5\r\nhello\r\n0\r\n\r\n"),
    "no chunk size": chunks(b"five\r\nhello\r\n0\r\n\r\n"),
    "chunk size of other digits": chunks("٥\r\nhello\r\n0\r\n\r\n".encode()),
    "huge chunk": chunks(b"f" * 40 + b"\r\nhello\r\n0\r\n\r\n"),
    "chunk cut": chunks(b"50\r\nhello"),
    "endless chunk size": chunks(b"1" * 70000),
    "status line": raw(b"HTTP/1.1 two hundred\r\n\r\n"),
    "no status": raw(b"\x00\xff\x16\x03\x01\r\n\r\n"),
    "status of other digits": raw("HTTP/1.1 ２００ OK\r\n\r\n".encode()),
    "long header": raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000),
    "many headers": raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"),
    "no header": raw(b"HTTP/1.1 200 OK\r\nnonsense\x00\r\n\r\n"),
    "negative length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\nhello"),
    "gzip": raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00garbage"),
    "long number": replying(b'{"choices": ' + b"9" * 9999 + b"}"),
    "other HTTP": raw(b"HTTP/9.9 200 OK\r\n\r\n{}"),
}


@pytest.mark.parametrize("name", BAD_HTTP)
def test_bad_http_is_tried_again_and_then_named(server, name, capfd):
    server.fault = lambda number, body: BAD_HTTP[name] if number < 2 else None
    assert asked(server)[0].text in fake.ONE.values() and len(server.seen) == 3
    server.fault = from_number(0, BAD_HTTP[name])
    with pytest.raises(ServerError, match=r"/chat/completions: \w+ [^\n]*, 2 times; ") as caught:
        asked(server, tries=2)
    assert str(caught.value).isprintable() and "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"left \xff.", "left \ufffd."),
        (b"\xe9t\xe9", "\ufffdt\ufffd"),  # Latin-1
        (b"cut \xf0\x9f\x8d", "cut \ufffd"),  # three bytes of four
        ("été".encode(), "été"),
    ],
)
def test_bytes_that_are_no_utf_8_become_a_sign_and_the_answer_is_used(server, data, text):
    reply = json.dumps(completion("TEXT")).encode().replace(b"TEXT", data)
    server.fault = from_number(0, replying(reply))
    assert asked(server)[0].text == text and len(server.seen) == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_a_reply_may_have_any_encoding_of_json(server, encoding):
    server.fault = from_number(0, replying(json.dumps(completion("été")).encode(encoding)))
    assert asked(server)[0].text == "été"


def test_a_reply_in_chunks_is_put_together(server):
    def chunked(handler, body):
        handler.start(200, {"Transfer-Encoding": "chunked"})
        for byte in json.dumps(completion("It is left, é.")).encode():
            handler.wfile.write(b"1\r\n%c\r\n" % byte)
        handler.wfile.write(b"0\r\n\r\n")

    server.fault = from_number(0, chunked)
    assert asked(server)[0].text == "It is left, é."


@pytest.mark.parametrize(
    ("reply", "text", "finished"),
    [
        (completion(None, "length"), "", False),  # a model that thought until its limit
        ("<think>Left? No,\nright.</think>\n\nIt is right. ", "It is right.", True),
        ("left \ud83d", "left \ufffd", True),  # half a surrogate pair
    ],
    ids=["nothing", "thoughts", "surrogate"],
)
def test_the_text_of_an_answer(server, reply, text, finished):
    server.say = lambda body: reply
    [answer] = asked(server)
    assert (answer.text, answer.finished, answer.error) == (text, finished, "")
    assert len(server.seen) == 1


def test_waits_double_up_to_the_longest(server, naps):
    server.fault = from_number(0, "500")
    with pytest.raises(ServerError, match="9 times"):
        asked(server, tries=9, wait=1.0)
    wanted = [1, 2, 4, 8, 16, 32, LONGEST_WAIT, LONGEST_WAIT]
    assert all(least <= nap <= 1.5 * least for nap, least in zip(naps, wanted, strict=True))


def test_waits_differ_so_that_not_all_come_back_at_once(server, naps):
    server.fault = lambda number, body: "429" if number < 16 else None
    asked(server, questions(16), in_flight=16, tries=20)
    assert len(set(naps)) == len(naps) >= 8


@pytest.mark.parametrize("code", [401, 402, 403, 404, 405])
def test_what_no_waiting_helps_is_not_tried_again(server, code):
    server.fault = from_number(0, status(code))
    with pytest.raises(ServerError, match=rf"HTTP {code}: .*check the address, #MODEL and OPENAI"):
        asked(server)
    assert len(server.seen) == 1


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_refused_request_is_an_answer_with_an_error_and_the_others_continue(server, code):
    server.fault = lambda number, body: status(code) if "number 1 " in prompt_of(body) else None
    answers = asked(server, questions(3))
    assert [bool(answer.error) for answer in answers] == [False, True, False]
    assert f"{server.address} refused: HTTP {code}" in answers[1].error and answers[1].text == ""
    assert len(server.seen) == 3


def test_the_answers_before_a_failure_come_before_it(server):
    server.fault = from_number(5, "500")
    answers, got = Server(server.address, **FAST | {"in_flight": 2}).answers(questions(200)), []
    with pytest.raises(ServerError):
        got.extend(answers)
    assert len(got) == len(server.answered()) == 5
    assert len({seen.key for seen in server.seen}) < 100  # those that waited are asked no more


def test_what_is_left_early_asks_for_no_more(server):
    server.delay = 0.02
    answers = Server(server.address, **FAST | {"in_flight": 2}).answers(questions(200))
    next(answers)
    answers.close()
    assert len(server.seen) < 100


# Time and size


def test_as_many_requests_are_in_flight_as_allowed_and_never_more(server):
    server.delay = 0.05
    asked(server, questions(30), in_flight=5)
    assert server.most == 5


def test_a_request_that_hangs_holds_up_no_other(server):
    server.fault = lambda number, body: "hang" if number == 0 else None
    start, answers = time.monotonic(), Server(server.address, **FAST | {"timeout": 1.5}).answers
    when = [time.monotonic() - start for _ in answers(questions(8))]
    assert len(when) == 8 and max(when[:7]) < 1.4 < when[7]  # the last one was tried again


@pytest.mark.parametrize(
    ("name", "error"),
    [("hang", "TimeoutError timed out"), ("drip", "no end after 0 b"), ("drip body", "no end")],
)
def test_a_reply_that_does_not_end_is_given_up_in_time(server, name, error):
    server.fault = from_number(0, name)
    start = time.monotonic()
    with pytest.raises(ServerError, match=f"{error}.*, 1 times"):
        asked(server, timeout=0.5, tries=1)
    assert 0.45 < time.monotonic() - start < 5


def test_a_reply_of_endless_size_is_given_up(server, monkeypatch):
    monkeypatch.setattr(module, "MAX_REPLY", 2**20)
    server.fault = from_number(0, "endless")
    with pytest.raises(ServerError, match="HTTP 200"):
        asked(server, tries=1)


def test_a_server_that_is_not_there_is_an_error(server):
    port = server.port
    server.http.server_close()
    with pytest.raises(ServerError, match="ConnectionRefusedError .*, 3 times"):
        Server(f"http://127.0.0.1:{port}/v1", tries=3, wait=0.001)


# Nobody but the named host


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("same", [False, True])
def test_a_redirect_is_not_followed(server, code, same):
    with FakeServer() as other:
        target = f"{(server if same else other).address}/elsewhere"
        server.fault = from_number(0, status(code, Location=target))
        with pytest.raises(ServerError, match=f"HTTP {code}: .* to {target}"):
            asked(server)
        assert len(server.seen) == 1 and not other.seen and not other.gets


def test_no_proxy_is_used(server, monkeypatch):
    with FakeServer() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        asked(server)
        assert server.answered() and not proxy.seen and not proxy.gets


@pytest.mark.parametrize("path", ["", "/", "/v1/", "/a/b"])
def test_the_address_s_path_is_kept(server, path):
    model = Server(f"http://127.0.0.1:{server.port}{path}#M", **FAST)
    with pytest.raises(ServerError) if path != "/v1/" else pytest.MonkeyPatch.context():
        list(model.answers([Request(None, "Is it left?")]))
    assert server.seen[0].path == f"{path.rstrip('/')}/chat/completions"


BAD_ADDRESSES = """
    http://me:hunter2@127.0.0.1:8000/v1 http://hunter2@127.0.0.1:8000/v1
    http://me:hunter/2@127.0.0.1:8000/v1 http://me:hunter2/v1@127.0.0.1/v1#M
    http://127.0.0.1:8000/v1?api_key=hunter2 http://127.0.0.1:8000/v1?api_key=hunter2#M
    https://127.0.0.1:8000/v1?api_key=a@hunter2 http://me:x?hunter2@127.0.0.1/v1
    http:// http:///v1 ftp://host/v1 http://host:x/v1 http://host:99999/v1 http://host:0/v1
    http://host:-1/v1 http://[::1/v1 http://[nine]/v1 http://a..b/v1 http://host/v\u00e9 ://host
""".split()
BAD_ADDRESSES += ["http://host name/v1", "http://host/v 1", " http://host/v1", "http://host/v1 #M"]
BAD_ADDRESSES += [
    "http://host\t/v1",
    "http://host/v1\n",
    "http://ho\x1bst/v1",
    "http://me:\nhunter2@h",
]


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_a_bad_address_is_refused_and_a_secret_in_it_is_not_repeated(address):
    with pytest.raises(ValueError, match=r"expected http://HOST:PORT/v1 or [^\n]*$") as caught:
        Server(address)
    message = str(caught.value)
    assert "hunter" not in message and message.isprintable()
    assert address in message or "hunter" in address or not address.isprintable()


@pytest.mark.parametrize("address", ["HTTP://127.0.0.1:{}/v1", "http://127.0.0.1:{}/v1/#a b?c"])
def test_an_unusual_address_that_is_sound_is_used(server, address):
    model = Server(address.format(server.port))
    list(model.answers([Request(None, "Is it left?")]))
    assert server.seen[0].body["model"] == ("a b?c" if "#" in address else "tiny")


def test_an_untrusted_certificate_is_an_error(server, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1"]
    command += ["-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with FakeServer() as secure:
        secure.http.socket = context.wrap_socket(secure.http.socket, server_side=True)
        with pytest.raises(ServerError, match="CERTIFICATE_VERIFY_FAILED"):
            Server(f"https://127.0.0.1:{secure.port}/v1", **FAST)
        assert not secure.gets


def test_a_server_without_https_is_an_error(server):
    with pytest.raises(ServerError, match="SSL"):
        Server(server.address.replace("http:", "https:"), **FAST)


# Models


def test_the_name_of_a_model_follows_the_address_unless_there_is_only_one(server):
    assert Server(server.address).author == f"{server.address}#tiny"
    server.gets.clear()
    server.models = (500, {})
    model = Server(f"{server.address}#org/model@2", **FAST)
    list(model.answers([Request(None, "Is it left?")]))
    assert model.model == server.seen[0].body["model"] == "org/model@2" and not server.gets


@pytest.mark.parametrize("names", [["a", "b"], []])
def test_several_models_or_none_are_refused_with_their_names(server, names):
    server.models = (200, {"data": [{"id": name} for name in names]})
    text = "2 models: a, b" if names else "0 models"
    text = f"has {text}; name one as {server.address}#MODEL"
    with pytest.raises(ServerError, match=re.escape(text)):
        Server(server.address)


@pytest.mark.parametrize("code", [400, 401, 404, 422, 500, 200])
def test_a_server_that_does_not_list_its_models_is_an_error(server, code):
    server.models = (code, {"data": [{"id": 1}, {"id": 2}]})  # ids that are no texts
    with pytest.raises(ServerError, match=f"{server.address}/models: HTTP {code}"):
        Server(server.address, **FAST)


# The key


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return KEY


@pytest.mark.parametrize(
    ("given", "sent"), [("", None), (KEY, f"Bearer {KEY}"), (f" {KEY}\n", f"Bearer {KEY}")]
)
def test_the_key_is_in_the_header_only_without_blanks(server, monkeypatch, given, sent):
    monkeypatch.setenv("OPENAI_API_KEY", given)
    asked(server)
    for headers in (server.gets[0], server.seen[0].headers):
        assert headers.pop("Authorization", None) == sent
        assert KEY not in str(headers)
    assert KEY not in str(server.seen[0].body) + server.seen[0].path


def output_of(server):
    """All texts that a failing request leads to."""
    try:
        return "".join(answer.error + answer.text for answer in asked(server, tries=2))
    except ServerError as error:
        return f"{error} {error!r} {error.__cause__} {error.__context__}"


ECHOES = {
    **{str(code): status(code) for code in (401, 400, 500)},
    "307": status(307, Location=f"http://127.0.0.1:9/?key={KEY}"),
    "status line": lambda handler, _: handler.wfile.write(f"SECRET {KEY}\r\n\r\n".encode()),
    "at the edge": replying(b"x" * 190 + KEY.encode(), 401),
    "not JSON": replying(f"<b>{KEY}</b>".encode()),
    "answer": replying(completion(f"Your key is {KEY}.")),
}


@pytest.mark.parametrize("name", ECHOES)
def test_a_key_that_the_server_repeats_is_not_repeated_by_us(server, key, name):
    server.fault = from_number(0, ECHOES[name])
    text = output_of(server)
    assert len(text) > 10
    assert not any(key[i : i + 8] in text for i in range(len(key) - 7))


SPECIAL = "sk-Ab/9+z<&>'q\"=x%2Fy"  # each sign has an escape somewhere
ESCAPED = {
    "JSON": str,  # by the JSON of the reply
    "HTML": html.escape,
    "percent": lambda key: quote(key, ""),
    "percent, but the slash": quote,
}


@pytest.mark.parametrize("code", [200, 400, 401])
@pytest.mark.parametrize("name", ESCAPED)
def test_a_key_is_hidden_however_it_is_escaped(server, monkeypatch, name, code):
    monkeypatch.setenv("OPENAI_API_KEY", SPECIAL)
    said = f"your key is {ESCAPED[name](SPECIAL)} ok"
    body = {"choices": completion(said)["choices"], "error": said}
    server.fault = from_number(0, replying(json.dumps(body).encode(), code))
    text = output_of(server)
    assert "your key is *** ok" in text
    assert not any(SPECIAL[i : i + 8] in text for i in range(len(SPECIAL) - 7))


def test_a_word_in_the_key_s_place_hides_no_answer(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "left")  # a server without keys wants some word, "EMPTY"
    server.say = lambda body: "It is left."
    assert asked(server)[0].text == "It is left."


@pytest.mark.parametrize("bad", [f"{KEY}\nX: y", f"“{KEY}”", f"{KEY}\x00"])
def test_a_key_that_no_header_holds_is_refused_and_not_repeated(server, monkeypatch, bad):
    if "\x00" in bad:  # no environment holds it
        monkeypatch.setattr(module.os, "environ", {"OPENAI_API_KEY": bad})
    else:
        monkeypatch.setenv("OPENAI_API_KEY", bad)
    with pytest.raises(ServerError, match="OPENAI_API_KEY has") as caught:
        Server(server.address)
    assert KEY not in str(caught.value) and not server.gets


# Control characters


ODD = ["\x1b[31mred", "\x9b31m", "\u202egnp", "\u2066x\u2069", "a\rb", "a\bb", "\x1b]0;title\x07",
       "one\ntwo", "\x7f", "\u2028"]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_control_characters_of_a_server_are_shown_as_escapes(server, odd):
    faults = {
        "a refusal": replying({"error": odd}, 400),
        "text": replying(f"x{odd}y".encode(), 400),
        "an error": replying(f"x{odd}y".encode(), 401),
        "no JSON": replying(f"x{odd}y".encode()),
        "status line": raw(f"x{odd}y\r\n\r\n".encode()),
        "address": raw(f"HTTP/1.1 307 x\r\nLocation: x{odd}y\r\n\r\n".encode()),
    }
    for fault in faults.values():
        server.fault = from_number(0, fault)
        assert output_of(server).isprintable()
    server.models = (200, {"data": [{"id": odd}, {"id": "b"}]})
    with pytest.raises(ServerError, match="has 2 models") as caught:
        Server(server.address)
    assert str(caught.value).isprintable()
    server.fault = lambda number, body: None
    server.say = lambda body: f"x{odd}y"
    found = dict(Server(f"{server.address}#M").answers([Request(None, "Is it left?")]))
    assert found[0].text == f"x{odd}y"  # a row keeps what was answered


# Ctrl-C


def test_ctrl_c_waits_for_what_is_in_flight_and_for_no_more(server, monkeypatch):
    server.delay = 0.02
    numbers = count()

    def interrupted(futures):
        for future in original(futures):
            if next(numbers) == 3:
                raise KeyboardInterrupt
            yield future

    original = module.as_completed
    monkeypatch.setattr(module, "as_completed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asked(server, questions(200), in_flight=2)
    assert len(server.seen) < 100
