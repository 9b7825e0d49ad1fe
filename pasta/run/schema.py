"""What JSON out of a file must look like, and the message about what does not.

A shape is a type, such as str or int | None; a tuple of the values to choose from; [the shape of
each] for a list; or {name: shape} for an object, which may hold more. A name whose type is a union
with ABSENT may be left out.
"""

import json
import re
from contextlib import contextmanager
from pathlib import Path
from types import EllipsisType

ABSENT = EllipsisType  # in a union: the name may be left out
NUMBER = int | float
SURROGATE = re.compile("[\ud800-\udfff]")  # of a surrogate pair: no tokenizer and no file takes it


def schema_error(value, shape, name=""):
    """Where a value first departs from a shape, "a.b is 3; expected str"; "" if nowhere.

    name: of the value, before those of its parts. true and false are no numbers, nor is what needs
    more than 64 bits.
    """
    parts = []
    if isinstance(shape, dict):
        fits = isinstance(value, dict)
        parts = [(f"{name}.{k}", value.get(k, ...), of) for k, of in shape.items() if fits]
    elif isinstance(shape, list):
        fits = isinstance(value, list)
        parts = [(f"{name}[{i}]", part, shape[0]) for i, part in enumerate(value if fits else ())]
    elif isinstance(shape, tuple):
        fits = value in shape
    else:
        fits = isinstance(value, shape) and (type(value) is not bool or shape in (bool, object))
        fits &= type(value) is not int or abs(value) < 2**63
    if not fits:
        got = "missing" if value is ... else f"{value!r:.80}"
        return f"{name.lstrip('.') or 'it'} is {got}; expected {described(shape)}"
    return next(filter(None, (schema_error(part, of, where) for where, part, of in parts)), "")


def described(shape):
    """A shape in words."""
    if isinstance(shape, dict):
        return f"an object with {', '.join(shape)}"
    if isinstance(shape, tuple):
        return f"one of {', '.join(map(str, shape))}"
    kinds = getattr(shape, "__name__", "list" if isinstance(shape, list) else str(shape))
    return {"dict": "an object", "object": "any value"}.get(kinds, kinds).replace(" | ellipsis", "")


def read_json(path, shape=dict):
    """What a JSON file holds. Raises ValueError "FILE: what it got; what is expected"."""
    try:
        value = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}; expected {described(shape)}") from None
    if wrong := schema_error(value, shape):
        raise ValueError(f"{path}: {wrong}")
    return value


@contextmanager
def read_by(library, path):
    """Whatever a library raises about a file or a folder is a ValueError here that names it.

    Libraries promise no type: a slip in config.json may be a TypeError deep inside.
    """
    try:
        yield
    except Exception as error:
        told = f"{path}: {library} cannot read it: {error!r}"
        raise ValueError(f"{told}; expected what was published: fetch or copy it again") from error


def valid_text(text, what):
    """A text, if it can be tokenized and written. Raises ValueError that says `what` it is."""
    if half := SURROGATE.search(text):
        raise ValueError(f"{what} holds {half[0]!r}; expected no half of a surrogate pair")
    return text


def is_name(text):
    """Whether a file can have such a name."""
    return "\0" not in text and not SURROGATE.search(text)
