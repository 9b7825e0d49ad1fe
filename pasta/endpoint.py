"""The same `ask`, over an OpenAI-compatible server such as vLLM or SGLang.

A role named http://HOST:PORT/v1 is asked there, or http://HOST:PORT/v1#MODEL where the server has
several models. One Request is one HTTP request, N of them in flight; a video goes as PNG pictures,
each with its second before it.

    429, 5xx, a time-out, a cut connection, no JSON   may pass: tried again, later and later
    400, 413, 422                                     this request's own fault: an Answer with error
    401, 404, a redirect, or too many tries           the run stops; what was answered is kept

Nobody but the named host is talked to: http.client follows no redirect and knows no proxy. The key
comes from the environment, OPENAI_API_KEY, and is in no file, log or message.

Shapes: F frames, H, W pixels.
"""

import json
import os
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from pasta.ask import Answer
from pasta.pictures import Pictures, png

MAX_PIXELS = 602112  # of a frame, unless told: Qwen2.5-VL's own bound for videos
MAX_REPLY = 2**24  # bytes; a reply is a few thousand
LONGEST_WAIT = 60.0  # seconds between two tries, unless the server asks for more
TRY_AGAIN = {408, 409, 425, 429, *range(500, 600)}
REFUSED = {400, 413, 422}


class EndpointError(Exception):
    """A server that cannot be used now; what it answered before is kept."""


class Refused(Exception):
    """What a server will not do for one request, though it may for others."""


class Endpoint:
    """A server as asker, responder or judge.

    address:   http://HOST:PORT/v1, https too, with #MODEL unless the server has one model alone
    max_pixels: of a frame; 0 is MAX_PIXELS. in_flight: requests at a time. timeout: seconds of one.
    tries, wait: how often one is sent, and the seconds before it is sent again, doubled each time
    Raises ValueError for another address, EndpointError for a server without such a model.
    """

    n_frames = 32  # the paper's: a server does not tell its model's own number

    def __init__(self, address, max_pixels=0, in_flight=16, timeout=300.0, tries=6, wait=1.0):
        url = urlsplit(address)
        plain = not (url.username or url.password or url.query)
        if url.scheme not in ("http", "https") or not url.hostname or not plain:
            raise ValueError(f"{hidden(address)}: expected http://HOST:PORT/v1 or .../v1#MODEL, "
                             "without user, password or ?; a key goes into OPENAI_API_KEY")
        self.connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
        self.host, self.path = url.netloc, url.path.rstrip("/")
        self.max_pixels, self.in_flight, self.timeout = max_pixels or MAX_PIXELS, in_flight, timeout
        self.tries, self.wait = tries, wait
        self.address = address.partition("#")[0]
        self.model = url.fragment or self.only_model()
        self.name = f"{self.address}#{self.model}"

    def only_model(self):
        """The id of the one model that the server has."""
        models = self.call("GET", "/models", lambda reply: [m["id"] for m in reply["data"]])
        if len(models) != 1:
            raise EndpointError(f"{self.address} has {len(models)} models: {', '.join(models)}; "
                                f"name one as {self.address}#MODEL")
        return models[0]

    def fit(self, n_frames, height, width):
        """The (height, width) at which frames are sent: theirs, or of max_pixels at most."""
        shrink = min(1.0, (self.max_pixels / (height * width)) ** 0.5)
        return max(1, int(height * shrink)), max(1, int(width * shrink))

    def prepare(self, frames, timestamps):
        """(F, H, W, 3) uint8 frames, which were decoded at the size of `fit`, to Pictures."""
        return Pictures(tuple(map(png, frames)), tuple(map(float, timestamps)))

    def answers(self, requests, max_new_tokens=128):
        """Yield (index, Answer) of a list of Request, as they come.

        Raises EndpointError when the server fails, behind all that it did answer.
        """
        failure = None
        with ThreadPoolExecutor(self.in_flight) as pool:
            index = {pool.submit(self.answer, r, max_new_tokens): i for i, r in enumerate(requests)}
            for future in as_completed(index):
                if future.cancelled():
                    continue
                try:
                    answer = future.result()
                except EndpointError as error:
                    failure = failure or error
                    for waiting in index:
                        waiting.cancel()
                else:
                    yield index[future], answer
        if failure:
            raise failure

    def answer(self, request, max_new_tokens):
        """The Answer to one Request; its `error` tells why the server refused."""
        content = [{"type": "text", "text": request.prompt}]
        if request.inputs is not None:
            content = [*request.inputs.content(), *content]
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": max_new_tokens,
            "temperature": request.temperature,
            "seed": request.seed % 2**31,  # more than 32 bits are not taken everywhere
        }
        try:
            return self.call("POST", "/chat/completions", read_answer, body)
        except Refused as error:
            return Answer("", (), 0.0, False, error=str(error))

    def call(self, method, path, read, body=None):
        """What `read` finds in the reply to a call, which is tried again while that may help.

        read: a function of the reply's JSON; LookupError and TypeError say that it is another one.
        """
        data, wait = None if body is None else json.dumps(body), self.wait
        for attempt in range(self.tries):
            if attempt:
                time.sleep(wait * random.uniform(0.5, 1.0))  # so that not all come back at once
                wait = min(2 * wait, LONGEST_WAIT)
            try:
                status, headers, reply = self.exchange(method, self.path + path, data)
            except (OSError, HTTPException) as error:  # time-outs and cut connections
                trouble = f"{type(error).__name__} {error}".strip()
                continue
            trouble = f"HTTP {status}: {self.without_key(reply[:200])}"
            if status in REFUSED:
                raise Refused(f"{self.address} refused: {trouble}")
            if status == 200:
                try:
                    return read(json.loads(reply))
                except (ValueError, LookupError, TypeError):
                    continue
            if status not in TRY_AGAIN:
                where = f" to {headers['Location']}" if headers["Location"] else ""
                raise EndpointError(f"{self.address}{path}: {trouble}{where}; expected a reply of "
                                    "200: see the address, #MODEL and OPENAI_API_KEY")
            wait = max(wait, asked_to_wait(headers["Retry-After"]))
        raise EndpointError(f"{self.address}{path}: {trouble}, {self.tries} times; when the server "
                            "is well again, the same command goes on")

    def exchange(self, method, path, body):
        """(status, headers, bytes) of one HTTP exchange."""
        headers, key = {"Content-Type": "application/json"}, os.environ.get("OPENAI_API_KEY")
        if key:
            headers["Authorization"] = f"Bearer {key}"
        end = time.monotonic() + self.timeout
        connection = self.connect(self.host, timeout=self.timeout)
        try:
            connection.request(method, path, body, headers)
            response, reply = connection.getresponse(), b""
            while part := response.read1(2**16):  # in parts: each may take the whole time-out
                reply += part
                if time.monotonic() > end or len(reply) > MAX_REPLY:
                    raise TimeoutError(f"no end after {len(reply)} bytes")
            return response.status, response.headers, reply
        finally:
            connection.close()

    def without_key(self, data):
        """A server's bytes as text for a message; some repeat the key that they refuse."""
        key, text = os.environ.get("OPENAI_API_KEY"), data.decode(errors="replace").strip()
        return text.replace(key, "***") if key else text


def is_address(name):
    """Whether a role's name is the address of a server."""
    return str(name).startswith(("http://", "https://"))


def hidden(address):
    """An address for a message, without a password that may be in it."""
    return re.sub(r"//[^/]*@", "//***@", address)


def asked_to_wait(value):
    """Seconds of a Retry-After header; 0 for none, and for a date, which few servers send."""
    return min(float(value), 600.0) if value and value.isdigit() else 0.0


def read_answer(reply):
    """The Answer in a chat completion, its <think> block taken out."""
    choice = reply["choices"][0]
    text = re.sub(r"^\s*<think>.*?</think>", "", choice["message"]["content"] or "", flags=re.S)
    return Answer(text.strip(), (), 0.0, choice["finish_reason"] == "stop")
