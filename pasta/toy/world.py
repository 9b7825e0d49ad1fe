"""A small world of coloured shapes: short videos whose truth is known.

A video lasts 16 s. Two shapes appear one after the other in the first scene; then the scene is
cut, the background changes, and each shape is kept or is replaced. That gives questions of all
three modes with known answers:

    spatial      Is the red circle left or right?                          (or: top or bottom?)
    temporal     Does the red circle come before or after the blue square?
    cross_frame  Is the red circle kept or replaced?

Difficulty is graded: offsets from the middle, gaps between appearances and the length of the
second scene all go down to the least that can be seen. Each question has two answers, the *usual*
one (left, top, before, kept) and the other; `usual` is the share of usual ones in a world. A
model that grows up in a skewed world leans on the usual answer wherever the video is hard.

Shapes: F frames, S pixels a side. Frames are (F, S, S, 3) uint8, RGB.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

SIDE = 56  # pixels
FPS = 2.0  # frames per second of the files
N_FRAMES = 32  # 16 s
SHAPES = ("circle", "square", "triangle", "cross")
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
    """One shape of a video: `x`, `y` its centre in pixels, `appears` the frame it appears in."""

    name: str
    x: int
    y: int
    appears: int
    stays: bool
    successor: str  # what stands in its place in the second scene


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
    """One video: two things in order of appearance, the frame of the cut, two backgrounds."""

    things: tuple[Thing, ...]
    cut: int
    backgrounds: tuple[tuple[int, int, int], tuple[int, int, int]]


def draw_video(rng, usual=0.5):
    """A random video in which the usual answer is right with probability `usual`."""
    colours = rng.permutation(list(COLOURS))  # no colour twice: what is asked for is unmistakable
    names = [f"{colour} {SHAPES[rng.integers(len(SHAPES))]}" for colour in colours]
    cut = int(rng.integers(16, 27))
    first = int(rng.integers(0, cut - 7))
    times = [first, int(rng.integers(first + 2, cut - 3))]
    things = []
    for i, (x, y) in enumerate(place_things(rng, usual)):
        stays = rng.random() < usual
        successor = names[i] if stays else names[2 + i]
        things.append(Thing(names[i], x, y, int(times[i]), bool(stays), successor))
    return Video(tuple(things), cut, draw_backgrounds(rng))


def place_things(rng, usual):
    """Two centres that do not touch, left of the middle and above it with chance `usual`."""
    signs = np.where(rng.random((2, 2)) < usual, -1, 1)
    while True:  # sides stay as they were drawn, or `usual` would not hold
        offsets = rng.integers(3, SIDE // 2 - RADIUS, (2, 2), endpoint=True)
        centres = SIDE // 2 + signs * offsets
        if np.abs(centres[0] - centres[1]).max() > 2 * RADIUS:
            return [(int(x), int(y)) for x, y in centres]


def draw_backgrounds(rng):
    """Two dark colours, far enough apart for a cut to be seen."""
    while True:
        first, second = rng.integers(0, 60, (2, 3))
        if np.abs(first - second).sum() > 50:
            return tuple(int(v) for v in first), tuple(int(v) for v in second)


def questions(video, rng, usual=0.5):
    """All the questions that a video answers, in random order.

    Which of two things a temporal question names first is drawn so that "before" is right with
    probability `usual`.
    """
    found = []
    for thing in video.things:
        name, left, top = thing.name, thing.x < SIDE // 2, thing.y < SIDE // 2
        for mode, options, usual_is_right in (
            ("spatial", ("left", "right"), left),
            ("spatial", ("top", "bottom"), top),
            ("cross_frame", ("kept", "replaced"), thing.stays),
        ):
            query = f"Is the {name} {options[0]} or {options[1]}?"
            answers = tuple(f"The {name} is {option}." for option in options)
            found.append(Question(mode, query, options, answers, usual_is_right))
    before = bool(rng.random() < usual)
    one, other = (thing.name for thing in video.things[:: 1 if before else -1])
    query, options = f"Does the {one} come before or after the {other}?", ("before", "after")
    answers = tuple(f"The {one} comes {option} the {other}." for option in options)
    found.append(Question("temporal", query, options, answers, before))
    return [found[k] for k in rng.permutation(len(found))]


def render(video):
    """The frames of a video. Returns (N_FRAMES, SIDE, SIDE, 3) uint8."""
    frames = np.empty((N_FRAMES, SIDE, SIDE, 3), np.uint8)
    starts = sorted({0, video.cut, *(t.appears for t in video.things)})
    for start, end in zip(starts, [*starts[1:], N_FRAMES], strict=True):
        second = start >= video.cut
        picture = background(video.backgrounds[second])
        for thing in video.things:
            if start >= thing.appears:
                paint(picture, thing.successor if second else thing.name, thing.x, thing.y)
        frames[start:end] = picture  # nothing moves between two events
    return frames


def background(colour):
    """A faint gradient, brighter to the right and to the bottom: absolute position can be seen."""
    ramp = np.linspace(0, 40, SIDE)
    picture = np.empty((SIDE, SIDE, 3))
    picture[:] = colour
    picture[:, :, 0] += ramp[None, :]
    picture[:, :, 1] += ramp[:, None]
    return picture.astype(np.uint8)


def paint(picture, name, x, y):
    """Draw one thing, by name, into `picture` (SIDE, SIDE, 3)."""
    colour, shape = name.split()
    picture[silhouette(shape, x, y)] = COLOURS[colour]


@cache
def silhouette(shape, x, y):
    """The pixels of a shape with its centre at (x, y). Returns (SIDE, SIDE) bool."""
    dy, dx = np.mgrid[0:SIDE, 0:SIDE] - np.array([y, x])[:, None, None]
    if shape == "circle":
        return dx**2 + dy**2 <= RADIUS**2
    if shape == "square":
        return np.maximum(abs(dx), abs(dy)) <= RADIUS - 1
    if shape == "triangle":
        return (abs(dx) * 2 <= dy + RADIUS) & (abs(dy) <= RADIUS)
    return (np.minimum(abs(dx), abs(dy)) <= 1) & (np.maximum(abs(dx), abs(dy)) <= RADIUS)
