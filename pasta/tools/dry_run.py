"""--dry_run of the three scripts: what a run would do and need. Nothing is written.

Videos, pairs, queries and updates are counted. Tokens are estimated: a few videos are read, sampled
and packed as in the run, and their mean is multiplied by the number of videos.
"""

from functools import partial

import numpy as np
from tqdm import tqdm

from pasta.benchmarks.answers import video_inputs
from pasta.candidates import query_tasks
from pasta.lora import add_lora
from pasta.making.queries import own_queries, wanted_queries
from pasta.making.server import is_address
from pasta.making.stages import reader_for, recipe_of
from pasta.models.generate import Request
from pasta.models.load import bare_model, load_processor, tune_all
from pasta.packs import TooLong
from pasta.pairs import MODES
from pasta.run import ranks
from pasta.run.schema import printable
from pasta.sampling import uniform
from pasta.training.plan import hold_out, plan_updates, read_packs
from pasta.video import VideoError, read_frames

SAMPLE = 12  # videos that are read
BYTES = {"float32": 4, "bfloat16": 2}
END = "nothing was written; the same command without --dry_run starts the run"
# Stands for queries and answers that do not exist yet.
PLACEHOLDER = "Which of the two comes into view first, and where is the other one at that time?"


def read_some(items, load):
    """[load(item)] of at most SAMPLE items, evenly spread; unreadable ones are named and left out.

    load: may return its error. Raises TooLong, as a run would, and SystemExit without any result.
    """
    places = np.linspace(0, len(items) - 1, min(SAMPLE, len(items))).astype(int)
    loaded = []
    for place in tqdm(places, "reading videos", disable=None):
        try:
            result = load(items[place])
            if isinstance(result, Exception):
                raise result
            loaded.append(result)
        except TooLong:
            raise
        except (VideoError, ValueError) as error:
            tqdm.write(printable(f"left out: {error}"))
    if not loaded:
        raise SystemExit(f"none of {len(places)} videos can be read, for the reasons above")
    return loaded


def prompt_tokens(processor, requests):
    """Number of tokens that a model reads; requests about one VideoInputs share its prefix."""
    prefixes = {id(request.inputs): request.inputs for request in requests}
    n = sum(len(processor.prefix_ids(inputs)) for inputs in prefixes.values())
    return n + sum(len(processor.query_ids(r.prompt, r.inputs is not None)) for r in requests)


def size(n_bytes):
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes > 1e8 else f"{n_bytes / 1e6:,.1f} MB"


def n_trained(model, lora_rank):
    """How many weights train_dpo.py trains; changes `model`: adds an adapter if lora_rank > 0."""
    if lora_rank:
        add_lora(model, rank=lora_rank, alpha=1)
    else:
        tune_all(model.requires_grad_(False))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def training(config, groups):
    """Print what train_dpo.py would do; all ranks call. groups: VideoPairs of all pairs."""
    if ranks.rank() != 0:
        return
    groups, held_out = hold_out(groups, config.holdout, config.seed)
    n_pairs = sum(len(group.pairs) for group in groups)
    updates = plan_updates(groups, config.epochs, config.batch_pairs, config.seed)
    text = f"{len(updates):,} updates: {n_pairs:,} pairs of {len(groups):,} videos"
    print(f"{text}, {config.epochs} times; {len(held_out):,} videos held out")
    processor = load_processor(config.model, config.max_pixels)
    sample = partial(uniform, n=config.n_frames or processor.n_frames)
    read = partial(read_frames, sample=sample, fit=processor.family.fit)
    packs = read_some(groups, lambda g: read_packs(processor, read, config.max_length, g)[1])
    lengths = [sum(item.pack.lengths) for of_video in packs for item in of_video]
    tokens = len(groups) * sum(lengths) / len(packs)
    print(f"tokens: about {tokens:,.0f} per epoch; packs have {min(lengths):,} to {max(lengths):,}")
    model = bare_model(config.model)
    total, lm = sum(p.numel() for p in model.parameters()), model.config.get_text_config()
    trained, half = n_trained(model, config.lora_rank), BYTES[config.dtype]
    frozen = total * half if config.lora_rank else (total - trained) * 4
    resident = frozen + trained * 16  # float32: weight, gradient, AdamW's two moments
    row = max(lengths) * config.batch_packs  # tokens of a forward pass
    stored = lm.num_hidden_layers * row * lm.hidden_size * half
    least = "" if config.checkpointing else "at least "  # only layer inputs are counted
    print(f"memory: {size(resident)} for weights and AdamW, {least}{size(stored)} of activations")
    final = trained * 4 if config.lora_rank else total * half
    saved = trained * 12 * config.keep_checkpoints + final
    text = f"disk: {size(saved)} for {trained:,} trained weights and {config.keep_checkpoints}"
    print(f"{text} checkpoints, {size(300 * n_pairs)} for the reference, next to the pairs")
    print(END)


def pair_making(config, roles, videos):
    """Print what make_pairs.py would do; all ranks call. config, roles, videos: the script's."""
    if ranks.rank() != 0:
        return
    queries = {video: [] for video in videos[: config.limit or None]}
    if config.queries:
        for row in own_queries(config.queries, list(queries), config.videos)[0]:
            queries[row["video"]].append(row)
    else:
        rows = [{"mode": mode, "query": PLACEHOLDER, "topic": None} for mode in MODES]
        queries = dict.fromkeys(queries, rows * config.n_queries)
    n = sum(map(len, queries.values()))
    n_answers = n * (1 + config.candidates)
    text = f"{len(queries):,} videos, {n:,} queries, {n_answers:,} answers"
    print(f"{text}, at most {n * config.candidates:,} pairs; --target may stop earlier")
    most = n_answers * config.max_new_tokens * 5  # characters of a token, with the space
    print(f"disk: at most {size(most + 1000 * n)} for the answers, and as much for the pairs")
    if config.asker and config.stage in ("all", "queries"):
        role("asker", config, reader_for(roles.model(config.asker), config, videos), queries, n)
    if config.stage in ("all", "candidates"):
        reader = reader_for(roles.model(config.responder), config, videos, config.sparse_frames)
        role("responder", config, reader, queries, n_answers)
    if config.judge != "rules":
        print(f"judge {config.judge}: at most {n * config.candidates:,} requests")
    print(END)


def role(who, config, reader, queries, n_answers):
    """Print what the asker or the responder reads and writes. queries: video -> rows."""
    name = getattr(config, who)
    if is_address(name):
        print(f"{who} {name}: {n_answers:,} requests, {config.in_flight} at a time")
        return

    def load(video):
        reader.frames(video)  # raises VideoError
        rows, requests = queries[video], []
        if who == "asker":
            keys = [(video, row["mode"], i) for i, row in enumerate(rows)]
            wanted = wanted_queries(video, keys, reader, config.seed)
            return prompt_tokens(reader.processor, [request(0) for _, request in wanted])
        for task in query_tasks(video, rows, reader, recipe_of(config, reader)):
            query, scored = task.row["query"], sum(task.views.values(), [])
            requests += [Request(task.clean, query), *(request for _, request in task.misled)]
            texts = [Request(inputs, f"{query} {PLACEHOLDER}") for inputs in scored]
            requests += texts * (1 + config.candidates)
        return prompt_tokens(reader.processor, requests)

    tokens = np.mean(read_some(list(queries), load)) * len(queries)
    written = n_answers * config.max_new_tokens
    print(f"{who} {name}: about {tokens:,.0f} tokens read, at most {written:,} written")


def scoring(config, bench, questions, adapters, n_frames):
    """Print what evaluate.py would ask of a model and its adapters; all ranks call."""
    if ranks.rank() != 0:
        return
    clips = {}
    for item in questions:
        clips.setdefault(item.video, []).append(item)
    print(f"{len(questions):,} questions about {len(clips):,} clips, to {', '.join(adapters)}")
    processor = load_processor(config.model, config.max_pixels)

    def load(items):
        inputs = video_inputs(items[0], processor, n_frames)
        if isinstance(inputs, Exception):
            return inputs
        return prompt_tokens(processor, [Request(inputs, item.prompt) for item in items])

    n = len(questions) * len(adapters)
    tokens = np.mean(read_some(list(clips.values()), load)) * len(clips) * len(adapters)
    n_new = bench.max_new_tokens if config.scoring == "generate" else 0
    print(f"tokens: about {tokens:,.0f} read, at most {n * n_new:,} written")
    print(f"disk: {size(1000 * n)} for the answers\n{END}")
