"""How the toy model grows up, from scratch and once: to see, to say, to answer.

    see       what each part of a picture holds, and which side it is on, aligned with words
    glimpses  to talk about videos of two pictures, one of each guest, with the cut between them
    looking   whole videos, with lessons that are true
    lessons   all that the pipeline will ask, with many careless answers

Two pictures hold all that a whole video does, and order is learnt from them in a fraction of the
time. The careless lessons come last: a model that cannot see yet would learn nothing from them but
what is usual.

Shapes: B videos of a batch, L tokens of the longest row, N visual tokens, K words.
"""

from dataclasses import replace
from itertools import chain, islice

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize
from tqdm import tqdm

from pasta.attention import dense_mask
from pasta.packs import pack_responses
from pasta.toy import world
from pasta.toy.base import PIXELS, make_folder
from pasta.toy.lessons import lessons, looking
from pasta.vlm import load_vlm

CARELESS = 0.4  # share of answers that are the usual one whatever the video shows
SIDES = ("left", "right")
SEE_STEPS = 200
STAGES = (  # texts, share of careless ones, share of glimpses, steps
    (looking, 0.0, 1.0, 250),
    (looking, 0.0, 0.25, 400),
    (lessons, CARELESS, 0.0, 150),
)
BATCH = 16  # videos
PEAK, END = 1.5e-3, 150  # learning rate, and the last steps in which it goes down to a tenth
STILL = PIXELS["temporal_patch_size"]  # frames of a still picture


def train_base(folder, seed=0):
    """Write a model folder and train the model in it."""
    make_folder(folder, seed)
    vlm = load_vlm(folder)
    model = vlm.model.train().requires_grad_(True)
    rng = np.random.default_rng(seed)
    learn(model, islice(seeing(vlm, rng), SEE_STEPS), SEE_STEPS, 3e-3, "toy model: see")
    losses = chain.from_iterable(
        islice(talking(vlm, rng, *stage), steps) for *stage, steps in STAGES
    )
    learn(model, losses, sum(stage[-1] for stage in STAGES), PEAK, "toy model: talk")
    model.save_pretrained(folder)


def learn(model, losses, steps, peak, text):
    """AdamW on each of the `steps` losses, with a short warm-up and a linear end.

    The patch embedding sums thousands of pixels that go together, so its steps are small.
    """
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups["patch_embed" in name].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": groups[False], "share": 1.0}, {"params": groups[True], "share": 0.02}],
        betas=(0.9, 0.95),
        weight_decay=0.01,
    )
    bar = tqdm(losses, text, total=steps, unit="step", mininterval=1.0)
    for step, loss in enumerate(bar, start=1):
        rate = peak * min(1, step / 20, 0.1 + (steps - step) / min(END, steps / 2))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def seeing(vlm, rng):
    """Losses of naming what each visual token shows, by the embeddings of the words for it."""
    words = [f" {word}" for word in (*world.COLOURS, *world.SHAPES, *SIDES)]
    ids = vlm.processor.tokenizer.convert_tokens_to_ids(words)
    embeddings = vlm.model.get_input_embeddings().weight
    times = np.arange(STILL) / world.FPS
    while True:
        stills, truth = [], []
        for _ in range(BATCH):
            video = world.draw_video(rng)
            frames = world.render(video)
            for start in rng.choice(world.N_FRAMES - STILL, 4, replace=False):
                stills.append(vlm.processor.prepare(frames[start : start + STILL], times))
                truth.append(shown(video, range(start, start + STILL)))
        found = features(vlm, stills)  # (N, width)
        logits = 10 * normalize(found, dim=-1) @ normalize(embeddings[ids], dim=-1).T - 2  # (N, K)
        yield binary_cross_entropy_with_logits(logits, torch.cat(truth))


def shown(video, frames):
    """How much of each colour and shape each quarter of the picture holds over some frames.

    Returns (4, K) float32 in [0, 1]: the share of a thing's pixels and of the frames, colours
    before shapes; then 1 for the quarter's own side.
    """
    colours, shapes, half = list(world.COLOURS), list(world.SHAPES), world.SIDE // 2
    table = np.zeros((4, len(colours) + len(shapes) + len(SIDES)), np.float32)
    table[:, -len(SIDES) :] = np.tile(np.eye(2), (2, 1))  # quarters go row by row
    for thing in video.things:
        for frame in frames:
            if thing.start <= frame < thing.end:
                late = thing is video.sign and frame >= video.cut
                colour, shape = (video.successor if late else thing.name).split()
                pixels = world.silhouette(shape, thing.x, thing.y)
                quarters = pixels.reshape(2, half, 2, half).sum((1, 3)).ravel()
                share = quarters / pixels.sum() / len(frames)
                table[:, colours.index(colour)] += share
                table[:, len(colours) + shapes.index(shape)] += share
    return torch.from_numpy(table.clip(0, 1))


def talking(vlm, rng, teach, careless, glimpses):
    """Losses of the responses that `teach` gives, a batch of videos at a time."""
    while True:
        yield batch_loss(
            vlm,
            [
                lesson_pack(vlm.processor, rng, teach, careless, rng.random() < glimpses)
                for _ in range(BATCH)
            ],
        )


def lesson_pack(processor, rng, teach, careless, glimpse):
    """One video, or a glimpse of it, with the texts that `teach` has about it."""
    video = world.draw_video(rng)
    seen = np.arange(world.N_FRAMES)
    if glimpse:  # a cut between the two pictures, so that both scenes are in it
        video = replace(video, cut=video.guests[1].start)
        seen = np.repeat([guest.start for guest in video.guests], STILL)
    inputs = processor.prepare(world.render(video)[seen], np.arange(len(seen)) / world.FPS)
    return pack_responses(processor, inputs, teach(video, rng, careless))[0]


def features(vlm, inputs):
    """(N, width) visual tokens of a list of VideoInputs, with gradient."""
    rows = [vlm.processor.family.feature_kwargs(x) for x in inputs]
    tensors = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    return torch.cat(vlm.model.get_video_features(**tensors, return_dict=True).pooler_output)


def batch_loss(vlm, packs):
    """Mean cross-entropy of all response tokens of several packs, as one padded batch.

    Small rows are fastest side by side, so the packs' pattern is a dense mask here.
    """
    longest = max(len(pack.input_ids) for pack in packs)
    ids = torch.zeros(len(packs), longest, dtype=torch.int64)  # (B, L)
    positions = torch.zeros(3, len(packs), longest, dtype=torch.int64)
    mask = torch.eye(longest, dtype=torch.bool).repeat(len(packs), 1, 1, 1)  # (B, 1, L, L)
    for i, pack in enumerate(packs):
        n = len(pack.input_ids)
        ids[i, :n], positions[:, i, :n] = pack.input_ids, pack.position_ids
        mask[i, :, :n, :n] = dense_mask(pack.lengths)[0]
    embeddings = vlm.model.get_input_embeddings()(ids)
    visual = (ids == vlm.model.config.video_token_id)[..., None]
    embeddings = embeddings.masked_scatter(visual, features(vlm, [p.inputs for p in packs]))
    hidden = vlm.model.model.language_model(
        inputs_embeds=embeddings, position_ids=positions, attention_mask=mask, use_cache=False
    ).last_hidden_state
    scored = torch.cat([hidden[i, pack.keep] for i, pack in enumerate(packs)])
    return cross_entropy(vlm.model.lm_head(scored), torch.cat([pack.targets for pack in packs]))
