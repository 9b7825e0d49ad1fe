"""Takes the reasoning out of a model's reply: one rule for all roles and for evaluate.py."""

TAGS = (("<think>", "</think>"), ("<analysis>", "</analysis>"))  # lmms-eval's defaults


def without_reasoning(text):
    """A reply without its reasoning, exactly as by lmms-eval's strip_reasoning_tags."""
    for start, end in TAGS:
        while end in text.partition(start)[2]:
            before, _, after = text.partition(start)
            text = before + after.partition(end)[2]
        if start not in text:
            text = text.rpartition(end)[2]  # the chat template opened the block
    return text.strip()


def final_answer(text, finished=True):
    """(answer, finished) of a reply to a role; what follows an open tag is not an answer."""
    text = without_reasoning(text)
    for start, _ in TAGS:
        if start in text:
            text, finished = text.partition(start)[0].strip(), False
    return text, finished
