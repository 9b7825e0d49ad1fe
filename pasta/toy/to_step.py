"""The second half of docs/walkthrough.md: from a packed row to the optimizer's steps.

Cells as in to_pack.py.
"""

import json
from collections import Counter
from math import exp, log
from types import SimpleNamespace

import torch

from pasta.attention import dense_mask
from pasta.dpo import check_start, dpo_loss, pack_loss, summarise
from pasta.lora import adapted, adapter_off, add_lora
from pasta.packs import pack_responses
from pasta.policy import Policy, response_logps
from pasta.reference import open_cache, reference_logps
from pasta.schedule import clip_and_step, gradient_norm, learning_rate
from pasta.toy.drawings import two_columns
from pasta.updates import PackedPairs, PackLoader, Skipped


def scored(vlm, processor, pack):
    """The policy: from a row to log-probabilities.

    `pasta/policy.py`: `Policy.forward`, `response_logps`

    One forward: the vision tower turns pixels into the embeddings of the video tokens, the
    language model reads the row, and logits are made at `keep` alone, for a vocabulary is large.
    The log softmax at each target is summed over its response. That is log pi(response | video,
    query), in nats (natural logarithms); of longer responses it is lower. An untrained model finds
    all V tokens about equally likely, so each number is near -ln V.
    """
    policy = Policy(vlm)
    seen = []  # what the model gives inside
    watch = vlm.model.register_forward_hook(lambda *given: seen.append(given[-1].logits[0]))
    logps = policy(pack)
    watch.remove()
    print("logits (R, V):", tuple(seen[0].shape), "  logps (S,):", tuple(logps.shape))
    print(f"-ln V = {-log(seen[0].shape[1]):.3f}\n")

    n = len(pack.targets)  # with each token the owner of itself, they come one by one
    each = response_logps(seen[0], pack.targets, torch.arange(n), n)
    print(two_columns(processor, pack, each))
    print(f"sum, chosen: {logps[0]:.3f}   sum, rejected: {logps[1]:.3f}")
    before = logps  # to compare with below
    return {"policy": policy, "before": before}


def alone(processor, inputs, group, policy, before):
    """Until the responses differ, their numbers are the same: a token sees nothing of what comes
    after it. These cancel in the difference of the two, which is all that the loss sees (station
    9); a pair teaches from where its responses part.

    Does packing change anything? Each response once more, in a row of its own with an ordinary
    causal mask, as one would write it first:
    """
    for text, shared in zip(group.texts(), before, strict=True):
        row, _ = pack_responses(processor, inputs, [text])
        plain = policy(row, mask=dense_mask((len(row.input_ids),)))  # one piece: plain causal
        print(text[1], "  apart by less than 1e-4:", abs(plain - shared).item() < 1e-4)


def adapt(vlm, policy, pack, before):
    """The reference: the same model with its adapter off.

    `pasta/lora.py`: `add_lora`, `adapter_off`

    DPO compares the policy with a frozen copy of how it began. A second model would take the
    memory twice, so what is trained is an adapter: beside each linear layer W of the language
    model stand two thin matrices, and y = W x + (alpha / rank) B A x. B begins at zero: a fresh
    adapter changes nothing, and switched off the model is the reference.
    """
    names = add_lora(vlm.model, rank=8, alpha=16, seed=0)
    print(len(names), "layers; those of the first block:")
    print(" ".join(name.split("layers.0.")[1] for name in names if "layers.0." in name))
    layer = adapted(vlm.model)[0][1]
    print("A (rank, in):", tuple(layer.lora_A.shape), "  B (out, rank):", tuple(layer.lora_B.shape))
    largest = max(layer.lora_B.abs().max().item() for _, layer in adapted(vlm.model))
    print("largest number in any B:", largest)

    with torch.no_grad():
        print("adapter on, the same logps:", torch.equal(policy(pack), before))
        with adapter_off(vlm.model):
            print("adapter off, the same logps:", torch.equal(policy(pack), before))


def cached(folder, vlm, processor, read, group, policy):
    """`pasta/reference.py`: `open_cache`, `reference_logps`, `ReferenceCache.key`
    · `pasta/updates.py`: `PackLoader`

    The reference never changes, so each of its numbers is computed once, before training, and kept
    beside the pairs. The key is a hash of all that can change it: the bytes of the video and of
    the weights, query, response, frames, versions. `tokens` are the lengths of prefix and segment.
    """
    config = SimpleNamespace(model=vlm.name, pairs=folder / "pairs.jsonl")
    config.shard, config.dtype = False, "float32"
    skipped = Skipped(folder / "skipped.jsonl", limit=0)
    loader = PackLoader(processor, read, max_length=16384, workers=0, skipped=skipped)
    cache = open_cache(config, vlm, n_frames=12)
    with adapter_off(vlm.model), torch.no_grad():
        reference, _ = reference_logps(cache, [group], loader, policy)

    for line in (folder / "reference.jsonl").read_text().splitlines():
        row = json.loads(line)
        print(f"key of {len(row['key'])} digits: logps {row['logps']:.3f}, tokens {row['tokens']}")
    return {"reference": reference}


def compared(policy, pack, where, group, reference):
    """The loss: ln 2 before anything is learnt.

    `pasta/dpo.py`: `dpo_loss`

        logratio = log pi(response) - log pi_ref(response)      how far the policy has moved
        reward   = beta * logratio
        margin   = reward of chosen - reward of rejected
        loss     = -log sigmoid(margin)

    The loss asks for one thing: that chosen gains on rejected, from wherever the reference has
    them. Which of the two it finds likelier does not matter. A larger beta reaches the same loss
    with a smaller move, and so keeps the policy nearer its reference.
    """
    logps = policy(pack)[where]  # chosen before rejected
    known = torch.tensor([reference[group.video, *text] for text in group.texts()])
    for name, ours, theirs in zip(("chosen  ", "rejected"), logps, known, strict=True):
        print(f"logratio of {name} {ours:.3f} - {theirs:.3f} = {ours - theirs:z.3f}")

    losses, *rewards = dpo_loss(logps[:1], logps[1:], known[:1], known[1:], beta=0.1)
    margin = (rewards[0] - rewards[1]).item()
    print(f"margin {margin:z.4f}   loss {losses.item():.4f}   ln 2 = {log(2):.4f}")
    return {"known": known}


def updated(policy, pack, where, group, reference):
    """`pasta/dpo.py`: `pack_loss`, `check_start`

    Training calls the same for all pairs of a pack, weighted by mode, and makes sure of the ln 2.
    A policy that differs from its reference before training has dropout, a stale cache or another
    type of numbers somewhere; `check_start` stops the run then, and says nothing here.
    """
    config = SimpleNamespace(objective="dpo", beta=0.1, label_smoothing=0.0, sft_weight=0.0)
    config.mode_weights = [1.0, 1.0, 1.0]
    item = PackedPairs(group, pack, where)
    counts = Counter(item.modes())  # of all pairs of the update; here there is one

    logps = policy(item.pack)[item.where]
    logps.retain_grad()  # only to look at it below
    loss, rows = pack_loss(config, item, logps, reference, counts)
    check_start(rows, config.beta, "float32")
    print(f"loss {loss.item():.4f}   of {dict(counts)} pairs")
    return {"config": config, "item": item, "counts": counts, "logps": logps, "loss": loss}


def derived(vlm, loss, logps):
    """The gradient.

    By each of the two logps the derivative of the loss has the size beta * sigmoid(-margin): half
    of beta at margin 0, less and less as the margin grows. It pushes chosen up and rejected down.
    From there it goes back through the language model, and into the adapter alone.
    """
    loss.backward()
    print("d loss / d logps:", ", ".join(f"{value:+.4f}" for value in logps.grad))

    named = dict(vlm.model.named_parameters())
    trained = {name: p for name, p in named.items() if p.grad is not None}
    print("with a gradient:", dict(Counter(name.rsplit(".", 1)[1] for name in trained)))
    print("numbers in them:", sum(p.numel() for p in trained.values()))
    print("numbers in all: ", sum(p.numel() for p in named.values()))
    return {"trained": trained}


def normed(trained):
    """`pasta/schedule.py`: `gradient_norm`

    Behind a B of zeros A moves nothing: at the first step its gradient is zero, and B alone moves.
    """
    optimizer = torch.optim.AdamW(trained.values(), betas=(0.9, 0.95), weight_decay=0.0)
    for matrix in ("lora_A", "lora_B"):
        largest = max(p.grad.abs().max().item() for name, p in trained.items() if matrix in name)
        print(f"{matrix}: largest gradient {largest:.4f}")
    norm = gradient_norm(optimizer)
    print(f"norm of all {norm:.4f}")
    return {"optimizer": optimizer, "norm": norm}


def stepped(policy, optimizer, norm, known, config, item, reference, counts):
    """One step.

    `pasta/schedule.py`: `learning_rate`, `clip_and_step`

    The gradient is clipped to a norm of 1, AdamW steps, the gradient is cleared. Then the same pair
    is scored again. The margin must be above 0 now and the loss below ln 2. Chosen may still be the
    less likely of the two: what counts is how far each has moved from the reference.
    """
    lr = learning_rate(1, 8, peak=1e-3, warmup=0.25)  # step 1 of 8
    clip_and_step(optimizer, norm, lr, max_norm=1.0)

    logps = policy(item.pack)[item.where]
    loss, rows = pack_loss(config, item, logps, reference, counts)
    metrics = summarise(rows)
    for name, ours, theirs in zip(("chosen", "rejected"), logps, known, strict=True):
        reward = metrics[f"rewards/{name}"]
        print(f"reward of {name}: 0.1 * ({ours:.3f} - {theirs:.3f}) = {reward:.4f}")
    margin = metrics["rewards/margins"]
    print(f"margin {margin:.4f}   loss {loss.item():.4f}")
    print(f"by hand: -log sigmoid(margin) = {log(1 + exp(-margin)):.4f}")


def repeated(policy, optimizer, config, item, reference, counts):
    """More steps.

    It goes on like this, in training with other pairs each time. One pair alone, as here, is soon
    learnt by heart. A line tells what there is before its step, so the first is the end of the last
    station.
    """
    print("step    loss  margin  reward of chosen  of rejected")
    for step in range(2, 9):
        logps = policy(item.pack)[item.where]
        loss, rows = pack_loss(config, item, logps, reference, counts)
        loss.backward()
        lr = learning_rate(step, 8, peak=1e-3, warmup=0.25)
        clip_and_step(optimizer, gradient_norm(optimizer), lr, max_norm=1.0)
        m = summarise(rows)
        print(f"{step:4d}  {m['loss']:6.4f} {m['rewards/margins']:7.4f}", end="")
        print(f"{m['rewards/chosen']:18.4f} {m['rewards/rejected']:12.4f}")


def unchanged(vlm, policy, pack, before):
    """The reward of chosen need not rise: with many pairs both may fall, if that of rejected falls
    further. And the reference is where it was, bit for bit:
    """
    with torch.no_grad(), adapter_off(vlm.model):
        print("adapter off, the same logps as at first:", torch.equal(policy(pack), before))


CELLS = (
    (scored, alone),
    (adapt, cached),
    (compared, updated),
    (derived, normed),
    (stepped,),
    (repeated, unchanged),
)
