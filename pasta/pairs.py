"""Preference pairs. They live in .jsonl files, one a row; pasta/datasets reads anybody's.

    {"id": "a1", "video": "v.mp4", "mode": "temporal", "query": "Which shape comes first?",
     "chosen": "The red square.", "rejected": "The blue disc.", "recipe": {...}}
"""

import hashlib
import json
from dataclasses import dataclass, field

MODES = ("spatial", "temporal", "cross_frame")  # the failure modes, in the paper's order


@dataclass(frozen=True)
class Pair:
    """Two responses to one query about one video; `chosen` is the one to prefer.

    video: path of a file or a frame folder. mode: one of MODES, what `rejected` gets wrong.
    recipe: how the pair was made; selection and audit read it, training does not.
    """

    id: str
    video: str
    mode: str
    query: str
    chosen: str
    rejected: str
    recipe: dict = field(default_factory=dict)


def pair_id(video, mode, query, chosen, rejected) -> str:
    """The id of a pair that came without one: a hash of what it says."""
    text = json.dumps([video, mode, query, chosen, rejected])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
