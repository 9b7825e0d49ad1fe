"""The shape of the project: floors, sizes, one owner per library, and a README that matches it.

    python -m pytest -q tests/test_layout.py
"""

import ast
import re
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = [ROOT / f"{name}.py" for name in ("make_pairs", "train_dpo", "evaluate")]
FILES = [*sorted((ROOT / "pasta").rglob("*.py")), *SCRIPTS]
KNOWN = set(FILES)
README = (ROOT / "README.md").read_text()
METHOD = """
    pairs sampling adversaries prompts candidates judge selection packs attention recurrence lora
    policy dpo reference
""".split()  # in reading order
FLOORS = [  # a room imports only itself and lower floors, which are listed first
    {"run"},
    {"pairs", "adversaries", "prompts", "attention", "recurrence"},
    {"sampling", "judge", "lora", "packs", "dpo"},
    {"video", "models"},
    {"selection", "policy", "datasets", "training", "reference", "candidates"},
    {"making"},
    {"benchmarks"},
    {"toy"},
    {"tools"},
    {"study", "make_pairs", "train_dpo", "evaluate"},
]
RUNTIME = {"torch", "transformers", "decord", "numpy", "tqdm"}
INCLUDED = {"safetensors", "tokenizers", "jinja2"}  # transformers and torch require them
OWNERS = {  # library: the only files that import it
    "decord": ["video/decord_files.py"],
    "transformers": ["models/files.py", "models/load.py", "toy/pretrain.py"],
    "safetensors": ["models/load.py", "models/peft.py", "training/checkpoint.py"],
    "jinja2": ["tools/report.py"],
}


def name_of(path):
    return str(path.relative_to(ROOT)).removeprefix("pasta/")


def room(path):
    """The folder in pasta/ of a file; the stem of a method file or a script."""
    return name_of(path).split("/")[0].removesuffix(".py")


@cache
def tree(path):
    return ast.parse(path.read_text())


def imports(path, nested=True):
    """Every module that a file imports, as written; nested=False: at its top level only."""
    for node in ast.walk(tree(path)) if nested else tree(path).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def libraries(path):
    return {name.split(".")[0] for name in imports(path)}


def our_files(path, nested=True):
    """The files of this repository that a file imports."""
    for name in imports(path, nested):
        parts = name.split(".")
        for n in range(len(parts), 0, -1):  # from pasta.video import x: a file x.py, or a name
            module = ROOT.joinpath(*parts[:n])
            found = {module.with_suffix(".py"), module / "__init__.py"} & KNOWN
            if found:
                yield found.pop()
                break


GRAPH = {path: {*our_files(path)} - {path} for path in FILES}


def by_file(paths):
    return pytest.mark.parametrize("path", paths, ids=name_of)


def lines(path):
    return path.read_text().count("\n")


def test_every_room_has_a_floor():
    rooms = {room(path) for path in FILES} - {"__init__"}
    assert rooms == set.union(*FLOORS) and len(rooms) == sum(map(len, FLOORS))


@by_file(FILES)
def test_imports_point_down(path):  # so no circle of rooms is possible
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    for other in GRAPH[path]:
        down = room(other) == room(path) or floor[room(other)] < floor[room(path)]
        assert down, f"imports {name_of(other)}"


def test_no_circle_of_files():
    list(TopologicalSorter(GRAPH).static_order())  # raises CycleError with the circle


@by_file(FILES)
def test_file_and_function_sizes(path):
    users = sum(path in others for others in GRAPH.values())
    assert lines(path) <= 300
    entry = path.name in ("__init__.py", "__main__.py")
    assert lines(path) >= 40 or users != 1 or entry, "belongs into its user"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


def test_the_whole_stays_small():
    assert sum(map(lines, FILES)) <= 11_000


def test_the_reading_list_stays_small():
    method = {name: lines(ROOT / "pasta" / f"{name}.py") for name in METHOD}
    script = lines(ROOT / "train_dpo.py")
    aside = ("prompts", "judge", "recurrence")  # texts, rules, and layers of some models alone
    read = {name: n for name, n in method.items() if name not in aside}
    assert script <= 200
    assert sum(read.values()) + script <= 1500, read


@by_file(FILES)
def test_public_functions_have_a_docstring(path):  # Benchmark documents every `item`
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
            short = node.end_lineno - node.lineno < 8 or node.name in ("main", "item")
            config = path in SCRIPTS and node.name.endswith("Config")  # its knobs are documented
            assert short or config or ast.get_docstring(node), node.name


def users_of(library):
    return [name_of(path) for path in FILES if library in libraries(path)]


@pytest.mark.parametrize("library", OWNERS)
def test_one_owner_per_library(library):
    assert set(users_of(library)) <= set(OWNERS[library])


def test_one_tool_draws_with_matplotlib():
    assert [Path(name).parent.name for name in users_of("matplotlib")] == ["tools"]


def test_runtime_packages_are_five():
    known = RUNTIME | INCLUDED | {*OWNERS, "matplotlib", "pasta", *sys.stdlib_module_names}
    for path in FILES:
        assert libraries(path) <= known, path
    required = (ROOT / "requirements.txt").read_text().split()
    assert {line.split("==")[0] for line in required} == RUNTIME


@by_file([path for path in FILES if "__main__" in path.read_text()])
def test_a_command_starts_without_further_packages(path):
    seen, todo = set(), [path]
    while todo:
        seen.add(todo.pop())
        todo += {other for path in seen for other in our_files(path, nested=False)} - seen - {*todo}
    needed = {name.split(".")[0] for path in seen for name in imports(path, nested=False)}
    assert "matplotlib" not in needed


def test_every_package_is_installed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in FILES if path not in SCRIPTS}
    assert settings["packages"] == sorted(".".join(folder.parts) for folder in folders)
    assert settings["package-data"]["pasta.tools"] == ["report.html.j2"]


def test_the_readme_shows_the_method_in_reading_order_then_the_rooms():
    listed = re.findall(r"^  (\w+(?:\.py|/)) ", README, re.M)
    assert listed[: len(METHOD)] == [f"{name}.py" for name in METHOD]
    rooms = {f"{path.parent.name}/" for path in (ROOT / "pasta").glob("*/*.py")}
    assert len(listed) == len(METHOD) + len(rooms) and {*listed[len(METHOD) :]} == rooms
    on_disk = {path.stem for path in (ROOT / "pasta").glob("*.py")} - {"__init__"}
    assert on_disk == {*METHOD}


@by_file(SCRIPTS)
def test_commands_name_flags_that_exist(path):
    fields = set(re.findall(r"^    (\w+): .* = knob\(", path.read_text(), re.M))
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *FILES]:
        flags = rf"{path.name}((?: --[\w-]+(?: [^\s-]\S*)*)+)"
        for command in re.findall(flags, page.read_text()):
            unknown = set(re.findall(r"--(?:no-)?(\w+)", command)) - fields - {"help"}
            assert not unknown, f"{page}: {path.name}{command}"
