"""Items of adversarial QA, from adversarial answers that the judge finds wrong.

An "options" item is the query with only wrong answers as its options. A "question" item is a new
question of the asker that presupposes one of them; the judge reads it, too.
"""

from pasta.models.generate import Request
from pasta.pairs import pair_id
from pasta.prompts import FALSE_PREMISE

MAX_OPTIONS = 4  # "None of the above" is one more, and letters end at E


def adversarial_rows(candidates, judge, ask):
    """The rows of items.jsonl for rows of candidates.jsonl. Do not align on the same videos."""
    verdicts = iter(judge([case(c, answer) for c in candidates for answer in c["adversarial"]]))
    found = []
    for candidate in candidates:
        if wrong := [a["response"] for a in candidate["adversarial"] if next(verdicts).kept]:
            found.append((candidate, list(dict.fromkeys(wrong))))
    # The asker gets only a wrong answer, no video.
    claims = ask([Request(None, FALSE_PREMISE.format(wrong=texts[0])) for _, texts in found])
    questions = [  # every judge drops an empty one
        {"response": c.text if c.text.endswith("?") else "", "finished": c.finished} for c in claims
    ]
    verdicts = judge([case(c, question) for (c, _), question in zip(found, questions, strict=True)])
    rows = []
    for (candidate, texts), question, verdict in zip(found, questions, verdicts, strict=True):
        if len(texts) > 1:
            options = {"options": texts[:MAX_OPTIONS]}
            rows.append(item_row(candidate, "options", candidate["query"]) | options)
        if verdict.kept:
            rows.append(item_row(candidate, "question", question["response"]))
    return rows


def case(candidate, answer):
    return candidate["mode"], candidate["query"], candidate["preferred"], answer


def item_row(candidate, kind, query):
    video, mode = candidate["video"], candidate["mode"]
    item_id = pair_id(video, mode, query, kind, "")
    return {"id": item_id, "video": video, "mode": mode, "kind": kind, "query": query}
