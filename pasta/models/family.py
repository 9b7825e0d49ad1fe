"""What all families share: the Family, a prepared video, its settings, frames to pixels.

Frames become pixels without torchvision, bit for bit as in transformers.
Shapes: F frames, H, W pixels, t, h, w patches (before several are merged into one token), L tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pasta.run.schema import ABSENT, schema_error

STEPS = {  # a preprocessor file that asks for other steps is refused
    "do_resize": True,
    "resample": 3,  # bicubic
    "do_rescale": True,
    "do_normalize": True,
    "do_center_crop": False,
    "cap_pixels_per_frame": False,
}
LARGEST = 2**14  # of a size: with more no frame fits into memory
HUGE = 2**53  # of any other number: a float holds it exactly


@dataclass(frozen=True, eq=False)
class VideoInputs:
    """One video, ready for the vision tower."""

    pixel_values: Tensor  # float32, in the shape that the family's tower takes
    grid: tuple[int, int, int]  # (t, h, w)
    seconds_per_grid: float  # from one of the t grids to the next
    n_tokens: int  # video tokens in the prompt
    times: tuple[float, ...] = ()  # seconds of each grid, for families that write them as text


@dataclass(frozen=True)
class Family:
    """What differs between kinds of Video-LLMs. One object per checkpoint."""

    model_type: str
    placeholder: str | None  # a special token: the chat template's mark of a video; None: no videos
    token: str | None  # the text of one video token, in most families the placeholder
    fit: Callable  # (F, H, W) -> (H, W), the size that frames are resized to
    prepare: Callable  # ((F, H, W, 3) uint8 array, (F,) seconds) -> VideoInputs
    # ((L,) token ids, VideoInputs or None) -> (3, L) int64 time, height, width, or (1, L)
    positions: Callable
    # VideoInputs -> arguments of the model's `get_{encoder}_features`. Videos whose tensors differ
    # only in the first dimension may be concatenated.
    feature_kwargs: Callable
    # VideoInputs -> the text that replaces the placeholder, with a special token at its end
    video_text: Callable | None = None  # None: nothing but `token`, n_tokens times
    windows: bool = False  # the vision tower attends in windows that cu_seqlens names
    encoder: str = "video"  # or "image": what the model takes the frames as
    template: str = ""  # for videos, instead of the checkpoint's chat template
    lead: str = ""  # the blank before an answer, part of its first token
    max_pixels: int = 0  # the caller's bound on the pixels of a frame; 0: none, or without effect

    def expand(self, text, inputs) -> str:
        """The prompt with the text of the video in place of its one placeholder."""
        video = self.video_text(inputs) if self.video_text else self.token * inputs.n_tokens
        return text.replace(self.placeholder, video)


def given_settings(preprocessor, **steps):
    """The entries of a preprocessor file; null is absent. steps: the family's changes of STEPS."""
    given = {name: value for name, value in preprocessor.items() if value is not None}
    parts = ("size", "crop_size", "max_image_size")
    if wrong := schema_error(given, dict.fromkeys(parts, dict | ABSENT)):
        raise ValueError(f"preprocessor config: {wrong}")
    for name, value in (STEPS | steps).items():
        if given.get(name, value) != value:
            raise ValueError(f"preprocessor config: {name} is {given[name]}; expected {value}")
    for part in parts:
        given |= {f"{part}.{name}": value for name, value in given.get(part, {}).items()}
    return {"rescale_factor": 1 / 255} | given  # some released files lack it


def whole(given, *names, least=1, most=LARGEST):
    """{name: setting}. Raises ValueError unless each is an integer from `least` to `most`."""
    for name in names:
        value = given.get(name)
        if type(value) is not int or not least <= value <= most:
            got = f"{value!r:.80}" if name in given else "missing"
            raise ValueError(f"{name} is {got}; expected an integer from {least} to {most}")
    return {name: given[name] for name in names}


def numbers(given, *names):
    """{name: setting}. Raises ValueError unless each is a number above 0, or three for image_*."""
    for name in names:
        value, n = given.get(name), 3 if name.startswith("image_") else 1
        values = value if n == 3 and isinstance(value, list) else [value]
        fits = len(values) == n and all(type(x) in (int, float) and abs(x) < HUGE for x in values)
        if not (fits and (name == "image_mean" or min(values) > 0)):
            expected = "three numbers" if n == 3 else "a number above 0"
            got = f"{value!r:.80}" if name in given else "missing"
            raise ValueError(f"{name} is {got}; expected {expected}")
    return {name: given[name] for name in names}


def checked(frames, timestamps):
    """The timestamps as an array. Raises ValueError for anything that is not a video."""
    seconds = np.asarray(timestamps, dtype=float)
    known = frames.size and frames.shape == (len(seconds), *frames.shape[1:3], 3)
    if not known or frames.dtype != np.uint8 or not (np.diff(seconds) >= 0).all():
        got = f"got {frames.dtype} frames of shape {frames.shape} at {seconds} s"
        raise ValueError(f"{got}; expected uint8 (F, H, W, 3) at F seconds that do not decrease")
    return seconds


def resized(frames, size, mode="bicubic"):
    """(F, H, W, 3) uint8 array to (F, 3, *size) uint8 tensor; the same pixels when it fits."""
    video = torch.from_numpy(np.require(frames, requirements="CW")).permute(0, 3, 1, 2)
    if size == frames.shape[1:3]:
        return video
    # uint8 on the CPU, as in transformers; a GPU rounds some pixels differently
    return interpolate(video, size, mode=mode, antialias=True)


def normalised(values, settings):
    """(x - 255 mean) / (255 std) of a uint8 tensor (..., 3, n), as float32."""
    # 255 mean and 255 std first: another order of operations rounds differently
    top = 1 / settings["rescale_factor"]
    mean, std = (torch.tensor(settings[k])[:, None] * top for k in ("image_mean", "image_std"))
    return values.float().sub_(mean).div_(std)


def plain_positions(video_token, input_ids, inputs):
    """(1, L): 0, 1, 2, ... for families without M-RoPE; ValueError for other video tokens."""
    found, n = int((input_ids == video_token).sum()), 0 if inputs is None else inputs.n_tokens
    if found != n:
        raise ValueError(f"the prompt has {found} video tokens (id {video_token}); expected {n}")
    return torch.arange(len(input_ids))[None]
