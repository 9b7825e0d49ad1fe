"""What all families are made of: the Family, a prepared video, the steps from frames to pixels.

Shapes: F frames, H, W pixels, t, h, w patches (before merging several of them into one token),
L tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pasta.models.settings import SIDES, require


@dataclass(frozen=True, eq=False)
class VideoInputs:
    """One video, ready for the vision tower.

    pixel_values:     float32, in the shape that the family's tower takes
    grid:             (t, h, w)
    seconds_per_grid: seconds from one of the t to the next
    n_tokens:         places the video takes in the prompt
    times:            seconds of each of the t, for families whose prompt tells them
    """

    pixel_values: Tensor
    grid: tuple[int, int, int]
    seconds_per_grid: float
    n_tokens: int
    times: tuple[float, ...] = ()


@dataclass(frozen=True)
class Family:
    """What a kind of Video-LLM does its own way: texts and functions, one object a checkpoint.

    placeholder:    what the chat template puts in a video's place, a special token; None in a
                    model that reads text alone
    token:          the text of one video token, in most families the same
    video_text:     VideoInputs -> the text that replaces the placeholder; ends in a special token
    fit:            (F, H, W) -> (H, W), the size that frames are resized to
    prepare:        ((F, H, W, 3) uint8 array, (F,) seconds) -> VideoInputs
    positions:      ((L,) token ids, VideoInputs or None) -> (3, L) int64 time, height, width; or
                    (1, L) without M-RoPE
    feature_kwargs: VideoInputs -> arguments of the model's `get_{encoder}_features`; of videos
                    whose tensors agree but for the first dimension, they may be concatenated
    encoder:        "video" or "image", as which the model takes the frames
    max_pixels:     of a frame, asked for by the caller; 0 when nothing was, or has no meaning
    """

    model_type: str
    placeholder: str | None
    token: str | None
    video_text: Callable
    fit: Callable
    prepare: Callable
    positions: Callable
    feature_kwargs: Callable
    encoder: str = "video"
    max_pixels: int = 0

    def expand(self, text, inputs) -> str:
        """The prompt with the text of the video in place of its one placeholder.

        Raises ValueError when there is not exactly one.
        """
        mark = self.placeholder
        if text.count(mark) != 1:
            raise ValueError(f"{text[:60]!r} holds {text.count(mark)} {mark}; expected exactly one")
        return text.replace(mark, self.video_text(inputs))


def repeated(token, inputs):
    """The text of a video that is nothing but its tokens."""
    return token * inputs.n_tokens


# ----------------------------------------------------------------------- frames to pixels


def checked(frames, timestamps):
    """The timestamps as an array. Raises ValueError for what is no video.

    frames: (F, H, W, 3) uint8 array. timestamps: (F,) seconds, not decreasing.
    """
    seconds = np.asarray(timestamps, dtype=float)
    known = frames.size and frames.shape == (len(seconds), *frames.shape[1:3], 3)
    if not known or frames.dtype != np.uint8 or not (np.diff(seconds) >= 0).all():
        raise ValueError(
            f"got {frames.dtype} frames of shape {frames.shape} at {seconds} s; expected uint8 "
            "(F, H, W, 3) at F seconds that do not decrease"
        )
    return seconds


def resized(frames, size):
    """(F, H, W, 3) uint8 array to (F, 3, *size) uint8 tensor; the same pixels when it fits."""
    video = torch.from_numpy(np.require(frames, requirements="CW")).permute(0, 3, 1, 2)
    if size == frames.shape[1:3]:
        return video
    # uint8 on the CPU, as in transformers; a GPU rounds some pixels differently
    return interpolate(video, size, mode="bicubic", antialias=True)


def normalised(values, settings):
    """(x - 255 mean) / (255 std) of a uint8 tensor (..., 3, n), as float32."""
    # 255 mean and 255 std first: another order of operations rounds differently
    top = 1 / settings["rescale_factor"]
    mean, std = (torch.tensor(settings[k])[:, None] * top for k in ("image_mean", "image_std"))
    return values.float().sub_(mean).div_(std)


def plain_positions(video_token, input_ids, inputs):
    """(1, L): 0, 1, 2, ... for families without M-RoPE.

    Raises ValueError unless there are as many video tokens as the video has.
    """
    found, n = int((input_ids == video_token).sum()), 0 if inputs is None else inputs.n_tokens
    if found != n:
        raise ValueError(f"the prompt has {found} video tokens (id {video_token}); expected {n}")
    return torch.arange(len(input_ids))[None]


# ------------------------------------------------------- families with frames of one size


def fixed_family(config, given, fit, *, token, token_id, per_frame, extra=0, crop=None, **own):
    """The Family of a model whose frames all have one size, and as many tokens.

    given:     of `given_settings`
    fit:       of Family
    token, token_id: text and id of a video token
    per_frame: tokens of a frame. extra: tokens of a video besides.
    crop:      (height, width) of the middle that is kept; None for all of it
    own:       more fields of Family: feature_kwargs, and what is not as in a prompt of tokens alone
    """
    names = ("image_mean", "image_std", "rescale_factor")
    settings = require({name: given.get(name) for name in names} | {"video_token_id": token_id})
    settings |= {"crop": crop, "per_frame": per_frame, "extra": extra}
    text = {"placeholder": token, "video_text": partial(repeated, token)}
    return Family(
        model_type=config["model_type"],
        token=token,
        fit=fit,
        prepare=partial(fixed_prepare, settings, fit),
        positions=partial(plain_positions, token_id),
        **text | own,
    )


def fixed_size(given):
    """The `fit` of a family that resizes every frame to size.height x size.width."""
    size = given.get("size", {})
    return partial(always, tuple(require({f"size.{k}": size.get(k) for k in SIDES}).values()))


def always(size, n_frames, height, width):
    return size


def fixed_prepare(settings, fit, frames, timestamps):
    """VideoInputs with pixel_values (F, 3, H, W) and grid (F, 1, 1): a step for each frame.

    Raises ValueError for what is no video.
    """
    seconds, crop = checked(frames, timestamps), settings["crop"]
    video = resized(frames, fit(*frames.shape[:3]))
    if crop is not None:
        top, left = ((n - kept) // 2 for n, kept in zip(video.shape[2:], crop, strict=True))
        video = video[:, :, top : top + crop[0], left : left + crop[1]]
    pixels = normalised(video.flatten(2), settings).unflatten(2, video.shape[2:])
    span = (seconds[-1] - seconds[0]) / max(len(seconds) - 1, 1)
    n_tokens = len(frames) * settings["per_frame"] + settings["extra"]
    return VideoInputs(pixels, (len(frames), 1, 1), float(span), n_tokens)
