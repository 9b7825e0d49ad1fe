"""The Qwen families' towers, which attend in few calls, against transformers' loop over windows.

python -m pytest -q tests/test_vision.py
"""

import pytest
import torch
from rounding import close
from test_attention import written_out
from tiny_models import make_tiny

import pasta.models.vision
from pasta.models.family import VideoInputs
from pasta.models.load import load_vlm
from pasta.models.vision import attend_in_windows, video_features

# 6 x 10 patches are 3 x 5 tokens. Qwen2.5-VL's windows of 2 x 2 tokens, 4 x 4 patches, are six in
# a grid, of 16, 16, 8, 8, 8 and 4 patches. In all other blocks a window is a grid.
WINDOWS = {  # family: for each block of its tower, the windows in a grid, and their sizes
    "Qwen2-VL": ([1, 1], [1, 1]),
    "Qwen2.5-VL": ([6, 1], [3, 1]),
    "Qwen3-VL": ([1, 1], [1, 1]),
}
every_qwen = pytest.mark.parametrize("name", WINDOWS)


@pytest.fixture
def vlm(tmp_path, name):
    return load_vlm(make_tiny(tmp_path / name, name))


def features(vlm, n_frames):
    """Of a random video: the tokens for the language model, and Qwen3-VL's for its layers."""
    grid, conv = (n_frames // 2, 6, 10), vlm.model.base_model.visual.patch_embed.proj
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(grid[0] * 60, conv.weight[0].numel(), generator=generator)
    inputs = VideoInputs(pixels, grid, 1.0, grid[0] * 15)
    found = video_features(vlm.model, vlm.processor.family, [inputs])["video"]
    return [torch.cat([*level]) for level in (found.pooler_output, *found.deepstack_features)]


@every_qwen
def test_features_are_those_of_transformers_loop_bit_for_bit(vlm):
    ours = features(vlm, 10)
    vlm.model.set_attn_implementation({"vision_config": "sdpa"})  # transformers' loop
    assert all(torch.equal(*pair) for pair in zip(ours, features(vlm, 10), strict=True))


@every_qwen
@pytest.mark.parametrize("n_frames", [4, 16])
def test_windows_of_one_size_are_one_call_and_not_one_each(vlm, name, n_frames, monkeypatch):
    calls, real = [], torch.nn.functional.scaled_dot_product_attention

    def count(*args, **kwargs):
        calls[-1] += 1
        return real(*args, **kwargs)

    for module in (pasta.models.vision, torch.nn.functional):
        monkeypatch.setattr(module, "scaled_dot_product_attention", count)
    for block in vlm.model.base_model.visual.blocks:
        block.register_forward_pre_hook(lambda *_: calls.append(0))
    features(vlm, n_frames)
    vlm.model.set_attn_implementation({"vision_config": "sdpa"})  # transformers' loop
    features(vlm, n_frames)
    windows, sizes = WINDOWS[name]
    assert calls == [*sizes, *(n * n_frames // 2 for n in windows)]


def test_a_window_attends_to_itself_alone():
    tensors = torch.randn(3, 1, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    ends = torch.tensor([0, 3, 4, 7, 9], dtype=torch.int32)
    out, _ = attend_in_windows(None, *tensors, scaling=0.3, cu_seq_lens_q=ends)
    windows = zip(*(x.split((3, 1, 3, 2), dim=2) for x in tensors), strict=True)
    assert close(out, torch.cat([written_out(*x, 1, 0.3) for x in windows], dim=1))
