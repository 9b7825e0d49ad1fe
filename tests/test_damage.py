"""The damage of the fuzz tests: the same each time, unless a seed is given.

    python -m pytest -q tests/test_damage.py
"""

import os
import re
import subprocess
import sys
from pathlib import Path


def test_other_seeds_try_other_damage(tmp_path):
    """The fixed examples repeat; each seed has its own, which repeat as well."""
    (tmp_path / "test_drawn.py").write_text(
        "from damage import fuzz\nfrom hypothesis import strategies as st\n"
        "def test_drawn():\n"
        "    fuzz(5, lambda data: print('drew', data.draw(st.integers(0, 2**60))))\n"
    )
    drawn = []
    for seed in ([], [], ["--hypothesis-seed=1"], ["--hypothesis-seed=1"], ["--hypothesis-seed=2"]):
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *seed]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run([*command, tmp_path / "test_drawn.py"], cwd=tmp_path,
                              env=environment, capture_output=True, text=True)  # fmt: skip
        drawn.append(re.findall(r"drew \d+", done.stdout))
        assert done.returncode == 0 and drawn[-1], done.stdout
    assert drawn[0] == drawn[1] and drawn[2] == drawn[3]
    assert drawn[0] != drawn[2] != drawn[4]
