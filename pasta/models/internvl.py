"""InternVL3, and InternVL2.5, in the form of transformers ("-hf"): each frame is an image."""

from functools import partial

from pasta.models.family import fixed_family, fixed_size, given_settings, whole


def internvl_family(config, preprocessor, max_pixels):
    """Family of InternVL. Frames have one size, so max_pixels has no effect.

    The tokens of a frame are image tokens between <img> and </img>, and the text numbers it.
    """
    given = given_settings(preprocessor)
    (per_frame,) = whole(config, "image_seq_length").values()
    return fixed_family(
        config,
        given,
        fixed_size(given),
        token="<IMG_CONTEXT>",
        id_name="image_token_id",
        per_frame=per_frame,
        placeholder="<video>",
        video_text=partial(numbered_frames, per_frame),
        encoder="image",
        feature_kwargs=as_images,
    )


def numbered_frames(per_frame, inputs):
    """The text of a video: one line per frame."""
    image = f"<img>{'<IMG_CONTEXT>' * per_frame}</img>"
    return "\n".join(f"Frame{i + 1}: {image}" for i in range(inputs.grid[0]))


def as_images(inputs):
    return {"pixel_values": inputs.pixel_values}
