"""Items of adversarial QA from candidates: what the judge calls wrong should be rejected.

The adversarial answers of a candidate that the judge says contradict the preferred answer make

    options    the query with these answers as its options: none of them is right
    question   a new question that presupposes one of them, written by the asker

The judge also reads the new question: it must contradict the preferred answer as well.
"""

from functools import partial

from pasta.models.generate import Request
from pasta.pairs import pair_id
from pasta.prompts import FALSE_PREMISE
from pasta.run.rows import write_rows

MAX_OPTIONS = 4  # "None of the above" is one more, and letters end at E


def write_items(config, roles, rows):
    """Write items.jsonl from rows of candidates.jsonl.

    config, roles: make_pairs.py's. Do not align a model on the same videos.
    """
    ask = partial(roles.ask_once, config.asker or config.responder)
    items = adversarial_rows(rows, roles.judge, ask)
    write_rows(config.out / "items.jsonl", items)
    print(f"wrote {len(items)} items; next: evaluate.py --bench adversarial --data {config.out}")


def adversarial_rows(candidates, judge, ask):
    """The rows of items.jsonl for rows of candidates.jsonl.

    judge: list of (mode, query, preferred, adversarial) -> list of Verdict. ask: list of Request ->
    list of Answer of the asker, which gets no video: the wrong answer is enough.
    """
    verdicts = iter(judge([case(c, answer) for c in candidates for answer in c["adversarial"]]))
    wrong = [
        list(dict.fromkeys(a["response"] for a in c["adversarial"] if next(verdicts).kept))
        for c in candidates
    ]
    found = [(c, texts) for c, texts in zip(candidates, wrong, strict=True) if texts]
    claims = ask([Request(None, FALSE_PREMISE.format(wrong=texts[0])) for _, texts in found])
    rows, questions = [], []
    for claim in claims:
        text = claim.text if claim.text.endswith("?") else ""  # which every judge drops
        questions.append({"response": text, "finished": claim.finished})
    verdicts = judge([case(c, question) for (c, _), question in zip(found, questions, strict=True)])
    for (candidate, texts), question, verdict in zip(found, questions, verdicts, strict=True):
        if len(texts) > 1:
            more = {"query": candidate["query"], "options": texts[:MAX_OPTIONS]}
            rows.append(item_row(candidate, {"kind": "options"} | more))
        if verdict.kept:
            rows.append(item_row(candidate, {"kind": "question", "query": question["response"]}))
    return rows


def case(candidate, answer):
    return candidate["mode"], candidate["query"], candidate["preferred"], answer


def item_row(candidate, more):
    """A row of items.jsonl: the candidate's video and mode, and the item's kind, query, options."""
    video, mode = candidate["video"], candidate["mode"]
    id_ = pair_id(video, mode, more["query"], more["kind"], "")
    return {"id": id_, "video": video, "mode": mode} | more
