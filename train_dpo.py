"""Align a Video-LLM with direct preference optimization on pairs.jsonl.

    torchrun train_dpo.py                                        # the toy world, on a CPU
    torchrun --nproc_per_node 8 train_dpo.py --model Qwen/Qwen2.5-VL-7B-Instruct \\
        --pairs out/pairs/pairs.jsonl --out out/dpo-7b

Writes config.json, metrics.jsonl and adapter/ (in PEFT's format) into --out; videos that cannot be
read are named in skipped.jsonl. The reference's log-probabilities are computed once and kept next
to the pairs.
"""

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch.nn.utils import clip_grad_norm_

from pasta import ranks, toy
from pasta.config import knob, package_versions, parse, seed_all, write_config
from pasta.dpo import check_start, dpo_loss, pair_rows, pair_weights, sft_loss, summarise
from pasta.lora import adapter_off, adapter_parameters, add_lora, save_adapter
from pasta.pairs import MODES, Appender, read_pairs
from pasta.policy import Policy
from pasta.reference import ReferenceCache, reference_logps
from pasta.schedule import learning_rate, log_line
from pasta.updates import by_video, plan, read_packs
from pasta.video import read_frames, uniform
from pasta.vlm import checkpoint_activations, load_vlm, model_setting


@dataclass
class TrainConfig:
    """Align a Video-LLM with direct preference optimization on preference pairs."""

    model: str = knob("model folder or hub id", "Qwen/Qwen2.5-VL-7B-Instruct", toy.model_folder)
    pairs: Path = knob("pairs.jsonl, of make_pairs.py or anybody's", Path("out/pairs/pairs.jsonl"))
    videos: Path | None = knob("folder of relative video paths; None: that of the pairs", None)
    mode: Literal[MODES] | None = knob("mode of pairs that name none, as anybody else's", None)
    out: Path = knob("run folder; one with a finished run is refused", Path("out/dpo"))
    n_frames: int = knob("frames per video, spread evenly; 0: the checkpoint's, or 32", 0)
    max_pixels: int = knob("pixels per frame at most; 0: the checkpoint's", 602112, toy=0)
    objective: Literal["dpo", "sft"] = knob("sft: the chosen responses alone (paper, T. 1)", "dpo")
    beta: float = knob("DPO temperature, dimensionless; larger stays nearer the reference", 0.1)
    label_smoothing: float = knob("probability that a pair is the wrong way round", 0.0)
    mode_weights: list[float] = knob(f"weights of the losses of {', '.join(MODES)}", [1.0] * 3)
    epochs: int = knob("passes over the pairs", 1)
    batch_pairs: int = knob("pairs per update, over all processes", 16)
    lr: float = knob("peak learning rate of AdamW (5e-6: TEMPLE's for the 7B)", 5e-6, toy=5e-4)
    warmup: float = knob("share of updates in which the rate rises; then a cosine", 0.05)
    max_grad_norm: float = knob("gradients are clipped to this norm", 1.0)
    lora_rank: int = knob("rank of the adapter on the language model's linears", 32, toy=16)
    lora_alpha: int = knob("the adapter's output is scaled by lora_alpha / lora_rank", 64, toy=32)
    dtype: Literal["float32", "bfloat16"] = knob("of the base model", "bfloat16", toy="float32")
    checkpointing: bool = knob("recompute activations in backward: less memory", True, toy=False)
    workers: int = knob("processes that decode ahead of the model", 2)
    seed: int = knob("of the adapter and of the order of the pairs", 0)
    device: str = knob("cpu or cuda", "cuda" if torch.cuda.is_available() else "cpu")


def main(config):
    if (config.out / "adapter").exists():
        raise SystemExit(f"{config.out} holds a finished run; choose another --out, or remove it")
    if not config.pairs.is_file():
        raise SystemExit(f"there is no {config.pairs}; `python make_pairs.py` makes it")
    if len(config.mode_weights) != len(MODES):
        raise SystemExit(f"--mode_weights takes {len(MODES)} numbers: of {', '.join(MODES)}")
    groups = by_video(read_pairs(config.pairs, config.mode, config.videos))
    device = ranks.start(config.device)
    seed_all(config.seed)
    vlm = load_vlm(config.model, config.dtype, device, config.max_pixels)
    add_lora(vlm.model, rank=config.lora_rank, alpha=config.lora_alpha, seed=config.seed)
    if config.checkpointing:
        checkpoint_activations(vlm.model)
    policy = Policy(vlm, amp=config.dtype == "bfloat16")
    n_frames = config.n_frames or vlm.processor.n_frames
    if ranks.rank() == 0:
        for old in (config.out / "metrics.jsonl", *config.out.glob("skipped*.jsonl")):
            old.unlink(missing_ok=True)  # of a run that was stopped
        write_config(config.out, config, frames_used=n_frames, processes=ranks.size())

    sample, fit = partial(uniform, n=n_frames), vlm.processor.family.fit
    packs_of = partial(
        read_packs,
        processor=vlm.processor,
        read=partial(read_frames, sample=sample, fit=fit),
        workers=config.workers,
        skipped=ranks.named(config.out / "skipped.jsonl"),
    )
    setting = {"n_frames": n_frames, "dtype": config.dtype, "device": vlm.model.device.type}
    setting |= model_setting(config.model, vlm.processor) | {"versions": package_versions()}
    cache = ReferenceCache(config.pairs.with_name("reference.jsonl"), setting)
    with adapter_off(vlm.model), torch.no_grad():
        reference = reference_logps(cache, groups, packs_of, policy)
    train(config, policy, [g for g in groups if g.video in reference], reference, packs_of)
    if ranks.rank() == 0:
        save_adapter(config.out / "adapter", vlm.model, config.model)
        print(f"wrote {config.out / 'adapter'}; next: python evaluate.py")
    ranks.stop()


def train(config, policy, groups, reference, packs_of):
    """fetch -> score -> loss -> backward -> clip and step -> log, once an update.

    groups: list of VideoPairs. reference: video -> (2n,) logps. packs_of: as in reference_logps.
    """
    updates = plan(groups, config.epochs, config.batch_pairs, config.seed)
    shares = [ranks.share(update) for update in updates]
    packs = packs_of([groups[i] for share in shares for i in share])
    parameters = adapter_parameters(policy)
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.95), weight_decay=0.0)
    policy.train()
    for step, share in enumerate(shares, start=1):
        start = time.perf_counter()
        batch = [item for item in islice(packs, len(share)) if item[1] is not None]
        waited = time.perf_counter() - start
        counts = Counter(ranks.gather([pair.mode for group, *_ in batch for pair in group.pairs]))
        rows = []
        for group, pack, where in batch:
            logps, lengths = policy(pack)[where], pack.owner.bincount()[where]  # (2n,) each
            loss, pair_metrics = pack_loss(config, group, logps, lengths, reference, counts)
            loss.backward()
            rows += pair_metrics
        rows = ranks.gather(rows)
        if not rows:
            continue  # no video of this update could be read
        if not optimizer.state:  # nothing is trained yet
            check_start(rows, config.beta, config.dtype)
        ranks.sum_gradients(parameters)
        grad_norm = clip_grad_norm_(parameters, config.max_grad_norm, error_if_nonfinite=True)
        lr = learning_rate(step, len(shares), config.lr, config.warmup)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()
        if ranks.rank() == 0:
            metrics = {"step": step, "pairs": len(rows), **summarise(rows), "lr": lr}
            metrics |= {"grad_norm": grad_norm.item(), "seconds": time.perf_counter() - start}
            metrics["seconds_waiting"] = waited  # for videos to be decoded
            print(log_line(metrics, len(shares)), flush=True)
            with Appender(config.out / "metrics.jsonl") as file:
                file.write(metrics)


def pack_loss(config, group, logps, lengths, reference, counts):
    """The share of one video's pairs in the loss of the update, and the metrics of each pair.

        L = sum_mode w_mode mean(losses of that mode) / sum_mode w_mode       (arXiv 2504.14096)

    logps, lengths: (2n,) nats and tokens, of n chosen, then n rejected responses; `reference` holds
    such logps for every video. counts: mode -> pairs of the whole update.
    """
    chosen, rejected = logps.chunk(2)  # (n,) each
    reference_chosen, reference_rejected = reference[group.video].to(logps.device).chunk(2)
    losses, chosen_rewards, rejected_rewards = dpo_loss(
        chosen, rejected, reference_chosen, reference_rejected, config.beta, config.label_smoothing
    )
    if config.objective == "sft":
        losses = sft_loss(chosen, lengths.chunk(2)[0].to(logps.device))
    modes = [pair.mode for pair in group.pairs]
    mode_weights = dict(zip(MODES, config.mode_weights, strict=True))
    weights = pair_weights(modes, counts, mode_weights).to(logps.device)  # (n,)
    rows = pair_rows(modes, losses, chosen_rewards, rejected_rewards, chosen, rejected)
    return (weights * losses).sum(), rows


if __name__ == "__main__":
    main(parse(TrainConfig))
