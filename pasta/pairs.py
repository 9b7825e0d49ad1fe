"""Preference pairs, and the failure modes. Pairs are in .jsonl files, one a row.

    {"id": "a1", "video": "v.mp4", "mode": "temporal", "query": "Which shape comes first?",
     "chosen": "The red square.", "rejected": "The blue disc.", "recipe": {...}}
"""

import json
from dataclasses import dataclass, field

from pasta.run.digest import digest

MODES = ("spatial", "temporal", "cross_frame")  # failure modes, in the paper's order


@dataclass(frozen=True)
class Pair:
    """Two responses to one query about one video; `chosen` is preferred.

    video: path of a file or a folder of frames. mode: one of MODES, the error of `rejected`.
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
    """The id of a pair that has none: a hash of its fields."""
    return digest(json.dumps([video, mode, query, chosen, rejected]))[:16]
