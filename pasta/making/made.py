"""What make_pairs.py writes and reads again: all that it relies on."""

from pasta.pairs import MODES
from pasta.run.schema import ABSENT, NUMBER

QUERY = {
    "video": str,
    "mode": MODES,
    "n": int,
    "topic": str | None,
    "query": str,
    "flaw": str | ABSENT,
}
SAID = {"response": str, "finished": bool}
CANDIDATE = {
    "video": str,
    "mode": MODES,
    "query": str,
    "topic": str | None,
    "preferred": SAID,
    "adversarial": [SAID | {"kind": str}],
    "logps": [{
        "response": str, "blind": NUMBER, "clean": NUMBER | ABSENT, "broken": NUMBER | ABSENT
    }],
    "recipe": {"twins": bool},
}  # fmt: skip
PAIR = {
    "mode": MODES,
    "chosen": str,
    "rejected": str,
    "blind": NUMBER | None,
    "sides": list | None,
    "recipe": {"topic": str | None | ABSENT},
}
DROPPED = {"mode": MODES, "reason": str}
CONFIG = {"weights": dict | ABSENT}
SKIPPED = {"video": str, "reason": str}
