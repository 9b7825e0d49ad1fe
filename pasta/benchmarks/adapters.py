"""Which adapters are scored beside a base model, what each is called, and whether it fits."""

import os
from pathlib import Path

from pasta.lora import plain_linears
from pasta.models.load import bare_model
from pasta.models.peft import CONFIG, base_of, read_adapter

ADAPTER = Path("out/dpo/adapter")  # where train_dpo.py leaves it


def find_adapters(config):
    """{name: adapter folder}, the base model first with None.

    A name is the end of the path, as long as it takes to tell the adapters from each other.
    """
    folders = list(dict.fromkeys(Path(a).resolve() for a in config.adapter))
    if not folders and (ADAPTER / CONFIG).is_file():
        if other := other_base(ADAPTER, config.model):
            print(f"{ADAPTER} is left out: {other}")
        else:
            folders = [ADAPTER.resolve()]
    for folder in folders:  # now, and not after hours of answers of the base model
        if not (folder / CONFIG).is_file():
            raise FileNotFoundError(f"{folder} has no {CONFIG}; expected an adapter")
        if config.adapter and (other := other_base(folder, config.model)):
            print(f"{folder} is loaded all the same: {other}")
    of_run = [f.name == "adapter" and f.parent not in folders for f in folders]
    parts = [(f.parent if r else f).parts for f, r in zip(folders, of_run, strict=True)]
    depth = 1
    while len({p[-depth:] for p in parts}) < len(parts):
        depth += 1
    names = ["+" + "-".join(p[-depth:]) for p in parts]
    model = Path(os.path.abspath(config.model))  # ".." is no name for a folder of answers
    return {base_name(model): None} | dict(zip(names, folders, strict=True))


def check_adapters(model, folders):
    """Raise, as read_adapter does, for an adapter that does not fit a model; loads no weights."""
    linears = plain_linears(bare_model(model)) if folders else {}
    for folder in folders:
        read_adapter(folder, linears)


def base_name(model):
    """What a run of the bare model is called; a fully tuned one as its run, like adapters."""
    of_run = (model.parent / "metrics.jsonl").is_file()
    return model.parent.name + model.name.removeprefix("model") if of_run else model.name


def other_base(folder, model):
    """That an adapter was trained on another model, in words; "" if it was not."""
    base = base_of(folder) or "a model it does not name"
    same = Path(base).resolve() == Path(model).resolve()
    return "" if same else f"it was trained on {base}, this is {model}"
