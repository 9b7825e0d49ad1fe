"""Turns a video and a query into the token ids and positions of a prompt; needs no weights.

    [ ... <video tokens> ] [ query ... ] [ response <end> ]
       prefix_ids            query_ids     response_ids

Shapes: P tokens of the prefix, L of a prompt.
"""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch

from pasta.models.family import Family
from pasta.run.reasoning import final_answer
from pasta.run.schema import read_by

ANSWER = "An answer, 7."  # marks its place in a rendered dialogue


@dataclass(frozen=True)
class Processor:
    """Tokenizer, family and prompt layout of a checkpoint; no weights."""

    tokenizer: object
    family: Family
    n_frames: int  # the checkpoint's own number of frames
    digest: str  # of the files that decide ids, pixels and where an answer ends

    def fit(self, n_frames, height, width):
        return self.family.fit(n_frames, height, width)

    def prepare(self, frames, timestamps):
        return self.family.prepare(frames, timestamps)

    def prefix_ids(self, inputs):
        """The P >= 1 ids of the prompt up to the video's last token. inputs: None: no video."""
        if inputs is None:  # the first token only: segments need a prefix to follow
            return self.prompt_ids(self.prompt("", with_video=False))[:1]
        head, _ = self.split("")
        return self.prompt_ids(self.family.expand(head + self.family.placeholder, inputs))

    @lru_cache(maxsize=1024)  # noqa: B019, a run has few processors; a query is asked often
    def query_ids(self, query, with_video=True):
        """The ids of the prompt between the prefix and the response."""
        opening = self.turn[0]
        if not with_video:
            return self.prompt_ids(self.prompt(query, with_video=False) + opening)[1:]
        # with the special token first: some tokenizers put a blank before the first word
        return self.ids(self.family.placeholder + self.split(query)[1] + opening)[1:]

    def response_ids(self, response):
        """The ids of a response and its end token; all are scored."""
        return [*self.ids(self.family.lead + response), self.turn[1]]

    @cached_property
    def own(self):
        """Pattern of the model's own tokens in a text: special ones, and added ones with signs."""
        added = self.tokenizer.added_tokens_decoder.values()
        texts = {t.content for t in added if t.special or re.search(r"[^\w\s]", t.content)}
        texts |= {self.family.placeholder, self.family.token} - {None}
        return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))

    @cached_property
    def turn(self):
        """How the chat template writes an answer: (what is between its prompt and the answer, id of
        the token that ends it, "<think>" if it begins in a thought). Raises ValueError.
        """
        prompt = self.prompt("Why?", with_video=False)
        if not self.family.placeholder:  # a judge may think, and is not trained
            return "", self.tokenizer.eos_token_id, "" if final_answer(prompt)[1] else "<think>"
        texts = {"user": "Why?", "assistant": ANSWER}.items()
        turns = [{"role": r, "content": [{"type": "text", "text": text}]} for r, text in texts]
        with read_by("transformers", "chat template, with an answer"):
            dialogue = self.tokenizer.apply_chat_template(turns, tokenize=False)
        before, _, after = dialogue.rpartition(ANSWER)
        opening = "" if before.split() == prompt.split() else before.removeprefix(prompt)
        closing = self.own.match(after.strip() or self.tokenizer.eos_token or "")
        if not closing or opening == before or not final_answer(prompt + opening)[1]:
            name = self.tokenizer.name_or_path
            got = f"{name}: the chat template asks for an answer after {prompt[-30:]!r}, but writes"
            got += f" one between {before[-30:]!r} and {after[:30]!r}; expected the same start,"
            raise ValueError(f"{got} without an open thought, and a special token at the end")
        return opening, self.tokenizer.convert_tokens_to_ids(closing[0]), ""

    def positions(self, ids, inputs):
        """(3, L) int64 M-RoPE positions of L ids; (1, L) in a family without M-RoPE."""
        return self.family.positions(torch.tensor(ids), inputs)

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def prompt_ids(self, text):
        """The ids of the start of a prompt, with the start token if the tokenizer has one."""
        begin = self.tokenizer.bos_token
        # as in transformers: not twice where the chat template has written it
        written = begin is not None and text.startswith(begin)
        return self.tokenizer(text, add_special_tokens=not written)["input_ids"]

    def prompt(self, query, with_video):
        """One user turn in the checkpoint's chat template, with a placeholder for the video."""
        family = self.family
        if family.placeholder and (found := self.own.search(query)):
            raise ValueError(f"{query[:60]!r} may not contain {found[0]}, a token of the model")
        content = [{"type": "video"}] * with_video + [{"type": "text", "text": query}]
        return self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content if family.placeholder else query}],
            tokenize=False,
            add_generation_prompt=True,
        )

    @lru_cache(maxsize=1024)  # noqa: B019
    def split(self, query):
        """The prompt's text before and after the video."""
        parts = self.prompt(query, with_video=True).split(self.family.placeholder)
        if len(parts) != 2:
            got = f"writes {self.family.placeholder} {len(parts) - 1} times for one video"
            raise ValueError(f"the chat template {got}; expected once: is it one for videos?")
        return parts
