"""LLaVA-OneVision and LLaVA-NeXT-Video: frames of one size, a token for 2 x 2 patches."""

from functools import partial
from math import ceil

from pasta.models.family import fixed_family, fixed_size, given_settings, whole


def onevision_family(config, preprocessor, max_pixels):
    """Family of LLaVA-OneVision. Frames have one size, so max_pixels has no effect.

    A frame of 27 x 27 patches becomes 14 x 14 tokens; one more, a learned newline, ends the video.
    """
    given, vision = given_settings(preprocessor), config.get("vision_config", {})
    known = whole(vision, "image_size", "patch_size")
    return fixed_family(
        config,
        given,
        fixed_size(given),
        token="<video>",
        id_name="video_token_index",
        per_frame=ceil(known["image_size"] // known["patch_size"] / 2) ** 2,
        extra=1,
        feature_kwargs=as_batch,
    )


def next_video_family(config, preprocessor, max_pixels):
    """Family of LLaVA-NeXT-Video. Frames have one size, so max_pixels has no effect.

    The shorter edge is resized and the middle kept; 24 x 24 patches become 12 x 12 tokens.
    """
    given = given_settings(preprocessor, do_center_crop=True)
    (edge,) = whole(given, "size.shortest_edge").values()
    (patch,) = whole(config.get("vision_config", {}), "patch_size").values()
    (stride,) = whole(config, "spatial_pool_stride").values()
    crop = tuple(whole(given, "crop_size.height", "crop_size.width").values())
    if max(crop) > edge:
        raise ValueError(f"preprocessor config: crop_size is {crop}; expected at most {edge}")
    rows, columns = (side // patch // stride for side in crop)
    return fixed_family(
        config,
        given,
        partial(shorter_edge, edge),
        token="<video>",
        id_name="video_token_index",
        per_frame=rows * columns,
        crop=crop,
        feature_kwargs=as_batch,
    )


def shorter_edge(edge, n_frames, height, width):
    """The (height, width) in the same ratio with `edge` as the smaller one."""
    longer = int(edge * max(height, width) / min(height, width))
    return (longer, edge) if width <= height else (edge, longer)


def as_batch(inputs):
    return {"pixel_values_videos": inputs.pixel_values[None]}
