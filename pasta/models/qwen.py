"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen3.5: frames keep their shape, positions have three axes.

Positions are ours: transformers versions disagree, and 5.6 to 5.23 restart the text inside the
video's time. The checkpoints were trained with this layout (transformers PR #35569, issue #45381;
vLLM), for a video after S tokens of text:

    time   = S + floor(grid index * tokens_per_second * seconds_per_grid)
    height = S + row,  width = S + column,  next text = largest of all three + 1

Qwen2-VL has no clock: time = S + grid index. Qwen3-VL writes the time as text before each grid;
each grid is a separate video with time = S.

Shapes: F frames, H, W pixels, t, h, w patches (before merging m x m of them into one token),
N = t h w, p patch size, tp frames of a patch, L tokens.
"""

import math
from dataclasses import replace
from functools import partial
from itertools import groupby

import torch

from pasta.models import family

TOKEN = "<|video_pad|>"


def qwen_family(config, preprocessor, max_pixels):
    """Family of Qwen2-VL, and of Qwen2.5-VL, which adds the clock."""
    given = family.given_settings(preprocessor)
    given = bounds(given) | given  # as in transformers: max_pixels wins over the bounds in `size`
    given = ({"max_pixels": max_pixels} if max_pixels else {}) | given
    (high,) = family.whole(given, "max_pixels", most=family.HUGE).values()
    given["max_pixels"] = min(high, max_pixels or high)
    clock = {}
    if config["model_type"] == "qwen2_5_vl":
        clock = family.numbers(config.get("vision_config", {}), "tokens_per_second")
    return family_of(config, given, clock, max_pixels, qwen_fit, one_block)


def qwen3_family(config, preprocessor, max_pixels):
    """Family of Qwen3-VL and Qwen3.5. The bounds in `size` are for the pixels of all frames."""
    given, more = family.given_settings(preprocessor), {"frame_pixels": max_pixels}
    given |= bounds(given)
    return family_of(config, given, more, max_pixels, qwen3_fit, block_per_grid, timed_grids)


def bounds(given):
    edges = {"min_pixels": "size.shortest_edge", "max_pixels": "size.longest_edge"}
    return {name: given[edge] for name, edge in edges.items() if edge in given}


def family_of(config, given, more, max_pixels, fit, blocks, text=None):
    """A Qwen's Family. more: its own settings. fit, blocks, text: functions (settings, ...)."""
    settings = more | family.whole(given, "patch_size", "temporal_patch_size", "merge_size")
    settings |= family.numbers(given, "image_mean", "image_std", "rescale_factor")
    settings |= family.whole(given, "min_pixels", "max_pixels", most=family.HUGE)
    settings |= family.whole(config, "video_token_id", least=0, most=family.HUGE)
    fit = partial(fit, settings)
    return family.Family(
        model_type=config["model_type"],
        placeholder=TOKEN,
        token=TOKEN,
        video_text=text and partial(text, settings),
        fit=fit,
        prepare=partial(qwen_prepare, settings, fit),
        positions=partial(qwen_positions, settings, blocks),
        feature_kwargs=qwen_feature_kwargs,
        windows=True,
        max_pixels=max_pixels,
    )


def qwen_fit(settings, n_frames, height, width):
    return smart_resize(settings, 1, 1, height, width, settings["max_pixels"])


def qwen3_fit(settings, n_frames, height, width):
    """The bounds are for the pixels of all frames, not of each; one frame counts as two."""
    unit, tp = settings["patch_size"] * settings["merge_size"], settings["temporal_patch_size"]
    n_frames = max(n_frames, tp)
    paired = round(n_frames / tp) * tp  # rounds half to even, as in transformers: equal sizes
    if min(height, width) < unit:  # a side below one token is enlarged first
        scale = max(unit / height, unit / width)
        height, width = int(height * scale), int(width * scale)
    high = settings["max_pixels"]
    if settings["frame_pixels"]:  # the bound of a frame holds at either count of frames
        high = min(high, settings["frame_pixels"] * min(n_frames, paired))
    return smart_resize(settings, n_frames, paired, height, width, high)


def smart_resize(settings, n_frames, paired, height, width, high):
    """(height, width) with nearly the same ratio, in multiples of patch_size * merge_size, so that
    min_pixels <= paired * height * width <= high.

    n_frames, paired: how many times a frame's pixels count before and after rounding to units
    """
    sides, area, low = (height, width), n_frames * height * width, settings["min_pixels"]
    if max(sides) > 200 * min(sides):
        raise ValueError(f"frames are {height} x {width}; expected a ratio of at most 200")
    unit = settings["patch_size"] * settings["merge_size"]
    size = [round(side / unit) * unit for side in sides]
    if paired * math.prod(size) > high:
        shrink = math.sqrt(area / high)
        size = [max(1, math.floor(side / shrink / unit)) * unit for side in sides]
    elif paired * math.prod(size) < low:
        grow = math.sqrt(low / area)
        size = [math.ceil(side * grow / unit) * unit for side in sides]
    return tuple(size)


def qwen_prepare(settings, fit, frames, timestamps):
    """VideoInputs with pixel_values (N, 3 tp p p); the last frame is repeated until tp divides F.

        seconds_per_grid = tp * (last timestamp - first) / (F - 1)
        time of a grid   = (time of its first frame + time of its last) / 2

    qwen-vl-utils counts F intervals in the whole video, so its seconds are about 1/F smaller.
    """
    seconds = family.checked(frames, timestamps)
    size = fit(*frames.shape[:3])
    video = family.resized(frames, size)
    tp, p, m = (settings[k] for k in ("temporal_patch_size", "patch_size", "merge_size"))
    more = -len(video) % tp
    video = torch.cat([video, video[-1:].expand(more, -1, -1, -1)])
    times = [*seconds.tolist(), *[float(seconds[-1])] * more]
    times = [(a + b) / 2 for a, b in zip(times[::tp], times[tp - 1 :: tp], strict=True)]
    t, h, w = len(video) // tp, size[0] // p, size[1] // p
    video = video.reshape(t, tp, 3, h // m, m, p, w // m, m, p)
    patches = video.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, 3, -1)
    values = family.normalised(patches, settings).flatten(1)  # (N, 3 tp p p)
    span = tp * (seconds[-1] - seconds[0]) / max(len(seconds) - 1, 1)
    return family.VideoInputs(values, (t, h, w), float(span), t * h * w // m**2, tuple(times))


def timed_grids(settings, inputs):
    """Qwen3-VL's text of a video: the time before each grid, marks around each grid."""
    # the template's marks stay around the whole text, as in vLLM and transformers since 5.10
    _, h, w = inputs.grid
    block = f"<|vision_start|>{TOKEN * (h * w // settings['merge_size'] ** 2)}<|vision_end|>"
    return "".join(f"<{time:.1f} seconds>{block}" for time in inputs.times)


def qwen_positions(settings, blocks, input_ids, inputs):
    """(3, L) M-RoPE positions of a prompt; ValueError for runs of video tokens unlike `blocks`."""
    video_token = settings["video_token_id"]
    runs = [(key, len(list(run))) for key, run in groupby((input_ids == video_token).tolist())]
    blocks = [] if inputs is None else blocks(settings, inputs)
    found, expected = [n for key, n in runs if key], [block.shape[1] for block in blocks]
    if found != expected:
        got = f"the prompt has runs of {found} video tokens (id {video_token})"
        raise ValueError(f"{got}; expected {expected}")
    parts, start, blocks = [], 0, iter(blocks)
    for key, n in runs:
        parts.append(start + (next(blocks) if key else torch.arange(n).expand(3, n)))
        start = int(parts[-1].max()) + 1
    return torch.cat(parts, dim=1)


def one_block(settings, inputs):
    """[(3, N / m^2)]: time, height and width of the tokens of a whole video."""
    (t, h, w), m = inputs.grid, settings["merge_size"]
    axes = (torch.arange(k) for k in (t, h // m, w // m))
    time, row, column = torch.meshgrid(*axes, indexing="ij")
    if "tokens_per_second" in settings:
        # a product in float32, as in transformers: 1.9999999999999998 is 2 before floor.
        # vLLM 0.32 multiplies in float64, so a few of its times are one less.
        time = (time * settings["tokens_per_second"] * inputs.seconds_per_grid).long()
    return [torch.stack([time, row, column]).flatten(1)]


def block_per_grid(settings, inputs):
    """t times the same (3, h w / m^2): every grid is a video of one instant."""
    t, h, w = inputs.grid
    return one_block(settings, replace(inputs, grid=(1, h, w))) * t


def qwen_feature_kwargs(inputs):
    grid = torch.tensor([inputs.grid])
    return {"pixel_values_videos": inputs.pixel_values, "video_grid_thw": grid}
