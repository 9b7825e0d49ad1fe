"""pasta/models/ against transformers' own processors (golden/families.json) and arithmetic.

python -m pytest -q tests/test_families.py
"""

import functools
import json
import pickle
import random
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden import make_families
from golden.make_families import CHECKPOINTS, CLIPS, FAMILIES, RELEASED, make_clip, save_checkpoint
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

from pasta.models.families import family_for, video_settings
from pasta.models.family import VideoInputs
from pasta.models.load import load_processor

GOLDEN = json.loads(make_families.FILE.read_text())
TEXT, VIDEO = 1, 9  # token ids
QWEN2 = {"model_type": "qwen2_vl", "video_token_id": VIDEO}
QWEN3 = {"model_type": "qwen3_vl", "video_token_id": VIDEO}
QWEN3_PIXELS = FAMILIES["Qwen3-VL"]["files"]["video_preprocessor_config.json"]
QWEN2_5 = QWEN2 | {"model_type": "qwen2_5_vl", "vision_config": {"tokens_per_second": 2}}
ONE_SIZE = ["LLaVA-OneVision", "LLaVA-NeXT-Video", "InternVL3", "SmolVLM2"]  # of all frames


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """(folder, Family) of each of the golden file's checkpoints."""
    found = {}
    for name in (*CHECKPOINTS, *FAMILIES):
        folder = tmp_path_factory.mktemp("checkpoint")
        save_checkpoint(folder, name)
        config = json.loads((folder / "config.json").read_text())
        found[name] = folder, family_for(config, video_settings(folder)[1])
    return found


@pytest.fixture(scope="module")
def prepared(checkpoints):
    """(name, clip) -> VideoInputs with the sha256 and the shape of the pixels in their place."""

    @functools.cache
    def prepare(name, clip):
        n_frames, height, width, fps = CLIPS[clip]
        frames, seconds = make_clip(n_frames, height, width), np.arange(n_frames) / fps
        family = checkpoints[name][1]
        inputs = family.prepare(frames, seconds)
        pixels, *_ = family.feature_kwargs(inputs).values()
        return replace(inputs, pixel_values=(make_families.sha256(pixels), list(pixels.shape)))

    return prepare


every_clip = pytest.mark.parametrize(
    ("name", "clip"), [tuple(key.rsplit(", ", 1)) for key in GOLDEN if ", " in key]
)


# -------------------------------------------------------- against transformers' processors


@every_clip
def test_pixels_are_those_of_transformers_bit_for_bit(prepared, name, clip):
    inputs, golden = prepared(name, clip), GOLDEN[f"{name}, {clip}"]
    assert list(inputs.grid) == golden.get("grid", [CLIPS[clip][0], 1, 1])
    assert inputs.pixel_values == (golden["pixels"], golden["shape"]), (
        f"other pixels than transformers on {torch.backends.cpu.get_cpu_capability()} with torch "
        f"{torch.__version__}; the golden file is from {GOLDEN['made with']}. If 'needs no resize' "
        "passes, torch's CPU kernel for uint8 bicubic resizing differs: make the file again "
        "(golden/make_families.py)"
    )


@every_clip
def test_the_whole_prompt_is_that_of_transformers(checkpoints, prepared, name, clip):
    folder, family = checkpoints[name]
    processor, inputs = load_processor(folder), prepared(name, clip)
    if name in FAMILIES:
        ids = processor.prefix_ids(inputs) + processor.query_ids(make_families.PROMPT)
        ids = ids[: len(ids) - len(processor.ids(processor.turn[0]))]  # the end of an empty thought
    else:  # the golden prompt begins with a system turn
        text = processor.tokenizer.apply_chat_template(
            make_families.MESSAGES, tokenize=False, add_generation_prompt=True
        )
        ids = processor.ids(family.expand(text, inputs))
    assert make_families.runs(ids) == GOLDEN[f"{name}, {clip}"]["input_ids"]
    processor.positions(ids, inputs)  # refuses a wrong number of video tokens


@pytest.mark.parametrize("clip", [clip for clip in CLIPS if CLIPS[clip][0] > 1])
def test_seconds_per_grid_are_those_of_transformers(prepared, clip):
    (expected,) = GOLDEN[f"Qwen2.5-VL, {clip}"]["seconds_per_grid"]  # a float32
    assert prepared("Qwen2.5-VL", clip).seconds_per_grid == pytest.approx(expected, rel=1e-7)


# ------------------------------------------------------------------------------- positions


def video(t, h, w, seconds_per_grid=1.0):
    """VideoInputs without pixels; t, h, w in patches, two of which make a token's side."""
    return VideoInputs(torch.empty(0), (t, h, w), seconds_per_grid, t * h * w // 4)


def prompt(before, inputs, after):
    return torch.tensor([TEXT] * before + [VIDEO] * inputs.n_tokens + [TEXT] * after)


def positions_of(before, inputs, after, config=QWEN2_5):
    ids = prompt(before, inputs, after)
    return family_for(config, RELEASED).positions(ids, inputs).tolist()


def test_positions_of_transformers_issue_45381():
    # The issue prints 15 text tokens, a video of 16128 tokens whose time ends at 347, height at 26
    # and width at 30, and text from 348 on. So a grid of 12 rows (15..26) and 16 columns (15..30)
    # has 16128 / 192 = 84 times, 83 steps from 15 to 347: 4 positions each, which is 2 tokens per
    # second * 2 seconds per grid (2 frames at 1 frame per second).
    inputs = video(84, 24, 32, seconds_per_grid=2.0)
    positions = family_for(QWEN2_5, RELEASED).positions(prompt(15, inputs, 10), inputs)
    before, inside, after = positions.split([15, 16128, 10], dim=1)
    time, height, width = inside.reshape(3, 84, 12, 16)
    assert before.tolist() == [list(range(15))] * 3
    assert time[:, 0, 0].tolist() == list(range(15, 348, 4))
    assert (time == time[:, :1, :1]).all()
    assert height[0, :, 0].tolist() == list(range(15, 27))
    assert (height == height[:1, :, :1]).all()
    assert width[0, 0].tolist() == list(range(15, 31))
    assert (width == width[:1, :1]).all()
    assert after.tolist() == [list(range(348, 358))] * 3


def test_fractions_of_a_second_count():
    # 2 tokens per second * 0.75 s = 1.5 positions a grid: 0, 1.5, 3, 4.5, rounded down
    assert positions_of(3, video(4, 4, 4, seconds_per_grid=0.75), 2) == [
        [0, 1, 2, 3, 3, 3, 3, 4, 4, 4, 4, 6, 6, 6, 6, 7, 7, 7, 7, 8, 9],
        [0, 1, 2, 3, 3, 4, 4, 3, 3, 4, 4, 3, 3, 4, 4, 3, 3, 4, 4, 8, 9],
        [0, 1, 2, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 8, 9],
    ]
    assert positions_of(3, video(4, 4, 4, seconds_per_grid=7.5), 2, QWEN2)[0] == [
        0, 1, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 8,
    ]  # Qwen2-VL counts grids  # fmt: skip


def test_text_continues_after_the_width_when_that_is_longer_than_the_time():
    assert positions_of(2, video(2, 2, 10, seconds_per_grid=0.5), 2) == [
        [0, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 7, 8],
        [0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 7, 8],
        [0, 1, 2, 3, 4, 5, 6, 2, 3, 4, 5, 6, 7, 8],
    ]


def test_a_prompt_may_be_a_video_alone_or_text_alone():
    assert positions_of(0, video(2, 2, 2), 0) == [[0, 2], [0, 0], [0, 0]]
    short_by_the_last_bit = video(2, 2, 2, seconds_per_grid=np.nextafter(1.0, 0.0))
    assert positions_of(0, short_by_the_last_bit, 0)[0] == [0, 2]
    positions = family_for(QWEN2_5, RELEASED).positions(torch.tensor([TEXT] * 4), None)
    assert positions.tolist() == [[0, 1, 2, 3]] * 3
    assert positions.dtype == torch.int64


def timed(t, h, w):
    """A prompt of Qwen3-VL: two tokens of text before every grid, one after it."""
    inputs = video(t, h, w)
    return inputs, torch.tensor(([TEXT] * 2 + [VIDEO] * (h * w // 4) + [TEXT]) * t)


def test_each_grid_of_qwen3_vl_is_a_video_of_one_moment():
    inputs, ids = timed(2, 4, 6)
    assert family_for(QWEN3, QWEN3_PIXELS).positions(ids, inputs).tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6, 7, 8, 8, 8, 8, 8, 8, 11],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 7, 8, 8, 8, 9, 9, 9, 11],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 8, 9, 10, 8, 9, 10, 11],
    ]


def test_positions_of_qwen3_vl_are_those_of_transformers():
    model = SimpleNamespace(config=SimpleNamespace(vision_config=SimpleNamespace(
        spatial_merge_size=2
    )))  # fmt: skip
    model.get_vision_position_ids = partial(Qwen3VLModel.get_vision_position_ids, model)
    rng = random.Random(0)
    for _ in range(50):
        t, h, w = rng.randint(1, 9), 2 * rng.randint(1, 9), 2 * rng.randint(1, 9)
        inputs, ids = timed(t, h, w)
        theirs, _ = Qwen3VLModel.get_rope_index(
            model, ids[None], 2 * (ids == VIDEO)[None].int(), None, torch.tensor([[t, h, w]])
        )
        ours = family_for(QWEN3, QWEN3_PIXELS).positions(ids, inputs)
        assert torch.equal(ours, theirs[:, 0])


@pytest.mark.parametrize("name", ONE_SIZE)
def test_families_without_mrope_count_up(checkpoints, name):
    folder, family = checkpoints[name]
    inputs = family.prepare(make_clip(1, 56, 56), [0.0])
    token = load_processor(folder).ids(family.token)
    ids = torch.tensor([0, *token * inputs.n_tokens, 0])
    assert family.positions(ids, inputs).tolist() == [list(range(len(ids)))]
    with pytest.raises(ValueError, match=r"has \d+ video tokens \(id \d+\); expected \d+"):
        family.positions(ids[:-2], inputs)


def test_positions_inside_the_video_are_those_of_transformers():
    rng = random.Random(0)
    for _ in range(200):
        t, h, w = rng.randint(1, 64), 2 * rng.randint(1, 9), 2 * rng.randint(1, 9)
        start, seconds = rng.randint(0, 40), rng.choice([0.0, 0.1, 0.5, rng.uniform(0, 9)])
        inputs = video(t, h, w, seconds)
        ours = family_for(QWEN2_5, RELEASED).positions(prompt(start, inputs, 0), inputs)
        grid = torch.tensor([t, h, w])
        theirs = Qwen2_5_VLModel.get_vision_position_ids(None, start, grid, 1, 2, 2 * seconds)
        assert torch.equal(ours[:, start:], theirs)


@pytest.mark.parametrize("ids", [[TEXT, TEXT], [TEXT, VIDEO], [VIDEO, TEXT, VIDEO], None])
def test_video_tokens_that_do_not_fit_the_video_are_an_error(ids):
    inputs, ids = (video(2, 2, 2), ids) if ids else (None, [TEXT, VIDEO, TEXT])
    with pytest.raises(ValueError, match=r"has runs of \[.*\] video tokens \(id 9\); expected"):
        family_for(QWEN2_5, RELEASED).positions(torch.tensor(ids), inputs)


# ---------------------------------------------------------------------- preparing a video


def test_rows_and_columns_of_the_patches_by_hand():
    # one pixel a patch, 255 * mean = 0 and 255 * std = 1; a pixel tells where it comes from
    exact = {"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "rescale_factor": 1.0}
    settings = RELEASED | exact | {"patch_size": 1, "min_pixels": 1}
    f, y, x, c = np.ogrid[:2, :2, :4, :3]
    frames = (100 * f + 40 * y + 10 * x + c).astype(np.uint8)
    inputs = family_for(QWEN2_5, settings).prepare(frames, [0.0, 1.0])
    assert inputs.grid == (1, 2, 4)
    assert inputs.n_tokens == 2
    assert inputs.pixel_values[0].tolist() == [0, 100, 1, 101, 2, 102]  # channel, then frame
    assert inputs.pixel_values[:, 0].tolist() == [0, 10, 40, 50, 20, 30, 60, 70]  # 2 x 2 a token


def test_the_last_frame_fills_an_odd_number_up():
    family, odd = family_for(QWEN2_5, RELEASED), make_clip(3, 56, 56)
    even = np.concatenate([odd, odd[-1:]])
    of_odd, of_even = family.prepare(odd, [0, 1, 2]), family.prepare(even, [0, 1, 2, 3])
    assert torch.equal(of_odd.pixel_values, of_even.pixel_values)
    assert of_odd.grid == (2, 4, 4)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [([0, 0.5, 1, 1.5], 1.0), ([3, 4, 5, 6], 2.0), ([0, 1, 1, 6], 4.0), ([5, 5, 5], 0), ([7], 0)],
)
def test_seconds_per_grid_come_from_the_timestamps(seconds, expected):
    frames = make_clip(len(seconds), 56, 56)
    assert family_for(QWEN2_5, RELEASED).prepare(frames, seconds).seconds_per_grid == expected


def test_mirrored_and_read_only_frames_are_taken():
    family, frames = family_for(QWEN2_5, RELEASED), make_clip(2, 50, 60)
    mirrored = frames[:, :, ::-1]
    mirrored.setflags(write=False)
    inputs = family.prepare(mirrored, [0, 1])
    assert torch.equal(inputs.pixel_values, family.prepare(mirrored.copy(), [0, 1]).pixel_values)


@pytest.mark.parametrize(
    ("shape", "seconds"),
    [((2, 3, 56, 56), [0, 1]), ((56, 56, 3), [0]), ((2, 56, 56, 3), [0]), ((2, 56, 56, 3), [1, 0]),
     ((2, 56, 56, 3), [0, np.nan]), ((0, 56, 56, 3), [])],
)  # fmt: skip
def test_frames_of_another_kind_are_an_error(shape, seconds):
    with pytest.raises(ValueError, match=r"expected uint8 \(F, H, W, 3\) at F seconds"):
        family_for(QWEN2_5, RELEASED).prepare(np.zeros(shape, np.uint8), seconds)
    with pytest.raises(ValueError, match="got float32 frames"):
        family_for(QWEN2_5, RELEASED).prepare(np.zeros((1, 56, 56, 3), np.float32), [0])


@pytest.mark.parametrize(
    ("config", "n_frames", "height", "width", "expected"),
    [
        (QWEN2_5, 2, 360, 640, (364, 644)),  # 12.86 and 22.86 units of 28 to 13 and 23
        (QWEN2_5, 2, 336, 336, (336, 336)),
        (QWEN2_5, 2, 40, 60, (56, 84)),  # too small: * sqrt(3136 / 2400) = 1.143, then up to units
        (QWEN2_5, 2, 4000, 6000, (2912, 4368)),  # too large: / sqrt(24e6 / 12845056), then down
        (QWEN2_5, 2, 14, 14, (56, 56)),
        (QWEN3, 8, 360, 640, (352, 640)),  # 11.25 and 20 units of 32
        (QWEN3, 2, 14, 200, (32, 448)),  # first * 32 / 14, then 457 is 14.3 units
        (QWEN3, 1, 64, 64, (64, 64)),
        # 500 frames: / sqrt(500 * 360 * 640 / 25165824) = 2.139, then down to whole units
        (QWEN3, 500, 360, 640, (160, 288)),
    ],
)
def test_fit_by_hand(config, n_frames, height, width, expected):
    preprocessor = QWEN3_PIXELS if config is QWEN3 else RELEASED
    assert family_for(config, preprocessor).fit(n_frames, height, width) == expected


@pytest.mark.parametrize("name", [*CHECKPOINTS, *FAMILIES])
def test_fit_leaves_alone_what_it_has_fitted(checkpoints, name):
    rng = random.Random(0)
    fit = checkpoints[name][1].fit
    for _ in range(500):
        fitted = fit(2, rng.randint(20, 3000), rng.randint(20, 3000))
        assert fit(2, *fitted) == fitted


def test_max_pixels_bounds_a_frame_of_qwen3_vl_whatever_their_number():
    fit = family_for(QWEN3, QWEN3_PIXELS, max_pixels=100_000).fit
    for n_frames in range(1, 40):
        height, width = fit(n_frames, 720, 1280)
        assert 60_000 < height * width <= 100_000


def test_a_frame_is_resized_by_its_shorter_edge_and_cropped_in_the_middle(checkpoints):
    family = checkpoints["LLaVA-NeXT-Video"][1]
    assert family.fit(1, 200, 301) == (336, 505)  # 336 * 301 / 200 = 505.7
    frames = np.zeros((1, 336, 505, 3), np.uint8)
    frames[:, :, 84] = 255  # (505 - 336) / 2 = 84.5: the first column that is kept
    pixels = family.prepare(frames, [0]).pixel_values
    assert (pixels[..., 0] > 1).all() and (pixels[..., 1:] < 0).all()


@pytest.mark.parametrize("name", ONE_SIZE)
def test_max_pixels_means_nothing_where_frames_have_one_size(checkpoints, name):
    folder, family = checkpoints[name]
    bounded = load_processor(folder, max_pixels=1000)
    assert bounded.fit(8, 300, 400) == family.fit(8, 300, 400)
    assert bounded.digest == load_processor(folder).digest


def test_a_frame_too_long_for_qwen_is_an_error():
    with pytest.raises(ValueError, match="frames are 2 x 402; expected a ratio of at most 200"):
        family_for(QWEN2_5, RELEASED).fit(2, 2, 402)


# -------------------------------------------------------------------- the checkpoint's files


@pytest.mark.parametrize("changed", [{"patch_size": 16}, {"temporal_patch_size": 4},
                                     {"merge_size": 1}])  # fmt: skip
def test_patch_sizes_come_from_the_preprocessor_config(changed):
    sizes = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2} | changed
    side = 2 * sizes["patch_size"] * sizes["merge_size"]
    family = family_for(QWEN2_5, RELEASED | changed | {"min_pixels": 1})
    inputs = family.prepare(make_clip(4, side, side), [0, 1, 2, 3])
    t, h = 4 // sizes["temporal_patch_size"], 2 * sizes["merge_size"]
    assert inputs.grid == (t, h, h)
    assert inputs.n_tokens == t * 4
    values = 3 * sizes["temporal_patch_size"] * sizes["patch_size"] ** 2
    assert inputs.pixel_values.shape == (t * h * h, values)


def test_min_and_max_pixels_win_over_size():
    both = make_families.RESAVED | {"min_pixels": 3136, "max_pixels": 12845056}
    assert family_for(QWEN2_5, both).fit(2, 1080, 1920) == (1092, 1932)
    assert family_for(QWEN2_5, make_families.RESAVED).fit(2, 1080, 1920) == (560, 1008)


@pytest.mark.parametrize("name", [*CHECKPOINTS, *FAMILIES])
def test_a_family_can_go_to_another_process(checkpoints, name):
    family = checkpoints[name][1]
    other, frames = pickle.loads(pickle.dumps(family)), make_clip(2, 60, 80)
    assert torch.equal(
        other.prepare(frames, [0, 1]).pixel_values, family.prepare(frames, [0, 1]).pixel_values
    )


def test_settings_are_read_from_the_file_that_transformers_takes(tmp_path):
    def write(name, content):
        (tmp_path / name).write_text(json.dumps(content))

    with pytest.raises(FileNotFoundError, match="no preprocessor_config.json"):
        video_settings(tmp_path)
    write("preprocessor_config.json", {"is": "image"})
    write("processor_config.json", {"processor_class": "Qwen2_5_VLProcessor"})
    assert video_settings(tmp_path)[1] == {"is": "image"}
    write("video_preprocessor_config.json", {"is": "video"})
    assert video_settings(tmp_path)[1] == {"is": "video"}
    write("processor_config.json", {"video_processor": {"is": "nested"}})
    assert video_settings(tmp_path)[1] == {"is": "nested"}


# ------------------------------------------------------------------------------ the prompt


def test_the_one_placeholder_is_repeated_for_every_token():
    expand = family_for(QWEN2_5, RELEASED).expand
    assert expand("a <|video_pad|> b", video(2, 2, 2)) == "a <|video_pad|><|video_pad|> b"


# ----------------------------------------------------------------------- files that do not fit

BAD = {  # file: setting: values that are refused; None is a missing one
    "config.json": {
        "model_type": [["qwen2_5_vl"], "llava"], "video_token_id": [None, "9", -1],
        "vision_config": [None, {}, {"tokens_per_second": "2"}, {"tokens_per_second": 0}],
    },
    "preprocessor_config.json": {
        "do_normalize": [False], "do_rescale": [False], "do_resize": [False], "resample": [2],
        "cap_pixels_per_frame": [True], "size": [336], "patch_size": [None, "14"],
        "merge_size": [None, 0], "temporal_patch_size": [None, 2**31], "min_pixels": [None, 0.5],
        "max_pixels": ["many"], "image_mean": [None, [0.5]], "image_std": [None, [0.5, 0.0, 0.5]],
        "rescale_factor": [0], "num_frames": ["8"],
    },
}  # fmt: skip


@pytest.mark.parametrize(("file", "name"), [(file, name) for file in BAD for name in BAD[file]])
def test_a_setting_that_is_missing_or_unusable_is_named_with_its_file(tmp_path, file, name):
    save_checkpoint(tmp_path, "Qwen2.5-VL")
    content = json.loads((tmp_path / file).read_text())
    for value in BAD[file][name]:
        (tmp_path / file).write_text(json.dumps(content | {name: value}))
        with pytest.raises(ValueError, match=f"{file}.*({name}|tokens_per_second).*expected"):
            load_processor(tmp_path, 10**5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("key", ["image_mean", "image_std", "size", "config.json"])
def test_a_missing_setting_of_any_family_is_named(checkpoints, name, key):
    folder, _ = checkpoints[name]
    config, settings = json.loads((folder / "config.json").read_text()), video_settings(folder)[1]
    if key == "config.json":
        config = {"model_type": config["model_type"]}
    else:
        del settings[key]
    with pytest.raises(ValueError, match=" is missing; expected"):
        family_for(config, settings)


def test_a_missing_upper_bound_is_the_callers():
    settings = {key: value for key, value in RELEASED.items() if key != "max_pixels"}
    assert family_for(QWEN2_5, settings, 56 * 56).fit(2, 500, 500) == (56, 56)
    with pytest.raises(ValueError, match="max_pixels is missing; expected"):
        family_for(QWEN2_5, settings)


def test_a_config_that_transformers_refuses_names_the_folder(tmp_path):
    save_checkpoint(tmp_path, "LLaVA-OneVision")
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["model_type"] = ["siglip"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{tmp_path.name}: transformers cannot read it.*expected"):
        load_processor(tmp_path)
