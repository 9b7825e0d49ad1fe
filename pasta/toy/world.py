"""A small world of coloured shapes: short videos whose truth is known.

A video has two scenes with different backgrounds and a cut between them. Two circles come and go,
one after the other, the guests. A square is seen on both sides of the cut, the sign, and there it
is kept or is replaced by one of another colour. That gives questions of all three modes, of two
kinds each, with known answers:

    spatial      side     Is the red circle left or right?
                 height   Is the red circle above or below?
    temporal     order    Does the red circle come first or last?        (of the two guests)
                 cut      Does the red circle come before or after the cut?
    cross_frame  sign     Is the blue square kept or replaced?
                 scenes   Is the blue square in both scenes or in one scene?

Difficulty is graded: offsets from the middle, the guests' stays and the gap between them, and how
long the sign is seen on either side of the cut all go down to the least that can be seen. Each
question has two answers, the *usual* one (left, above, first, before, kept, both) and the other; in
this world they are true equally often.

Mirrored, turned round or reversed, a video is a fair one of this world again, whose truth is the
opposite in that one mode.

Shapes: F frames, S pixels a side. Frames are (F, S, S, 3) uint8, RGB.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

SIDE = 56  # pixels
FPS = 3.2  # frames per second of the files
N_FRAMES = 32  # the paper's
GUEST, SIGN = SHAPES = ("circle", "square")  # more of them are too alike for so small a model
COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 200, 60),
    "blue": (60, 90, 250),
    "yellow": (240, 220, 50),
    "white": (245, 245, 245),
    "pink": (250, 60, 220),
}
BACKGROUNDS = {"black": (6, 6, 6), "navy": (0, 10, 80), "brown": (80, 40, 0), "olive": (30, 70, 30)}
RADIUS = 7  # pixels
SIGN_SHOWN = (3, 11)  # frames that the sign is seen before the cut, and after it
KINDS = {  # kind of question: mode, query, answer, the two options, the usual one first
    "side": ("spatial", "Is the {} left or right?", "The {} is {}.", ("left", "right")),
    "height": ("spatial", "Is the {} above or below?", "The {} is {}.", ("above", "below")),
    "order": (
        "temporal",
        "Does the {} come first or last?",
        "The {} comes {}.",
        ("first", "last"),
    ),
    "cut": (
        "temporal",
        "Does the {} come before or after the cut?",
        "The {} comes {} the cut.",
        ("before", "after"),
    ),
    "sign": ("cross_frame", "Is the {} kept or replaced?", "The {} is {}.", ("kept", "replaced")),
    "scenes": (
        "cross_frame",
        "Is the {} in both scenes or in one scene?",
        "The {} is in {}.",
        ("both scenes", "one scene"),
    ),
}


@dataclass(frozen=True)
class Thing:
    """One shape of a video: `x`, `y` its centre in pixels, on screen in frames start..end-1."""

    name: str
    x: int
    y: int
    start: int
    end: int


@dataclass(frozen=True)
class Question:
    """A question with its two options and answers; `usual` says whether the usual one is right."""

    kind: str
    mode: str
    name: str  # of what it asks about
    query: str
    options: tuple[str, str]
    answers: tuple[str, str]  # (the usual one, the other)
    usual: bool

    @property
    def answer(self):
        return self.answers[0 if self.usual else 1]

    @property
    def wrong(self):
        return self.answers[1 if self.usual else 0]

    @property
    def option(self):
        return self.options[0 if self.usual else 1]


@dataclass(frozen=True)
class Video:
    """One video: the two guests in order, the sign, its name from the cut on, two backgrounds."""

    guests: tuple[Thing, Thing]
    sign: Thing
    successor: str  # the sign's own name if it is kept
    cut: int  # the first frame of the second scene
    backgrounds: tuple[str, str]
    shade: tuple[int, int, int]  # added to both backgrounds

    @property
    def things(self):
        return (*self.guests, self.sign)

    @property
    def kept(self):
        return self.successor == self.sign.name

    @property
    def names(self):
        """Of all that is seen, each once."""
        return list(dict.fromkeys([*(thing.name for thing in self.things), self.successor]))

    @property
    def absent(self):
        """Names of things that are not in the video, of colours that nothing in it has."""
        used = {name.split()[0] for name in self.names}
        return [f"{colour} {shape}" for colour in COLOURS if colour not in used for shape in SHAPES]


def draw_video(rng):
    """A random video. Its distribution is the same run backwards, mirrored or upside down."""
    colours = rng.permutation(list(COLOURS))  # no colour twice: what is asked for is unmistakable
    shapes = (GUEST, GUEST, SIGN, SIGN)
    names = [f"{colour} {shape}" for colour, shape in zip(colours[:4], shapes, strict=True)]
    stays = rng.integers(3, 10, 2, endpoint=True)  # frames
    gap = rng.integers(0, 6, endpoint=True)
    first = rng.integers(0, N_FRAMES - stays.sum() - gap, endpoint=True)
    starts = [first, first + stays[0] + gap]
    cut = int(rng.integers(11, N_FRAMES - 11, endpoint=True))
    shown = rng.integers(*SIGN_SHOWN, 2, endpoint=True)  # frames before and after the cut
    spans = [*zip(starts, starts + stays, strict=True), (cut - shown[0], cut + shown[1])]
    places = place_things(rng)
    *guests, sign = [Thing(names[i], *places[i], *map(int, spans[i])) for i in range(3)]
    backgrounds = tuple(map(str, rng.permutation(list(BACKGROUNDS))[:2]))
    shade = tuple(map(int, rng.integers(0, 12, 3)))
    return Video(tuple(guests), sign, names[rng.integers(2, 4)], cut, backgrounds, shade)


def place_things(rng):
    """Three centres, each left or right of the middle, and above or below it, with chance 1/2.

    Nothing touches the last, the sign's; the guests never meet.
    """
    signs = rng.choice([-1, 1], (3, 2))
    while True:  # sides stay as they were drawn, or the things would keep away from the sign's
        offsets = rng.integers(3, SIDE // 2 - RADIUS, (3, 2), endpoint=True)
        centres = SIDE // 2 + signs * offsets
        if np.abs(centres[:2] - centres[2]).max(axis=1).min() > 2 * RADIUS:
            return [(int(x), int(y)) for x, y in centres]


def questions(video, rng):
    """All the questions that a video answers, one of them of the order, in random order."""
    first, middle = bool(rng.integers(2)), SIDE // 2
    asked = [ask("side", thing.name, thing.x < middle) for thing in video.things]
    asked += [ask("height", thing.name, thing.y < middle) for thing in video.things]
    asked.append(ask("order", video.guests[0 if first else 1].name, first))
    asked += [
        ask("cut", guest.name, guest.end <= video.cut)
        for guest in video.guests
        if guest.end <= video.cut or guest.start >= video.cut
    ]
    asked.append(ask("sign", video.sign.name, video.kept))
    asked.append(ask("scenes", [video.sign.name, video.successor][rng.integers(2)], video.kept))
    return [asked[i] for i in rng.permutation(len(asked))]


def ask(kind, name, usual):
    """The Question of a kind about a thing, whether it is there or not."""
    mode, query, answer, options = KINDS[kind]
    answers = tuple(answer.format(name, option) for option in options)
    return Question(kind, mode, name, query.format(name), options, answers, usual)


def render(video):
    """The frames of a video. Returns (N_FRAMES, SIDE, SIDE, 3) uint8."""
    frames = np.empty((N_FRAMES, SIDE, SIDE, 3), np.uint8)
    first, second = (np.add(BACKGROUNDS[name], video.shade) for name in video.backgrounds)
    frames[: video.cut], frames[video.cut :] = first, second
    for guest in video.guests:
        paint(frames[guest.start : guest.end], guest.name, guest)
    paint(frames[video.sign.start : video.cut], video.sign.name, video.sign)
    paint(frames[video.cut : video.sign.end], video.successor, video.sign)
    return frames


def paint(frames, name, thing):
    """Draw `name` where `thing` is, into every one of `frames` (F, SIDE, SIDE, 3)."""
    colour, shape = name.split()
    frames[:, silhouette(shape, thing.x, thing.y)] = COLOURS[colour]


@cache
def silhouette(shape, x, y):
    """The pixels of a shape with its centre at (x, y). Returns (SIDE, SIDE) bool."""
    dy, dx = np.mgrid[0:SIDE, 0:SIDE] - np.array([y, x])[:, None, None]
    if shape == GUEST:
        return dx**2 + dy**2 <= RADIUS**2
    return np.maximum(abs(dx), abs(dy)) <= RADIUS - 1
