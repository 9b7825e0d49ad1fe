"""Align a Video-LLM with direct preference optimization on pairs.jsonl.

    torchrun train_dpo.py                                        # the toy world, on a CPU
    torchrun --nproc_per_node 8 train_dpo.py --model Qwen/Qwen2.5-VL-7B-Instruct \\
        --pairs out/pairs/pairs.jsonl --out out/dpo-7b

Writes config.json, metrics.jsonl, checkpoints/, skipped.jsonl and adapter/ (model/ with
--lora_rank 0) into --out, and the reference's log-probabilities, once, next to the pairs.
"""

import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import ClassVar, Literal

import torch

from pasta import toy
from pasta.datasets.read import open_pairs
from pasta.dpo import check_start, not_numbers, pack_loss, summarise
from pasta.lora import adapter_off
from pasta.packs import by_video
from pasta.pairs import MODES
from pasta.policy import load_policy
from pasta.reference import open_cache, reference_logps
from pasta.run import ranks
from pasta.run.config import knob, parse, seed_all, write_config
from pasta.sampling import uniform
from pasta.tools.dry_run import training
from pasta.training.checkpoint import Checkpoints, check_config, open_run, save_trained
from pasta.training.held_out import held_out_metrics, hold_out
from pasta.training.loop import Log, clip_and_step, gradient_norm, learning_rate
from pasta.training.plan import PackLoader, Skipped, fingerprint, plan
from pasta.video import read_frames


@dataclass
class TrainConfig:
    DATA: ClassVar = "model and pairs"
    model: str = knob("model folder or hub id", "Qwen/Qwen2.5-VL-7B-Instruct", toy="toy")
    pairs: Path = knob("pairs.jsonl, of make_pairs.py or anybody's", Path("out/pairs/pairs.jsonl"))
    video_root: Path | None = knob("folder of relative videos; None: that of the pairs", None)
    mode: Literal[MODES] | None = knob("mode of pairs that name none, as in other data sets", None)
    holdout: float = knob("share of the videos whose pairs are not trained on, but scored", 0.0)
    max_skipped: int = knob("videos that may be unreadable before the run stops", 100)
    SIZES: ClassVar = "what the model sees"
    n_frames: int = knob("frames per video, spread evenly; 0: the checkpoint's, or 32", 0)
    max_pixels: int = knob("pixels per frame at most; 0: the checkpoint's", 602112, toy=0)
    max_length: int = knob("tokens of a pack; the pairs of a video are split over several", 16384)
    LOSS: ClassVar = "what is minimised"
    objective: Literal["dpo", "ipo", "sft"] = knob("sft: the chosen alone (paper, T. 1)", "dpo")
    beta: float = knob("DPO temperature (TEMPLE: 0.1); larger stays nearer the start", 0.1, toy=3.0)
    label_smoothing: float = knob("dpo: probability that a pair is the wrong way round", 0.0)
    sft_weight: float = knob("dpo, ipo: weight of an added sft loss (RPO)", 0.0)
    mode_weights: list[float] = knob(f"weights of the losses of {', '.join(MODES)}", [1.0] * 3)
    STEPS: ClassVar = "how it is minimised (as in TEMPLE: the paper's settings are not public)"
    epochs: int = knob("passes over the pairs", 1)
    batch_pairs: int = knob("pairs per update at least, over all processes", 16)
    lr: float = knob("peak learning rate of AdamW, for a 7B", 5e-6, toy=5e-4)
    warmup: float = knob("share of updates in which the rate rises; then a cosine", 0.05)
    max_grad_norm: float = knob("gradients are clipped to this norm", 1.0)
    lora_rank: int = knob("of the adapter on the language model's linears; 0: tune all", 32, toy=16)
    lora_alpha: int = knob("the adapter's output is scaled by alpha / rank", 64, toy=32)
    seed: int = knob("of the adapter and of the order of the pairs", 0)
    RUN: ClassVar = "the run"
    out: Path = knob("run folder; one with a finished run is refused", Path("out/dpo"))
    resume: bool = knob("go on from the newest checkpoint in --out, if there is one", False)
    dry_run: bool = knob("say what would be done, what it would take, and stop", False)
    save_every: int = knob("updates between two checkpoints", 50)
    keep_checkpoints: int = knob("how many, the newest", 2)
    eval_every: int = knob("updates between two scorings of the held-out pairs", 50)
    shard: bool = knob("slice weights and moments over the processes (FSDP2)", False)
    dtype: Literal["float32", "bfloat16"] = knob("of the forward pass", "bfloat16", toy="float32")
    checkpointing: bool = knob("recompute activations in backward: less memory", True, toy=False)
    workers: int = knob("processes that decode ahead of the model", 2)
    device: str = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")


def main(config):
    result = config.out / ("adapter" if config.lora_rank else "model")
    device = ranks.start(config.device)
    groups = by_video(open_pairs(config.pairs, config.mode, config.video_root, ranks.rank() == 0))
    config.model = toy.resolved(config.model)  # only now: without pairs it need not be trained
    if config.dry_run:
        check_config(config)
        return training(config, groups)
    open_run(config)
    seed_all(config.seed)
    vlm, policy = load_policy(config, device)
    n_frames = config.n_frames or vlm.processor.n_frames
    if ranks.rank() == 0:
        write_config(config.out, config, frames_used=n_frames, processes=ranks.size())
    read = partial(read_frames, sample=partial(uniform, n=n_frames), fit=vlm.processor.family.fit)
    skipped = Skipped(config.out / "skipped.jsonl", config.max_skipped, config.resume)
    loader = PackLoader(vlm.processor, read, config.max_length, config.workers, skipped)
    cache = open_cache(config, vlm, n_frames)
    with adapter_off(vlm.model), torch.no_grad():  # the reference: the model before training
        reference, costs = reference_logps(cache, groups, loader, policy)
    skipped.check()
    groups = [group for group in groups if group.video in costs]
    said = "stopped by SIGTERM; the same command with --resume goes on"
    if train(config, policy, groups, reference, costs, loader, result):
        save_trained(result, policy, config.model, config.dtype)
        said = f"wrote {result}; next: evaluate.py --{result.name} {result}"
        said += ", --model as here" if config.lora_rank else ""
    if ranks.rank() == 0:
        print(said)


def train(config, policy, groups, reference, costs, loader, result):
    """fetch -> score -> loss -> backward -> clip and step -> log, once an update.

    groups: list of VideoPairs. reference, costs: of reference_logps. result: the folder to write;
    the best held-out weights go into RESULT-best. Returns whether the run came to its end.
    """
    groups, held_out = hold_out(groups, config.holdout, config.seed)
    updates = plan(groups, config.epochs, config.batch_pairs, config.seed)
    shares = [ranks.balance(update, [costs[groups[i].video] for i in update]) for update in updates]
    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, betas=(0.9, 0.95), weight_decay=0.0)
    checkpoints = Checkpoints(config, fingerprint(groups, updates, held_out, reference))
    done = checkpoints.load(policy, optimizer) if config.resume else 0
    log = Log(config.out / "metrics.jsonl", done, len(updates))
    ahead = loader.packs([groups[i] for share in shares[done:] for i in share])
    policy.train()
    with ranks.sigterm() as sigterm, closing(ahead) as packs:
        for step, share in enumerate(shares[done:], start=done + 1):
            start = time.perf_counter()
            batch = list(chain.from_iterable(islice(packs, len(share))))
            waited = time.perf_counter() - start  # for videos to be decoded
            counts = Counter(ranks.gather([mode for item in batch for mode in item.modes()]))
            rows = []
            for item in ranks.pad(batch, loader.idle):
                logps = policy(item.pack)[item.where]  # (2B,) nats: B chosen, then B rejected
                loss, more = pack_loss(config, item, logps, reference, counts)
                (loss * ranks.size()).backward()  # DDP and FSDP2 divide by it
                rows += more
            rows = ranks.gather(rows)
            loader.skipped.check()
            if not rows:
                continue  # no video could be read; the next update saves, scores and stops
            if not optimizer.state:  # nothing is trained yet
                check_start(rows, config.beta, config.dtype)
            grad_norm = gradient_norm(optimizer)
            if wrong := not_numbers(rows, grad_norm):
                checkpoints.stop(step - 1, policy, optimizer, wrong)
            lr = learning_rate(step, len(updates), config.lr, config.warmup)
            clip_and_step(optimizer, grad_norm, lr, config.max_grad_norm)
            metrics = {"step": step, "pairs": len(rows), **summarise(rows)}
            metrics |= {"lr": lr, "grad_norm": grad_norm.item()}
            metrics |= {"seconds": time.perf_counter() - start, "seconds_waiting": waited}
            if held_out and (step % config.eval_every == 0 or step == len(updates)):
                found, wrong = held_out_metrics(config, policy, held_out, reference, loader)
                metrics |= found
                if wrong:
                    checkpoints.stop(step, policy, optimizer, f"of the held-out pairs, {wrong}")
                if log.is_best(metrics):
                    save_trained(f"{result}-best", policy, config.model, config.dtype)
            log.write(metrics)
            stopped = any(ranks.gather([sigterm.is_set()]))
            if stopped or step % config.save_every == 0 or step == len(updates):
                checkpoints.save(step, policy, optimizer)
            if stopped:
                return False
    return True


if __name__ == "__main__":
    main(parse(TrainConfig))
    ranks.stop()
