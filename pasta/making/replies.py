"""What judges and servers answered, kept at once, so that a run asks nothing twice.

A judge's reply is part of no row until all are there, and a server may fail with most of a row's
requests answered. Rows of replies.jsonl: {"by", "key", "prompt", "text", "finished"}; the key is a
hash of all that decides the answer, the video's pictures too.
"""

import hashlib
import json
from contextlib import closing

from pasta.models.generate import Answer
from pasta.run import ranks
from pasta.run.rows import Appender, rows_of

REPLY = {"key": str, "text": str, "finished": bool}  # what is relied on in a row


class Replies:
    """The replies in a file and in those of other processes beside it; new ones go into our own."""

    def __init__(self, path):
        self.path = path
        self.read()

    def read(self):
        """Take in what is in the files, those of other processes too."""
        self.known = {row["key"]: row for row in rows_of(self.path, REPLY)}

    def ask(self, name, requests, max_new_tokens, answers):
        """Answer a list of Request, of which only those that are new are asked, each once.

        name: of who answers. answers: a generator, list of Request -> (index, Answer) in any order,
        as they come. A refused request, an Answer with `error`, is asked again next time.
        """
        keys = [reply_key(name, request, max_new_tokens) for request in requests]
        new = {k: r for k, r in zip(keys, requests, strict=True) if k not in self.known}
        refused, order = {}, list(new)
        # Closed, so that an error here, or ctrl-C, ends the asking too.
        path, asked = ranks.rank_path(self.path), answers(list(new.values()))
        with Appender(path) as out, closing(asked) as said:
            bar = ranks.progress(said, "replies", len(new), leave=False, unit="reply")
            for i, answer in bar:
                key = order[i]
                if answer.error:
                    refused[key] = answer
                    continue
                about = {"by": name, "key": key, "prompt": new[key].prompt}
                self.known[key] = about | {"text": answer.text, "finished": answer.finished}
                out.write(self.known[key])
        return [refused.get(key) or kept(self.known[key]) for key in keys]


def kept(row):
    """The Answer that a row of replies.jsonl holds."""
    return Answer(row["text"], (), 0.0, row["finished"])


def reply_key(name, request, max_new_tokens):
    """sha256 hex of what an answer depends on: who, what, about which pictures, by which draw."""
    seen = request.inputs and request.inputs.digest()
    draw = [request.seed, request.temperature] if request.temperature else []
    facts = json.dumps([name, request.prompt, seen, max_new_tokens, *draw])
    return hashlib.sha256(facts.encode()).hexdigest()
