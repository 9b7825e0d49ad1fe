"""Who is asked: asker, responder, judge; each a model folder, a hub id, or a server's address.

Nobody loads a 38B, a 7B and a 32B into one process: one model is in memory at a time, and it is let
go of when another role is asked. What judges and servers answer is kept in replies.jsonl.
"""

from functools import partial

from pasta.judge import ModelJudge, judge_by_rules
from pasta.making.replies import Replies
from pasta.making.server import Endpoint, is_address
from pasta.models.files import weights_digest
from pasta.models.generate import Request, ask_all
from pasta.models.load import load_processor, load_vlm
from pasta.policy import text_logps


class Roles:
    """The models of a run, by name, as its config has them.

    config: make_pairs.py's.
    """

    def __init__(self, config, device):
        self.config, self.device = config, device
        self.held = {}  # name -> the one VLM in memory
        self.known, self.origins = {}, {}  # name -> its Endpoint or Processor; its `origin`
        self.replies = Replies(config.out / "replies.jsonl")

    def open(self):
        """The names of the models that the stages at hand ask; what cannot be used fails now.

        Raises SystemExit for a model that would have to see and reads text alone.
        """
        c = self.config
        by_stage = {"queries": [c.asker], "candidates": [c.responder], "judge": [c.judge]}
        by_stage["judge"] += [c.asker or c.responder] * c.adversarial_qa
        names = by_stage.get(c.stage) or [name for stage in by_stage.values() for name in stage]
        names = [name for name in dict.fromkeys(names) if name not in (None, "rules")]
        for name in names:
            if not self.eyes(name).n_frames and name in (c.asker, c.responder):
                raise SystemExit(f"{name} reads text alone: it can be the --judge; --asker and "
                                 "--responder take a model that sees videos")  # fmt: skip
        return names

    def eyes(self, name):
        """What makes a video ready for `name`: `prepare`, `fit`, `n_frames`. No weights are loaded.

        n_frames is 0 for a model that reads text alone.

        Raises as load_processor does, or EndpointError for a server that does not answer.
        """
        if name not in self.known:
            config = self.config
            if is_address(name):
                limits = (config.max_pixels, config.in_flight, config.timeout)
                self.known[name] = Endpoint(name, *limits)
            else:
                self.known[name] = load_processor(name, config.max_pixels)
        return self.known[name]

    def origin(self, name):
        """What the answers of `name` owe to it: a digest of its weights, or a server's model."""
        if name not in self.origins:
            at_server = is_address(name)
            self.origins[name] = self.eyes(name).name if at_server else weights_digest(name)
        return self.origins[name]

    def vlm(self, name):
        """The VLM `name`. The one held before is let go of first: memory need not hold two."""
        if name not in self.held:
            self.held.clear()
            config = self.config
            self.held[name] = load_vlm(name, config.dtype, self.device, config.max_pixels)
        return self.held[name]

    def ask(self, name, requests):
        """Answer any number of requests. Returns a list of Answer, in their order."""
        if is_address(name):
            return self.asked_once(name, requests)
        found = sorted(self.answers(name, requests, self.config.max_new_tokens))
        return [answer for _, answer in found]

    def asked_once(self, name, requests, n_tokens=0):
        """The same, but what is in replies.jsonl is not asked again, and what is new is kept.

        n_tokens: of an answer at most; 0: max_new_tokens.
        """
        n_tokens = n_tokens or self.config.max_new_tokens
        if is_address(name):
            author = self.eyes(name).name
            answers = partial(self.eyes(name).answers, max_new_tokens=n_tokens)
        else:
            author = f"{name} {self.origin(name)}"
            answers = partial(self.answers, name, n_tokens=n_tokens)
        return self.replies.ask(author, requests, n_tokens, answers)

    def answers(self, name, requests, n_tokens):
        """(index, Answer) of a local model, as of `ask_all`."""
        return ask_all(lambda: self.vlm(name), requests, self.config.batch_size, n_tokens)

    def score(self, name, inputs, texts):
        """The logps, in nats, of (query, response) texts about a video, or about none."""
        return text_logps(self.vlm(name), inputs, texts).tolist()

    def judged(self, name, decide):
        """What `decide(judge)` returns when the judge `name` has replied to all that it asks.

        decide: a function of a judge, (mode, query, preferred, adversarial) -> Verdict. It is
        called again after each round of replies, so that a model is asked in batches.
        """
        if name == "rules":
            return decide(judge_by_rules)
        judge = ModelJudge({})
        while True:
            result, prompts = decide(judge), list(judge.unknown)
            if not prompts:
                return result
            requests = [Request(None, prompt) for prompt in prompts]
            answers = self.asked_once(name, requests, self.config.judge_tokens)
            if refused := [answer.error for answer in answers if answer.error]:
                print(f"{len(refused)} replies of the judge are none: {refused[0]}")
            judge.learn(prompts, [answer.text for answer in answers])
