"""A small world of coloured shapes: short videos whose truth is known.

A square stands in a video throughout, the sign, and two circles come and go, one after the other,
the guests. At some moment the scene is cut: the background changes, and the sign is kept or is
replaced by one of another colour. That gives questions of all three modes with known answers:

    spatial      Is the red circle left or right?
    temporal     Does the red circle come first or last?        (of the two guests)
    cross_frame  Is the blue square kept or replaced?           (of the sign)

Difficulty is graded: offsets from the middle, the guests' stays and the gap between them, and the
length of the second scene all go down to the least that can be seen. Each question has two answers,
the *usual* one (left, first, kept) and the other; in this world they are true equally often.

Mirrored, turned round or reversed, a video is a fair one of this world again, whose truth is the
opposite in that one mode.

Shapes: F frames, S pixels a side. Frames are (F, S, S, 3) uint8, RGB.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

SIDE = 56  # pixels
FPS = 1.6  # frames per second of the files
N_FRAMES = 16
GUEST, SIGN = SHAPES = ("circle", "square")  # more of them are too alike for so small a model
COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 200, 60),
    "blue": (60, 90, 250),
    "yellow": (240, 220, 50),
    "white": (245, 245, 245),
    "pink": (250, 60, 220),
}
RADIUS = 7  # pixels


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

    mode: str
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


@dataclass(frozen=True)
class Video:
    """One video: the two guests in order, the sign, its name from the cut on, two backgrounds."""

    guests: tuple[Thing, Thing]
    sign: Thing
    successor: str  # the sign's own name if it is kept
    cut: int  # the first frame of the second scene
    backgrounds: tuple[tuple[int, int, int], tuple[int, int, int]]

    @property
    def things(self):
        return (*self.guests, self.sign)

    @property
    def kept(self):
        return self.successor == self.sign.name


def draw_video(rng):
    """A random video."""
    colours = rng.permutation(list(COLOURS))  # no colour twice: what is asked for is unmistakable
    shapes = (GUEST, GUEST, SIGN, SIGN)
    names = [f"{colour} {shape}" for colour, shape in zip(colours[:4], shapes, strict=True)]
    stays = rng.integers(2, 5, 2, endpoint=True)  # frames
    gap = rng.integers(0, 3, endpoint=True)
    first = rng.integers(0, N_FRAMES - stays.sum() - gap, endpoint=True)
    starts = [first, first + stays[0] + gap]
    spans = [*zip(starts, starts + stays, strict=True), (0, N_FRAMES)]
    places = place_things(rng)
    *guests, sign = [Thing(names[i], *places[i], *map(int, spans[i])) for i in range(3)]
    successor = names[rng.integers(2, 4)]
    cut = int(rng.integers(N_FRAMES // 2, N_FRAMES - 2))
    return Video(tuple(guests), sign, successor, cut, draw_backgrounds(rng))


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


def draw_backgrounds(rng):
    """Two dark colours, far enough apart for a cut to be seen."""
    while True:
        first, second = rng.integers(0, 60, (2, 3))
        if np.abs(first - second).sum() > 50:
            return tuple(int(v) for v in first), tuple(int(v) for v in second)


def questions(video, rng):
    """All the questions that a video answers, one of them temporal, in random order."""
    first = bool(rng.integers(2))
    asked = [ask("spatial", t.name, ("left", "right"), t.x < SIDE // 2) for t in video.things]
    asked.append(ask("temporal", video.guests[0 if first else 1].name, ("first", "last"), first))
    asked.append(ask("cross_frame", video.sign.name, ("kept", "replaced"), video.kept))
    return [asked[i] for i in rng.permutation(len(asked))]


def ask(mode, name, options, usual):
    """The Question which of two options, the usual one first, is true of a thing."""
    comes = mode == "temporal"
    query = f"{'Does' if comes else 'Is'} the {name}{' come' * comes} {' or '.join(options)}?"
    answers = tuple(f"The {name} {'comes' if comes else 'is'} {option}." for option in options)
    return Question(mode, query, options, answers, usual)


def render(video):
    """The frames of a video. Returns (N_FRAMES, SIDE, SIDE, 3) uint8."""
    frames = np.empty((N_FRAMES, SIDE, SIDE, 3), np.uint8)
    frames[: video.cut], frames[video.cut :] = video.backgrounds
    for guest in video.guests:
        paint(frames[guest.start : guest.end], guest.name, guest)
    paint(frames[: video.cut], video.sign.name, video.sign)
    paint(frames[video.cut :], video.successor, video.sign)
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
