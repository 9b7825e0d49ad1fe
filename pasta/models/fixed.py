"""LLaVA-OneVision, LLaVA-NeXT-Video and InternVL: families in which all frames have one size.

Their size leaves nothing for max_pixels to bound, so it has no effect.

Shapes: F frames, H, W pixels.
"""

from functools import partial
from math import ceil

from pasta.models.family import (
    HUGE,
    Family,
    VideoInputs,
    checked,
    given_settings,
    normalised,
    numbers,
    plain_positions,
    resized,
    whole,
)


def onevision_family(config, preprocessor, max_pixels):
    """Family of LLaVA-OneVision: 27 x 27 patches of a frame become 14 x 14 tokens.

    One more token, a learned newline, ends the video.
    """
    given, vision = given_settings(preprocessor), config.get("vision_config", {})
    side, patch = whole(vision, "image_size", "patch_size").values()
    return fixed_family(config, given, fixed_size(given), ceil(side // patch / 2) ** 2, extra=1)


def next_video_family(config, preprocessor, max_pixels):
    """Family of LLaVA-NeXT-Video: 24 x 24 patches of a frame become 12 x 12 tokens.

    The shorter edge is resized and the middle kept.
    """
    given = given_settings(preprocessor, do_center_crop=True)
    (edge,) = whole(given, "size.shortest_edge").values()
    (patch,) = whole(config.get("vision_config", {}), "patch_size").values()
    (stride,) = whole(config, "spatial_pool_stride").values()
    crop = tuple(whole(given, "crop_size.height", "crop_size.width").values())
    if max(crop) > edge:
        raise ValueError(f"preprocessor config: crop_size is {crop}; expected at most {edge}")
    rows, columns = (side // patch // stride for side in crop)
    fit = partial(shorter_edge, edge)
    return fixed_family(config, given, fit, rows * columns, crop=crop)


def shorter_edge(edge, n_frames, height, width):
    """The (height, width) in the same ratio with `edge` as the smaller one."""
    longer = int(edge * max(height, width) / min(height, width))
    return (longer, edge) if width <= height else (edge, longer)


def internvl_family(config, preprocessor, max_pixels):
    """Family of InternVL3 and InternVL2.5 in the form of transformers ("-hf").

    Each frame is an image: its tokens are between <img> and </img>, and the text numbers it.
    """
    given = given_settings(preprocessor)
    (per_frame,) = whole(config, "image_seq_length").values()
    return fixed_family(
        config,
        given,
        fixed_size(given),
        per_frame,
        token="<IMG_CONTEXT>",
        id_name="image_token_id",
        video_text=partial(numbered_frames, per_frame),
        encoder="image",
        feature_kwargs=as_images,
    )


def numbered_frames(per_frame, inputs):
    """The text of a video: one line per frame."""
    image = f"<img>{'<IMG_CONTEXT>' * per_frame}</img>"
    return "\n".join(f"Frame{i + 1}: {image}" for i in range(inputs.grid[0]))


def as_batch(inputs):
    return {"pixel_values_videos": inputs.pixel_values[None]}


def as_images(inputs):
    return {"pixel_values": inputs.pixel_values}


def fixed_family(config, given, fit, per_frame, *, token="<video>", id_name="video_token_index",
                 extra=0, crop=None, feature_kwargs=as_batch, **own):  # fmt: skip
    """The Family of a model in which all frames have one size, and so one number of tokens.

    given: from `given_settings`. fit: as in Family. id_name: of the video token in config.json
    per_frame: tokens of a frame. extra: tokens at the end of a video.
    crop: (height, width) of the middle that is kept; None keeps all
    own: more fields of Family
    """
    settings = numbers(given, "image_mean", "image_std", "rescale_factor")
    settings |= {"crop": crop, "per_frame": per_frame, "extra": extra}
    (token_id,) = whole(config, id_name, least=0, most=HUGE).values()
    return Family(
        model_type=config["model_type"],
        placeholder="<video>",
        token=token,
        fit=fit,
        prepare=partial(fixed_prepare, settings, fit),
        positions=partial(plain_positions, token_id),
        feature_kwargs=feature_kwargs,
        **own,
    )


def fixed_size(given):
    """The `fit` of a family that resizes every frame to size.height x size.width."""
    return partial(always, tuple(whole(given, "size.height", "size.width").values()))


def always(size, n_frames, height, width):
    return size


def fixed_prepare(settings, fit, frames, timestamps):
    """VideoInputs with pixel_values (F, 3, H, W) and grid (F, 1, 1): one step per frame.

    Raises ValueError for anything that is not a video.
    """
    seconds, crop = checked(frames, timestamps), settings["crop"]
    video = resized(frames, fit(*frames.shape[:3]))
    if crop is not None:
        top, left = ((n - size) // 2 for n, size in zip(video.shape[2:], crop, strict=True))
        video = video[:, :, top : top + crop[0], left : left + crop[1]]
    pixels = normalised(video.flatten(2), settings).unflatten(2, video.shape[2:])
    span = (seconds[-1] - seconds[0]) / max(len(seconds) - 1, 1)
    n_tokens = len(frames) * settings["per_frame"] + settings["extra"]
    return VideoInputs(pixels, (len(frames), 1, 1), float(span), n_tokens)
