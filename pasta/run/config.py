"""One dataclass is the whole configuration: its fields become flags, config.json and --help.

Each flag is a field made by `knob`; a ClassVar among the fields is a heading of --help. A command
that names no model uses the `toy` defaults first, so that a script runs without arguments.
"""

import argparse
import json
import subprocess
import sys
import textwrap
from contextlib import suppress
from dataclasses import MISSING, asdict, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import NoneType
from typing import Annotated, ClassVar, Literal, get_args, get_origin, get_type_hints

from pasta.run import ranks
from pasta.run.atomic import write_json
from pasta.run.schema import read_json

ROOT = Path(__file__).resolve().parents[2]  # a checkout has its .git here
MODEL_FLAGS = ("model", "responder")  # a script has one of them, or none; --model always works
PACKAGES = ("torch", "transformers", "decord", "numpy")  # config.json records their versions


def knob(text, default=MISSING, toy=MISSING):
    """A field of a config dataclass, which becomes one flag. text: for --help.

    toy: the default if no model is named, or a function that is called only if it is needed.
    With neither default, the flag is required; with `toy` alone, it is required next to --model.
    """
    given = {"default_factory": default.copy} if isinstance(default, list) else {"default": default}
    return field(**given, kw_only=True, metadata={"help": text, "default": default, "toy": toy})


def argument_type(kind):
    """Arguments of add_argument for a field of type `kind`."""
    parts = get_args(kind)
    if NoneType in parts or get_origin(kind) is Annotated:  # KIND | None, or with a range
        return argument_type(parts[0])
    if kind is bool:  # type=bool would read "False" as True
        return {"action": "store_true"}
    if get_origin(kind) is Literal:
        return {"choices": parts, "type": type(parts[0])}
    return {"nargs": "+", **argument_type(parts[0])} if parts else {"type": kind}


def number_range(kind):
    """(lowest, highest) number of a field's type, or of each number of a list; () without one."""
    return getattr(get_args(kind)[0] if get_origin(kind) is list else kind, "__metadata__", ())


def out_of_range(cls, values) -> str:
    """Names the first of `values`, {field: value}, outside its range in a config class, or ""."""
    for name, kind in get_type_hints(cls, include_extras=True).items():
        found, bounds = values.get(name, []), number_range(kind)
        for number in (found if isinstance(found, list) else [found]) if bounds else ():
            if not bounds[0] <= number <= bounds[1]:  # true for nan
                return f"--{name} is {number}; expected {bounds[0]} or more, at most {bounds[1]}"
    return ""


def help_text(name, knob, kind):
    """The help of a flag: its text, a narrow range, and the default for a named model."""
    bounds, default = number_range(kind), knob["default"]
    values = [" to ".join(map(str, bounds))] if bounds and bounds[1] <= 100 else []
    text = " ".join(map(str, default)) if isinstance(default, list) else str(default)
    if name in MODEL_FLAGS:
        values = ["default: the toy model"]
    elif default is MISSING:
        values = ["required" + " with a named model" * (knob["toy"] is not MISSING)]
    elif text not in ("None", "False", ""):
        values.append(f"default: {f'on, unless --no-{name}' if kind is bool else text}")
    return f"{knob['help']} ({', '.join(values)})".removesuffix(" ()").replace("%", "%%")


def toy_defaults(knobs):
    """The end of --help: the defaults that differ when no model is named."""
    toys = [(x, knob["toy"]) for x, knob in knobs.items() if knob["toy"] is not MISSING]
    words = [f"--no-{x}" if y is False else f"--{x} {y}" for x, y in toys if not callable(y)]
    text = textwrap.fill("  ".join(words), 98, break_on_hyphens=False)
    return f"toy defaults, when no model is named:\n{text}\n" if toys else ""


class Parser(argparse.ArgumentParser):
    def _print_message(self, message, file=None):  # --help, usage and errors
        if ranks.is_first(message):
            super()._print_message(message, file)


def parse(cls, argv=None):
    """The config of a command line: every field of `cls` is a flag; bad flags raise SystemExit."""
    knobs = {f.name: f.metadata for f in fields(cls)}
    parser = group = Parser(
        usage="%(prog)s [--FLAG VALUE ...]",
        description=sys.modules[cls.__module__].__doc__,
        epilog=toy_defaults(knobs),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    # In the order of the class, with its headings.
    for name, kind in get_type_hints(cls, include_extras=True).items():
        if kind is ClassVar:
            group = parser.add_argument_group(getattr(cls, name))
            continue
        knob, names = knobs[name], (name, "model") if name == "responder" else (name,)
        group.add_argument(
            *(f"--{x}" for x in names),
            required=knob["default"] is knob["toy"] is MISSING,
            help=help_text(name, knob, kind),
            **argument_type(kind),
        )
        if kind is bool:
            off = {"action": "store_false", "help": argparse.SUPPRESS}
            group.add_argument(f"--no-{name}", dest=name, **off)
    values = vars(parser.parse_args(argv))
    if wrong := out_of_range(cls, values):
        parser.error(wrong)
    model = next((name for name in MODEL_FLAGS if name in knobs), None)
    named = model in values
    if model and not named:
        small = knobs[model]["toy"] == "small"  # of a speed campaign
        what = "a small random model" if small else "the built-in toy model"
        ranks.say(f"no --{model} given: using {what} and its defaults", sys.stderr)
    for name, knob in knobs.items():
        if name not in values and not named and (toy := knob["toy"]) is not MISSING:
            values[name] = toy() if callable(toy) else toy
        elif name not in values and knob["default"] is MISSING:
            parser.error(f"--{name} is required when --{model} is given: {knob['help']}")
    return cls(**values)


def git_commit():
    """The commit of this checkout, with -dirty if files differ from it; None without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    if (ROOT / ".git").exists():  # a parent folder's repository is not ours
        with suppress(FileNotFoundError):  # git is not installed
            done = subprocess.run([*command, "--exclude=*"], capture_output=True, text=True)
            return done.stdout.strip() or None


def package_versions():
    versions = dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # installed under another name
            versions[name] = version(name)
    return versions


def write_config(folder, config, **extra):
    """Write folder/config.json: the fields, `extra`, the script, its commit and the versions."""
    extra |= {"script": script_of(config), "commit": git_commit(), "versions": package_versions()}
    write_json(Path(folder) / "config.json", asdict(config) | extra)


def script_of(config):
    return Path(sys.modules[type(config).__module__].__file__).name


def read_config(folder, shape=dict) -> dict:
    """folder/config.json, checked by a schema; paths are strings."""
    return read_json(Path(folder) / "config.json", shape)


def settings(config, free) -> dict:
    """The fields of a config without the flags in `free`, as plain JSON values."""
    values = json.loads(json.dumps(asdict(config), default=str))
    return {name: value for name, value in values.items() if name not in free}


def changed_settings(before, now) -> list[str]:
    """One text for each setting of `now` that had another value before; dicts by flag."""
    return [f"--{k} was {before.get(k)} and is {v}" for k, v in now.items() if before.get(k) != v]
