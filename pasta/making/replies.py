"""Answers of judges and servers, stored as soon as they arrive: no run asks for one twice.

A judge's reply is part of no row until all replies are there, and a server may fail after most
requests of a row. Rows of replies.jsonl: {"by", "key", "prompt", "text", "finished"}.
"""

import json
from contextlib import closing

from pasta.models.generate import Answer
from pasta.run import ranks
from pasta.run.rows import Appender, digest, rows_of

REPLY = {"key": str, "text": str, "finished": bool}


class Replies:
    """The rows of replies.jsonl, of all ranks; new ones are appended to this rank's file."""

    def __init__(self, path):
        self.path = path
        self.read()

    def read(self):
        rows = rows_of(self.path, REPLY)
        self.known = {r["key"]: Answer(r["text"], (), 0.0, r["finished"]) for r in rows}

    def ask(self, author, requests, max_new_tokens, answers):
        """List of Answer for a list of Request; only new requests are asked, each once.

        answers: list of Request -> generator of (index, Answer). Refused requests are not stored.
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
                out.write(row | {"text": answer.text, "finished": answer.finished})
                self.known[key] = answer
        return [refused.get(key) or self.known[key] for key in keys]


def reply_key(author, request, max_new_tokens):
    """sha256 hex of what an answer depends on: author, prompt, frames, length and draw."""
    frames = request.inputs and request.inputs.digest()
    draw = [request.seed, request.temperature] if request.temperature else []
    return digest(json.dumps([author, request.prompt, frames, max_new_tokens, *draw]))
