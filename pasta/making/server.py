"""A model on an OpenAI-compatible server, such as vLLM or SGLang.

The address is http://HOST:PORT/v1, or http://HOST:PORT/v1#MODEL if the server has several models.
One Request is one HTTP request; a video is sent as PNG images, each after its time.

    429, 5xx, timeout, bad HTTP, no JSON         may pass: retried, with growing waits
    400, 413, 422                                this request is refused: an Answer with an error
    401, 404, redirect, too many tries           ServerError; answers received before are kept

Only the named host is contacted: http.client follows no redirect and uses no proxy. The key comes
from OPENAI_API_KEY, and is in no file, log or message: it is hidden in every text of a server.
"""

import base64
import hashlib
import html
import json
import os
import random
import re
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SHUT_RDWR, socket
from threading import Timer
from urllib.parse import quote, urlsplit

from pasta.models.generate import Answer
from pasta.run.reasoning import final_answer
from pasta.run.schema import SURROGATE, printable

MAX_PIXELS = 602112  # of a frame, by default: Qwen2.5-VL's own bound for videos
MAX_REPLY = 2**24  # bytes; a reply has a few thousand
LONGEST_WAIT = 60.0  # seconds between two tries
TRY_AGAIN = {408, 409, 425, 429, *range(500, 600)}
REFUSED = {400, 413, 422}


class ServerError(Exception):
    """The server cannot be used now, or not for its part of the run."""


class Server:
    """A server as asker, responder or judge. It has the same methods as a LocalModel.

    max_pixels: per frame; 0 is MAX_PIXELS. in_flight: parallel requests. timeout: seconds of one.
    tries, wait: attempts per request; seconds before the second one, doubled for each further one.
    Raises ValueError for a malformed address, ServerError if it does not list its only model.
    """

    n_frames = 32  # the paper's: a server does not report the frame budget of its model
    score = None  # it gives no log-probabilities of given texts

    def __init__(self, address, max_pixels=0, in_flight=16, timeout=300.0, tries=6, wait=1.0):
        self.address = address.partition("#")[0]
        try:
            url = urlsplit(address)
            valid_url = url.hostname.encode("idna") and url.port != 0 and not url.query
        except (ValueError, AttributeError):  # a port of letters; no host
            valid_url = False
        if not valid_url or not re.fullmatch("(?i)https?://[!-?A-~]+", self.address):
            hidden = re.sub(r"//.*[@?].*", "//***", address, flags=re.S)  # perhaps a password
            text = "expected http://HOST:PORT/v1 or .../v1#MODEL, without user, password or ?"
            raise ValueError(f"{printable(hidden)}: {text}")
        self.connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
        self.host, self.path = url.netloc, url.path.rstrip("/")
        self.in_flight, self.timeout, self.tries, self.wait = in_flight, timeout, tries, wait
        self.model = url.fragment or self.only_model()
        self.author = self.digest = f"{self.address}#{self.model}"
        self.processor = self  # it has n_frames, fit and prepare
        self.fit = partial(fit_within, max_pixels or MAX_PIXELS)

    def only_model(self):
        models = self.call("GET", "/models", lambda reply: [valid(m["id"]) for m in reply["data"]])
        if len(models) != 1:
            names = printable(": " * bool(models) + ", ".join(models))
            text = f"{len(models)} models{names}; name one as {self.address}#MODEL"
            raise ServerError(f"{self.address} has {text}")
        return models[0]

    def prepare(self, frames, timestamps):  # (F, H, W, 3) uint8, decoded at the size of `fit`
        return Pictures(tuple(map(png, frames)), tuple(map(float, timestamps)))

    def answers(self, requests, max_new_tokens=128):
        """Yield (index, Answer) of a list of Request as they arrive; then raise any ServerError."""
        failure, pool = None, ThreadPoolExecutor(self.in_flight)
        try:
            index = {pool.submit(self.answer, r, max_new_tokens): i for i, r in enumerate(requests)}
            for future in as_completed(index):
                if future.cancelled():
                    continue
                try:
                    yield index[future], future.result()
                except ServerError as error:
                    failure = failure or error
                    for waiting in index:
                        waiting.cancel()
        finally:  # ctrl-C waits only for the requests in flight
            pool.shutdown(cancel_futures=True)
        if failure:
            raise failure

    def answer(self, request, max_new_tokens):
        """The Answer to one Request; its `error` is the reason if the server refused."""
        content = request.prompt
        if request.inputs:
            content = [*request.inputs.content(), {"type": "text", "text": content}]
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": max_new_tokens,
            "temperature": request.temperature,
            # Without --generation-config vllm, vLLM adds the folder's top_k, repetition penalty.
            "top_p": 1.0,
            "seed": request.seed % 2**31,  # some servers take 32 bits only
        }
        return self.call("POST", "/chat/completions", read_answer, body)

    def call(self, method, path, read, body=None):
        """`read(JSON of the reply)`, which raises for other JSON; retries what may pass."""
        data, wait = None if body is None else json.dumps(body), self.wait
        for attempt in range(self.tries):
            if attempt:
                # The wait is random, so that clients do not all come back at the same time.
                time.sleep(wait * random.uniform(1.0, 1.5))
                wait = min(2 * wait, LONGEST_WAIT)
            try:
                status, headers, reply = self.exchange(method, self.path + path, data)
            except (OSError, HTTPException, ValueError) as error:  # ValueError: a negative chunk
                trouble = shown(f"{type(error).__name__} {error}")
                continue
            text = reply.decode(json.detect_encoding(reply), errors="replace")
            trouble = f"HTTP {status}: {shown(text)[:200]}"
            if status in REFUSED and body:
                return Answer("", (), 0.0, False, error=f"{self.address} refused: {trouble}")
            if status == 200:
                try:
                    return read(json.loads(text))
                except (ValueError, LookupError, TypeError, RecursionError):
                    continue
            if status not in TRY_AGAIN:
                where = f" to {shown(headers['Location'])}" if headers["Location"] else ""
                text = "expected status 200: check the address, #MODEL and OPENAI_API_KEY"
                raise ServerError(f"{self.address}{path}: {trouble}{where}; {text}")
        text = "expected JSON as OpenAI sends it; rerun the same command later to continue"
        raise ServerError(f"{self.address}{path}: {trouble}, {self.tries} times; {text}")

    def exchange(self, method, path, body):
        """(status, headers, bytes) of one HTTP exchange."""
        headers = {"Content-Type": "application/json"}
        if key := api_key():
            headers["Authorization"] = f"Bearer {key}"
        connection = self.connect(self.host, timeout=self.timeout)
        connection.connect()
        # A socket's timeout restarts with each byte; the timer limits the whole exchange. It fires
        # a little later, because the error of the socket's timeout is clearer.
        start, limit = time.monotonic(), 1.1 * self.timeout
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


def is_address(name):
    return "://" in str(name)


def api_key():
    """OPENAI_API_KEY, or "". Raises ServerError if it cannot be sent in a header."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ServerError("OPENAI_API_KEY has a character that no key has, such as a line end")
    return key


def shown(text):
    return printable(without_key(text).strip())


def valid(text):
    return SURROGATE.sub("\ufffd", without_key(text))


def without_key(text):
    """A server's text without the key, which some repeat, unchanged or escaped."""
    if len(key := api_key()) < 8:
        return text  # a placeholder such as "EMPTY", which may be part of an answer
    for form in {key, json.dumps(key)[1:-1], html.escape(key), quote(key, ""), quote(key)}:
        text = text.replace(form, "***")
    return text


def read_answer(reply):
    choice = reply["choices"][0]
    text = valid(choice["message"]["content"] or "")
    text, finished = final_answer(text, choice["finish_reason"] == "stop")
    return Answer(text, (), 0.0, finished)


@dataclass(frozen=True)
class Pictures:
    """A video as a server gets it: F PNG files and their times in seconds."""

    files: tuple[bytes, ...]
    seconds: tuple[float, ...]

    def content(self):
        """The parts of a chat message: a time, its image, the next time, ..."""
        parts = []
        for file, second in zip(self.files, self.seconds, strict=True):
            url = "data:image/png;base64," + base64.b64encode(file).decode()
            parts.append({"type": "text", "text": f"{second:.1f} s"})
            parts.append({"type": "image_url", "image_url": {"url": url}})
        return parts

    def digest(self):
        return hashlib.sha256(b"".join([str(self.seconds).encode(), *self.files])).hexdigest()


def fit_within(max_pixels, n_frames, height, width):
    """The (height, width) of the same ratio and at most `max_pixels`; 0: unchanged."""
    scale = min(1, (max_pixels / (height * width)) ** 0.5) if max_pixels else 1
    return max(1, int(height * scale)), max(1, int(width * scale))


def png(frame):
    """Bytes of an (H, W, 3) uint8 frame as PNG (RFC 2083); the standard library has no JPEG."""
    height, width, _ = frame.shape
    rows = frame.copy()
    rows[1:] -= frame[:-1]  # filter 2, "up": the difference from the row above, modulo 256
    data = zlib.compress(b"".join(b"\2" + row.tobytes() for row in rows), 3)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    file = b"\x89PNG\r\n\x1a\n"
    for tag, content in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
        crc = zlib.crc32(tag + content)
        file += struct.pack(">I", len(content)) + tag + content + struct.pack(">I", crc)
    return file
