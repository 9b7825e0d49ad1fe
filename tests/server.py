"""A small OpenAI-compatible server for the tests: real HTTP, sensible answers, faults on demand.

    with FakeServer() as server:
        server.address                     # http://127.0.0.1:PORT/v1
        server.fault = from_number(3, "500")   # the fourth request and all behind it

It answers as a function of a request alone, so a repeated one gets the same answer. It also knows
/v1/models, which no fault hits and nobody counts.
"""

import hashlib
import json
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from threading import Event, Lock, Thread

LONG = 60.0  # seconds that no client of the tests waits

ONE = {"left": "It is left.", "right": "It is right."}
TWO = {"left": "The thing is on the left side.", "right": "The thing is on the right side."}


@dataclass
class Seen:
    """A request as the server got it, and what became of it: a fault's name, or "answered"."""

    path: str
    headers: dict
    body: dict
    fate: str = ""

    @property
    def prompt(self):
        return prompt_of(self.body)

    @property
    def key(self):
        """What tells it from other requests."""
        return digest(self.body)

    @property
    def role(self):
        return role_of(self.body)


def digest(body):
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def prompt_of(body):
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def pictures_of(body):
    """The data URLs of a request's pictures."""
    content = body["messages"][0]["content"]
    parts = [] if isinstance(content, str) else content
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def role_of(body):
    """Who is asked, by the beginnings of prompts.py's texts."""
    begins = {"Write one question": "asker", "Two answers to a question": "judge"}
    prompt = prompt_of(body)
    return next((role for text, role in begins.items() if prompt.startswith(text)), "responder")


def sensible(body):
    """A question, an answer that turns on it (the other side where it is misled), or a verdict."""
    role, prompt = role_of(body), prompt_of(body)
    if role == "asker":
        one, two, three = (digest(body)[i : i + 6] for i in (0, 6, 12))
        return f"Is {one} left or right of {two} when {three} is seen?"
    if role == "judge":
        return "fits: yes\ncontradicts: yes"
    query = prompt.splitlines()[-1]
    side = ("left", "right")[len(set(query)) % 2]
    if body["temperature"] == 0:
        return ONE[side]
    other = "right" if side == "left" else "left"
    return (ONE, TWO)[body["seed"] % 2][other]


def completion(text, finish="stop"):
    """A reply of OpenAI's shape."""
    message = {"role": "assistant", "content": text}
    return {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def status(code, **headers):
    """A fault: another status, with an error that repeats the key, as some servers do."""

    def answer(handler, body):
        said = {"error": {"message": f"no, not with {handler.headers['Authorization']}"}}
        handler.reply(code, said, {k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def hang(handler, body):
    handler.server.stopped.wait(LONG)


def cut(handler, body):
    pass  # no reply: the connection is closed behind it


def cut_body(handler, body):
    data = json.dumps(completion("It is left.")).encode()
    handler.start(200, {"Content-Length": str(len(data))})
    handler.wfile.write(data[: len(data) // 2])


def cut_chunk(handler, body):
    data = json.dumps(completion("It is left.")).encode()
    handler.start(200, {"Transfer-Encoding": "chunked"})
    handler.wfile.write(b"%x\r\n%s" % (len(data), data[:9]))


def not_json(handler, body):
    handler.reply(200, b"<html>please wait</html>")


def other_shape(handler, body):
    handler.reply(200, {"choices": []})


def drip(handler, body):
    """Bytes one by one, forever, from the first of the headers on."""
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not handler.server.stopped.wait(0.05):
            handler.wfile.write(b"x")


def drip_body(handler, body):
    with suppress(OSError):
        handler.start(200, {})
        while not handler.server.stopped.wait(0.05):
            handler.wfile.write(b" ")


def endless(handler, body):
    with suppress(OSError):
        handler.start(200, {})
        while not handler.server.stopped.is_set():
            handler.wfile.write(b" " * 2**20)


FAULTS = {
    "429": status(429, Retry_After="0"),
    "500": status(500),
    "503": status(503),
    "400": status(400),
    "401": status(401),
    "404": status(404),
    "hang": hang,
    "cut": cut,
    "cut body": cut_body,
    "cut chunk": cut_chunk,
    "not JSON": not_json,
    "other shape": other_shape,
    "drip": drip,
    "drip body": drip_body,
    "endless": endless,
}


def from_number(n, name):
    """A fault that hits the n-th request, counted from 0, and all behind it."""
    return lambda number, body: name if number >= n else None


def at_random(share, names, seed=0):
    """A fault that hits a share of the requests; each of `names` as often as the others."""

    def fault(number, body):
        rng = Random(f"{seed} {number}")
        return rng.choice(names) if rng.random() < share else None

    return fault


class Handler(BaseHTTPRequestHandler):
    """One connection; the server's `owner` is a FakeServer."""

    def do_GET(self):
        owner = self.server.owner
        owner.gets.append(dict(self.headers))
        if self.path == "/v1/models":
            return self.reply(*owner.models)
        self.reply(404, {"error": "not here"})

    def do_POST(self):
        owner = self.server.owner
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with owner.counting(Seen(self.path, dict(self.headers), body)) as (number, seen):
            fault = owner.fault(number, body)
            if not fault and self.path != "/v1/chat/completions":
                fault = "404"
            if not fault:
                if owner.delay:
                    time.sleep(owner.delay)
                text = owner.say(body)
            seen.fate = fault or "answered"  # told before the client can know
        if fault:
            return (owner.faults | FAULTS)[fault](self, body)
        self.reply(200, text if isinstance(text, dict) else completion(text))

    def reply(self, code, said, headers=None):
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.start(code, {"Content-Length": str(len(data))} | (headers or {}))
        self.wfile.write(data)

    def start(self, code, headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


class Quiet(ThreadingHTTPServer):
    """Says nothing of clients that leave early; takes many at once."""

    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


class FakeServer:
    """A server on 127.0.0.1.

    say:    body of a request -> text, or a whole reply
    fault:  (number of the request, body) -> one of FAULTS or of `faults`, or None
    models: (status, reply) of /v1/models. delay: seconds of each answer
    seen:   all POST requests in the order of their coming. gets: the headers of the others
    most:   how many were at work at the same time
    """

    def __init__(self, say=sensible, delay=0.0):
        self.say, self.delay, self.faults = say, delay, {}
        self.fault = lambda number, body: None
        self.models = (200, {"data": [{"id": "tiny"}]})
        self.seen, self.gets = [], []
        self.lock, self.now, self.most, self.port = Lock(), 0, 0, 0

    def __enter__(self):
        self.http = Quiet(("127.0.0.1", self.port), Handler)  # the same port when it comes again
        self.http.owner, self.http.stopped = self, Event()
        self.port = self.http.server_port
        self.address = f"http://127.0.0.1:{self.port}/v1"
        Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.stopped.set()
        self.http.shutdown()
        self.http.server_close()

    @contextmanager
    def counting(self, seen):
        with self.lock:
            number = len(self.seen)
            self.seen.append(seen)
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            yield number, seen
        finally:
            with self.lock:
                self.now -= 1

    def answered(self):
        """The keys of the requests that were answered, in the order of their coming."""
        return [seen.key for seen in self.seen if seen.fate == "answered"]
