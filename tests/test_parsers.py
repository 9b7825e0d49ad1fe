"""Reading a letter, against what lmms-eval's own functions made of the same responses.

python -m pytest -q tests/test_parsers.py
"""

from types import SimpleNamespace

import pytest

from pasta.benchmarks import Item, benchmark, parsers
from pasta.benchmarks.scoring import lettered_text

# What lmms-eval at 75571cfe makes of each response, and what its older rules did. "-" is no letter
# (where two of them then draw one), "raw" the response itself.
GOLDEN = """
A                                       | A A                     A A A A A
(A)                                     | A A                     A A A A A
A.                                      | A A                     A A A A raw
A)                                      | A A                     A - A A A
B. the dog                              | B B                     B B B B raw
(C) Took the box.                       | C C                     C C C C C
C) foo                                  | C C                     C - C C C
the answer is D                         | D D                     D D D D raw
Answer: C                               | C C                     A C C A raw
The correct option is (B) A man         | A B                     B B B B B
D. A book                               | D D                     D A D D raw
Put down a cup                          | - A                     - - - - raw
Best option: (B                         | B B                     B B B B raw
b                                       | - B                     - - - - raw
A and then B, so B                      | A A                     A B A A raw
Based on the video, the answer is C     | C C                     B C C B raw
I cannot determine                      | - i_cannot_determine    - - - - raw
                                        | - raw                   - - - - raw
C: the cat                              | C C                     C - C C raw
The woman picks the Cup                 | C the_woman_picks_the_cup C - - C raw
Both A and D                            | D A                     B D A B raw
E                                       | - E                     E E - - raw
A\\n\\nExplanation: B is wrong          | A A                     A B A A raw
**B**                                   | B B                     B - B B raw
The answer is A because D is not shown. | D A                     A D A A raw
Yes                                     | - yes                   - - - - raw
"""
# Item 3083302557_1 of NExT-QA.
OPTIONS = (
    "walk away",
    "thumbs up",
    "put down her club",
    "applying cream on face",
    "caressing for the dog",
)
RULES = {  # the columns of GOLDEN
    "E1 Video-MME, MLVU": parsers.ranked_letter,
    "E2 MVBench": lettered_text,
    "E3 LongVideoBench": lambda text: parsers.first_capital(text, "ABCDE", parsers.PREFIXES),
    "E4 NExT-QA": lambda text: parsers.mmmu_letter(text, OPTIONS),
    "E5 PerceptionTest": lambda text: benchmark("perceptiontest").parse(text, None),
    "E1-old Video-MME": lambda text: parsers.first_capital(text, "ABCD", parsers.GLUED_PREFIXES),
    "E1-old MLVU": parsers.before_parenthesis,
}


def vectors():
    """(rule, response, what it makes of it) for every cell of GOLDEN."""
    for line in GOLDEN.strip("\n").splitlines():
        response, cells = line.split("|")
        response = response.strip().replace("\\n", "\n")
        for rule, cell in zip(RULES, cells.split(), strict=True):
            expected = {"-": None, "raw": response}.get(cell, cell.replace("_", " "))
            yield rule, response, expected


@pytest.mark.parametrize(("rule", "response", "expected"), list(vectors()))
def test_a_response_is_read_as_lmms_eval_reads_it(rule, response, expected):
    assert RULES[rule](response) == expected


def test_all_vectors_are_there():
    assert len(list(vectors())) == 26 * 7


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("  ", None),
        ("...", None),
        ("USA is shown", "A"),  # no left boundary
        ("ABC", "C"),  # in a word the last one counts
        ("It is B: or C", "C"),  # the end beats a colon
        ("(A) or B. or C: or D) or such", "A"),  # parentheses beat a period, a colon, one of them
        ("x B. or C: or D) or such", "B"),
        ("x C: or D) or such", "C"),
        ("x D) or A such", "D"),
        ("x (A) or (B) then", "B"),  # the last of one kind
        ("정답은 B 입니다 (A) 아님", "A"),  # after a phrase each letter's first place counts
        ("选B吧", "B"),
        ("'\"B\"'", "B"),  # the marks go one after another: ' then "
        ("I choose C, not B", "B"),  # the end again
        ("B-roll", "B"),  # no letter follows the first character
        ("Bad", "B"),  # anywhere, if nothing else
    ],
)
def test_the_place_ranks_a_letter_of_video_mme(response, expected):
    assert parsers.ranked_letter(response) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("The best option is C", "C"),  # deleted whole: no B of "Best", no "T"
        ("Best answer: C", "C"),
        ("The option is BD", "B"),
        ("one two three four five six seven eight nine ten eleven", None),
    ],
)
def test_prefixes_go_before_the_first_capital(response, expected):
    assert parsers.first_capital(response, "ABCDE", parsers.PREFIXES) == expected


def test_the_old_prefixes_of_video_mme_are_glued_by_a_missing_comma():
    assert parsers.first_capital("Best answer: C", "ABCD", parsers.PREFIXES) == "C"
    assert parsers.first_capital("Best answer: C", "ABCD", parsers.GLUED_PREFIXES) == "B"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("(A) no, (B) yes", "B"),  # the last
        ("(B) it is. A dog", "B"),  # parentheses first
        ("A or B is right", "B"),
        ("USA B", "B"),  # "A " names A, but only B stands alone
        ("USA or such", "A"),
        ("xA.y xB.z", "A"),  # neither stands alone: the first
        ("i think it is that they walk away", "A"),
        ("they walk away and later give a Thumbs Up", "B"),  # in any case, the last one
        ("thumbs up", None),  # five words or fewer
        ("she did walk away here", None),
        (".A.", "A"),
        ("'A", "A"),
    ],
)
def test_nextqa_reads_parentheses_then_spaces_then_periods_then_options(response, expected):
    assert parsers.mmmu_letter(response, OPTIONS) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [("A_", None), ("AB", None), ("x-D", "D"), ("E", None), ("a", None), ("é B", "B")],
)
def test_perception_test_reads_the_first_letter_that_is_a_word(response, expected):
    assert benchmark("perceptiontest").parse(response, None) == expected


@pytest.mark.parametrize(("response", "expected"), [("x) y)", "x"), (")", ""), ("", "")])
def test_the_old_rule_of_mlvu_takes_the_character_before_the_parenthesis(response, expected):
    assert parsers.before_parenthesis(response) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("A", "A"),
        ("B. dribbling a basketball", "B"),
        ("C.", "C"),
        ("D) it", "D"),
        ("A\n", "A"),
        ("E.", None),
        ("(A) dunking", None),
        ("Option A", None),
        ("a.", None),
        ("A dunk", None),
        ("A: dunking", None),
        ("", None),
    ],
)
def test_tempcompass_reads_a_letter_at_the_start(response, expected):
    item = SimpleNamespace(task="multi-choice")
    assert benchmark("tempcompass").parse(response, item) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("Yes, it is.", "yes"),
        ("YES", "yes"),
        ("no", "no"),
        ("Not sure", "no"),
        ("None", "no"),
        ("Nope", "no"),
        ("It is: yes", None),
        ("", None),
    ],
)
def test_tempcompass_reads_yes_or_no_at_the_start(response, expected):
    item = SimpleNamespace(task="yes_no")
    assert benchmark("tempcompass").parse(response, item) == expected


# What strip_reasoning_tags of lmms-eval 0.7.3 makes of each response, with its two default tags.
REASONING = {
    "B</think><think>": "B</think><think>",  # an opening tag is left, so nothing is cut
    "x</think>A<think>y": "x</think>A<think>y",
    "B<thi<think>x</think>nk>C</think>A": "BA",  # a removal joins another block
    "<think>a</think> B ": "B",
    "a</think>b</think>C": "C",
    "<think>a<think>b</think>C": "C",
    "<think>a</think>B<think>c": "B<think>c",
    "<analysis>a</think>B</analysis>C": "C",
    "a</analysis>B</think>C": "C",
    "<analysis><think>x</analysis>A</think>B": "<analysis>B",
    "<THINK>x</THINK>A": "<THINK>x</THINK>A",
    "<think>a</think></think>B": "B",
    "</think>": "",
    " A\n": "A",
}


@pytest.mark.parametrize("text", REASONING)
def test_reasoning_is_removed_as_by_lmms_eval(text):
    reasoning = pytest.importorskip("pasta.run.reasoning")
    assert reasoning.without_reasoning(text) == REASONING[text]


LINES = (
    "Sentence A: A man is dunking a basketball.",
    "Sentence B: A video showing a person passing a basketball.",
)


@pytest.mark.parametrize(
    "response",
    [
        LINES[0],
        "Sentence A",
        "Sentence A.",
        "A",
        "A.",
        "(A) A man is dunking a basketball.",
        "A) A man is dunking a basketball.",
        "A man is dunking a basketball.",
    ],
)
def test_a_caption_is_matched_by_line_sentence_or_label(response):
    assert parsers.matched_caption(response, LINES, LINES[0]) == LINES[0]


@pytest.mark.parametrize("response", ["B", "Sentence B", "(A) " + LINES[1].split(": ")[1]])
def test_another_caption_is_matched_and_wrong(response):
    assert parsers.matched_caption(response, LINES, LINES[0]) == LINES[1]


@pytest.mark.parametrize(
    "response", ["sentence a", "Sentence A:", "Option A", LINES[0].removesuffix("."), ""]
)
def test_captions_are_matched_by_every_character(response):
    assert parsers.matched_caption(response, LINES, LINES[0]) is None


def test_a_sentence_of_both_captions_is_right():
    lines = ("Option 1: It spins.", "Option 2: It spins.")
    assert parsers.matched_caption("It spins.", lines, lines[1]) == lines[1]


def test_a_label_beats_a_sentence():
    lines = ("Option 1: 2", "Option 2: 1")
    assert parsers.matched_caption("2", lines, lines[1]) == lines[1]


def test_the_labels_of_numbered_captions_are_read():
    lines = ("Caption A: It falls.", "Caption B: It rises.")
    assert parsers.matched_caption("Caption B", lines, lines[1]) == lines[1]
    lines = ("Option 1: It falls.", "Option 2: It rises.")
    assert parsers.matched_caption("2.", lines, lines[1]) == lines[1]


@pytest.mark.parametrize(
    ("response", "expected"),
    [("A", "A"), ("b. the second", "B"), (" a", "A"), ("(A)", None), ("**A**", None), ("", None)],
)
def test_vinoground_reads_the_first_character(response, expected):
    assert benchmark("vinoground").parse(response, None) == expected


# -- TVBench -----------------------------------------------------------------------------------


def asked(options, answer):
    return Item("t/0", "t", "v.mp4", None, "", tuple(options), answer)


MOVES = ("Up and to the right.", "Up and to the left.", "Down and to the left.",
         "Down and to the right.")  # fmt: skip
LAPTOP = ("Threw the clothes.", "Opened the laptop.")
TVBENCH = {  # responses: (options, what they are read as)
    ("D", "(D)", "d", "D.", "D) Down and to the right.", "Answer: D", "The answer is D", "**D**",
     "Option D", "Down and to the right.", "The sphere moves down and to the right."): (MOVES, "D"),
    ("I think it is D", "It's D", "E", "", "the ball goes down and to the right",
     "Up and to the right or down and to the right"): (MOVES, None),
    ("A sphere moves down and to the right.", "Not A but D"): (MOVES, "A"),
    ("Both",): (MOVES, "B"),
    ("B", "Opened the laptop.", "B. Opened the laptop.", "Because he opened the laptop."):
        (LAPTOP, "B"),
    ("C", "I choose B", "opened the laptop"): (LAPTOP, None),
    ("Threw the clothes, then opened the laptop",): (LAPTOP, None),
}  # fmt: skip


@pytest.mark.parametrize(
    ("response", "options", "letter"),
    [(response, *case) for responses, case in TVBENCH.items() for response in responses],
)
def test_tvbench_reads_a_word_then_the_first_character_then_the_option(response, options, letter):
    assert benchmark("tvbench").parse(response, asked(options, "D")) == letter


# -- TOMATO ------------------------------------------------------------------------------------

HAND = ("No rotation.", "Clockwise then counter-clockwise.", "Counter-clockwise then clockwise.",
        "Clockwise throughout.", "Counter-clockwise throughout.")  # fmt: skip
TOMATO = {  # what a response is read as: responses
    "A": ("d", "clockwise throughout", "Answer: D", "No rotation.", "I cannot tell", "",
          "The hand rotates clockwise throughout the whole clip."),
    "B": ("Based on the frames, the answer is D", "(D), not (B)"),
    "C": ("D. Clockwise throughout.", "Clockwise throughout.", "{'D': 'Clockwise throughout.'}"),
    "D": ("D", "(D)", "D.", "**D**", "The answer is D.", "(D) Clockwise throughout.", "C or (D)"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("response", "letter"), [(text, letter) for letter in TOMATO for text in TOMATO[letter]]
)
def test_tomato_reads_any_capital_the_last_in_parentheses_else_a(response, letter):
    assert benchmark("tomato").parse(response, asked(HAND, "D")) == letter


def test_tomato_reads_the_option_that_comes_last_if_no_capital_is_a_letter():
    options = ("Left.", "Right.", "Not moving at all")
    text = "it goes to the left. and then to the right. yes"
    assert benchmark("tomato").parse(text, asked(options, "A")) == "B"


# -- VSI-Bench ---------------------------------------------------------------------------------

CORNERS = ("A. back-right", "B. back-left", "C. front-right", "D. front-left")
CORNER = {  # what a response is read as: responses
    "B": ("B", "b", "B.", "B. back-left", "B...", "B is right"),
    None: ("(B)", "B)", "B,", "B:", "**B**", "B\nbecause", "B.back-left", "back-left",
           "The answer is B", "Answer: B", "Option B", "", "E", "AB"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("response", "letter"), [(text, letter) for letter in CORNER for text in CORNER[letter]]
)
def test_vsi_bench_reads_a_letter_before_the_first_space(response, letter):
    assert benchmark("vsibench").parse(response, asked(CORNERS, "B")) == letter


@pytest.mark.parametrize("response", [x for of in CORNER.values() for x in of[:-3]] + ["Option B"])
def test_the_sound_rule_reads_a_letter_or_an_option_without_its_letter(response):
    assert parsers.stated(response, asked(CORNERS, "B")) == "B"


CHAIRS = {  # (number, score if 4 is right): responses
    (4, 1.0): ("4", "4.0", "4 chairs", "Four", "There are 4 chairs.", "4-5", "4/5", "4,000", "４"),
    (5, 0.6): ("5", "about .5"),
    (3, 0.6): ("3",),
    (6, 0.1): ("6",),
    (2, 0.1): ("2", "two dozen", "There are two or three"),
    (8, 0.0): ("8",),
    (1, 0.0): ("1", "1,200", "I see one table and 4 chairs", "No one knows", "1 + 3 = 4",
               "Chair 1: ... total 4"),
    (-4, 0.0): ("-4",),
    (9, 0.0): ("four-five",),
    (21, 0.0): ("twenty-one",),
    (321, 0.0): ("three hundred and twenty-one",),
    (2300, 0.0): ("two thousand three hundred",),
    (1000, 0.0): ("a thousand",),
    (0.4, 0.0): ("0.4e1",),
    (None, 0.0): ("a couple", "half", ""),
}  # fmt: skip


@pytest.mark.parametrize(
    ("response", "number", "score"), [(text, *case) for case in CHAIRS for text in CHAIRS[case]]
)
def test_vsi_bench_scores_the_first_number_by_its_distance(response, number, score):
    bench = benchmark("vsibench")
    named = bench.parse(response, asked((), "4.0"))
    assert (named and float(named)) == number
    assert bench.credit(named, "4.0") == score


@pytest.mark.parametrize(
    ("named", "right", "score"),
    [
        ("1.2", "1.0", 0.7),
        ("12.0", "10.0", 0.6),
        ("8.0", "10.0", 0.6),
        ("1.05", "1.0", 1.0),
        ("95.0", "100.0", 1.0),
        ("1.52", "1.6", 1.0),
        ("1.1", "1.0", 0.9),
        ("110.0", "100.0", 0.9),
        ("1.5", "1.6", 0.9),
        ("115.0", "100.0", 0.8),
        ("1.3", "1.0", 0.5),
        ("5.0", "4.0", 0.6),
        ("3.0", "4.0", 0.6),
        ("6.0", "4.0", 0.1),
        ("2.0", "4.0", 0.1),
        ("3.2", "1.6", 0.0),
        ("0.1", "0.0", 0.0),  # lmms-eval divides by zero
        ("0.0", "0.0", 1.0),
    ],
)
def test_the_limits_of_vsi_bench_are_as_uneven_as_its_floats(named, right, score):
    assert benchmark("vsibench").credit(named, right) == score


@pytest.mark.parametrize(
    ("response", "number"),
    [("about .5", 0.5), ("1,200 cm", 1200), ("4,5", 4), ("3.5", 3.5), ("four", 4), ("", None)],
)
def test_the_sound_rule_reads_numbers_with_commas_and_with_a_point_first(response, number):
    named = parsers.stated(response, asked((), "4.0"))
    assert (named and float(named)) == number


# -- Video-Holmes ------------------------------------------------------------------------------

CLEANERS = ("Cleaners", "Colleagues from the same department", "Siblings",
            "Strangers who collided accidentally", "Undercover police officers",
            "Office coworkers")  # fmt: skip
HOLMES = {  # what a response is read as, None before a draw: responses
    "A": ("A", "(A)", "A.", "A. Cleaners", "(A) Cleaners", "Answer: A", "The answer is A",
          "Final Answer: A", "B is wrong. Final Answer: A", "Option A", "The CCTV shows A",
          "Not B. A.", "They are clearly both working as cleaners here",
          "They were siblings or cleaners, one of them", "D. A stranger"),
    "B": ("A B",),
    "E": ("UNSURE",),
    "F": ("I think F",),
    None: ("A)", "a", "A: Cleaners", "Cleaners", "**Final Answer: A**", "<answer>A</answer>",
           r"\boxed{A}", ""),
}  # fmt: skip


@pytest.mark.parametrize(
    ("response", "letter"), [(text, letter) for letter in HOLMES for text in HOLMES[letter]]
)
def test_video_holmes_reads_a_letter_as_mmmu_does(response, letter):
    assert benchmark("video_holmes").parse(response, asked(CLEANERS, "A")) == letter


# -- MMVU --------------------------------------------------------------------------------------

GASES = ("Isothermal compression", "Adiabatic compression", "Isobaric compression",
         "Adiabatic expansion", "Isothermal expansion")  # fmt: skip
MMVU = {  # (right letter, score): responses
    ("B", 1): ("B", "b", "(B)", "b) because", "B. Adiabatic compression", "Adiabatic compression",
               "It shows adiabatic compression", "A or B", "C, not B", "A, B, C, D, E",
               "D. Adiabatic expansion", "Adiabatic process",
               "The gas is being compressed by a plan B"),
    ("B", 0): ("A", "A. Isothermal compression", "The answer is C", "Both", "Because it is hot",
               "It is a compression", "C", ""),
    ("A", 1): ("Adiabatic compression", "B. Adiabatic compression", "E. Isothermal expansion",
               "It is a compression", "a piston"),
    ("A", 0): ("B", "The answer is B"),
    ("E", 1): ("Adiabatic expansion", "D. Adiabatic expansion", "e.g. D"),
    ("E", 0): ("D", "the gas expands"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("response", "answer", "score"), [(text, *case) for case in MMVU for text in MMVU[case]]
)
def test_mmvu_asks_whether_the_right_letter_fits(response, answer, score):
    assert (benchmark("mmvu").parse(response, asked(GASES, answer)) == answer) == score


@pytest.mark.parametrize("answer", "ABCDE")
def test_the_sound_rule_reads_no_letter_where_all_are_right_for_mmvu(answer):
    item = asked(GASES, answer)
    assert benchmark("mmvu").parse("A, B, C, D or E", item) == answer
    assert parsers.stated("A, B, C, D or E", item) is None


# -- Video-MMMU --------------------------------------------------------------------------------

CARBONS = ("3, 3", "3, 4", "3, 5", "3, 6", "4, 3", "4, 4", "4, 5", "4, 6", "5, 5", "5, 6")
VIDEOMMMU = {  # what a response is read as: responses
    "G": ("G", "(G)", "G.", "G. 4, 5", "G: 4, 5", "G) 4, 5", "Answer: G", "The answer is G",
          "**G**", "**G. 4, 5**", r"\boxed{G}"),
    "I": ("I think the answer is G", "I would say (G)",
          "The correct answer is (G) 4, 5. In the video it is shown."),
    "A": ("A total of 4 and 5, so G.",),
    "D": ("The answer is G because D has too many",),
    "H": ("H is wrong; the answer is G",),
    "C": ("C3 sugars, G", "Carbon counts are 4 and 5"),
    None: ("g", "4, 5", "No idea", ""),
}  # fmt: skip
CARBON = [(text, letter) for letter in VIDEOMMMU for text in VIDEOMMMU[letter]]


@pytest.mark.parametrize(("response", "letter"), CARBON)
def test_video_mmmu_ranks_the_places_of_letters(response, letter):
    assert benchmark("videommmu").parse(response, asked(CARBONS, "G")) == letter


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("G", "G"),
        ("Answer: G", "G"),
        ("**G. 4, 5**", "G"),
        ("I think the answer is G", "G"),
        ("The correct answer is (G) 4, 5. In the video it is shown.", "G"),
        ("A: no. G. 4, 5", "G"),  # a period comes before a colon
        ("G. or H. it is", "H"),  # of several, the last
        ("After a while the lecture shows 4, 5", "G"),  # more than five words
        (r"Answer: \boxed{G}", None),
        ("4, 5", None),
        ("", None),
    ],
)
def test_videommmus_older_rule_is_that_of_its_leaderboard(response, letter):
    assert benchmark("videommmu").parse(response, asked(CARBONS, "G"), "v0.5") == letter


@pytest.mark.parametrize("response", [x for x, _ in CARBON if "G" in x or x in ("g", "4, 5")])
def test_the_sound_rule_reads_all_of_these_that_state_a_letter(response):
    assert parsers.stated(response, asked(CARBONS, "G")) == "G"


# -- our own rule, of `sound` scores -----------------------------------------------------------

FORMS = ("{x}", "({x})", "{x}.", "**{x}**", "{x}. {text}", "{x}: {text}", "({x}) {text}", "{text}",
         "The answer is {x}.", "The correct answer is {x}. {text}", "Answer: {x}", "I pick {x}",
         "Based on the frames, the answer is {x}", r"Answer: \boxed{{{x}}}", "Final answer:\n{x}",
         "A ball moves, so {x}", "I think the answer is **{x}. {text}**.",
         "{x} is right, because it moves", "The correct option is ({x}) {text}")  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("letter", "ABCD")
def test_the_sound_rule_reads_a_letter_however_it_is_said(form, letter):
    item = asked(MOVES, "A")
    response = form.format(x=letter, text=MOVES["ABCD".index(letter)])
    assert parsers.stated(response, item) == letter


@pytest.mark.parametrize(
    "response",
    ["", "A, B, C or D", "A or B", "A and C", "C, not B", "e.g. it",
     "I cannot determine a single answer", "Both", "A ball moves", "E", "Not sure",
     "The answer is not D, but C or B"],
)  # fmt: skip
def test_the_sound_rule_reads_no_letter_from_hedging_or_from_words(response):
    assert parsers.stated(response, asked(MOVES, "A")) is None
