"""From a response to the option it names: the rules of lmms-eval, with their traps.

Each does exactly what a task of lmms-eval does after stripping the response; MVBench's rule is
scoring.lettered_text. A rule that names nothing returns None, also where lmms-eval then draws a
letter. Only capitals count, unless the docstring mentions case.
"""

import re

from pasta.benchmarks import LETTERS

PHRASES = (
    "the answer is|answer is|the correct answer is|correct answer is|the best answer is|"
    "best answer is|the correct option is|correct option is|the best option is|best option is|"
    "the choice is|choice is|the correct choice is|correct choice is|i choose|i select|i pick|"
    "my answer is|my choice is|옵션|정답은|답은|답:|答案是|答案为|选|答えは"
).split("|")
START, END, PHRASE = 10, 9, 7  # how much a place counts
FORMS = {"({})": 6, "{}.": 5, "{}:": 4, "{})": 3, "{} ": 2, "{}": 0}

PREFIXES = (
    "The best answer is|The correct answer is|The answer is|The answer|"
    "The best option is|The correct option is|Best answer:|Best option:"
).split("|")
# Two commas are missing in lmms-eval, which joins four of them into two that never occur.
GLUED_PREFIXES = (*PREFIXES[:4], "".join(PREFIXES[4:6]), "".join(PREFIXES[6:]))


def ranked_letter(response, letters="ABCD"):
    """The letter in the place of the highest rank; of several in such places, the last.

    Video-MME and MLVU (tasks/_task_utils/mcq_extract.py, April to August 2026). A letter also
    counts inside a word, and after a phrase each one: "The correct option is (B) A man" is A.
    """
    text = response.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    bare, text = text.strip(), f" {text} "
    found = [(rank, text.rfind(form.format(x)), x) for form, rank in FORMS.items() for x in letters]
    lower = text.lower()
    for phrase in PHRASES:
        if phrase in lower:
            after = lower.find(phrase) + len(phrase)
            found += [(PHRASE, text.find(letter, after), letter) for letter in letters]
    found += [(START, 0, x) for x in letters if bare[:1] == x and not bare[1:2].isalpha()]
    found += [(END, len(text), x) for x in letters if bare[-1:] == x and not bare[-2:-1].isalpha()]
    found = [place for place in found if place[1] >= 0]
    return max(found, key=lambda place: place[:2])[2] if found else None


def first_match(pattern, response):
    """What the group of a pattern finds first in a stripped response, or None."""
    found = re.search(pattern, response.strip())
    return found and found[1]


def first_capital(response, letters, prefixes):
    """The first of the letters, wherever it is: "Answer: C" is A, "Based on" is B.

    LongVideoBench with PREFIXES, Video-MME before April 2026 with GLUED_PREFIXES: they go first.
    """
    for prefix in prefixes:
        response = response.replace(prefix, "")
    return first_match(f"([{letters}])", response)


def before_parenthesis(response):
    """The character before the first ")", or the whole response: MLVU before April 2026."""
    response = response.strip()
    return response[: response.find(")")][-1:] if ")" in response else response


def by_version(old, response, item, parser="head"):
    """A letter of the item by ranked_letter, or by `old` for v0.5: Video-MME and MLVU."""
    letter = (old if parser == "v0.5" else ranked_letter)(response)
    return letter if letter and letter in item.letters else None


def mmmu_letter(response, options, forms=(("({})", "({})"), ("{} ", " {} "), ("{}.", " {} "))):
    """The letter in parentheses, or before a space, or before a period, or the option in full.

    NExT-QA, with the rule of MMMU; TOMATO has its own forms. Of several, the last one, but a letter
    before a space must be alone to count as last: "D. A book" is A. "C) foo" and "**B**" name none.
    """
    text = response.strip()
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text = f" {text} "
    letters = LETTERS[: len(options)]
    for form, place in forms:
        if named := [x for x in letters if form.format(x) in text]:
            return max(named, key=lambda x: text.rfind(place.format(x)))
    lower = text.lower()
    places = {x: lower.rfind(o.lower()) for x, o in zip(letters, options, strict=True)}
    named = [x for x, place in places.items() if place >= 0]
    return max(named, key=places.get) if named and len(text.split()) > 5 else None


def caption_parts(line):
    """Label, sentence and bare label of "Sentence A: A man runs.": that is "A". Else ValueError."""
    label, sentence, *_ = line.split(": ")  # cut at the next colon, as in lmms-eval
    _, bare, *_ = label.split()
    return label, sentence, bare


def matched_caption(response, lines, answer):
    """The line that a response repeats, by itself, its sentence or its label: TempCompass."""
    response = response.strip()
    labels, sentences, bare = zip(*map(caption_parts, lines), strict=True)
    after = response.split(") ")[1] if ") " in response else response
    named = [line for line in lines if line == response]
    named += [sentence for sentence in sentences if sentence in (response, after)]
    named += [x for x in labels + bare if x in (response, response.replace(".", ""))]
    if not named:
        return None
    return next(x for x in (answer, *lines) if named[-1] in (x, *caption_parts(x)))


def stated(response, item):
    """The option in full, or the letter after "answer", at the start, or alone: `sound` scores."""
    if not item.options:  # a number, which may be "1,200" or ".5"
        return first_number(re.sub(r"\B\.(?=\d)", "0.", re.sub(r"(?<=\d),(?=\d{3})", "", response)))
    options = (x.removeprefix(f"{a}. ") for a, x in zip(item.letters, item.options, strict=True))
    text, *names = (x.strip(" .\n").lower() for x in (response, *options, *item.letters))
    if text in names:
        return item.letters[names.index(text) % len(item.letters)]
    one = f"([{item.letters}])"
    answer = rf"(?s:.*)(?i:answer(?: is)?|(?:option|choice) is)(?:\W|boxed)*{one}\b"
    alone = rf"\b(?![AI] (?!or |and |is )[a-z]){one}\b"  # no article, no "I"
    rules = (answer, rf"\A\W*{one}(?:\W*\Z|[.:)*])", alone)
    found = ({*re.findall(rule, response.strip())} for rule in rules)
    said = next(filter(None, found), ())
    return said.pop() if len(said) == 1 else None


WORDS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
    hundred thousand
""".split()
VALUES = dict(zip(WORDS, [*range(20), *range(20, 101, 10), 1000], strict=True))
NUMBER = re.compile(rf"(-?\d+(?:\.\d+)?)|\b(?:{'|'.join(WORDS)})\b")


def first_number(response):
    """The first number in digits or words, as a text: "1,200" is 1, ".5" is 5. VSI-Bench."""
    text, total, part = response.lower(), 0.0, 0.0
    found = NUMBER.search(text)
    if not found or found[1]:
        return found and str(float(found[1]))
    for word in re.findall("[a-z]+", text[found.start() :]):
        if word not in (*WORDS, "and"):
            break
        value = VALUES.get(word, 0)
        part = max(part, 1) * value if value >= 100 else part + value
        if word == "thousand":
            total, part = total + part, 0.0
    return str(total + part)
