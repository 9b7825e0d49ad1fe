"""The toy world: short videos of coloured shapes, with known ground truth.

A video has two scenes with different backgrounds and a cut between them. Two circles, the
*actors*, come and go one after the other. A square, the *marker*, is on screen around the cut,
where it is kept or replaced by a square of another colour. Each mode has two KINDS of questions.

Each question has two answers. The *majority* answer (left, above, first, before, kept, both) is the
one that noisy labels give; in this world both answers are true equally often. A video that is
mirrored, rotated or reversed is again a possible one, with opposite answers in one mode.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

SIDE = 56  # pixels
FPS = 3.2  # frames per second of the files
N_FRAMES = 32  # the paper's
ACTOR, MARKER = SHAPES = ("circle", "square")  # so small a model confuses more shapes
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
KINDS = {  # kind of question: mode, query, answer, the two options, the majority one first
    "side": ("spatial", "Is the {} {} or {}?", "is {}.", "left/right"),
    "height": ("spatial", "Is the {} {} or {}?", "is {}.", "above/below"),
    "order": ("temporal", "Does the {} come {} or {}?", "comes {}.", "first/last"),
    "cut": ("temporal", "Does the {} come {} or {} the cut?", "comes {} the cut.", "before/after"),
    "kept": ("cross_frame", "Is the {} {} or {}?", "is {}.", "kept/replaced"),
    "scenes": ("cross_frame", "Is the {} in {} or in {}?", "is in {}.", "both scenes/one scene"),
}
MODES = tuple(dict.fromkeys(mode for mode, *_ in KINDS.values()))


@dataclass(frozen=True)
class Thing:
    """A shape with its centre at pixel (x, y), on screen in frames start..end-1."""

    name: str
    x: int
    y: int
    start: int
    end: int


@dataclass(frozen=True)
class Question:
    """A question with two options; `majority`: whether the majority answer is the right one."""

    kind: str
    mode: str
    name: str  # of the thing that it asks about
    query: str
    options: tuple[str, str]  # the majority one first
    option: str  # the right one
    answer: str  # the right one
    wrong: str
    majority: bool


@dataclass(frozen=True)
class Video:
    """The ground truth of one video."""

    actors: tuple[Thing, Thing]  # in order of time
    marker: Thing
    successor: str  # the name of the marker from the cut on; its own name if it is kept
    cut: int  # the first frame of the second scene
    backgrounds: tuple[str, str]
    shade: tuple[int, int, int]  # added to both backgrounds

    @property
    def things(self):
        return (*self.actors, self.marker)

    @property
    def kept(self):
        return self.successor == self.marker.name

    @property
    def names(self):
        return list(dict.fromkeys([*(thing.name for thing in self.things), self.successor]))

    @property
    def absent(self):
        """Names of things that are not in the video, in colours that are not in it."""
        used = {name.split()[0] for name in self.names}
        return [f"{colour} {shape}" for colour in COLOURS if colour not in used for shape in SHAPES]


def draw_video(rng):
    """A random video."""
    colours = rng.permutation(list(COLOURS))  # all different, so that a name means one thing
    shapes = (ACTOR, ACTOR, MARKER, MARKER)
    names = [f"{colour} {shape}" for colour, shape in zip(colours[:4], shapes, strict=True)]
    lengths = rng.integers(3, 10, 2, endpoint=True)  # frames of each actor
    gap = rng.integers(0, 6, endpoint=True)
    first = rng.integers(0, N_FRAMES - lengths.sum() - gap, endpoint=True)
    starts = [first, first + lengths[0] + gap]
    cut = int(rng.integers(11, N_FRAMES - 11, endpoint=True))
    span = rng.integers(3, 11, 2, endpoint=True)  # frames of the marker before and after the cut
    spans = [*zip(starts, starts + lengths, strict=True), (cut - span[0], cut + span[1])]
    places = place_things(rng)
    *actors, marker = [Thing(names[i], *places[i], *map(int, spans[i])) for i in range(3)]
    backgrounds = tuple(map(str, rng.permutation(list(BACKGROUNDS))[:2]))
    shade = tuple(map(int, rng.integers(0, 12, 3)))
    return Video(tuple(actors), marker, names[rng.integers(2, 4)], cut, backgrounds, shade)


def place_things(rng):
    """Three centres; each coordinate is on either side of the middle with probability 1/2."""
    # No actor touches the marker, which is the last. The actors may overlap: they never meet.
    signs = rng.choice([-1, 1], (3, 2))
    while True:  # redraw only the offsets: redrawing the sides would change their probability
        offsets = rng.integers(3, SIDE // 2 - RADIUS, (3, 2), endpoint=True)
        centres = SIDE // 2 + signs * offsets
        if np.abs(centres[:2] - centres[2]).max(axis=1).min() > 2 * RADIUS:
            return [(int(x), int(y)) for x, y in centres]


def questions(video, rng):
    """All the questions that a video answers, one of them of the kind "order", in random order."""
    first, middle = bool(rng.integers(2)), SIDE // 2
    asked = [ask("side", thing.name, thing.x < middle) for thing in video.things]
    asked += [ask("height", thing.name, thing.y < middle) for thing in video.things]
    asked.append(ask("order", video.actors[0 if first else 1].name, first))
    one_scene = [a for a in video.actors if a.end <= video.cut or a.start >= video.cut]
    asked += [ask("cut", actor.name, actor.end <= video.cut) for actor in one_scene]
    asked.append(ask("kept", video.marker.name, video.kept))
    asked.append(ask("scenes", [video.marker.name, video.successor][rng.integers(2)], video.kept))
    return [asked[i] for i in rng.permutation(len(asked))]


def ask(kind, name, majority):
    """The Question of a kind about a thing, whether it is in the video or not."""
    mode, query, answer, both = KINDS[kind]
    options = tuple(both.split("/"))
    right, other = options if majority else options[::-1]
    query = query.format(name, *options)
    answers = (f"The {name} {answer.format(option)}" for option in (right, other))
    return Question(kind, mode, name, query, options, right, *answers, majority)


def render(video):
    """The frames of a video, (N_FRAMES, SIDE, SIDE, 3) uint8 RGB."""
    frames = np.empty((N_FRAMES, SIDE, SIDE, 3), np.uint8)
    first, second = (np.add(BACKGROUNDS[name], video.shade) for name in video.backgrounds)
    frames[: video.cut], frames[video.cut :] = first, second
    shown = [(actor, actor.name, actor.start, actor.end) for actor in video.actors]
    shown.append((video.marker, video.marker.name, video.marker.start, video.cut))
    shown.append((video.marker, video.successor, video.cut, video.marker.end))
    for thing, name, start, end in shown:
        colour, shape = name.split()
        frames[start:end, silhouette(shape, thing.x, thing.y)] = COLOURS[colour]
    return frames


@cache
def silhouette(shape, x, y):
    """The pixels of a shape with its centre at (x, y), (SIDE, SIDE) bool."""
    dy, dx = np.mgrid[0:SIDE, 0:SIDE] - np.array([y, x])[:, None, None]
    if shape == ACTOR:
        return dx**2 + dy**2 <= RADIUS**2
    return np.maximum(abs(dx), abs(dy)) <= RADIUS - 1
