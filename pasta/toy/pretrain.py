"""The toy model: a tiny Qwen2.5-VL or LLaVA-OneVision, and its pretraining, in minutes.

    python -m pasta.toy.pretrain FOLDER    # makes the shipped pasta/toy/model again

    align     match each visual token with the words for its shape, colour and place
    caption   two-frame clips, with one frame of each actor and the cut between them; then videos
    qa        everything that the pipeline asks; in the last stage many labels are noisy

Clips teach order in a fraction of the time. Noisy labels come last: before the model can see, it
would learn only the majority answers from them.

Two processes of torchrun, of one thread each, train on halves of every batch: g = (g_0 + g_1) / 2.
A sum of two numbers does not depend on their order: equal weights, bit for bit, on any number of
cores.

Shapes: B videos of a batch, L tokens of the longest row, N visual tokens, K words.
"""

import math
import os
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections import deque
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import torch.distributed as dist
import transformers
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

from pasta.attention import dense_mask
from pasta.models.load import as_position_ids, load_vlm
from pasta.models.vision import encode, levels
from pasta.packs import pack_responses
from pasta.run import ranks
from pasta.run.atomic import atomic_folder
from pasta.run.command import command_line, number
from pasta.sampling import uniform
from pasta.toy import world
from pasta.toy.captions import NO_NOISE, caption_samples, qa_samples

HERE = Path(__file__).parent
# kind of model: the folder with its settings and its tokenizer (tests/golden/make_toy_tokenizer.py)
FOLDERS = {"qwen": HERE / "model", "onevision": HERE / "onevision"}
FILES = "tokenizer.json tokenizer_config.json chat_template.jinja preprocessor_config.json".split()
LABEL_NOISE = {"spatial": 0.35, "temporal": 0.5, "cross_frame": 0.45, "absent": 0.25}  # shares
PLACES = ("left", "right", "above", "below")
ALIGN_STEPS, ALIGN_DECAY = 600, 100  # decay: the last steps, with a falling learning rate
LOSS_WINDOW = 20  # steps of the mean loss that early stopping compares
STAGES = (  # samples, label noise, share of two-frame clips, least steps, most, early-stop loss
    (caption_samples, NO_NOISE, 1.0, 200, 400, 0.135),
    (caption_samples, NO_NOISE, 0.25, 250, 450, 0.115),
    (qa_samples, NO_NOISE, 0.25, 250, 250, 0.0),
    (qa_samples, LABEL_NOISE, 0.0, 150, 150, 0.0),
)
BATCH = 16  # videos, half of them for each process
ALIGN_PEAK, PEAK = 3e-3, 1.5e-3  # learning rates


def make_folder(folder, seed=0, kind="qwen"):
    """Write an untrained toy model, as a model folder with all files. kind: as in FOLDERS."""
    # Two settings of its config.json are unusual. With a larger rope_theta the positions of a small
    # grid, or of a few dozen tokens, would look the same; the width axis of M-RoPE has the lowest
    # frequencies, and height, which needs less, has few. With an initializer_range of 0.02 the
    # model learns to copy names too late.
    config = transformers.AutoConfig.from_pretrained(FOLDERS[kind], trust_remote_code=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDERS[kind], trust_remote_code=False)
    config.text_config.vocab_size = len(tokenizer)
    torch.manual_seed(seed)
    model = transformers.AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    # Blocks of 7 x 7 equal weights in the patch embedding (out, 3, ..., 14, 14): one random weight
    # for each pixel adds noise that a short training does not remove.
    patches = next(p for name, p in model.named_parameters() if "patch_embed" in name)
    blocks = 0.3 * torch.randn(*patches.shape[:-2], 2, 2)
    patches.data = blocks.repeat_interleave(7, -1).repeat_interleave(7, -2) / 49
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    for name in FILES:
        shutil.copy(FOLDERS[kind] / name, folder)


def train_base(folder, seed=0, kind="qwen"):
    """Write a model folder and train it, in two processes of torchrun."""
    make_folder(folder, seed, kind)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["--module", __spec__.name, Path(folder).resolve(), f"--seed={seed}"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=Path(__file__).parents[2], env=env, check=True)


def train_further(folder, source, seed, noise):
    """Copy a toy model and repeat the last stage, in one process, with `noise` times its noise."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    samples, shares, *steps = STAGES[-1]
    shares = {name: noise * share for name, share in shares.items()}
    train(folder, 1000 + seed, 0, [(samples, shares, *steps)], BATCH)


def mean_of_processes(vector):
    """The mean over the processes of a vector, in place. Returns it."""
    if ranks.started():
        dist.all_reduce(vector)
        vector /= ranks.size()
    return vector


def train(folder, seed, align_steps=ALIGN_STEPS, stages=STAGES, batch=BATCH // 2):
    """Train the model of a folder on this process's half, `batch` videos of every batch."""
    vlm, rng = load_vlm(folder), np.random.default_rng([seed, ranks.rank()])
    model = vlm.model.train().requires_grad_(True)
    losses = one_stage(alignment_losses(vlm, rng, batch), align_steps, align_steps)
    descend(model, losses, align_steps, ALIGN_DECAY, ALIGN_PEAK, "toy model: align")
    losses = all_stages(stages, vlm, rng, batch)
    descend(model, losses, None, stages[-1][3], PEAK, "toy model: caption, qa")
    if ranks.rank() == 0:
        model.save_pretrained(folder)


def descend(model, losses, total, decay, peak, name=None):
    """AdamW on each (loss, steps left); in the last `decay` the rate falls to a tenth of `peak`."""
    groups = [{"params": [], "share": 1.0}, {"params": [], "share": 0.02}]
    for key, parameter in model.named_parameters():
        # The patch embedding sums thousands of correlated pixels, so its steps are small.
        groups["patch_embed" in key]["params"].append(parameter)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.01)
    bar = ranks.progress(losses, name, total, "steps")
    for step, (loss, left) in enumerate(bar, start=1):
        rate = peak * min(1, step / 20, 0.1 + left / decay)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        flat = mean_of_processes(torch.cat([grad.flatten() for grad in grads]))
        for grad, mean in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(mean.view_as(grad))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def all_stages(stages, vlm, rng, batch):
    """Yield (loss, steps left) of all stages; before the last one, infinitely many are left."""
    for i, (*stage, least, most, stop_loss) in enumerate(stages, start=1):
        packs = ([sample_pack(vlm, rng, *stage) for _ in range(batch)] for _ in range(most))
        for loss, left in one_stage(map(partial(batch_loss, vlm), packs), least, most, stop_loss):
            yield loss, left if i == len(stages) else math.inf


def one_stage(losses, least, most, stop_loss=0.0):
    """Yield (loss, steps left) at least `least` times, until the mean of the last losses is low."""
    latest = deque(maxlen=LOSS_WINDOW)
    for step in range(1, most + 1):
        loss = next(losses)  # none that is not used: its videos would change all later draws
        yield loss, most - step
        latest.append(mean_of_processes(loss.detach().clone()).item())
        if step >= least and fmean(latest) < stop_loss:
            return


def alignment_losses(vlm, rng, batch):
    """Losses of naming what each visual token shows, by the embeddings of the words for it."""
    words = [f" {word}" for word in (*world.COLOURS, *world.SHAPES, *PLACES)]
    ids = vlm.processor.tokenizer.convert_tokens_to_ids(words)
    embeddings = vlm.model.get_input_embeddings().weight
    still = getattr(vlm.model.config.vision_config, "temporal_patch_size", 1)  # frames of a token
    times = np.arange(still) / world.FPS
    while True:
        stills, truth = [], []
        for _ in range(batch):
            video = world.draw_video(rng)
            frames = world.render(video)
            for start in rng.choice(world.N_FRAMES - still, 4, replace=False):
                stills.append(vlm.processor.prepare(frames[start : start + still], times))
                truth.append(visible(video, range(start, start + still)))
        # Four quarters; LLaVA-OneVision has a newline token after them.
        found = torch.cat([tokens[:4] for tokens in visual_tokens(vlm, stills)])  # (N, width)
        logits = 10 * normalize(found, dim=-1) @ normalize(embeddings[ids], dim=-1).T - 2  # (N, K)
        yield binary_cross_entropy_with_logits(logits, torch.cat(truth))


def visible(video, frames):
    """How much of each colour and shape is in each quarter of the picture, over some frames.

    Returns (4, K) float32 in [0, 1], quarters row by row: the share of a thing's pixels and of the
    frames, colours before shapes; then 1 for the PLACES of the quarter.
    """
    names, half = [*world.COLOURS, *world.SHAPES], world.SIDE // 2
    table = np.zeros((4, len(names) + len(PLACES)), np.float32)
    table[:, -4:] = [[1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1]]
    for thing in video.things:
        for frame in frames:
            if thing.start <= frame < thing.end:
                late = thing is video.marker and frame >= video.cut
                colour, shape = (video.successor if late else thing.name).split()
                pixels = world.silhouette(shape, thing.x, thing.y)
                quarters = pixels.reshape(2, half, 2, half).sum((1, 3)).ravel()
                for name in (colour, shape):
                    table[:, names.index(name)] += quarters / pixels.sum() / len(frames)
    return torch.from_numpy(table.clip(0, 1))


def sample_pack(vlm, rng, samples, noise, clips):
    """The Pack of a random video, or with probability `clips` of a two-frame clip of it."""
    two_frame_clip = rng.random() < clips
    video, times = world.draw_video(rng), np.arange(world.N_FRAMES) / world.FPS
    indices = uniform(times, vlm.processor.n_frames)
    times = times[indices]
    if two_frame_clip:  # the first frame of each actor, repeated; both show the marker
        marker = replace(video.marker, start=0, end=world.N_FRAMES)
        video = replace(video, cut=video.actors[1].start, marker=marker)
        starts, switch = [actor.start for actor in video.actors], int(rng.integers(4, 29))
        indices = np.repeat(starts, [switch, world.N_FRAMES - switch])[indices]
    inputs = vlm.processor.prepare(world.render(video)[indices], times)
    return pack_responses(vlm.processor, inputs, samples(video, rng, noise))[0]


def visual_tokens(vlm, videos):
    output = encode(vlm.model, vlm.processor.family, videos, grad=True)
    return [tokens for (tokens,) in levels(output, [video.n_tokens for video in videos])]


def batch_loss(vlm, packs):
    """Mean cross-entropy of all response tokens of packs, in one padded batch with a dense mask."""
    longest = max(len(pack.input_ids) for pack in packs)
    ids = torch.zeros(len(packs), longest, dtype=torch.int64)  # (B, L)
    positions = ids.repeat(len(packs[0].position_ids), 1, 1)
    mask = torch.eye(longest, dtype=torch.bool).repeat(len(packs), 1, 1, 1)  # (B, 1, L, L)
    for i, pack in enumerate(packs):
        n = len(pack.input_ids)
        ids[i, :n], positions[:, i, :n] = pack.input_ids, pack.position_ids
        mask[i, :, :n, :n] = dense_mask(pack.lengths)[0]
    embeddings = vlm.model.get_input_embeddings()(ids)
    visual = ids == vlm.processor.ids(vlm.processor.family.token)[0]
    tokens = torch.cat(visual_tokens(vlm, [pack.inputs for pack in packs]))
    hidden = vlm.model.model.language_model(
        inputs_embeds=embeddings.masked_scatter(visual[..., None], tokens),
        position_ids=as_position_ids(positions),
        attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    scored = torch.cat([hidden[i, pack.keep] for i, pack in enumerate(packs)])
    return cross_entropy(vlm.model.lm_head(scored), torch.cat([pack.targets for pack in packs]))


def main():
    parser = ArgumentParser("python -m pasta.toy.pretrain", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="new model folder")
    parser.add_argument("--seed", type=number, default=0, help="seed of weights and of videos")
    args = parser.parse_args()
    ranks.start("cpu")
    if ranks.started():  # by `train_base`
        train(args.folder, args.seed)
        return ranks.stop()
    if args.folder.exists():
        raise SystemExit(f"{args.folder} exists; expected the name of a new folder")
    with atomic_folder(args.folder) as part:
        train_base(part, args.seed)


if __name__ == "__main__":
    with command_line():
        main()
