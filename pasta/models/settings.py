"""The checkpoint's settings, out of its config.json and its preprocessor's file."""

from pasta.run.schema import ABSENT, schema_error

SIDES = ("height", "width")
STEPS = {  # what is done here; a file that asks for something else is refused
    "do_resize": True,
    "resample": 3,  # bicubic
    "do_rescale": True,
    "do_normalize": True,
    "do_center_crop": False,
    "cap_pixels_per_frame": False,
}
PIXELS = ("min_pixels", "max_pixels")
SIZES = """
    patch_size temporal_patch_size merge_size size.height size.width size.shortest_edge
    crop_size.height crop_size.width image_size image_seq_length spatial_pool_stride
""".split()
LARGEST = 2**14  # of them: with more no frame fits into memory
IDS = ("video_token_id", "image_token_id")


def given_settings(preprocessor, **steps):
    """The entries of a preprocessor's file that are not null: as in transformers, null is absent.

    No rescale_factor, as in some released files, means 1 / 255.
    steps: where the family differs from STEPS.
    Raises ValueError for a step that is not done here.
    """
    given = {name: value for name, value in preprocessor.items() if value is not None}
    if wrong := schema_error(given, {"size": dict | ABSENT, "crop_size": dict | ABSENT}):
        raise ValueError(f"preprocessor config: {wrong}")
    for name, value in (STEPS | steps).items():
        if given.get(name, value) != value:
            raise ValueError(f"preprocessor config: {name} is {given[name]}; expected {value}")
    return sound({"rescale_factor": 1 / 255} | given)


def require(settings):
    """`settings`, all of which must be there. Raises ValueError that names what is None."""
    missing = ", ".join(name for name, value in settings.items() if value is None)
    if missing:
        told = f"config.json and preprocessor config lack {missing}"
        raise ValueError(f"{told}; expected what the original's have: copy the original's")
    return sound(settings)


def sound(settings):
    """`settings`, of which those that are computed with are numbers that one can compute with.

    Raises ValueError that names another one.
    """
    for name, value in settings.items():
        fits, expected = True, "a number above 0"
        if value is None:
            continue
        elif name in SIZES:
            fits, expected = is_size(value), f"a whole number from 1 to {LARGEST}"
        elif name in PIXELS:
            fits = type(value) is int and is_positive(value)
        elif name in IDS:
            fits, expected = type(value) is int and 0 <= value < 2**53, "a token's id"
        elif name in ("rescale_factor", "tokens_per_second"):
            fits = is_positive(value)
        elif name in ("image_mean", "image_std"):
            fits = isinstance(value, list) and len(value) == 3 and all(map(is_number, value))
            fits, expected = fits and (name == "image_mean" or all(value)), "three numbers"
        if not fits:
            raise ValueError(f"{name} is {value!r:.80}; expected {expected}")
    return settings


def is_number(value):
    """Whether this is a number, and one that a float can hold."""
    return type(value) in (int, float) and abs(value) < 2**53


def is_positive(value):
    return is_number(value) and value > 0


def is_size(value):
    return type(value) is int and 0 < value <= LARGEST
