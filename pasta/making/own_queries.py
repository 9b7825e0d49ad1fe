"""Somebody's own queries as rows of queries.jsonl."""

from collections import Counter
from pathlib import Path

from pasta.datasets.read import placed_rows
from pasta.pairs import MODES
from pasta.run.schema import ABSENT, schema_error, valid_text
from pasta.video.find import find_video


def own_queries(path, videos, root):
    """(rows {video, mode, n, topic, query, asker}, {video: why it is left out}) of a file.

    path: .jsonl, or .json with one list, of rows {video, mode, query}; topic may be there. videos:
    those of the run. root: folder in which relative video paths begin.
    Raises ValueError at FILE:LINE for a row that lacks one of them or has another mode.
    """
    known, counts, rows, missing = set(videos), Counter(), [], {}
    for place, row in placed_rows(path):
        given = [row.get(name) for name in ("video", "mode", "query")]
        if not all(isinstance(text, str) and text.strip() for text in given):
            found = ", ".join(row)
            raise ValueError(f"{place}: has {found}; expected texts for video, mode and query")
        name, mode, query = given
        if mode not in MODES:
            raise ValueError(f"{place}: mode is {mode!r}; expected one of {', '.join(MODES)}")
        try:
            if wrong := schema_error(row, {"topic": str | None | ABSENT}):
                raise ValueError(wrong)
            video, query = str(Path(find_video(name, root)).absolute()), valid_text(query, "query")
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        if video not in known:
            missing[video] = f"{place} asks about it, and --videos {root} does not have it"
            continue
        about = {"video": video, "mode": mode, "n": counts[video, mode], "topic": row.get("topic")}
        counts[video, mode] += 1
        rows.append(about | {"query": query.strip(), "asker": str(path)})
    return rows, missing
