"""LLaVA-OneVision and LLaVA-NeXT-Video: frames of one size, 2 x 2 patches of them a token."""

from functools import partial
from math import ceil

from pasta.models.family import fixed_family, fixed_size
from pasta.models.settings import SIDES, given_settings, require


def onevision_family(config, preprocessor, max_pixels):
    """Family of LLaVA-OneVision. Frames have one size, so max_pixels means nothing.

    A frame of 27 x 27 patches becomes 14 x 14 tokens; one more, a learnt newline, ends the video.
    """
    given, vision = given_settings(preprocessor), config.get("vision_config", {})
    known = require({name: vision.get(name) for name in ("image_size", "patch_size")})
    return fixed_family(
        config,
        given,
        fixed_size(given),
        token="<video>",
        token_id=config.get("video_token_index"),
        per_frame=ceil(known["image_size"] // known["patch_size"] / 2) ** 2,
        extra=1,
        feature_kwargs=as_batch,
    )


def next_video_family(config, preprocessor, max_pixels):
    """Family of LLaVA-NeXT-Video. Frames have one size, so max_pixels means nothing.

    The shorter edge is resized and the middle kept; 24 x 24 patches become 12 x 12 tokens.
    """
    given = given_settings(preprocessor, do_center_crop=True)
    edge = given.get("size", {}).get("shortest_edge")
    patch = config.get("vision_config", {}).get("patch_size")
    stride, crop = config.get("spatial_pool_stride"), given.get("crop_size", {})
    require({"size.shortest_edge": edge, "patch_size": patch, "spatial_pool_stride": stride})
    crop = tuple(require({f"crop_size.{side}": crop.get(side) for side in SIDES}).values())
    if max(crop) > edge:
        raise ValueError(f"preprocessor config: crop_size is {crop}; expected at most {edge}")
    rows, columns = (side // patch // stride for side in crop)
    return fixed_family(
        config,
        given,
        partial(shorter_edge, edge),
        token="<video>",
        token_id=config.get("video_token_index"),
        per_frame=rows * columns,
        crop=crop,
        feature_kwargs=as_batch,
    )


def shorter_edge(edge, n_frames, height, width):
    """The (height, width) in the same ratio whose smaller one is `edge`."""
    longer = int(edge * max(height, width) / min(height, width))
    return (longer, edge) if width <= height else (edge, longer)


def as_batch(inputs):
    return {"pixel_values_videos": inputs.pixel_values[None]}
