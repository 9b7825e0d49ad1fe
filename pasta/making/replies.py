"""Answers of judges and servers, stored as soon as they arrive: no run asks for one twice.

A judge's reply is part of no row until all replies are there, and a server may fail after most
requests of a row. Rows of replies.jsonl: {"by", "key", "prompt", "text", "finished"}; the key is a
hash of everything that the answer depends on, including the frames of the video.
"""

import hashlib
import json
from contextlib import closing

from pasta.models.generate import Answer
from pasta.run import ranks
from pasta.run.rows import Appender, rows_of

REPLY = {"key": str, "text": str, "finished": bool}


class Replies:
    """The rows of replies.jsonl, of all ranks; new ones are appended to this rank's file."""

    def __init__(self, path):
        self.path = path
        self.read()

    def read(self):
        """Read the files again, including those of other ranks."""
        self.known = {row["key"]: row for row in rows_of(self.path, REPLY)}

    def ask(self, author, requests, max_new_tokens, answers):
        """List of Answer for a list of Request; only new requests are asked, each once.

        author: the model that answers, with its version.
        answers: a generator, list of Request -> (index, Answer) in order of arrival. A refused
            request, an Answer with `error`, is asked again the next time.
        """
        keys = [reply_key(author, request, max_new_tokens) for request in requests]
        new = {k: r for k, r in zip(keys, requests, strict=True) if k not in self.known}
        refused, order = {}, list(new)
        # Closed, so that an error here, or ctrl-C, stops the requests too.
        path, arriving = ranks.rank_path(self.path), answers(list(new.values()))
        with Appender(path) as out, closing(arriving):
            bar = ranks.progress(arriving, "replies", len(new), leave=False, unit="reply")
            for i, answer in bar:
                key = order[i]
                if answer.error:
                    refused[key] = answer
                    continue
                row = {"by": author, "key": key, "prompt": new[key].prompt}
                self.known[key] = row | {"text": answer.text, "finished": answer.finished}
                out.write(self.known[key])
        return [refused.get(key) or stored_answer(self.known[key]) for key in keys]


def stored_answer(row):
    return Answer(row["text"], (), 0.0, row["finished"])


def reply_key(author, request, max_new_tokens):
    """sha256 hex of what an answer depends on: author, prompt, frames, length and draw."""
    frames = request.inputs and request.inputs.digest()
    draw = [request.seed, request.temperature] if request.temperature else []
    facts = json.dumps([author, request.prompt, frames, max_new_tokens, *draw])
    return hashlib.sha256(facts.encode()).hexdigest()
