"""Schemas of JSON files, and the message for values that do not fit.

A schema is a type, such as str or int | None; a tuple of the allowed values; [schema of each item]
for a list; or {name: schema} for an object, which may have more names. A name may be missing if its
type is a union with ABSENT.
"""

import json
import re
from contextlib import contextmanager
from pathlib import Path
from types import EllipsisType

ABSENT = EllipsisType  # in a union: the name may be missing
NUMBER = int | float
SURROGATE = re.compile("[\ud800-\udfff]")  # half a pair: no tokenizer and no file accepts it


def schema_error(value, shape, name=""):
    """Where a value does not fit: "a.b is 3; expected str", or "". Booleans are not numbers."""
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
    if isinstance(shape, dict):
        return f"an object with {', '.join(shape)}"
    if isinstance(shape, tuple):
        return f"one of {', '.join(map(str, shape))}"
    kinds = getattr(shape, "__name__", "list" if isinstance(shape, list) else str(shape))
    return {"dict": "an object", "object": "any value"}.get(kinds, kinds).replace(" | ellipsis", "")


def read_json(path, shape=dict, **options):
    """The value in a JSON file. Raises ValueError "FILE: what it has; what is expected"."""
    try:
        value = json.loads(Path(path).read_bytes(), **options)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}; expected {described(shape)}") from None
    if wrong := schema_error(value, shape):
        raise ValueError(f"{path}: {wrong}")
    return value


@contextmanager
def read_by(library, path):
    """Turn any error of a library about a file or folder into a ValueError that names it."""
    try:
        yield
    except Exception as error:  # a typo in config.json can be a TypeError deep inside the library
        text = f"{path}: {library} cannot read it: {error!r}"
        raise ValueError(f"{text}; expected the published file: download it again") from error


def valid_text(text, what):
    """`text`, if it can be tokenized and written. Raises ValueError that names `what` it is."""
    if half := SURROGATE.search(text):
        raise ValueError(f"{what} holds {half[0]!r}; expected no half of a surrogate pair")
    return text


def printable(text):
    """`text` for one line of a terminal: control and direction characters become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_name(text):
    """Whether a file can have this name."""
    return "\0" not in text and not SURROGATE.search(text)
