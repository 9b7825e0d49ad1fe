"""The inputs of a run, checked before the first question: items, videos, adapters."""

import os
from collections import Counter
from functools import partial
from itertools import groupby, islice
from pathlib import Path

from pasta.lora import plain_linears
from pasta.models.load import bare_model
from pasta.models.peft import CONFIG, base_of, read_adapter
from pasta.run.ahead import prefetch
from pasta.run.ranks import progress, say
from pasta.run.schema import printable
from pasta.sampling import uniform
from pasta.video import VideoError, read_frames

ADAPTER = Path("out/dpo/adapter")  # where train_dpo.py writes it


def find_items(bench, data, limit, scoring):
    """(the items to ask, the tasks that the data lacks). Raises SystemExit if there is no item."""
    by_task = groupby(bench.items(data), key=lambda item: item.task)
    items = [item for _, group in by_task for item in islice(group, limit or None)]
    if absent := bench.absent(items):
        text = f"left out: {len(absent)} of {len(bench.tasks)} tasks, without questions or videos"
        say(f"{text}: {', '.join(absent)}")
    if scoring == "letter" and not all(item.letters for item in items):
        say("left out: questions without letters, which are answered in words")
        items = [item for item in items if item.letters]
    if not items:
        raise SystemExit(f"{data} holds no question that can be asked; expected one or more")
    return items, absent


def check_items(items, counts):
    """Open every video, and print what is there and what is wrong; counts: of a Benchmark."""
    videos = list(dict.fromkeys(item.video for item in items))
    errors = [x for x in progress(prefetch(video_error, videos, 4), "videos", len(videos)) if x]
    for error in errors:
        print(printable(str(error)))
    present = Counter(item.task for item in items)
    present["all"] = len(items)
    for task, n in present.items():
        wrong = f", expected {counts[task]}" if counts.get(task, n) != n else ""
        print(f"{task}: {n} items{wrong}")
    if counts and not counts.keys() & present.keys():
        print(f"none of the {len(counts)} published tasks is here: no number of items is checked")
    print(f"{len(videos)} videos, {len(errors)} of them cannot be read")


def video_error(video):
    try:
        read_frames(video, partial(uniform, n=2))  # the first and the last
    except VideoError as error:
        return error


def find_adapters(model, adapters):
    """{end of its path: adapter folder}, the base model first with None; default: the last one.

    adapters: their folders or those of their runs, or "none" for the base alone.
    """
    given = list(dict.fromkeys(Path(x).resolve() for x in adapters if x != "none"))
    both = [(x, x / "adapter") for x in given]  # the second, if the first is the folder of a run
    given = [next((y for y in pair if (y / CONFIG).is_file()), pair[0]) for pair in both]
    folders = given or [ADAPTER.resolve()] * (not adapters and (ADAPTER / CONFIG).is_file())
    for folder in folders:
        base = base_of(folder) or "a model it does not name"
        if Path(base).resolve() != Path(model).resolve():
            what = "loaded anyway" if given else "left out"
            say(f"{folder} is {what}: it was trained on {base}, this is {model}")
            folders = given
    runs = [x.parent if x.name == "adapter" and x.parent not in folders else x for x in folders]
    depth = 1
    while len({run.parts[-depth:] for run in runs}) < len(runs):
        depth += 1
    names = ["+" + "-".join(run.parts[-depth:]) for run in runs]
    model = Path(os.path.abspath(model))  # ".." is no name for a folder of answers
    of_run = (model.parent / "metrics.jsonl").is_file()  # a fully tuned model has its run's name
    base = model.parent.name + model.name.removeprefix("model") if of_run else model.name
    return {base: None} | dict(zip(names, folders, strict=True))


def check_adapters(model, folders):
    """Raise, as read_adapter does, for an adapter that does not fit a model; loads no weights."""
    linears = plain_linears(bare_model(model)) if folders else {}
    for folder in folders:
        read_adapter(folder, linears)
