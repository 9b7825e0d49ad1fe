"""Items of adversarial QA from candidates: what the judge calls wrong is what should be refused.

A candidate has a query, a preferred answer and K misled ones. Those that the judge says contradict
the preferred answer make

    options    the query with the contradicting answers as its options: none of them is right
    question   a new question that takes one of them for granted, written by the asker

The judge also reads the new question: it must contradict the preferred answer as well.
"""

from functools import partial

from pasta.models.generate import Request
from pasta.pairs import pair_id
from pasta.prompts import FALSE_PREMISE
from pasta.run.rows import write_rows

MAX_OPTIONS = 4  # one more is "None of the above", and letters end at E


def write_items(config, roles, rows):
    """Write items.jsonl from rows of candidates.jsonl.

    config, roles: make_pairs.py's. The videos should not be those that a model is aligned on.
    """
    ask = partial(roles.asked_once, config.asker or config.responder)
    items = roles.judged(config.judge, lambda judge: adversarial_rows(rows, judge, ask))
    write_rows(config.out / "items.jsonl", items)
    print(f"wrote {len(items)} items; next: evaluate.py --bench adversarial --data {config.out}")


def adversarial_rows(candidates, judge, ask):
    """The rows of items.jsonl for rows of candidates.jsonl.

    judge: (mode, query, preferred, adversarial) -> Verdict. ask: list of Request -> list of Answer,
    of the asker; it is asked in text alone, for the wrong answer already says what to assume.
    The judge reads all candidates, then the asker all requests, then the judge all questions: when
    they are two models, each is loaded as seldom as can be.
    """
    wrong = [contradicting(candidate, judge) for candidate in candidates]
    some = [(c, texts) for c, texts in zip(candidates, wrong, strict=True) if texts]
    asked = ask([Request(None, FALSE_PREMISE.format(wrong=texts[0])) for _, texts in some])
    rows = []
    for (candidate, texts), claim in zip(some, asked, strict=True):
        mode, query, preferred = (candidate[k] for k in ("mode", "query", "preferred"))
        if len(texts) > 1:
            more = {"kind": "options", "query": query, "options": texts[:MAX_OPTIONS]}
            rows.append(item_row(candidate, more))
        question = {"response": claim.text, "finished": claim.finished}
        if claim.text.endswith("?") and judge(mode, query, preferred, question).kept:
            rows.append(item_row(candidate, {"kind": "question", "query": claim.text}))
    return rows


def contradicting(candidate, judge):
    """The different misled answers that the judge says contradict the preferred one."""
    mode, query, preferred = (candidate[k] for k in ("mode", "query", "preferred"))
    kept = [r for r in candidate["adversarial"] if judge(mode, query, preferred, r).kept]
    return list(dict.fromkeys(response["response"] for response in kept))


def item_row(candidate, more):
    """A row of items.jsonl: where it comes from, and its kind, query and options."""
    video, mode = candidate["video"], candidate["mode"]
    id_ = pair_id(video, mode, more["query"], more["kind"], "")
    return {"id": id_, "video": video, "mode": mode} | more
