"""A small OpenAI-compatible server for the tests: real HTTP, sensible answers, faults on demand.

    with FakeServer() as server:
        server.address                     # http://127.0.0.1:PORT/v1
        server.fault = from_number(3, "500")   # the fourth request and all later ones

Its answer depends on the request only. No fault affects /v1/models.
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

    def __post_init__(self):
        self.prompt, self.role = prompt_of(self.body), role_of(self.body)
        self.key = digest(self.body)  # equal for a retry, different for other requests


def digest(body):
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def prompt_of(body):
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def pictures_of(body):
    """The data URLs of a request's images."""
    content = body["messages"][0]["content"]
    parts = [] if isinstance(content, str) else content
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def role_of(body):
    """Which role the request is for, by the start of its prompt."""
    begins = {"Write one question": "asker", "Two answers to a question": "judge"}
    prompt = prompt_of(body)
    return next((role for text, role in begins.items() if prompt.startswith(text)), "responder")


def sensible(body):
    """A question, an answer to it (the other side if misled), or a verdict."""
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
    """A reply as OpenAI sends it."""
    message = {"role": "assistant", "content": text}
    return {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


# Faults: functions of (handler, body) that send something else than an answer.


def replying(data, code=200):
    """A fault: another reply, bytes or JSON."""
    return lambda handler, body: handler.reply(code, data)


def status(code, **headers):
    """A fault: another status, with an error that repeats the key, as some servers do."""

    def answer(handler, body):
        error = {"error": {"message": f"no, not with {handler.headers['Authorization']}"}}
        handler.reply(code, error, {k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def cut(head, n=None, encode=bytes):
    """A fault: the connection closes after these headers and n bytes of a reply."""

    def answer(handler, body):
        data = json.dumps(completion("It is left.")).encode()
        handler.start(200, head(data))
        handler.wfile.write(encode(data)[:n])

    return answer


def endless(start, part, wait=0.05):
    """A fault: `start`, then `part` again and again."""

    def answer(handler, body):
        with suppress(OSError):
            handler.wfile.write(start)
            while not handler.server.stopped.wait(wait):
                handler.wfile.write(part)

    return answer


FAULTS = {
    **{str(code): status(code) for code in (429, 500, 503, 400, 401, 404)},
    "hang": lambda handler, body: handler.server.stopped.wait(LONG),
    "cut": lambda handler, body: None,
    "cut body": cut(lambda data: {"Content-Length": str(len(data))}, 40),
    "cut chunk": cut(
        lambda data: {"Transfer-Encoding": "chunked"}, 13, lambda data: b"%x\r\n" % len(data) + data
    ),
    "not JSON": replying(b"<html>please wait</html>"),
    "other shape": replying({"choices": []}),
    "drip": endless(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "drip body": endless(b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    "endless": endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 2**20, 0),
}
PASSING = ["429", "500", "503", "cut", "cut body", "cut chunk", "not JSON", "other shape"]


def from_number(n, fault):
    """A fault that hits the n-th request, counted from 0, and all later ones."""
    return lambda number, body: fault if number >= n else None


def at_random(share, names, seed=0):
    """Faults, equally many of each of `names`, that hit a share of the requests."""

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
            seen.fate = fault or "answered"  # set before the client can know
        if fault:
            return FAULTS.get(fault, fault)(self, body)
        self.reply(200, text if isinstance(text, dict) else completion(text))

    def reply(self, code, data, headers=None):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
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
    """Ignores clients that leave early; accepts many at once."""

    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


class FakeServer:
    """A server on 127.0.0.1.

    say:    body of a request -> text, or a whole reply
    fault:  (number of the request, body) -> a name in FAULTS, another fault, or None
    models: (status, reply) of /v1/models. delay: seconds per answer
    seen:   all POST requests in order of arrival. gets: the headers of the others
    most:   the largest number of requests at the same time
    """

    def __init__(self, say=sensible, delay=0.0):
        self.say, self.delay = say, delay
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
        """The keys of the answered requests, in order of arrival."""
        return [seen.key for seen in self.seen if seen.fate == "answered"]
