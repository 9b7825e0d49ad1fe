"""The models of a run: asker, responder and judge, each a LocalModel or a Server.

Both have processor (prepare, fit, n_frames), digest, author, answers and score.
Only one local model is in memory at a time.
"""

import json
from contextlib import closing
from functools import cached_property

from pasta.judge import UNREADABLE, judge_by_model, judge_by_rules, read_verdict
from pasta.making.server import FIRST, Server, ServerError, is_address
from pasta.models.files import weights_digest
from pasta.models.generate import Answer, Request, ask_all
from pasta.models.load import load_processor, load_vlm
from pasta.policy import text_logps
from pasta.run import ranks
from pasta.run.digest import digest
from pasta.run.rows import Appender, rows_of

REPLY = {"key": str, "text": str, "finished": bool}


class LocalModel:
    """A model folder or a hub id. `loaded` holds at most one VLM, shared by all local models."""

    def __init__(self, name, config, device, loaded):
        self.name, self.config, self.device, self.loaded = name, config, device, loaded

    @cached_property
    def processor(self):  # its n_frames is 0 for a model that reads text only
        return load_processor(self.name, self.config.max_pixels)

    @cached_property
    def digest(self):
        return weights_digest(self.name)

    @property
    def author(self):
        return f"{self.name} {self.digest}"

    def vlm(self):
        c = self.config
        if self.name not in self.loaded:
            self.loaded.clear()  # first, because memory may not hold two
            self.loaded[self.name] = load_vlm(self.name, c.dtype, self.device, c.max_pixels)
        return self.loaded[self.name]

    def answers(self, requests, max_new_tokens):
        return ask_all(self.vlm, requests, self.config.batch_size, max_new_tokens)

    def score(self, inputs, texts):
        """The logps, in nats, of (query, response) texts about VideoInputs, or without video."""
        return text_logps(self.vlm(), inputs, texts).tolist()


class Replies:
    """Answers of judges and servers, stored as they arrive: no run asks for one twice."""

    def __init__(self, path):
        self.path = path
        self.read()

    def read(self):
        rows = rows_of(self.path, REPLY)
        self.known = {r["key"]: Answer(r["text"], (), 0.0, r["finished"]) for r in rows}

    def ask(self, model, requests, max_new_tokens):
        """Answers to a list of Request. Asks each new one once; refused ones are not stored."""
        keys = [reply_key(model.author, request, max_new_tokens) for request in requests]
        new = {k: r for k, r in zip(keys, requests, strict=True) if k not in self.known}
        refused, order = {}, list(new)
        arriving = model.answers(list(new.values()), max_new_tokens)
        bar = ranks.progress(arriving, "replies", len(new), leave=False, unit="reply")
        # Closed, so that an error here, or ctrl-C, stops the requests too.
        with Appender(ranks.rank_path(self.path)) as out, closing(arriving):
            for i, answer in bar:
                key = order[i]
                if answer.error:
                    refused[key] = answer
                    continue
                row = {"by": model.author, "key": key, "prompt": new[key].prompt}
                out.write(row | {"text": answer.text, "finished": answer.finished})
                self.known[key] = answer
        return [refused.get(key) or self.known[key] for key in keys]


def reply_key(author, request, max_new_tokens):
    """sha256 hex of what an answer depends on: author, prompt, frames, length and draw."""
    frames = request.inputs and request.inputs.digest()
    draw = [request.seed, request.temperature] if request.temperature else []
    return digest(json.dumps([author, request.prompt, frames, max_new_tokens, *draw]))


class Roles:
    """The models that a config of make_pairs.py names, and their stored replies."""

    def __init__(self, config, device):
        self.config, self.device = config, device
        self.models, self.loaded = {}, {}
        self.replies = Replies(config.out / "replies.jsonl")
        self.unreadable = ""  # how many replies of the judge, and one of them

    def open(self):
        """Names of the models that the chosen stages ask; one that cannot be used fails here."""
        c = self.config
        by_stage = {"queries": [c.asker], "candidates": [c.responder], "judge": [c.judge]}
        by_stage["judge"] += [c.asker or c.responder] * c.adversarial_qa
        names = by_stage.get(c.stage) or [name for stage in by_stage.values() for name in stage]
        names = [name for name in dict.fromkeys(names) if name not in (None, "rules")]
        for name in names:
            if not self.model(name).processor.n_frames and name in (c.asker, c.responder):
                cure = "--asker and --responder take a model that sees videos"
                raise SystemExit(f"{name} reads text only and can only be the --judge; {cure}")
        return names

    def model(self, name):
        """The LocalModel or Server of a name. Raises ServerError if it does not answer."""
        c = self.config
        if name not in self.models and is_address(name):
            self.models[name] = Server(name, c.max_pixels, c.in_flight, c.timeout)
        elif name not in self.models:
            self.models[name] = LocalModel(name, c, self.device, self.loaded)
        return self.models[name]

    def ask(self, name, requests):
        """Answers to a list of Request, in their order."""
        if is_address(name):  # stored: a server may fail after most requests of a row
            return self.ask_once(name, requests)
        found = dict(self.model(name).answers(requests, self.config.max_new_tokens))
        return [found[i] for i in range(len(requests))]

    def ask_once(self, name, requests, max_new_tokens=0):
        """The same, through replies.jsonl. max_new_tokens: 0 is the config's."""
        model, n = self.model(name), max_new_tokens or self.config.max_new_tokens
        return self.replies.ask(model, requests, n)

    def judge(self, cases):
        """The Verdict of the config's judge on each case, see pasta/judge.py."""
        if self.config.judge == "rules":
            return [judge_by_rules(*case) for case in cases]
        unread = []  # replies without a verdict, or why the server refused

        def ask(prompts):  # "" for a prompt that a server refuses
            requests = [Request(None, prompt) for prompt in prompts]
            answers = self.ask_once(self.config.judge, requests, self.config.judge_tokens)
            unread.extend(a.error or repr(a.text) for a in answers if not read_verdict(a.text))
            return [answer.text for answer in answers]

        # Some cases come first: a judge that can read none of them will not read the others.
        for n in sorted({min(2 * FIRST, len(cases)), len(cases)}):
            verdicts = judge_by_model(cases[:n], ask)
            asked = [v for v in verdicts if v.kept or v.reason.startswith("judge")]
            bad = asked.count(UNREADABLE)
            text = f"; {UNREADABLE.reason} in {bad} of {len(asked)}, such as "
            self.unreadable = text + unread[-1][:200] if bad else ""
            if FIRST <= bad == len(asked) and n < len(cases):
                raise ServerError(f"--judge {self.config.judge}{self.unreadable}")
        return verdicts
