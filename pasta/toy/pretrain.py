"""How the toy model grows up, from scratch and once: to see, to say, to answer.

    see       what each part of a picture holds, and which side it is on, aligned with words
    glimpses  to talk about videos of two pictures, one of each guest, each held for some time, with
              the cut between them
    looking   whole videos, with lessons that are true
    lessons   all that the pipeline will ask, with many careless answers

Two pictures hold all that a whole video does, and order is learnt from them in a fraction of the
time. The careless lessons come last: a model that cannot see yet would learn nothing from them but
what is usual.

Shapes: B videos of a batch, L tokens of the longest row, N visual tokens, K words.
"""

import math
from collections import deque
from dataclasses import replace
from functools import partial
from itertools import islice
from statistics import fmean

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

from pasta.attention import dense_mask
from pasta.models.load import as_position_ids, levels, load_vlm, of_one_shape
from pasta.packs import pack_responses
from pasta.sampling import uniform
from pasta.toy import world
from pasta.toy.captions import TRUE, lessons, looking
from pasta.toy.halves import learn, one_thread, other_half
from pasta.toy.model import make_folder

# Of each mode, the share of answers that are the usual one whatever the video shows.
CARELESS = {"spatial": 0.35, "temporal": 0.5, "cross_frame": 0.45, "absent": 0.25}
PLACES = ("left", "right", "above", "below")
SEE_STEPS, SEE_END = 600, 100  # end: the last steps, in which the learning rate goes down
GOAL_OVER = 20  # the steps over whose mean loss a goal is reached
STAGES = (  # texts, share of careless ones, share of glimpses, least steps, most, goal
    (looking, TRUE, 1.0, 200, 400, 0.135),
    (looking, TRUE, 0.25, 250, 450, 0.115),
    (lessons, TRUE, 0.25, 250, 250, 0.0),
    (lessons, CARELESS, 0.0, 150, 150, 0.0),
)
BATCH = 16  # videos, half of them for each process
SEE_PEAK, PEAK = 3e-3, 1.5e-3  # learning rates


@one_thread()
def train_base(folder, seed=0, kind="qwen", **changes):
    """Write a model folder and train the model in it, in two processes.

    kind: of make_folder. changes: of what `grow_up` does.
    """
    make_folder(folder, seed, kind)
    with other_half(partial(grow_up, **changes), folder, [seed, 1]) as mean:
        model = grow_up(mean, folder, [seed, 0], "toy model", **changes)
    model.save_pretrained(folder)


def grow_up(mean, folder, seed, text="", see_steps=SEE_STEPS, stages=STAGES, batch=BATCH // 2):
    """Train the model of a folder on this process's half of every batch. Returns it.

    mean: of `other_half`. seed: of the videos. text: of progress bars. batch: videos of the half
    """
    vlm = load_vlm(folder)
    model = vlm.model.train().requires_grad_(True)
    rng = np.random.default_rng(seed)
    sights = counted(seeing(vlm, rng, batch), see_steps)
    learn(model, sights, see_steps, SEE_END, SEE_PEAK, text and f"{text}: see", mean)
    least = [stage[3] for stage in stages]
    texts = through(stages, vlm, rng, batch, mean)
    learn(model, texts, sum(least), least[-1], PEAK, text and f"{text}: talk", mean)
    return model


def through(stages, vlm, rng, batch, mean):
    """Yield (loss, steps that are left) of all stages; math.inf left, except in the last."""
    for *stage, least, most, goal in stages[:-1]:
        for loss in until(goal, least, islice(talking(vlm, rng, batch, *stage), most), mean):
            yield loss, math.inf
    *stage, steps, _, _ = stages[-1]
    yield from counted(talking(vlm, rng, batch, *stage), steps)


def counted(losses, steps):
    """Yield (loss, how many are left) of the first `steps` losses; no more are made."""
    for left in reversed(range(steps)):
        yield next(losses), left


def until(goal, least, losses, mean):
    """Yield losses, at least that many, until the mean of the latest GOAL_OVER is below the goal.

    It is the mean over both halves. How long it takes to see what order is depends on the seed.
    """
    latest = deque(maxlen=GOAL_OVER)
    for step, loss in enumerate(losses, start=1):
        yield loss
        latest.append(mean(loss.detach()[None]).item())
        if step >= least and fmean(latest) < goal:
            return


def seeing(vlm, rng, batch):
    """Losses of naming what each visual token shows, by the embeddings of the words for it."""
    words = [f" {word}" for word in (*world.COLOURS, *world.SHAPES, *PLACES)]
    ids = vlm.processor.tokenizer.convert_tokens_to_ids(words)
    embeddings = vlm.model.get_input_embeddings().weight
    still = still_frames(vlm.model)
    times = np.arange(still) / world.FPS
    while True:
        stills, truth = [], []
        for _ in range(batch):
            video = world.draw_video(rng)
            frames = world.render(video)
            for start in rng.choice(world.N_FRAMES - still, 4, replace=False):
                stills.append(vlm.processor.prepare(frames[start : start + still], times))
                truth.append(shown(video, range(start, start + still)))
        # Without the newline that ends a video of LLaVA-OneVision.
        found = torch.cat([tokens[:4] for tokens in features(vlm, stills)])  # (N, width)
        logits = 10 * normalize(found, dim=-1) @ normalize(embeddings[ids], dim=-1).T - 2  # (N, K)
        yield binary_cross_entropy_with_logits(logits, torch.cat(truth))


def shown(video, frames):
    """How much of each colour and shape each quarter of the picture holds over some frames.

    Returns (4, K) float32 in [0, 1]: the share of a thing's pixels and of the frames, colours
    before shapes; then 1 for the quarter's own places.
    """
    colours, shapes, half = list(world.COLOURS), list(world.SHAPES), world.SIDE // 2
    table = np.zeros((4, len(colours) + len(shapes) + len(PLACES)), np.float32)
    # quarters go row by row
    table[:, -4:] = [[1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1]]
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


def talking(vlm, rng, batch, teach, careless, glimpses):
    """Losses of the responses that `teach` gives, a batch of videos at a time."""
    while True:
        yield batch_loss(
            vlm,
            [
                lesson_pack(vlm, rng, teach, careless, rng.random() < glimpses)
                for _ in range(batch)
            ],
        )


def still_frames(model):
    """How many frames are one picture to a model: those that go into one token."""
    return getattr(model.config.vision_config, "temporal_patch_size", 1)


def lesson_pack(vlm, rng, teach, careless, glimpse):
    """One video, or a glimpse of it, with the texts that `teach` has about it."""
    video, times = world.draw_video(rng), np.arange(world.N_FRAMES) / world.FPS
    seen = uniform(times, vlm.processor.n_frames)
    times = times[seen]
    if glimpse:  # a cut between the two pictures, so that both scenes are in it
        sign = replace(video.sign, start=0, end=world.N_FRAMES)
        video = replace(video, cut=video.guests[1].start, sign=sign)
        starts, until = [guest.start for guest in video.guests], int(rng.integers(4, 29))
        seen = np.repeat(starts, [until, world.N_FRAMES - until])[seen]
    inputs = vlm.processor.prepare(world.render(video)[seen], times)
    return pack_responses(vlm.processor, inputs, teach(video, rng, careless))[0]


def features(vlm, inputs):
    """The visual tokens of each of a list of VideoInputs, (n_tokens, width), with gradient."""
    family, found = vlm.processor.family, {}
    for group in of_one_shape(family, inputs):
        rows = [family.feature_kwargs(x) for x in group]
        tensors = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        output = vlm.model.get_video_features(**tensors, return_dict=True)
        tokens = levels(output, [x.n_tokens for x in group])
        found |= {id(x): of_x for x, (of_x,) in zip(group, tokens, strict=True)}
    return [found[id(x)] for x in inputs]


def batch_loss(vlm, packs):
    """Mean cross-entropy of all response tokens of several packs, as one padded batch.

    Small rows are fastest side by side, so the packs' pattern is a dense mask here.
    """
    longest = max(len(pack.input_ids) for pack in packs)
    ids = torch.zeros(len(packs), longest, dtype=torch.int64)  # (B, L)
    positions = torch.zeros(len(packs[0].position_ids), len(packs), longest, dtype=torch.int64)
    mask = torch.eye(longest, dtype=torch.bool).repeat(len(packs), 1, 1, 1)  # (B, 1, L, L)
    for i, pack in enumerate(packs):
        n = len(pack.input_ids)
        ids[i, :n], positions[:, i, :n] = pack.input_ids, pack.position_ids
        mask[i, :, :n, :n] = dense_mask(pack.lengths)[0]
    embeddings = vlm.model.get_input_embeddings()(ids)
    visual = ids == vlm.processor.ids(vlm.processor.family.token)[0]
    tokens = torch.cat(features(vlm, [pack.inputs for pack in packs]))
    embeddings = embeddings.masked_scatter(visual[..., None], tokens)
    hidden = vlm.model.model.language_model(
        inputs_embeds=embeddings,
        position_ids=as_position_ids(positions),
        attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    scored = torch.cat([hidden[i, pack.keep] for i, pack in enumerate(packs)])
    return cross_entropy(vlm.model.lm_head(scored), torch.cat([pack.targets for pack in packs]))
