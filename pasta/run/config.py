"""One dataclass is the whole configuration: its fields become flags, config.json and --help.

A script declares each flag once, as a field made by `knob`; a ClassVar among the fields is a
heading of --help. A flag that is not given has the value `default`. If the command also names no
model, `toy` comes first, so that a script runs without arguments.
"""

import argparse
import json
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

ROOT = Path(__file__).resolve().parents[2]  # a checkout has its .git here
MODEL_FLAGS = {"model", "responder"}
PACKAGES = ("torch", "transformers", "decord", "numpy")  # config.json records their versions


def knob(text, default=MISSING, toy=MISSING):
    """A field of a config dataclass, which becomes one flag.

    text: for --help: the meaning, the unit and, if there is one, the source.
    default, toy: a value, or a function without arguments that is called only if it is needed.
    With neither, the flag is required; with `toy` alone, it is required next to --model.
    """
    metadata = {"help": text, "default": default, "toy": toy}
    if callable(default) or isinstance(default, list):
        factory = default if callable(default) else default.copy
        return field(default_factory=factory, kw_only=True, metadata=metadata)
    return field(default=default, kw_only=True, metadata=metadata)


def argument_type(kind, name):
    """Arguments of add_argument for a field of type `kind`. Raises TypeError for other types."""
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


def help_text(metadata):
    values = []
    for name in ("default", "toy"):
        if (value := metadata[name]) is not MISSING:
            text = " ".join(map(str, value)) if isinstance(value, list) else value
            values.append(f"{name}: {f'from {value.__name__}()' if callable(value) else text}")
    return f"{metadata['help']} ({', '.join(values) or 'required'})".replace("%", "%%")


def parse(cls, argv=None):
    """The config of a command line: every field of the dataclass `cls` is a flag.

    argv: list of str; None reads sys.argv. Flags are spelled like the fields, with underscores, and
    never abbreviated; a bool also has --no-NAME. --help begins with the docstring of the file of
    `cls`. Exits with a message if a flag is unknown, missing or of the wrong type.
    """
    parser = argparse.ArgumentParser(
        usage="%(prog)s [--FLAG VALUE ...]",
        description=sys.modules[cls.__module__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    sources, group = {f.name: f.metadata for f in fields(cls)}, parser
    kinds = get_type_hints(cls)
    for name, kind in kinds.items():  # in the order of the class, with its headings
        if kind is ClassVar:
            group = parser.add_argument_group(getattr(cls, name))
            continue
        group.add_argument(
            f"--{name}",
            default=argparse.SUPPRESS,
            required=sources[name]["default"] is sources[name]["toy"] is MISSING,
            help=help_text(sources[name]),
            **argument_type(kind, f"{cls.__name__}.{name}"),
        )
    values = vars(parser.parse_args(argv))
    models = MODEL_FLAGS & kinds.keys()
    use_toy = not models & values.keys()
    missing = [name for name in sources if name not in values]
    # Check every flag before calling the first function: one of them may train a model.
    for name in missing:
        if not use_toy and sources[name]["default"] is MISSING:
            (given,) = models
            parser.error(f"--{name} is required when --{given} is given: {sources[name]['help']}")
    if use_toy and models:
        name = min(models)
        print(f"no --{name} given: using the built-in toy model and its defaults", file=sys.stderr)
    for name in missing:
        toy, default = sources[name]["toy"], sources[name]["default"]
        value = toy if use_toy and toy is not MISSING else default
        values[name] = value() if callable(value) else value
    return cls(**{name: v.copy() if isinstance(v, list) else v for name, v in values.items()})


def git_commit():
    """The commit of this checkout, with -dirty if files differ from it; None without git."""
    if not (ROOT / ".git").exists():  # a parent folder's repository is not ours
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run([*command, "--exclude=*"], capture_output=True, text=True)
    except FileNotFoundError:  # git is not installed
        return None
    return done.stdout.strip() or None


def package_versions():
    versions = dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            pass
    return versions


def write_config(folder, config, **extra):
    """Write folder/config.json: the fields, `extra`, the git commit and the package versions."""
    made_by = {"commit": git_commit(), "versions": package_versions()}
    write_json(Path(folder) / "config.json", asdict(config) | extra | made_by)


def read_config(folder, shape=dict) -> dict:
    """folder/config.json as `write_config` wrote it; paths are strings. Raises ValueError."""
    return read_json(Path(folder) / "config.json", shape)


def settings(config, free) -> dict:
    """The fields of a config without the flags in `free`, as plain JSON values."""
    fixed = {name: value for name, value in asdict(config).items() if name not in free}
    return json.loads(json.dumps(fixed, default=str))


def changed_settings(before, now) -> list[str]:
    """One text for each setting that differs from an earlier run: "--lr was 0.1 and is 0.2"."""
    return [f"--{k} was {before.get(k)} and is {v}" for k, v in now.items() if before.get(k) != v]


def seed_all(seed):
    """Seed the generators of Python, numpy and torch, on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
