"""From the rows of answers.py to {group: {unit: score}}, as most benchmarks group them."""


def by_task(rows):
    """{task: {id: score}}; an empty response is wrong, and so is a video that did not decode."""
    scores = {}
    for row in rows:
        scores.setdefault(row["task"], {})[row["id"]] = float(row["correct"])
    return scores


def by_label(rows, items):
    """{label: {id: score}} for the labels of the items, those of one kind side by side."""
    labels = {item.id: item.labels for item in items}
    scores = {}
    for row in rows:
        for label in labels[row["id"]]:
            scores.setdefault(label, {})[row["id"]] = float(row["correct"])
    return dict(sorted(scores.items()))


def lacking(items, tasks):
    """The tasks that have no items."""
    present = {item.task for item in items}
    return [task for task in tasks if task not in present]
