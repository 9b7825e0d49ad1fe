"""--dry_run of train_dpo.py: what a run would do and need. Nothing is written.

Tokens are estimated: a few videos are read, sampled and packed as in the run, and their mean is
multiplied by the number of videos. Memory is estimated for the longest of them, time is not: see
docs/speed.md.
"""

from functools import partial

import numpy as np
from tqdm import tqdm

from pasta.lora import add_lora
from pasta.models.load import bare_model, load_processor, tune_all
from pasta.packs import TooLong
from pasta.run import ranks
from pasta.run.schema import printable
from pasta.sampling import uniform
from pasta.training.plan import hold_out, plan_updates, read_packs
from pasta.video import read_frames

SAMPLE = 12  # videos that are read
BYTES = {"float32": 4, "bfloat16": 2}
CARDS = (24, 40, 80)  # GB
USABLE = 0.95e9  # bytes of each GB (a card has GiB): CUDA and fragmentation need 12 %


def sampled_packs(groups, read):
    """read(group) of at most SAMPLE videos, evenly spread; those without packs are named."""
    places = np.linspace(0, len(groups) - 1, min(SAMPLE, len(groups))).astype(int)
    loaded = []
    for place in tqdm(places, "reading videos", disable=None):
        _, packs = read(groups[place])
        if isinstance(packs, TooLong):
            raise packs
        if isinstance(packs, Exception):
            tqdm.write(printable(f"left out: {packs}"))
        else:
            loaded.append(packs)
    if not loaded:
        raise SystemExit(f"none of {len(places)} videos can be read, for the reasons above")
    print(f"read {len(loaded)} of {len(places)} sampled videos, {len(groups):,} in all; estimates:")
    return loaded


def size(n_bytes):
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes > 1e8 else f"{n_bytes / 1e6:,.1f} MB"


def print_memory(fixed, parts, n_frames):
    """Print bytes, and which cards suffice: `parts`, {name: bytes}, are in proportion to frames."""
    texts = "".join(f", {size(n)} of {part}" for part, n in parts.items())
    print(f"memory: {size(fixed)} for weights and AdamW{texts}")
    most = [int(n_frames * (card * USABLE - fixed) / sum(parts.values())) for card in CARDS]
    how = [f"with --n_frames {n}" if n > 0 else "too small" for n in most]
    fits = ["enough" if n >= n_frames else text for n, text in zip(most, how, strict=True)]
    print("GPU: " + ", ".join(f"{c} GB {text}" for c, text in zip(CARDS, fits, strict=True)))


def n_trained(model, lora_rank):
    """How many weights train_dpo.py trains; changes `model`: adds an adapter if lora_rank > 0."""
    if lora_rank:
        add_lora(model, rank=lora_rank, alpha=1)
    else:
        tune_all(model.requires_grad_(False))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def training(config, groups):
    """Print what train_dpo.py would do. groups: VideoPairs of all pairs."""
    groups, held_out = hold_out(groups, config.holdout, config.seed)
    n_pairs = sum(len(group.pairs) for group in groups)
    updates = plan_updates(groups, config.epochs, config.batch_pairs, config.seed)
    text = f"{len(updates):,} updates: {n_pairs:,} pairs of {len(groups):,} videos"
    print(f"{text}, {config.epochs} times; {len(held_out):,} videos held out")
    processor = load_processor(config.model, config.max_pixels)
    n_frames = config.n_frames or processor.n_frames
    read = partial(read_frames, sample=partial(uniform, n=n_frames), fit=processor.family.fit)
    videos = sampled_packs(groups, partial(read_packs, processor, read, config.max_length))
    packs = [item.pack for of_video in videos for item in of_video]
    lengths, scored = [sum(pack.lengths) for pack in packs], max(len(p.targets) for p in packs)
    tokens = len(groups) * sum(lengths) / len(videos)
    print(f"tokens: about {tokens:,.0f} per epoch; packs have {min(lengths):,} to {max(lengths):,}")
    model = bare_model(config.model)
    total, lm = sum(p.numel() for p in model.parameters()), model.config.get_text_config()
    trained, half = n_trained(model, config.lora_rank), BYTES[config.dtype]
    frozen = total * half if config.lora_rank else (total - trained) * 4
    resident = frozen + trained * 16  # float32: weight, gradient, AdamW's two moments
    longest = max(lengths) * config.batch_packs  # tokens of a forward pass
    residual = longest * lm.hidden_size * (half if config.lora_rank else 4)
    inner = longest * lm.intermediate_size * half
    # measured, as are the 8 of backward through a layer, and the 14 of logits and softmax
    of_layer = residual if config.checkpointing else 10 * residual + 4 * inner
    parts = {"activations": lm.num_hidden_layers * of_layer}
    parts["temporary tensors"] = max(8 * inner, 14 * config.batch_packs * scored * lm.vocab_size)
    resident /= ranks.size() if config.shard else 1
    print_memory(resident, parts, n_frames)
    final = trained * 4 if config.lora_rank else total * half
    saved = trained * 12 * config.keep_checkpoints + final
    text = f"disk: {size(saved)} for {trained:,} trained weights and {config.keep_checkpoints}"
    print(f"{text} checkpoints, {size(300 * n_pairs)} for the reference, next to the pairs")
    print("nothing was written; the same command without --dry_run starts the run")
