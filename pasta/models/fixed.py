"""LLaVA-OneVision, LLaVA-NeXT-Video, InternVL: frames of one size. max_pixels has no effect."""

from functools import partial
from math import ceil

from pasta.models import family


def onevision_family(config, preprocessor, max_pixels):
    """LLaVA-OneVision: 27 x 27 patches of a frame become 14 x 14 tokens; a newline at the end."""
    given, vision = family.given_settings(preprocessor), config.get("vision_config", {})
    side, patch = family.whole(vision, "image_size", "patch_size").values()
    return fixed_family(config, given, ceil(side // patch / 2) ** 2, extra=1)


def next_video_family(config, preprocessor, max_pixels):
    """LLaVA-NeXT-Video: 24 x 24 patches in the middle of a frame become 12 x 12 tokens."""
    given = family.given_settings(preprocessor, do_center_crop=True)
    (edge,) = family.whole(given, "size.shortest_edge").values()
    (patch,) = family.whole(config.get("vision_config", {}), "patch_size").values()
    (stride,) = family.whole(config, "spatial_pool_stride").values()
    crop = tuple(family.whole(given, "crop_size.height", "crop_size.width").values())
    if max(crop) > edge:
        raise ValueError(f"preprocessor config: crop_size is {crop}; expected at most {edge}")
    rows, columns = (side // patch // stride for side in crop)
    return fixed_family(config, given, rows * columns, edge, crop)


def fixed_fit(size, n_frames, height, width):
    """`size`, or for a number the (height, width) with the same ratio and it as the smaller one."""
    if isinstance(size, tuple):
        return size
    longer = int(size * max(height, width) / min(height, width))
    return (longer, size) if width <= height else (size, longer)


def internvl_family(config, preprocessor, max_pixels):
    """InternVL3 and InternVL2.5 in the form of transformers ("-hf"): each frame is an image."""
    given = family.given_settings(preprocessor)
    (per_frame,) = family.whole(config, "image_seq_length").values()
    own = {"token": "<IMG_CONTEXT>", "feature_kwargs": as_images, "encoder": "image"}
    own["video_text"] = partial(numbered_frames, per_frame)
    return fixed_family(config, given, per_frame, id_name="image_token_id", **own)


def numbered_frames(per_frame, inputs):
    image = f"<img>{'<IMG_CONTEXT>' * per_frame}</img>"
    return "\n".join(f"Frame{i + 1}: {image}" for i in range(inputs.grid[0]))


def as_batch(inputs):
    return {"pixel_values_videos": inputs.pixel_values[None]}


def as_images(inputs):
    return {"pixel_values": inputs.pixel_values}


def fixed_family(
    config, given, per_frame, edge=None, crop=None, *, id_name="video_token_index", extra=0, **own
):
    """The Family of a model in which all frames have one size, and so one number of tokens.

    given: from `given_settings`. id_name: of the token in config.json. own: fields of Family.
    per_frame: tokens of a frame. extra: tokens at the end of a video.
    edge: the shorter one after resizing; None: to size.height x size.width. crop: middle to keep
    """
    settings = family.numbers(given, "image_mean", "image_std", "rescale_factor")
    (token_id,) = family.whole(config, id_name, least=0, most=family.HUGE).values()
    if crop is None:
        crop = tuple(family.whole(given, "size.height", "size.width").values())
    fit = partial(fixed_fit, edge or crop)
    settings |= {"crop": crop, "per_frame": per_frame, "extra": extra}
    return family.Family(
        model_type=config["model_type"],
        placeholder="<video>",
        fit=fit,
        prepare=partial(fixed_prepare, settings, fit),
        positions=partial(family.plain_positions, token_id),
        **({"token": "<video>", "feature_kwargs": as_batch} | own),
    )


def fixed_prepare(settings, fit, frames, timestamps):
    """VideoInputs with pixel_values (F, 3, H, W) and grid (F, 1, 1)."""
    seconds, crop = family.checked(frames, timestamps), settings["crop"]
    video = family.resized(frames, fit(*frames.shape[:3]))
    top, left = ((n - size) // 2 for n, size in zip(video.shape[2:], crop, strict=True))
    video = video[:, :, top : top + crop[0], left : left + crop[1]]
    pixels = family.normalised(video.flatten(2), settings).unflatten(2, video.shape[2:])
    span = (seconds[-1] - seconds[0]) / max(len(seconds) - 1, 1)
    n_tokens = len(frames) * settings["per_frame"] + settings["extra"]
    return family.VideoInputs(pixels, (len(frames), 1, 1), float(span), n_tokens)
