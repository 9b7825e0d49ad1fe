"""docs/walkthrough.md: its outputs, names and arithmetic are right.

Oracles: the same code run again, the syntax trees of the sources, arithmetic on printed numbers.
    python -m pytest -q tests/test_walkthrough.py
"""

import ast
import math
import re

import pytest
from conftest import ROOT
from pages import refreshed

PAGE = (ROOT / "docs/walkthrough.md").read_text(encoding="utf-8")
FLOAT = r"-?\d+\.\d+"


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """The page with new outputs."""
    return refreshed(PAGE, tmp_path_factory.mktemp("page"))


def floats(text):
    """Every number with a decimal point in a text."""
    return [float(x) for x in re.findall(FLOAT, text)]


def numbers(pattern):
    """The numbers in the groups of the first match of a pattern on the page."""
    return [float(x) for x in re.search(pattern, PAGE).groups()]


def rows_below(head):
    """The numbers of each output line below the line that starts with `head`."""
    output = re.split(rf"^{head}", PAGE, flags=re.M)[1].split("```")[0]
    return [floats(line) for line in output.splitlines()[1:]]


def test_text_code_shapes_and_integers_are_those_of_the_code(again):
    assert re.sub(FLOAT, "#", PAGE) == re.sub(FLOAT, "#", again)


def test_numbers_are_those_of_the_code_up_to_rounding(again):
    assert floats(PAGE) == pytest.approx(floats(again), rel=2e-3, abs=2e-3)


def test_the_output_of_a_block_is_below_it_and_its_names_stay_for_the_next(tmp_path):
    blocks = "Prose.\n\n```python\nn = 1 + 1\n```\n\n```python\nprint(n, folder / 'a')\n```\n"
    assert refreshed(blocks, tmp_path) == blocks + "```\n2 a\n```\n"


def test_an_old_output_is_replaced(tmp_path):
    block = "```python\nprint(2)\n```\n```\n1\n```\nProse.\n"
    assert refreshed(block, tmp_path) == block.replace("\n1\n", "\n2\n")


def names_in(path):
    """The functions, classes and constants of a file, and CLASS.METHOD."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign):
            yield from (ast.unparse(target) for target in node.targets)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
            inside = [f.name for f in node.body if isinstance(f, ast.FunctionDef)]
            yield from (f"{node.name}.{name}" for name in inside)


def test_every_function_that_the_page_names_is_in_its_file():
    named = re.findall(r"`(\w[\w/]*\.py)`: ((?:`[\w.]+`(?:, )?)+)", PAGE)
    assert len(named) > 20
    for file, functions in named:
        missing = set(re.findall(r"[\w.]+", functions)) - set(names_in(ROOT / file))
        assert not missing, f"{file} has no {missing}"


def test_every_file_and_page_that_is_named_exists():
    for name in re.findall(r"`([\w/]+\.py)`", PAGE):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{x.name}" for x in ROOT.glob("docs/*.md"))])
def test_every_link_of_a_page_leads_to_a_file_and_to_a_heading_of_it(page):
    path = ROOT / page
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = path.parent / name if name else path
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"(?m)^#+ (.*)$", target.read_text(encoding="utf-8"))
            anchors = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]
            assert anchor in anchors, link


def test_every_product_of_integers_is_right():
    found = re.findall(r"(\d+(?: \* \d+)+)( / 4)? = (\d+)", PAGE)
    assert len(found) >= 4
    for factors, merged, product in found:
        assert math.prod(map(int, factors.split(" * "))) // (4 if merged else 1) == int(product)


def test_the_times_of_the_grids_are_as_in_the_table_of_positions():
    times = re.findall(rf"time of grid \d: 2 \+ floor\((\d) \* ({FLOAT})\) = (\d+)", PAGE)
    assert [2 + math.floor(int(i) * float(s)) for i, s, _ in times] == [int(t) for *_, t in times]
    in_table = re.search(r"^time  ([ \d]+)$", PAGE, re.M)[1].split()[2:]
    assert in_table == [t for *_, t in times for _ in range(4)]


def test_no_token_of_the_drawn_mask_sees_another_segment_or_a_later_token():
    rows = re.findall(r"^ *\S+ ([.#]{3}) ([.#]{18}) ([.#]{18})$", PAGE, re.M)
    assert len(rows) == 3 + 18 + 18
    for i, (prefix, *segments) in enumerate(rows):
        own, seen = (i - 3) // 18, min(i + 1, 3)
        assert prefix == "#" * seen + "." * (3 - seen)
        for s, segment in enumerate(segments):
            n = (i - 3) % 18 + 1 if s == own else 0
            assert segment == "#" * n + "." * (18 - n)


def test_the_printed_tokens_sum_to_the_printed_logps():
    _, *rows, _ = rows_below("-ln V = ")  # an empty line before, their sums after
    chosen, rejected = zip(*rows, strict=True)
    sums = numbers(rf"sum, chosen: ({FLOAT})   sum, rejected: ({FLOAT})")
    assert [sum(chosen), sum(rejected)] == pytest.approx(sums, abs=5e-3)


def test_the_cache_has_the_policys_numbers():
    sums = numbers(rf"sum, chosen: ({FLOAT})   sum, rejected: ({FLOAT})")
    cached = re.findall(rf"digits: logps ({FLOAT})", PAGE)
    assert list(map(float, cached)) == pytest.approx(sums, abs=1e-3)


def test_the_loss_starts_at_ln_2():
    margin, loss = numbers(rf"margin ({FLOAT})   loss ({FLOAT})   ln 2")
    assert margin == 0 and loss == pytest.approx(math.log(2), abs=1e-4)


def test_the_gradient_starts_at_half_of_beta():
    assert numbers(rf"d loss / d logps: ({FLOAT}), \+({FLOAT})") == [-0.05, 0.05]


def test_rewards_are_beta_times_the_printed_differences():
    found = re.findall(rf"0\.1 \* \(({FLOAT}) - ({FLOAT})\) = ({FLOAT})", PAGE)
    assert len(found) == 2
    for policy, reference, reward in found:
        assert float(reward) == pytest.approx(0.1 * (float(policy) - float(reference)), abs=3e-4)


def test_each_step_has_its_own_loss_and_the_losses_fall():
    rows = rows_below("step    loss  margin")
    assert len(rows) == 7
    for loss, margin, chosen, rejected in rows:
        assert margin == pytest.approx(chosen - rejected, abs=2e-4)
        assert loss == pytest.approx(math.log1p(math.exp(-margin)), abs=2e-4)
    losses = [math.log(2), *(row[0] for row in rows)]
    assert losses == sorted(losses, reverse=True)
