"""Gradient descent in two processes that stay one model, bit for bit.

Each learns from half of every batch, and both from the mean of the two gradients,

    g = (g_0 + g_1) / 2

A sum of two numbers does not depend on their order, so both take the same step: the model is the
same on one core or on many, and on two it is there sooner.

Shapes: N numbers of a vector, which is all gradients of a model in a row, or a loss alone.
"""

import signal
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context

import torch
from tqdm import tqdm


@contextmanager
def one_thread():
    """PyTorch with one thread: the same sums, hence the same model, on any number of cores.

    To share such small products out costs more than it saves.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def other_half(learner, *arguments):
    """Have learner(mean, *arguments) run in a second process beside what is done here.

    Yields this process's own `mean`: vector -> mean of the two that both processes give, (N,)
    float32. Both must call it equally often. Raises RuntimeError when the other ends too early.
    """
    context = get_context("spawn")  # forked, it might find locked what a thread here had locked
    here, there = context.Pipe()
    arguments = (there, learner, arguments)
    process = context.Process(target=learn_there, args=arguments, daemon=True)
    process.start()
    there.close()  # so that the end of either process is the end of the pipe
    try:
        yield partial(mean_of, here, False)
        process.join()
    except (EOFError, ConnectionError) as error:
        raise RuntimeError("the process of the other half ended; its message is above") from error
    finally:
        process.kill()


def learn_there(pipe, learner, arguments):
    """What the second process does; without the first one it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first one hears it, too
    try:
        with one_thread():
            learner(partial(mean_of, pipe, True), *arguments)
    except (EOFError, ConnectionError):
        raise SystemExit(1) from None


def mean_of(pipe, first, vector):
    """The mean of a vector and of the one that the other process gives, (N,) float32.

    first: whether to speak first; both at once would wait for each other, for a pipe holds little.
    """
    if first:
        pipe.send_bytes(vector.numpy().tobytes())
    other = torch.frombuffer(bytearray(pipe.recv_bytes()), dtype=torch.float32)
    if not first:
        pipe.send_bytes(vector.numpy().tobytes())
    return (vector + other) / 2


def learn(model, losses, least, end, peak, text="", mean=lambda vector: vector):
    """AdamW on each loss, with a short warm-up and a linear end.

    losses: yields (loss, how many are left), and `least` of them at least
    end: the last steps, in which the learning rate goes down from its peak to a tenth of it
    text: of the progress bar, if there is to be one
    mean: of `other_half`; alone, what is given is the mean
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
    bar = tqdm(losses, text, least, unit="step", mininterval=1.0, disable=not text)
    for step, (loss, left) in enumerate(bar, start=1):
        rate = peak * min(1, step / 20, 0.1 + left / end)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        loss.backward()
        average([p.grad for p in model.parameters() if p.grad is not None], mean)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def average(grads, mean):
    """Put the mean of both processes' gradients in the place of this one's."""
    both = mean(torch.cat([grad.flatten() for grad in grads]))  # (N,)
    for grad, part in zip(grads, both.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))
