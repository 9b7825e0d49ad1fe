"""Tiny objects that the tests share: a real Qwen2.5-VL with random weights, and its videos."""

import numpy as np
import pytest
import torch

from pasta.toy import world
from pasta.toy.base import make_folder
from pasta.vlm import load_vlm


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """As under torchrun: to share such small products out costs more than it saves."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A model folder like any other; its weights are random."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_folder(folder)
    return folder


@pytest.fixture
def tiny(tiny_folder):
    """A fresh VLM, so that no test sees another's adapter."""
    return load_vlm(tiny_folder)


@pytest.fixture
def tiny_inputs(tiny):
    """Two different videos, prepared."""
    times = np.arange(world.N_FRAMES) / world.FPS
    videos = [world.draw_video(np.random.default_rng(i)) for i in range(2)]
    return [tiny.processor.prepare(world.render(video), times) for video in videos]
