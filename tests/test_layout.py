"""The shape of the project: floors, sizes, one owner per library, a README that tells the truth.

python -m pytest tests/test_layout.py
"""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "pasta").rglob("*.py"))
SCRIPTS = [ROOT / f"{name}.py" for name in ("make_pairs", "train_dpo", "evaluate")]
CORE = [*(ROOT / "pasta").glob("*.py"), *SCRIPTS]

FLOORS = [  # a file or folder imports only from the floors above its own in this list
    {"run"},
    {"pairs", "adversaries", "prompts", "attention"},
    {"sampling", "judge", "lora", "packs", "dpo"},
    {"video", "models"},
    {"selection", "policy", "datasets", "training", "reference", "candidates"},
    {"making"},
    {"benchmarks"},
    {"toy"},
    {"tools"},
    {"study"},
]
OWNERS = {
    "decord": {"decord_files"},
    "transformers": {"load", "files", "model"},
    "safetensors": {"peft", "checkpoint"},
}
PACKAGES = {"torch", "transformers", "decord", "numpy", "tqdm"}
PEERS = {"trl", "peft", "datasets"}  # in requirements-dev.txt
WITH_MORE = {"speed_trl.py": PEERS, "report_pictures.py": {"matplotlib"}}
SHIPPED_WITH_THEM = {"safetensors", "tokenizers"}  # transformers requires both


def imports(path):
    """Every module that a file imports, as written."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def of_ours(path):
    """The names of the pasta modules that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("pasta.")}


def test_imports_only_point_down():
    below = set()
    for floor in FLOORS:
        for name in floor:
            folder = ROOT / "pasta" / name
            files = [*folder.glob("*.py")] or [folder.with_suffix(".py")]
            for path in files:
                extra = of_ours(path) - below - ({name} if folder.is_dir() else set())
                assert not extra, f"{path} imports {extra} of its own floor or above"
        below |= floor


def test_every_core_file_has_a_floor():
    files = {path.stem for path in (ROOT / "pasta").glob("*.py")} - {"__init__"}
    assert files <= set.union(*FLOORS)


def test_only_the_scripts_know_that_the_toy_exists():
    for path in PACKAGE:
        if not {"toy", "tools", "study"} & {*path.parts}:
            assert "toy" not in of_ours(path), path


def test_scripts_do_not_import_scripts():
    names = {path.stem for path in SCRIPTS}
    for path in [*PACKAGE, *SCRIPTS]:
        assert not names & {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("library", OWNERS)
def test_one_owner_per_library(library):
    users = {p.stem for p in PACKAGE if library in {name.split(".")[0] for name in imports(p)}}
    users = {name for name in users if not name.startswith("speed")}  # it compares with the peers
    assert users <= OWNERS[library]


def test_runtime_packages_are_five():
    known = PACKAGES | SHIPPED_WITH_THEM | set(sys.stdlib_module_names) | {"pasta"}
    for path in [*PACKAGE, *SCRIPTS]:
        more = WITH_MORE.get(path.name, set())
        assert {name.split(".")[0] for name in imports(path)} <= known | more, path
    lines = (ROOT / "requirements.txt").read_text().split()
    assert {line.split("==")[0] for line in lines} == PACKAGES


@pytest.mark.parametrize(
    ("module", "users"),
    [
        ("pasta.tools.speed_trl", []),
        ("pasta.tools.report_pictures", []),
    ],
)
def test_what_needs_more_packages_is_imported_where_it_is_used(module, users):
    found = [path for path in PACKAGE if module in "".join(at_the_top(path))]
    assert [str(path.relative_to(ROOT)) for path in found] == users


def at_the_top(path):
    """What a file imports as soon as it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", [*PACKAGE, *SCRIPTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_file_and_function_sizes(path):
    text = path.read_text()
    assert text.count("\n") <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            size = node.end_lineno - node.lineno + 1
            assert size <= 60, f"{path}:{node.lineno} {node.name} has {size} lines"


@pytest.mark.parametrize("path", PACKAGE, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_functions_say_what_they_do(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
            size = node.end_lineno - node.lineno + 1
            told = size <= 8 or node.name == "main" or ast.get_docstring(node)
            assert told, f"{path}:{node.lineno} {node.name}"


def code_lines(path):
    """How many lines of a file are code: not blank, no comment, no docstring."""
    text = path.read_text()
    lines = {i for i, line in enumerate(text.splitlines(), 1) if line.strip()[:1] not in ("", "#")}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def test_core_stays_small():
    assert sum(map(code_lines, CORE)) < 3000


def test_reading_train_dpo_takes_five_minutes():
    assert (ROOT / "train_dpo.py").read_text().count("\n") <= 200


def test_every_package_is_installed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = sorted({path.parent.relative_to(ROOT) for path in PACKAGE})
    assert settings["packages"] == [".".join(folder.parts) for folder in folders]


def test_readme_tree_equals_disk():
    listed = set(re.findall(r"^  (\w+(?:\.py|/)) ", (ROOT / "README.md").read_text(), re.M))
    files = {path.name for path in (ROOT / "pasta").glob("*.py")} - {"__init__.py"}
    assert listed == files | {f"{path.parent.name}/" for path in (ROOT / "pasta").glob("*/*.py")}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_commands_name_flags_that_exist(script):
    fields = set(re.findall(r"^    (\w+): .* = knob\(", script.read_text(), re.M))
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *PACKAGE, *SCRIPTS]:
        flags = rf"{script.name}((?: --[\w-]+(?: [^\s-]\S*)*)+)"
        for command in re.findall(flags, path.read_text()):
            unknown = set(re.findall(r"--(?:no-)?(\w+)", command)) - fields - {"help"}
            assert not unknown, f"{path}: {script.name}{command}"
