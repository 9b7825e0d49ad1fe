"""Every text that a model is given to make pairs.

The *asker* sees a video and writes a query about one failure mode. The *responder* answers it
unchanged (the preferred answer), and after a false premise (an adversarial answer). The *judge*
reads both answers and no video. The modes and premises follow arXiv 2504.14096, section 3; the
words are ours, because the paper's are not public.
"""

PROMPT_VERSION = 2  # part of every row's recipe: raise it when a text below changes

ABOUT = {  # what a mode is about; for the judge
    "spatial": "where things are",
    "temporal": "the order of events",
    "cross_frame": "what stays the same or changes between scenes",
}

# To the asker. The topics of a mode are used in turn: from one topic only, the policy would learn
# the form of the question.
# A question with two possible answers makes better pairs than one that asks for a description.
QUERY = "Write one question about this video that {kind}. Write nothing but the question."
QUERIES = {
    "spatial": {
        "occlusion": "asks what is hidden or covered by something else, or stands in front of it",
        "depth": "asks which of two things is nearer to the camera",
        "position": "asks on which side a thing is, in the picture or of another thing",
    },
    "temporal": {
        "order": "asks which of two events comes first",
        "transition": "asks what happens just before or just after a moment that it names",
        "causality": "asks which earlier event leads to a later one",
    },
    "cross_frame": {
        "object": "asks whether a thing seen early is kept, gone or replaced later on",
        "person": "asks whether somebody seen early in the video is seen again in a later scene",
        "setting": "asks whether and how the place changes from the first scene to the last",
    },
}

# To the responder. A premise stated as a fact gives a fluent, specific and wrong answer. With
# "answer as if" or "pretend", answers mention the pretence; with "answer wrongly", models refuse.
MISLEAD = "Take for granted: {premise} Answer by that, in plain words, and do not speak of it.\n"
PREMISES = {
    "spatial": {
        "mirrored": "left and right are exchanged here, and so are top and bottom.",
        "uncovered": "nothing hides anything here, and what seems to be behind is in front.",
        "flat": "all things are equally far away, on the other side of each other.",
    },
    "temporal": {
        "simultaneous": "nothing comes before or after anything here, all is at the same time.",
        "backwards": "the video runs backwards, so what is seen first happened last.",
        "flashback": "the later part is a flashback to what happened before the earlier one.",
    },
    "cross_frame": {
        "unrelated": "what is seen in two scenes is never the same thing or the same person.",
        "unchanging": "no place and no thing ever changes, and what looks new was there before.",
        "reversed": "the scenes are in reverse, so what is there at the end is what was replaced.",
    },
}

# To the judge, about each pair of answers. Two lines to fill in keep the reply short.
JUDGE_PAIR = """\
Two answers to a question about a video, which you cannot see.
Question: {query}
Answer 1: {preferred}
Answer 2: {adversarial}
Does answer 1 answer the question, with something that can be true? If it is true, is answer 2 \
wrong about {about}? Reply with these two lines, filled in, and nothing else:
fits: yes or no
contradicts: yes or no"""

# To the asker, without the video: questions of adversarial QA assume a wrong answer (Table 6).
FALSE_PREMISE = (
    "Write one question about the video that takes it for granted that the following is true, "
    "without repeating it word for word: {wrong}\nReply with the question alone."
)

# To the judge of the benchmark adversarial QA, about one response.
PREMISE_JUDGE = (
    "A question about a video takes for granted what is not so: {query}\nAn answer: {response}\n"
    "Does the answer say that it is not so? Reply with yes or no."
)


def query_prompt(mode, topic):
    return QUERY.format(kind=QUERIES[mode][topic])


def misled_prompt(mode, premise, query):
    """The query after the false premise of that name."""
    return MISLEAD.format(premise=PREMISES[mode][premise]) + query
