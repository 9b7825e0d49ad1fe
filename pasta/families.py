"""How each Video-LLM family wants its pixels, its prompt and its positions.

Frames become pixel tensors without torchvision, bit for bit as in transformers, by the settings
in the checkpoint's files.

Positions are ours, for installed transformers versions disagree about them and 5.23 restarts the
text inside the video's time. This is the layout the checkpoints were trained with (transformers
PR #35569 and issue #45381; vLLM has it too), for a video that follows S tokens of text:

    time   = S + floor(grid index * tokens_per_second * seconds_per_grid)
    height = S + row,  width = S + column,  next text = largest of all three + 1

Qwen2-VL has no clock: its time is S + grid index.

Shapes: F frames, H, W pixels, t, h, w patches (before merging m x m of them into one token),
N = t h w, p patch size, tp frames of a patch, L tokens.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True, eq=False)
class VideoInputs:
    """One video, ready for the vision tower.

    pixel_values:     (N, 3 tp p p) float32
    grid:             (t, h, w)
    seconds_per_grid: seconds from one of the t to the next
    n_tokens:         places the video takes in the prompt, t h w / m^2
    """

    pixel_values: Tensor
    grid: tuple[int, int, int]
    seconds_per_grid: float
    n_tokens: int


@dataclass(frozen=True)
class Family:
    """What a kind of Video-LLM does its own way: texts and functions, one object a checkpoint.

    placeholder:    the text of one video token
    wrap:           the texts before and after a video, absent from a prompt without one
    fit:            (F, H, W) -> (H, W), the size at which the model sees the frames
    prepare:        ((F, H, W, 3) uint8 array, (F,) seconds) -> VideoInputs
    positions:      ((L,) token ids, VideoInputs or None) -> (3, L) int64 time, height, width
    feature_kwargs: VideoInputs -> arguments of the model's `get_video_features`
    """

    model_type: str
    placeholder: str
    wrap: tuple[str, str]
    fit: Callable
    prepare: Callable
    positions: Callable
    feature_kwargs: Callable

    def expand(self, text, inputs) -> str:
        """The prompt with its one placeholder repeated for every token of the video.

        Raises ValueError when there is not exactly one.
        """
        mark = self.placeholder
        if text.count(mark) != 1:
            raise ValueError(f"{text[:60]!r} holds {text.count(mark)} {mark}; expected exactly one")
        return text.replace(mark, mark * inputs.n_tokens)


def family_for(config: dict, preprocessor: dict) -> Family:
    """The Family of a checkpoint, from its config.json and its video settings.

    Raises ValueError for an unknown model_type, and for a setting that is missing or unsupported.
    """
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ValueError(f"config.json: model_type is {model_type!r}; expected one of {known}")
    return FAMILIES[model_type](config, preprocessor)


def read_preprocessor(folder) -> dict:
    """The video settings in a checkpoint's folder, from the file that transformers takes.

    That is the first of processor_config.json["video_processor"], video_preprocessor_config.json
    and preprocessor_config.json, whole. The released Qwen2-VL and Qwen2.5-VL have the last alone,
    so its pixel bounds, meant for images, hold for every frame of a video.
    Raises FileNotFoundError when there is none of them.
    """
    nested = Path(folder, "processor_config.json")
    if nested.is_file() and "video_processor" in (content := json.loads(nested.read_text())):
        return content["video_processor"]
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if (path := Path(folder, name)).is_file():
            return json.loads(path.read_text())
    raise FileNotFoundError(f"{folder} has no preprocessor_config.json; copy the checkpoint's own")


# ---------------------------------------------------------------- Qwen2-VL and Qwen2.5-VL

QWEN_STEPS = {  # what is done here; a file that asks for something else is refused
    "do_resize": True,
    "resample": 3,  # bicubic
    "do_rescale": True,
    "do_normalize": True,
    "cap_pixels_per_frame": False,
}


def qwen_family(config, preprocessor):
    """Family of Qwen2-VL, and of Qwen2.5-VL, which adds the clock.

    As in transformers null counts as absent, min_pixels and max_pixels win over the bounds in
    `size`, and no rescale_factor, as in the released files, means 1 / 255.
    """
    given = {name: value for name, value in preprocessor.items() if value is not None}
    for name, value in QWEN_STEPS.items():
        if given.get(name, value) != value:
            raise ValueError(f"preprocessor config: {name} is {given[name]}; expected {value}")
    size = given.get("size", {})
    bounds = {"min_pixels": size.get("shortest_edge"), "max_pixels": size.get("longest_edge")}
    given = {"rescale_factor": 1 / 255} | bounds | given
    names = ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std",
             "rescale_factor", *bounds)  # fmt: skip
    settings = {name: given.get(name) for name in names}
    settings["video_token_id"] = config.get("video_token_id")
    if config["model_type"] == "qwen2_5_vl":
        vision = config.get("vision_config", {})
        settings["tokens_per_second"] = vision.get("tokens_per_second")
    missing = ", ".join(name for name, value in settings.items() if value is None)
    if missing:
        raise ValueError(f"config.json and preprocessor config lack {missing}; copy the original's")
    return Family(
        model_type=config["model_type"],
        placeholder="<|video_pad|>",
        wrap=("<|vision_start|>", "<|vision_end|>"),
        fit=partial(qwen_fit, settings),
        prepare=partial(qwen_prepare, settings),
        positions=partial(qwen_positions, settings),
        feature_kwargs=qwen_feature_kwargs,
    )


def qwen_fit(settings, n_frames, height, width):
    """The (height, width) that frames are resized to: Qwen's smart_resize.

    Both become multiples of patch_size * merge_size, in nearly the same ratio, with a product from
    min_pixels to max_pixels. The number of frames does not count.
    Raises ValueError for a side more than 200 times the other, Qwen's limit.
    """
    sides, area = (height, width), height * width
    if max(sides) > 200 * min(sides):
        raise ValueError(f"frames are {height} x {width}; expected a ratio of at most 200")
    unit = settings["patch_size"] * settings["merge_size"]
    size = [round(side / unit) * unit for side in sides]
    if math.prod(size) > settings["max_pixels"]:
        shrink = math.sqrt(area / settings["max_pixels"])
        size = [max(1, math.floor(side / shrink / unit)) * unit for side in sides]
    elif math.prod(size) < settings["min_pixels"]:
        grow = math.sqrt(settings["min_pixels"] / area)
        size = [math.ceil(side * grow / unit) * unit for side in sides]
    return tuple(size)


def qwen_prepare(settings, frames, timestamps):
    """VideoInputs of a video, whose last frame is repeated until tp divides their number.

        pixel value      = (x - 255 mean) / (255 std)
        seconds_per_grid = tp * (last timestamp - first) / (F - 1)

    The second is tp times the true seconds between frames, and 0 for frames at one instant;
    qwen-vl-utils counts F intervals in the whole video, and so about 1/F less.
    frames: (F, H, W, 3) uint8 array. timestamps: (F,) seconds, not decreasing.
    Raises ValueError for anything else.
    """
    seconds = np.asarray(timestamps, dtype=float)
    known = frames.size and frames.shape == (len(seconds), *frames.shape[1:3], 3)
    if not known or frames.dtype != np.uint8 or not (np.diff(seconds) >= 0).all():
        raise ValueError(
            f"got {frames.dtype} frames of shape {frames.shape} at {seconds} s; expected uint8 "
            "(F, H, W, 3) at F seconds that do not decrease"
        )
    video = torch.from_numpy(np.require(frames, requirements="CW")).permute(0, 3, 1, 2)
    size = qwen_fit(settings, *frames.shape[:3])
    if size != frames.shape[1:3]:
        # uint8 on the CPU, as in transformers; a GPU rounds some pixels differently
        video = interpolate(video, size, mode="bicubic", antialias=True)  # (F, 3, H, W)
    tp, p, m = (settings[k] for k in ("temporal_patch_size", "patch_size", "merge_size"))
    video = torch.cat([video, video[-1:].expand(-len(video) % tp, -1, -1, -1)])
    t, h, w = len(video) // tp, size[0] // p, size[1] // p
    video = video.reshape(t, tp, 3, h // m, m, p, w // m, m, p)
    patches = video.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, 3, -1).float()
    # 255 mean and 255 std first: another order of operations rounds differently
    top = 1 / settings["rescale_factor"]
    mean, std = (torch.tensor(settings[k])[:, None] * top for k in ("image_mean", "image_std"))
    values = patches.sub_(mean).div_(std).flatten(1)  # (N, 3 tp p p)
    span = tp * (seconds[-1] - seconds[0]) / max(len(seconds) - 1, 1)
    return VideoInputs(values, (t, h, w), float(span), t * h * w // m**2)


def qwen_positions(settings, input_ids, inputs):
    """(3, L) M-RoPE positions of a prompt; the equation is at the top of this file.

    A prompt without video counts 0, 1, 2, ...
    Raises ValueError unless the video tokens are one run, as long as the video.
    """
    video_token, m = settings["video_token_id"], settings["merge_size"]
    found = (input_ids == video_token).nonzero().flatten().tolist()
    n = 0 if inputs is None else inputs.n_tokens
    start = found[0] if found else len(input_ids)
    if found != list(range(start, start + n)):
        raise ValueError(
            f"the prompt has {len(found)} video tokens (id {video_token}); expected {n} in one run"
        )
    before = torch.arange(start).repeat(3, 1)
    if inputs is None:
        return before
    t, h, w = inputs.grid
    axes = (torch.arange(k) for k in (t, h // m, w // m))
    time, row, column = torch.meshgrid(*axes, indexing="ij")
    if "tokens_per_second" in settings:
        # a product in float32, as in transformers and vLLM: 1.9999999999999998 is 2 before floor
        time = (time * settings["tokens_per_second"] * inputs.seconds_per_grid).long()
    video = start + torch.stack([time, row, column]).flatten(1)
    after = video.max() + 1 + torch.arange(len(input_ids) - start - n).repeat(3, 1)
    return torch.cat([before, video, after], dim=1)


def qwen_feature_kwargs(inputs):
    grid = torch.tensor([inputs.grid])
    return {"pixel_values_videos": inputs.pixel_values, "video_grid_thw": grid}


FAMILIES = {"qwen2_vl": qwen_family, "qwen2_5_vl": qwen_family}
