"""Who is asked: asker, responder, judge; each a model folder, a hub id, or a server's address.

Nobody loads a 38B, a 7B and a 32B into one process: one model is in memory at a time, and it is let
go of when another role is asked. What judges and servers answer is kept in replies.jsonl.
"""

from functools import partial

import torch

from pasta.ask import Request, ask
from pasta.hub import weights_digest
from pasta.judge import ModelJudge, judge_by_rules
from pasta.packs import pack_responses
from pasta.policy import Policy
from pasta.roles.endpoint import Endpoint, is_address
from pasta.roles.replies import Replies
from pasta.vlm import load_processor, load_vlm


class Roles:
    """The models of a run, by name, as its config has them.

    config: dtype, max_pixels, max_new_tokens, batch_size, in_flight, timeout, out.
    """

    def __init__(self, config, device):
        self.config, self.device = config, device
        self.held = {}  # name -> the one VLM in memory
        self.known = {}  # name -> its Endpoint or Processor
        self.replies = Replies(config.out / "replies.jsonl")

    def eyes(self, name):
        """What makes a video ready for `name`: `prepare`, `fit`, `n_frames`. No weights are loaded.

        Raises what a model folder that cannot be used, or a server that does not answer, raises.
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
        return self.eyes(name).name if is_address(name) else weights_digest(name)

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
        return [answer for _, answer in sorted(self.answers(name, requests))]

    def asked_once(self, name, requests):
        """The same, but what is in replies.jsonl is not asked again, and what is new is kept."""
        n = self.config.max_new_tokens
        if is_address(name):
            server = self.eyes(name)
            answers = partial(server.answers, max_new_tokens=n)
            return self.replies.ask(server.name, requests, n, answers)
        return self.replies.ask(name, requests, n, partial(self.answers, name))

    def answers(self, name, requests):
        """Yield (index, Answer) of a local model, batch by batch; requests about one video meet."""
        first = {}
        for i, request in enumerate(requests):
            first.setdefault(id(request.inputs), i)
        order = sorted(range(len(requests)), key=lambda i: first[id(requests[i].inputs)])
        for start in range(0, len(order), self.config.batch_size):
            batch = order[start : start + self.config.batch_size]
            asked = [requests[i] for i in batch]
            answers = ask(self.vlm(name), asked, self.config.max_new_tokens)
            yield from zip(batch, answers, strict=True)

    @torch.inference_mode()
    def score(self, name, inputs, texts):
        """The logps, in nats, of (query, response) texts about a video, or about none."""
        vlm = self.vlm(name)
        pack, where = pack_responses(vlm.processor, inputs, texts)
        return Policy(vlm)(pack)[where].tolist()

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
            answers = self.asked_once(name, [Request(None, prompt) for prompt in prompts])
            if refused := [answer.error for answer in answers if answer.error]:
                print(f"{len(refused)} replies of the judge are none: {refused[0]}")
            judge.learn(prompts, [answer.text for answer in answers])
