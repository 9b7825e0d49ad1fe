"""The models of a run: asker, responder and judge, each a LocalModel or a Server.

Both have processor (prepare, fit, n_frames), digest, author, answers and score.
Only one local model is in memory at a time.
"""

import json
from contextlib import closing
from functools import cached_property

from pasta.judge import UNREADABLE, judge_by_model, judge_by_rules, read_verdict
from pasta.making.server import Server, is_address
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

    def score(self, groups):
        """The logps, in nats, of the (query, response) texts of each group: see `text_logps`."""
        return [x.tolist() for x in text_logps(self.vlm(), groups, self.config.batch_size)]


class Roles:
    """The models that a config of make_pairs.py names, and their stored replies.

    replies.jsonl has the answers of judges and servers: no run asks for one twice.
    """

    def __init__(self, config, device):
        self.config, self.device = config, device
        self.models, self.loaded = {}, {}
        self.path = config.out / "replies.jsonl"
        self.unreadable = ""  # how many replies of the judge, and one of them
        self.read_replies()

    def read_replies(self):
        rows = rows_of(self.path, REPLY)
        self.known = {r["key"]: Answer(r["text"], (), 0.0, r["finished"]) for r in rows}

    def open(self):
        """Names of the models that the chosen stages ask; one that cannot be used fails here."""
        c = self.config
        by_stage = {"queries": [c.asker], "candidates": [c.responder], "judge": [c.judge]}
        by_stage["judge"] += [c.asker or c.responder] * c.adversarial_qa
        names = by_stage.get(c.stage) or [name for stage in by_stage.values() for name in stage]
        names = [name for name in dict.fromkeys(names) if name not in (None, "rules")]
        for name in names:
            if not self.model(name).processor.n_frames and name in (c.asker, c.responder):
                raise SystemExit(f"{name} reads text only and can only be the --judge")
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
        n = self.config.max_new_tokens
        if is_address(name):  # stored: a server may fail after most requests of a row
            return self.ask_once(name, requests, n)
        return [answer for _, answer in sorted(self.model(name).answers(requests, n))]

    def ask_once(self, name, requests, max_new_tokens):
        """The same, through replies.jsonl. Refused answers are not stored."""
        model, keys = self.model(name), []
        for request in requests:  # a key has all that the answer depends on
            frames = request.inputs and request.inputs.digest()
            draw = [request.seed, request.temperature] if request.temperature else []
            parts = [model.author, request.prompt, frames, max_new_tokens, *draw]
            keys.append(digest(json.dumps(parts)))
        new = {k: r for k, r in zip(keys, requests, strict=True) if k not in self.known}
        found, order = {}, list(new)
        arriving = model.answers(list(new.values()), max_new_tokens)
        # Closed, so that an error here, or ctrl-C, stops the requests too.
        with Appender(ranks.rank_path(self.path)) as out, closing(arriving):
            for i, answer in ranks.progress(arriving, "answers", len(new), "requests"):
                key = order[i]
                found[key] = answer
                if not answer.error:
                    row = {"by": model.author, "key": key, "prompt": new[key].prompt}
                    out.write(row | {"text": answer.text, "finished": answer.finished})
                    self.known[key] = answer
        return [found.get(key) or self.known[key] for key in keys]

    def judge(self, cases):
        """The Verdict of the config's judge on each case, see pasta/judge.py."""
        c = self.config
        if c.judge == "rules":
            return [judge_by_rules(*case) for case in cases]
        unread = []  # replies without a verdict, or why the server refused

        def ask(prompts):  # "" for a prompt that a server refuses
            requests = [Request(None, prompt) for prompt in prompts]
            answers = self.ask_once(c.judge, requests, c.judge_tokens)
            unread.extend(a.error or repr(a.text) for a in answers if not read_verdict(a.text))
            return [answer.text for answer in answers]

        verdicts = judge_by_model(cases, ask)
        asked = [v for v in verdicts if v.kept or v.reason.startswith("judge")]
        bad = asked.count(UNREADABLE)
        text = f"; {UNREADABLE.reason} in {bad} of {len(asked)}, such as "
        self.unreadable = text + unread[-1][:200] if bad else ""
        return verdicts
