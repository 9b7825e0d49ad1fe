"""The known families, and the Family of a checkpoint's files. To add one: docs/changing.md."""

from functools import partial
from pathlib import Path

from pasta.models.family import Family, plain_positions, whole
from pasta.models.fixed import internvl_family, next_video_family, onevision_family
from pasta.models.qwen import qwen3_family, qwen_family
from pasta.models.smolvlm import smolvlm_family
from pasta.run.schema import ABSENT, read_json, schema_error

FAMILIES = {  # model_type in config.json -> the function that makes its Family
    "qwen2_vl": qwen_family,
    "qwen2_5_vl": qwen_family,
    "qwen3_vl": qwen3_family,
    "qwen3_5": qwen3_family,
    "qwen3_5_moe": qwen3_family,
    "llava_onevision": onevision_family,
    "llava_next_video": next_video_family,
    "internvl": internvl_family,
    "smolvlm": smolvlm_family,
}


def family_for(config: dict, preprocessor: dict, max_pixels=0) -> Family:
    """The Family of a checkpoint, or ValueError for a setting that is missing or unsupported.

    max_pixels: bound on a frame's pixels, ignored where all frames have one size; 0: none
    """
    known = tuple(sorted(FAMILIES))
    if wrong := schema_error(config, {"model_type": known, "vision_config": dict | ABSENT}):
        raise ValueError(f"config.json: {wrong}")
    return FAMILIES[config["model_type"]](config, preprocessor, max_pixels)


def family_of_folder(folder, config, max_pixels, n_frames):
    """(Family, number of frames) of a checkpoint. n_frames: the default, if its files name none."""
    path, preprocessor = video_settings(folder)
    try:
        n_frames = preprocessor.get("num_frames") or n_frames
        whole({"num_frames": n_frames}, "num_frames")
        return family_for(config, preprocessor, max_pixels), n_frames
    except ValueError as error:
        raise ValueError(f"{Path(folder, 'config.json')}, {path}: {error}") from None


def video_settings(folder):
    """(file, the video settings in it): the file that transformers reads."""
    nested = Path(folder, "processor_config.json")
    shape = {"video_processor": dict | ABSENT}
    if nested.is_file() and "video_processor" in (content := read_json(nested, shape)):
        return nested, content["video_processor"]
    # Qwen2-VL and Qwen2.5-VL have only the last: its bounds, of images, apply to each frame
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if (path := Path(folder, name)).is_file():
            return path, read_json(path)
    raise FileNotFoundError(f"{folder} has no preprocessor_config.json; copy the checkpoint's own")


def text_family(model_type) -> Family:
    """The Family of a language model that reads no videos, for judges."""

    def refuse(*_):
        got = f"{model_type!r} reads text only and can only judge (make_pairs.py --judge)"
        raise ValueError(f"{got}. Expected one of {', '.join(sorted(FAMILIES))}")

    positions = partial(plain_positions, -1)  # the id of no token
    return Family(model_type, None, None, refuse, refuse, positions, refuse)
