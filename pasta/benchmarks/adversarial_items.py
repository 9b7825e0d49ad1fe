"""Items of adversarial QA from candidates: what the judge calls wrong is what should be refused.

A candidate has a query, a preferred answer and K misled ones. Those that the judge says contradict
the preferred answer make

    options    the query with the contradicting answers as its options: none of them is right
    question   a new question that takes one of them for granted, written by the asker

The judge also reads the new question: it must contradict the preferred answer as well.
"""

from pasta.ask import Request
from pasta.pairs import pair_id

ASK = (
    "Write one question about the video that takes it for granted that the following is true, "
    "without repeating it word for word: {wrong}\nReply with the question alone."
)
MAX_OPTIONS = 4  # one more is "None of the above", and letters end at E


def adversarial_rows(candidate, judge, ask):
    """The rows of items.jsonl for one row of candidates.jsonl.

    judge: (mode, query, preferred, adversarial) -> Verdict. ask: list of Request -> list of Answer,
    of the asker; it is asked in text alone, for the wrong answer already says what to assume.
    """
    mode, query, preferred = candidate["mode"], candidate["query"], candidate["preferred"]
    wrong = [
        response
        for response in candidate["adversarial"]
        if judge(mode, query, preferred, response).kept
    ]
    texts = list(dict.fromkeys(response["response"] for response in wrong))
    rows = []
    if len(texts) > 1:
        rows.append({"kind": "options", "query": query, "options": texts[:MAX_OPTIONS]})
    if texts:
        (asked,) = ask([Request(None, ASK.format(wrong=texts[0]))])
        claim = {"response": asked.text, "finished": asked.finished}
        if asked.text.endswith("?") and judge(mode, query, preferred, claim).kept:
            rows.append({"kind": "question", "query": asked.text})
    video = candidate["video"]
    return [
        {"id": pair_id(video, mode, row["query"], row["kind"], ""), "video": video, "mode": mode}
        | row
        for row in rows
    ]
