"""--dry_run of the three scripts: what would be done, what it would take; nothing is written.

Videos, pairs, queries and updates are counted. Tokens and operations are those of a few videos that
are opened, sampled and packed as in the run, times the number of all. The time is

    operations / (SHARE of a large matrix product's rate) + bytes of weights read / memory's rate

with both rates of this device measured now. The second part is decoding, in which every new token
of a batch reads all weights; all tokens that may be written count, and most answers are shorter.
What a server takes is not known here.
"""

from functools import partial
from math import ceil

import numpy as np
from tqdm import tqdm

from pasta import toy
from pasta.benchmarks.answers import clip, video_inputs
from pasta.datasets.read import open_pairs
from pasta.models.generate import Request
from pasta.models.load import load_processor
from pasta.packs import TooLong, by_video
from pasta.run import ranks
from pasta.sampling import uniform
from pasta.tools.costs import SHARE, costs_of, rates
from pasta.training.checkpoint import check_config
from pasta.training.held_out import hold_out
from pasta.training.plan import plan, read_packs
from pasta.video import VideoError, read_frames

SAMPLE = 12  # videos that are opened
BYTES = {"float32": 4, "bfloat16": 2}
BEGIN = "nothing was written; without --dry_run it begins"


def spread(items):
    """At most SAMPLE items of a list, evenly from the first to the last."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(SAMPLE, len(items))).astype(int)]


def opened(items, load):
    """[load(item)] of some items; a video that cannot be read is named and left out.

    load: returns an error, or raises VideoError, for such a one. Raises SystemExit without any.
    """
    found = []
    for item in tqdm(spread(items), "opening videos", disable=None):
        try:
            result = load(item)
        except VideoError as error:
            result = error
        if isinstance(result, Exception):
            tqdm.write(f"left out: {result}")
        else:
            found.append(result)
    if not found:
        raise SystemExit(f"none of {len(spread(items))} videos can be read, for the reasons above")
    return found


def reading(processor, costs, requests):
    """Tokens and operations of reading requests: (2,); those about one VideoInputs share it."""
    groups, total = {}, np.zeros(2)
    for request in requests:
        groups.setdefault(id(request.inputs), []).append(request)
    for group in groups.values():
        inputs = group[0].inputs
        lengths = [len(processor.prefix_ids(inputs))]
        lengths += [len(processor.query_ids(r.prompt, inputs is not None)) for r in group]
        operations = sum(costs.forward(lengths, costs.patches(inputs), len(group)))
        total += sum(lengths), operations
    return total


def tell(device, dtype, operations, weights_read=0):
    """Print how long that takes, shared out over the processes that there are.

    A tiny model takes longer: it waits for other things than its products.
    """
    product, memory = rates(device, dtype)
    seconds = (operations / (SHARE * product) + weights_read / memory) / ranks.size()
    print(
        f"time: about {seconds / 3600:,.1f} h ({seconds:,.0f} s) on {ranks.size()} x {device}: "
        f"{operations:.1e} operations at {SHARE:.0%} of {product / 1e12:.2g} TFLOP/s"
        + f", {weights_read:.1e} bytes at {memory / 1e9:.3g} GB/s" * bool(weights_read)
    )


def size(n_bytes):
    """A number of bytes as text."""
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes > 1e8 else f"{n_bytes / 1e6:,.1f} MB"


def training(config, device):
    """Print what train_dpo.py would do. config: its own. All processes call, the first prints."""
    if ranks.rank() == 0:
        check_config(config)
        groups = by_video(open_pairs(config.pairs, config.mode, config.video_root, True))
        groups, held_out = hold_out(groups, config.holdout, config.seed)
        n = sum(len(group.pairs) for group in groups)
        updates = plan(groups, config.epochs, config.batch_pairs, config.seed)
        print(f"{len(updates):,} updates: {n:,} pairs of {len(groups):,} videos, {config.epochs} "
              f"times; {len(held_out):,} videos held out")  # fmt: skip
        config.model = toy.resolved(config.model)
        costs = costs_of(config.model, config.lora_rank, train=True)
        packs = packs_of_some(config, groups)
        told = training_load(config, costs, packs, len(groups), n)
        tell(device, config.dtype, told)
        print(BEGIN)


def packs_of_some(config, groups):
    """The Packs of some of the videos, a list for each. Raises TooLong, as the run would."""
    processor = load_processor(config.model, config.max_pixels)
    sample = partial(uniform, n=config.n_frames or processor.n_frames)
    read = partial(read_frames, sample=sample, fit=processor.family.fit)

    def load(group):
        _, found = read_packs(processor, read, config.max_length, group)
        if isinstance(found, TooLong):
            raise found
        return found

    return [[item.pack for item in items] for items in opened(groups, load)]


def training_load(config, costs, packs, n_videos, n_pairs):
    """Print tokens, memory and disk of a training. Returns its operations, the reference's too.

    packs: of some videos, a list for each
    """
    lengths = [sum(pack.lengths) for of_video in packs for pack in of_video]
    tokens = n_videos * sum(lengths) / len(packs)
    print(f"tokens: about {tokens:,.0f} an epoch, and as many for the reference; a pack of "
          f"{len(packs)} opened videos has {min(lengths):,} to {max(lengths):,}")  # fmt: skip
    half = BYTES[config.dtype]
    frozen = costs.total * half if config.lora_rank else (costs.total - costs.trained) * 4
    weights = frozen + costs.trained * 16  # float32: weight, gradient, AdamW's two moments
    kept = costs.layers * max(lengths) * costs.width * half
    kind = "kept for recomputation" if config.checkpointing else "at least, for it is not"
    print(f"memory: {size(weights)} for weights and AdamW, {size(kept)} of activations {kind}")
    saved = costs.trained * (12 * config.keep_checkpoints + (4 if config.lora_rank else 0))
    saved += 0 if config.lora_rank else costs.total * half
    told = f"{costs.trained:,} trained weights and {config.keep_checkpoints} checkpoints"
    print(f"disk: {size(saved)} for {told}, {size(300 * n_pairs)} beside the pairs")
    forward = [
        costs.forward(pack.lengths, costs.patches(pack.inputs), len(pack.keep))
        for of_video in packs
        for pack in of_video
    ]
    language, vision = np.sum(forward, axis=0) * n_videos / len(packs)
    passes = 2 + (config.lora_rank == 0) + config.checkpointing
    return language + vision + config.epochs * (passes * language + vision)


def decoded(costs, config, n_rows, n_new):
    """(operations, bytes of weights read) of writing n_new tokens in each of n_rows answers."""
    steps = ceil(n_rows / config.batch_size) * n_new
    read = steps * costs.total * BYTES[config.dtype]
    return np.array([2.0 * (costs.language + costs.head) * n_rows * n_new, read])


def scoring(config, bench, questions, adapters, n_frames):
    """Print what evaluate.py would ask of a model and its adapters. All processes call."""
    if ranks.rank() == 0:
        clips = {}
        for item in questions:
            clips.setdefault(clip(item), []).append(item)
        n, times = len(questions) * len(adapters), len(adapters)
        print(f"{len(questions):,} questions about {len(clips):,} clips, to {', '.join(adapters)}")
        processor, costs = load_processor(config.model, config.max_pixels), costs_of(config.model)

        def load(items):
            inputs = video_inputs(items[0], processor, n_frames)
            if isinstance(inputs, Exception):
                return inputs
            return reading(processor, costs, [Request(inputs, item.prompt) for item in items])

        loads = opened(list(clips.values()), load)
        tokens, operations = np.mean(loads, axis=0) * len(clips) * times
        n_new = bench.max_new_tokens if config.scoring == "generate" else 0
        print(f"tokens: about {tokens:,.0f} read, {n * n_new:,} written at most")
        print(f"disk: {size(1000 * n)} for the answers")
        tell(config.device, config.dtype, *(decoded(costs, config, n, n_new) + (operations, 0)))
        print(BEGIN)
