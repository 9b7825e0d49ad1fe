"""One dataclass is the whole configuration: its fields become flags, config.json and --help.

A script writes each knob once, as a field made by `knob`, and `parse` derives the rest; a ClassVar
among the fields is a heading of --help. Two sources of values stand behind a flag that was not
given: `default`, and `toy`, which wins when no model was named either, so that a script called
without arguments works in the embedded toy world.
"""

import argparse
import random
import subprocess
import sys
from dataclasses import MISSING, asdict, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import NoneType, UnionType
from typing import ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch

from pasta.run.atomic import write_json
from pasta.run.schema import read_json

ROOT = Path(__file__).resolve().parents[2]  # where a checkout has its .git
MODEL_FLAGS = {"model", "responder"}  # without such a one a script is in the toy world
PACKAGES = ("torch", "transformers", "decord", "numpy")  # whose versions config.json records


def knob(text, default=MISSING, toy=MISSING):
    """A field of a config dataclass, which is one flag.

    text: what the flag means, its unit and, where there is one, its source; shown by --help.
    default, toy: a value, or a function of no arguments that makes it, called only when needed.
    With neither, the flag is required; with `toy` alone, it is required next to --model.
    """
    metadata = {"help": text, "default": default, "toy": toy}
    if callable(default) or isinstance(default, list):
        factory = default if callable(default) else default.copy
        return field(default_factory=factory, kw_only=True, metadata=metadata)
    return field(default=default, kw_only=True, metadata=metadata)


def argument_type(kind, name):
    """What add_argument needs for a field of type `kind`. Raises TypeError for other types."""
    if get_origin(kind) in (UnionType, Union):
        kinds = [k for k in get_args(kind) if k is not NoneType]
        if len(kinds) == 1:
            return argument_type(kinds[0], name)
    elif kind is bool:
        return {"action": argparse.BooleanOptionalAction}  # type=bool would read "False" as True
    elif get_origin(kind) is Literal:
        return {"choices": get_args(kind), "type": type(get_args(kind)[0])}
    elif kind in (list[str], list[float]):
        return {"nargs": "*", "type": get_args(kind)[0]}
    elif kind in (str, int, float, Path):
        return {"type": kind}
    raise TypeError(
        f"{name}: a knob of type {kind}; expected str, int, float, bool, Path, Literal, list[str], "
        "list[float] or one of them with | None"
    )


def shown(value):
    """A default as --help prints it."""
    if callable(value):
        return f"from {value.__name__}()"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def parse(cls, argv=None):
    """The config that the command line asks for: every field of the dataclass `cls` is a flag.

    argv: list of str; None reads sys.argv. Flags are spelled as the fields, underscores included,
    and never abbreviated; a bool also has --no-NAME. --help begins with the docstring of the file
    that `cls` stands in, which has its commands.
    Exits with a message when a flag is unknown, missing or of the wrong type.
    """
    parser = argparse.ArgumentParser(
        usage="%(prog)s [--FLAG VALUE ...]",
        description=sys.modules[cls.__module__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    kinds, groups, group = get_type_hints(cls), {}, parser
    for name, kind in kinds.items():
        if kind is ClassVar:
            group = parser.add_argument_group(getattr(cls, name))
        groups[name] = group
    for f in fields(cls):
        sources = {name: f.metadata[name] for name in ("default", "toy")}
        known = [f"{name}: {shown(v)}" for name, v in sources.items() if v is not MISSING]
        text = f"{f.metadata['help']} ({', '.join(known) or 'required'})"
        groups[f.name].add_argument(
            f"--{f.name}",
            default=argparse.SUPPRESS,
            required=not known,
            help=text.replace("%", "%%"),
            **argument_type(kinds[f.name], f"{cls.__name__}.{f.name}"),
        )
    values = vars(parser.parse_args(argv))
    models = MODEL_FLAGS & kinds.keys()
    toy_world = not models & values.keys()
    # Every flag is checked before the first function runs: one of them may train a model.
    for f in fields(cls):
        if f.name not in values and not toy_world and f.metadata["default"] is MISSING:
            (given,) = models
            parser.error(f"--{f.name} is required when --{given} is given: {f.metadata['help']}")
    if toy_world and models:
        print(f"no --{min(models)}: in the toy world, with its defaults", file=sys.stderr)
    for f in fields(cls):
        if f.name not in values:
            use_toy = f.metadata["toy"] is not MISSING and toy_world
            value = f.metadata["toy" if use_toy else "default"]
            values[f.name] = value() if callable(value) else value
    return cls(**{name: v.copy() if isinstance(v, list) else v for name, v in values.items()})


def git_commit():
    """The commit of this checkout, with -dirty when files differ from it; None outside of one."""
    if not (ROOT / ".git").exists():  # a parent folder's repository is not ours
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run([*command, "--exclude=*"], capture_output=True, text=True)
    except FileNotFoundError:  # a machine without git
        return None
    return done.stdout.strip() or None


def package_versions():
    """Package name -> version, None for a package that is not installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def write_config(folder, config, **extra):
    """Write folder/config.json: the fields, `extra`, the git commit and the package versions."""
    origin = {"commit": git_commit(), "versions": package_versions()}
    write_json(Path(folder) / "config.json", asdict(config) | extra | origin)


def read_config(folder, shape=dict) -> dict:
    """folder/config.json as write_config wrote it; paths are strings. Raises ValueError.

    shape: of what the caller reads in it, see pasta/run/schema.py.
    """
    return read_json(Path(folder) / "config.json", shape)


def seed_all(seed):
    """Seed the generators of Python, numpy and torch, on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
