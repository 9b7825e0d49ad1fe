"""The same `ask`, over an OpenAI-compatible server such as vLLM or SGLang.

A role named http://HOST:PORT/v1 is asked there, or http://HOST:PORT/v1#MODEL where the server has
several models. One Request is one HTTP request, N of them in flight; a video goes as PNG pictures,
each with its second before it.

    429, 5xx, a time-out, a cut connection, no JSON   may pass: tried again, later and later
    400, 413, 422                                     this request's own fault: an Answer with error
    401, 404, a redirect, or too many tries           the run stops; what was answered is kept

Nobody but the named host is talked to: http.client follows no redirect and knows no proxy. The key
comes from the environment, OPENAI_API_KEY, and is in no file, log or message.

Tokens are drawn as `ask` draws them, if the server adds nothing of its own: vLLM takes top_k and a
repetition penalty from the model's folder unless it is started with `--generation-config vllm`.

Shapes: F frames, H, W pixels.
"""

import json
import os
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SHUT_RDWR, socket
from threading import Timer
from urllib.parse import quote, urlsplit

from pasta.making.pictures import MAX_PIXELS, Pictures, fit_within, png
from pasta.models.generate import Answer
from pasta.run.schema import SURROGATE

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
        plain = "@" not in address.partition("#")[0] and not url.query
        if url.scheme not in ("http", "https") or not plain or not url.hostname or url.port == 0:
            raise ValueError(f"{hidden(address)}: expected http://HOST:PORT/v1 or .../v1#MODEL, "
                             "without user, password or ?; the key is OPENAI_API_KEY")  # fmt: skip
        self.connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
        self.host, self.path = url.netloc, url.path.rstrip("/")
        self.max_pixels, self.in_flight, self.timeout = max_pixels or MAX_PIXELS, in_flight, timeout
        self.tries, self.wait = tries, wait
        self.address = address.partition("#")[0]
        self.model = url.fragment or self.only_model()
        self.name = f"{self.address}#{self.model}"

    def only_model(self):
        """The id of the one model that the server has."""
        models = self.call("GET", "/models", read_models)
        if len(models) != 1:
            raise EndpointError(f"{self.address} has {len(models)} models: {', '.join(models)}; "
                                f"name one as {self.address}#MODEL")  # fmt: skip
        return models[0]

    def fit(self, n_frames, height, width):
        """The (height, width) at which frames are sent: theirs, or of max_pixels at most."""
        return fit_within(self.max_pixels, n_frames, height, width)

    def prepare(self, frames, timestamps):
        """(F, H, W, 3) uint8 frames, which were decoded at the size of `fit`, to Pictures."""
        return Pictures(tuple(map(png, frames)), tuple(map(float, timestamps)))

    def answers(self, requests, max_new_tokens=128):
        """Yield (index, Answer) of a list of Request, as they come.

        Raises EndpointError when the server fails, behind all that it did answer.
        """
        failure, pool = None, ThreadPoolExecutor(self.in_flight)
        try:
            index = {pool.submit(self.answer, r, max_new_tokens): i for i, r in enumerate(requests)}
            for future in as_completed(index):
                if future.cancelled():
                    continue
                try:
                    yield index[future], future.result()
                except EndpointError as error:
                    failure = failure or error
                    for waiting in index:
                        waiting.cancel()
        finally:  # ctrl-C waits for the requests in flight and for no others
            pool.shutdown(cancel_futures=True)
        if failure:
            raise failure

    def answer(self, request, max_new_tokens):
        """The Answer to one Request; its `error` tells why the server refused."""
        content = request.prompt
        if request.inputs is not None:
            content = [*request.inputs.content(), {"type": "text", "text": content}]
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": max_new_tokens,
            "temperature": request.temperature,
            "top_p": 1.0,
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
        data, wait, asked = None if body is None else json.dumps(body), self.wait, 0.0
        for attempt in range(self.tries):
            if attempt:
                # Later than asked, and by chance, so that not all come back at once.
                time.sleep(max(wait, asked) * random.uniform(1.0, 1.5))
                wait, asked = min(2 * wait, LONGEST_WAIT), 0.0
            try:
                status, headers, reply = self.exchange(method, self.path + path, data)
            except (OSError, HTTPException) as error:  # time-outs and cut connections
                trouble = without_key(f"{type(error).__name__} {error}")
                continue
            text = without_key(reply.decode(errors="backslashreplace")).strip()
            trouble = f"HTTP {status}: {text[:200]}"
            if status in REFUSED and body:
                raise Refused(f"{self.address} refused: {trouble}")
            if status == 200:
                try:
                    return read(json.loads(text))
                except (ValueError, LookupError, TypeError, RecursionError):
                    continue
            if status not in TRY_AGAIN:
                where = without_key(f" to {headers['Location']}") if headers["Location"] else ""
                raise EndpointError(f"{self.address}{path}: {trouble}{where}; expected a reply of "
                                    "200: see the address, #MODEL and OPENAI_API_KEY")  # fmt: skip
            asked = asked_to_wait(headers["Retry-After"])
        raise EndpointError(f"{self.address}{path}: {trouble}, {self.tries} times; expected JSON "
                            "of OpenAI's shape; when the server is well again, the same command "
                            "goes on")  # fmt: skip

    def exchange(self, method, path, body):
        """(status, headers, bytes) of one HTTP exchange."""
        headers = {"Content-Type": "application/json"}
        if key := api_key():
            headers["Authorization"] = f"Bearer {key}"
        connection = self.connect(self.host, timeout=self.timeout)
        connection.connect()
        # A socket's time-out begins anew with each byte; this one is for all of them.
        start, limit = time.monotonic(), 1.1 * self.timeout  # behind its own, which says more
        end = Timer(limit, socket.shutdown, (connection.sock, SHUT_RDWR))
        end.start()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            reply = response.read(MAX_REPLY)
            if response.length or time.monotonic() - start > limit:
                raise ConnectionError(f"no end after {len(reply)} bytes")
            return response.status, response.headers, reply
        finally:
            end.cancel()
            connection.close()


def api_key():
    """OPENAI_API_KEY, perhaps empty. Raises EndpointError for one that no header can hold."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise EndpointError("OPENAI_API_KEY has a line end or a sign that no key has; set it anew")
    return key


def without_key(text):
    """A server's text without the key; some repeat what they refuse. A word is no key: "EMPTY"."""
    key = api_key()
    for form in (key, key.replace("/", "\\/"), quote(key, "")):  # as JSON and addresses may have it
        text = text.replace(form, "***") if len(key) >= 8 else text
    return text


def is_address(name):
    """Whether a role's name is the address of a server."""
    return str(name).startswith(("http://", "https://"))


def hidden(address):
    """An address for a message, without a password or a key that may be in it."""
    return re.sub(r"//.*[@?].*", "//***", address)


def asked_to_wait(value):
    """Seconds of a Retry-After header; 0 for none, and for a date, which few servers send."""
    return min(float(value), 600.0) if value and value.isdecimal() else 0.0


def read_models(reply):
    """The ids in a list of models, which are texts."""
    return [SURROGATE.sub("\ufffd", model["id"]) for model in reply["data"]]


def read_answer(reply):
    """The Answer in a chat completion, its <think> block taken out."""
    choice = reply["choices"][0]
    text = re.sub(r"^\s*<think>.*?</think>", "", choice["message"]["content"] or "", flags=re.S)
    return Answer(SURROGATE.sub("\ufffd", text).strip(), (), 0.0, choice["finish_reason"] == "stop")
