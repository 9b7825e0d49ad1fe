"""Align a Video-LLM with direct preference optimization on pairs.jsonl.

    torchrun train_dpo.py                                        # the toy model, on a CPU
    torchrun --nproc_per_node 8 train_dpo.py --model Qwen/Qwen2.5-VL-7B-Instruct \\
        --pairs out/pairs/pairs.jsonl --out out/dpo-7b

Writes config.json, metrics.jsonl, checkpoints/, skipped.jsonl and adapter/ (model/ with
--lora_rank 0) into --out, and the reference's log-probabilities, once, next to the pairs.
For the toy model, other defaults hold: see the end of --help.
"""

import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))  # with PYTHONSAFEPATH it is not there

from pasta import toy
from pasta.datasets.read import open_pairs
from pasta.lora import adapter_off
from pasta.packs import by_video
from pasta.pairs import MODES
from pasta.policy import load_policy
from pasta.reference import open_cache, reference_logps
from pasta.run import flags, ranks
from pasta.run.command import command_line, to_paste, typed
from pasta.run.config import knob, parse, write_config
from pasta.sampling import uniform
from pasta.tools.dry_run import training
from pasta.training import loop
from pasta.training.checkpoint import Checkpoints, open_run, save_trained
from pasta.training.plan import PackLoader, Plan, Skipped, check_config, without_own_tokens
from pasta.video import read_frames


@dataclass
class TrainConfig:
    DATA: ClassVar = "model and pairs"
    model: str = knob("model folder or hub id", "Qwen/Qwen2.5-VL-7B-Instruct", toy="toy")
    pairs: Path = knob("preference pairs, a .jsonl file", Path("out/pairs/pairs.jsonl"))
    video_root: Path | None = knob("root of relative paths (default: folder of --pairs)", None)
    mode: Literal[MODES] | None = knob("mode of pairs that have none (default: other)", None)
    holdout: flags.Share = knob("share of the videos to hold out; their pairs are only scored", 0.0)
    max_skipped: flags.Limit = knob("stop if more videos than this cannot be read", 100)
    SIZES: ClassVar = "what the model sees"
    n_frames: flags.Limit = knob("frames per video, spread evenly; 0: the checkpoint's, or 32", 0)
    max_pixels: flags.Limit = knob("pixels per frame, at most; 0: the checkpoint's", 602112, toy=0)
    max_length: flags.Count = knob("maximum tokens per pack; a video can have more packs", 16384)
    LOSS: ClassVar = "what is minimised"
    objective: Literal["dpo", "ipo", "sft"] = knob("loss; sft uses only chosen responses", "dpo")
    beta: flags.Positive = knob("DPO's beta; larger: closer to the reference", 0.1, toy=3.0)
    label_smoothing: flags.Share = knob("dpo: assumed probability of swapped labels", 0.0)
    sft_weight: flags.Weight = knob("dpo, ipo: weight of an added sft loss (RPO)", 0.0)
    mode_weights: list[flags.Weight] = knob(f"loss weights: {', '.join(MODES)}", [1.0] * len(MODES))
    STEPS: ClassVar = "how it is minimised (as in TEMPLE: the paper's settings are not public)"
    epochs: flags.Epochs = knob("passes over the pairs", 1)
    batch_pairs: flags.Count = knob("minimum pairs per update, over all ranks", 16)
    lr: flags.Positive = knob("peak learning rate of AdamW, for a 7B model", 5e-6, toy=5e-4)
    warmup: flags.Share = knob("share of updates with linear warmup; then cosine decay", 0.05)
    max_grad_norm: flags.Positive = knob("the gradient is clipped to this norm", 1.0)
    lora_rank: flags.Rank = knob("LoRA rank; 0: full fine-tuning of the language model", 32, toy=16)
    lora_alpha: flags.Count = knob("LoRA alpha; the adapter is scaled by alpha / rank", 64, toy=32)
    seed: flags.Seed = knob("seed of the adapter and of the order of the pairs", 0)
    RUN: ClassVar = "the run"
    out: Path = knob("run folder; must not contain a finished run", Path("out/dpo"))
    resume: bool = knob("continue from the newest checkpoint in --out, if any", False)
    dry_run: bool = knob("print the work and its cost, then stop", False)
    save_every: flags.Count = knob("updates between two checkpoints", 50)
    keep_checkpoints: flags.Count = knob("how many of the newest to keep", 2)
    eval_every: flags.Count = knob("updates between two evaluations on held-out pairs", 50)
    shard: bool = knob("shard weights and AdamW moments over the ranks (FSDP2)", False)
    dtype: Literal["float32", "bfloat16"] = knob("dtype of forward", "bfloat16", toy="float32")
    checkpointing: bool = knob("activation checkpointing: less memory", True, toy=False)
    batch_packs: flags.Count = knob("packs per forward pass: more need more memory", 1, toy=16)
    workers: flags.Threads = knob("threads that prefetch videos", flags.WORKERS)
    device: flags.Device = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")


def main(config):
    check_config(config)
    device = ranks.start(config.device)
    if config.pairs.is_dir():
        config.pairs /= "pairs.jsonl"
    pairs = open_pairs(config.pairs, config.mode, config.video_root)
    check_responder(config, pairs)
    groups, named = by_video(pairs), None if config.model == "toy" else config.model
    config.model = toy.resolved(config.model)  # not earlier: a run without pairs needs no model
    if config.dry_run:
        return training(config, groups) if ranks.rank() == 0 else None
    open_run(config)
    vlm, policy = load_policy(config, device)
    n_frames = config.n_frames or vlm.processor.n_frames
    facts = {"frames_used": n_frames, "processes": ranks.size()}
    facts["pairs_read"] = Counter(pair.mode for pair in pairs)
    if ranks.rank() == 0 and not (config.out / "config.json").exists():  # else once it is accepted
        write_config(config.out, config, **facts)
    read = partial(read_frames, sample=partial(uniform, n=n_frames), fit=vlm.processor.family.fit)
    skipped = Skipped(config.out / "skipped.jsonl", config.max_skipped, config.resume)
    groups = without_own_tokens(groups, vlm.processor, skipped)
    loader = PackLoader(config, vlm.processor, read, skipped)
    cache = open_cache(config, vlm, n_frames)
    with adapter_off(vlm.model), torch.no_grad():  # the reference: the model before training
        reference, tokens = reference_logps(cache, groups, loader, policy)
    skipped.check()
    result = config.out / ("adapter" if config.lora_rank else "model")
    if not train(config, policy, Plan(config, groups, reference, tokens, loader), result, facts):
        return ranks.say("stopped by SIGTERM; rerun with --resume to continue")
    save_trained(result, policy, config.model, config.dtype)
    in_toy = Path(pairs[0].video).resolve().is_relative_to(toy.ROOT.resolve())
    flags = {"adapter": result, "model": named, "data": "toy" if named and in_toy else None}
    if not config.lora_rank:  # only the shipped toy model has the toy benchmark as its default
        flags = {"model": result, "data": "toy" if in_toy or not named else None}
    flags |= typed("n_frames", "max_pixels", "dtype", "device")
    ranks.say(f"wrote {result}; next: {to_paste('evaluate.py', **flags)}")


def check_responder(config, pairs):
    """Refuse to train the toy model, unnamed, on another model's pairs; name off-policy pairs."""
    made_by = Counter(str(pair.recipe.get("responder", config.model)) for pair in pairs)
    [(name, n)] = made_by.most_common(1)
    model = name.partition("#")[2] if "://" in name else name  # "" of a server: not known
    text = f"{n:,} of {len(pairs):,} pairs in {config.pairs} are answers of {name}"
    if toy.is_toy(name) and toy.is_toy(config.model):
        return
    if config.model == "toy":
        command = to_paste(*sys.argv, model=model or "MODEL")
        raise SystemExit(f"{text}; without --model the toy is trained on them; next: {command}")
    if model not in ("", config.model):
        ranks.say(f"{text}; {config.model} is trained on them, off-policy")


def train(config, policy, plan, result, facts):
    """fetch -> score -> loss -> backward -> clip and step -> log, once an update.

    The best held-out weights go to RESULT-best. Returns whether all updates were made.
    """
    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, betas=(0.9, 0.95), weight_decay=0.0)
    checkpoints = Checkpoints(config, plan.fingerprint)
    done, n_updates = checkpoints.load(policy, optimizer) if config.resume else 0, len(plan.shares)
    log = loop.Log(config.out / "metrics.jsonl", done, n_updates)
    if ranks.rank() == 0:
        write_config(config.out, config, **facts)
    policy.train()
    with ranks.sigterm() as sigterm, closing(plan.batches(done)) as batches:
        for step in range(done + 1, n_updates + 1):
            start = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - start  # for videos to be decoded
            counts = Counter(ranks.gather([mode for item in batch for mode in item.modes()]))
            rows = []
            for items in plan.loader.batched(ranks.pad(batch, plan.loader.dummy)):
                loss, more = loop.packs_loss(config, policy, plan, items, counts)
                (loss * ranks.size()).backward()  # DDP and FSDP2 divide by it
                rows += more
            rows = ranks.gather(rows)
            plan.loader.skipped.check()
            if not rows:
                continue  # no video can be read; the next update saves, scores and stops
            if not optimizer.state:  # nothing is trained yet
                loop.check_start(rows, config.beta, config.dtype)
            grad_norm = loop.gradient_norm(optimizer)
            if wrong := loop.not_numbers(rows, grad_norm):
                checkpoints.stop(step - 1, policy, optimizer, wrong)
            lr = loop.learning_rate(step, n_updates, config.lr, config.warmup)
            loop.clip_and_step(optimizer, grad_norm, lr, config.max_grad_norm)
            metrics = {"step": step, "pairs": len(rows), **loop.summarise(rows)}
            metrics |= {"lr": lr, "grad_norm": grad_norm.item()}
            metrics |= {"seconds": time.perf_counter() - start, "seconds_waiting": waited}
            if plan.held_out and (step % config.eval_every == 0 or step == n_updates):
                means, wrong = loop.held_out_metrics(config, policy, plan)
                metrics |= means
                if wrong:
                    checkpoints.stop(step, policy, optimizer, f"of the held-out pairs, {wrong}")
                if log.is_best(metrics):
                    save_trained(f"{result}-best", policy, config.model, config.dtype)
            log.write(metrics)
            stopped = any(ranks.gather([sigterm.is_set()]))
            if stopped or step % config.save_every == 0 or step == n_updates:
                checkpoints.save(step, policy, optimizer)
            if stopped:
                return False
    return True


if __name__ == "__main__":
    with command_line():
        main(parse(TrainConfig))
        ranks.stop()
