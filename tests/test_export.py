"""pasta/tools/export.py against PEFT, plain transformers, TRL's trainer, and documented formats."""

import json
import re
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from rounding import EPS, close
from safetensors.torch import load_file
from tiny_models import adapter_parameters
from torch import nn
from transformers import AutoModelForImageTextToText

from pasta.datasets.read import read_pairs
from pasta.lora import add_lora
from pasta.models.load import load_vlm
from pasta.models.peft import CONFIG, WEIGHTS, load_adapter, save_adapter
from pasta.pairs import Pair
from pasta.run.atomic import write_json
from pasta.run.command import command_line
from pasta.run.rows import read_rows, write_rows
from pasta.sampling import uniform
from pasta.tools.export import WRITERS, main
from pasta.toy.pretrain import make_folder
from pasta.video import read_frames

IDS = torch.tensor([[30, 11, 41, 12, 55, 9, 26, 60]])
F = 4  # frames per video, for TRL
ROW = {"id": "a1", "video": "v.mp4", "mode": "spatial"}
ROW |= {"query": "Which?", "chosen": "This.", "rejected": "That."}


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits.float()


def plain(folder, **settings):
    """The model of a folder, loaded without pasta."""
    return AutoModelForImageTextToText.from_pretrained(folder, **settings).eval()


def make_untied(folder):
    """A tiny model folder whose output layer is not its embeddings."""
    make_folder(folder)
    model = plain(folder, dtype=torch.float32)
    for config in (model.config, model.config.text_config):
        config.tie_word_embeddings = False
    torch.manual_seed(3)
    model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight) / 8)
    model.save_pretrained(folder)


def make_run(run, base, name="adapter", seed=1, targets=None):
    """A run folder, with the adapter that training could have left: neither A nor B is zero."""
    model = load_vlm(base).model
    add_lora(model, *filter(None, [targets]), rank=4, alpha=6)
    torch.manual_seed(seed)
    for parameter in adapter_parameters(model):
        nn.init.normal_(parameter, std=0.05)
    save_adapter(run / name, model, base)
    write_json(run / "config.json", {"model": str(base)})
    return run


@pytest.fixture(scope="module", params=[make_folder, make_untied])
def merged(request, tmp_path_factory):
    """(float32 model folder, run, merged model folder)."""
    folder = tmp_path_factory.mktemp("merge")
    request.param(folder / "base")
    run = make_run(folder / "run", folder / "base")
    main(["merge", str(run), str(folder / "model")])
    return folder / "base", run, folder / "model"


@pytest.fixture
def run(tmp_path, tiny_folder):
    return make_run(tmp_path / "run", tiny_folder)


def refused(*arguments):
    """The message with which the command ends: one line."""
    with pytest.raises(SystemExit) as error, command_line():
        main(list(map(str, arguments)))
    message = str(error.value)
    assert "\n" not in message and len(message) > 20
    return message


def test_merged_model_has_the_logits_of_peft(merged):
    peft = pytest.importorskip("peft")
    base, run, out = merged
    model = plain(base, dtype=torch.float32)
    before = logits(model)
    theirs = logits(peft.PeftModel.from_pretrained(model, run / "adapter").eval())
    assert (theirs - before).abs().max() > 0.5
    assert close(logits(plain(out)), theirs) and close(logits(load_vlm(out).model), theirs)


def test_merged_folder_loads_in_plain_transformers_and_only_weights_differ(merged):
    base, run, out = merged
    model, info = AutoModelForImageTextToText.from_pretrained(out, output_loading_info=True)
    assert not any(info.values()) and model.dtype == torch.float32, info
    names = {path.name for path in base.iterdir()}
    assert {path.name for path in out.iterdir()} == names
    differ = {n for n in names if (base / n).read_bytes() != (out / n).read_bytes()}
    assert differ == {"model.safetensors"}
    old, new = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    adapted = load_file(run / "adapter" / WEIGHTS)
    names = {re.sub(r".*layers|\.lora_[AB]", "", name) for name in adapted}
    assert {name.split("layers")[-1] for name in changed} == names


@pytest.mark.parametrize("stored", ["bfloat16", "float32"])
def test_weights_are_rounded_once_to_the_dtype_of_the_base(tmp_path, stored):
    make_folder(tmp_path / "base")
    plain(tmp_path / "base", dtype=getattr(torch, stored)).save_pretrained(tmp_path / "base")
    run = make_run(tmp_path / "run", tmp_path / "base")
    main(["merge", str(run), str(tmp_path / "out")])
    name = "model.language_model.layers.1.mlp.up_proj"
    adapter = load_file(run / "adapter" / WEIGHTS)
    a, b = (adapter[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
    before = plain(tmp_path / "base").get_submodule(name).weight
    assert before.dtype == getattr(torch, stored)
    after, dtype = plain(tmp_path / "out"), getattr(torch, stored)
    assert {p.dtype for p in after.parameters()} == {dtype}  # that of config.json
    saved = load_file(tmp_path / "out/model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {dtype}
    exact = before.float() + 6 / 4 * b @ a
    found = after.get_submodule(name).weight.float()
    # half a unit of the type, and a sum of rank + 1 = 5 numbers in float32
    bound = torch.finfo(dtype).eps / 2 * exact.abs() + 5 * EPS * exact.abs().max()
    assert ((found - exact).abs() <= bound).all()


def test_a_run_stands_for_its_adapter_and_another_adapter_is_named(tmp_path, run, tiny_folder):
    make_run(run, tiny_folder, "adapter-best", seed=2)
    for name, folder in {"a": run, "b": run / "adapter", "c": run / "adapter-best"}.items():
        main(["merge", str(folder), str(tmp_path / name)])
    a, b, c = (load_file(tmp_path / x / "model.safetensors") for x in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_a_base_that_has_moved_is_given_with_base(tmp_path, run, tiny_folder):
    config = json.loads((run / "adapter" / CONFIG).read_text())
    write_json(run / "adapter" / CONFIG, config | {"base_model_name_or_path": "/no/such/model"})
    assert "'/no/such/model', which is not found" in refused("merge", run, tmp_path / "out")
    write_json(run / "adapter" / CONFIG, config | {"base_model_name_or_path": None})
    assert "names no model" in refused("merge", run, tmp_path / "out")
    main(["merge", str(run), str(tmp_path / "out"), "--base", str(tiny_folder)])
    assert (tmp_path / "out/model.safetensors").is_file()


def test_an_adapter_on_the_output_layer_is_merged_if_it_shares_no_weight(tmp_path, tiny_folder):
    run = make_run(tmp_path / "tied", tiny_folder, targets="lm_head")
    assert "shares its weight with the embeddings" in refused("merge", run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    make_untied(tmp_path / "base")
    run = make_run(tmp_path / "run", tmp_path / "base", targets="lm_head")
    main(["merge", str(run), str(tmp_path / "out")])
    model = load_vlm(tmp_path / "base").model
    load_adapter(model, run / "adapter")
    assert close(logits(plain(tmp_path / "out")), logits(model))


def test_merge_says_why_it_cannot_merge(tmp_path, run):
    assert "holds no adapter" in refused("merge", tmp_path / "nothing", tmp_path / "out")
    assert f"{run} exists" in refused("merge", run, run)


def test_adapter_has_the_layout_that_vllm_loads(run):
    # vLLM's PEFTHelper and LoRAModel.from_local_checkpoint read the names of the tensors.
    config = json.loads((run / "adapter" / CONFIG).read_text())
    assert config["r"] == 4 and config["lora_alpha"] == 6 and config["target_modules"]
    assert config["modules_to_save"] is None and config["bias"] == "none"
    assert not config["use_dora"] and not config["use_rslora"]
    layer = r"base_model\.model\.model\.language_model\.layers\.\d+\."
    part = r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.lora_(A|B)\.weight"
    tensors = load_file(run / "adapter" / WEIGHTS)
    assert len(tensors) == 4 * 7 * 2 and all(re.fullmatch(layer + part, key) for key in tensors)


def export(to, toy_pairs, toy_videos, out, *flags):
    main(["pairs", "--to", to, "--video_root", str(toy_videos), *flags, str(toy_pairs), str(out)])
    return out


def as_documented(to, pair):
    """The row of a pair that a trainer documents."""
    if to == "llama-factory":
        row = {"conversations": [{"from": "human", "value": f"<video>{pair.query}"}]}
        row |= {s: {"from": "gpt", "value": vars(pair)[s]} for s in ("chosen", "rejected")}
    else:
        user = {"role": "user", "content": f"<video>{pair.query}"}
        row = {"messages": [user, {"role": "assistant", "content": pair.chosen}]}
        row["rejected_response"] = pair.rejected
    return {"id": pair.id, "mode": pair.mode} | row | {"videos": [pair.video]}


@pytest.mark.parametrize("to", ["llama-factory", "ms-swift"])
def test_rows_are_as_documented_and_relative_paths_absolute(
    tmp_path, toy_pairs, toy_videos, monkeypatch, capsys, to
):
    monkeypatch.chdir(toy_videos.parent)
    out = export(to, toy_pairs, toy_videos.name, tmp_path / "out.jsonl")
    pairs = read_pairs(toy_pairs, video_root=toy_videos)
    rows = read_rows(out) if out.is_file() else json.loads((out / "pairs.json").read_text())
    assert rows == [as_documented(to, pair) for pair in pairs]
    counts = f"5 found under {toy_videos.name}\n0 of {len(pairs)} pairs left out\n"
    assert f"{counts}wrote {out}; next" in capsys.readouterr().out


def test_llama_factory_finds_the_columns(tmp_path, toy_pairs, toy_videos):
    out = export("llama-factory", toy_pairs, toy_videos, tmp_path / "lf")
    (info,) = json.loads((out / "dataset_info.json").read_text()).values()
    columns = {name: name for name in ("chosen", "rejected", "videos")}
    settings = {"file_name": "pairs.json", "formatting": "sharegpt", "ranking": True}
    assert info == settings | {"columns": {"messages": "conversations"} | columns}


@pytest.mark.parametrize("to", ["llama-factory", "ms-swift"])
def test_exported_pairs_read_back_the_same(tmp_path, toy_videos, to):
    pairs = [
        Pair("a#0", str(toy_videos / "00000.avi"), "spatial", "Où?\nTop or left?", "Left.", "Top."),
        Pair("b", str(toy_videos / "00001.avi"), "spatial", "When?", '"First" ≠ last', "Last\n1."),
    ]
    write_rows(tmp_path / "pairs.jsonl", [vars(pair) for pair in pairs])
    out = export(to, tmp_path / "pairs.jsonl", tmp_path, tmp_path / "out.jsonl")
    assert read_pairs(out if out.is_file() else out / "pairs.json") == pairs


@pytest.mark.parametrize("to", ["llama-factory", "ms-swift"])
@pytest.mark.parametrize(
    ("change", "has"),
    [
        ({"chosen": "see <image> here"}, "<image>"),
        ({"rejected": "see <video> here"}, "<video>"),
        ({"video": "frames"}, "a folder of frames"),
    ],
)
def test_a_pair_that_a_trainer_cannot_read_is_named_and_the_others_are_written(
    tmp_path, capsys, change, has, to
):
    (tmp_path / "frames").mkdir()
    write_rows(tmp_path / "pairs.jsonl", [ROW | change | {"id": "bad"}, ROW])
    out = tmp_path / "o.jsonl"
    main(["pairs", "--to", to, str(tmp_path / "pairs.jsonl"), str(out)])
    printed = capsys.readouterr().out
    assert f"left out: pair bad has {has}" in printed and "1 of 2 pairs left out" in printed
    assert [p.id for p in read_pairs(out if out.is_file() else out / "pairs.json")] == ["a1"]


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ({"query": "see <audio> here"}, "o.jsonl", ":1: query has <audio>"),
        ({"rejected": "see <video> here"}, "o.jsonl", "no pair can be written"),
        ({}, "o.json", "a name in .jsonl"),
    ],
)
def test_an_export_without_one_pair_or_under_a_wrong_name_is_refused(
    tmp_path, change, name, message
):
    write_rows(tmp_path / "pairs.jsonl", [ROW | change])
    out = tmp_path / name
    assert message in refused("pairs", "--to", "ms-swift", tmp_path / "pairs.jsonl", out)
    assert not out.exists()


SETTINGS = {  # of 8 frames and 100 * 28 * 28 pixels, as each trainer documents them
    "llama-factory": (
        r"video_maxlen=8 video_fps=8 video_max_pixels=78400$",
        r"cutoff_len=(\d+)",
    ),
    "ms-swift": (r"^FPS=8 FPS_MAX_FRAMES=8 VIDEO_MAX_PIXELS=78400 swift", r"--max_length (\d+)"),
}


@pytest.mark.parametrize("to", SETTINGS)
def test_the_printed_settings_give_the_frames_and_pixels_of_pair_making_and_cut_no_row(
    tmp_path, capsys, to
):
    recipe, long = {"n_frames": 8, "max_pixels": 78400}, {"chosen": "so " * 500}
    rows = [ROW | {"recipe": recipe}, ROW | {"id": "a2", "recipe": recipe} | long]
    write_rows(tmp_path / "pairs.jsonl", rows)
    main(["pairs", "--to", to, str(tmp_path / "pairs.jsonl"), str(tmp_path / "a b.jsonl")])
    printed, (frames, most) = capsys.readouterr().out, SETTINGS[to]
    assert re.search(frames, printed, re.M) and f"'{tmp_path}/a b.jsonl'" in printed
    # two frames share a token per 28 x 28 pixels; the text has 500 words
    assert 4 * 100 + 500 < int(re.search(most, printed)[1]) < 4 * 100 + 3000


def test_without_a_recipe_the_settings_are_the_defaults_and_flags_replace_them(tmp_path, capsys):
    write_rows(tmp_path / "pairs.jsonl", [ROW])
    for name, flags in (("a", []), ("b", ["--n_frames", "16", "--max_pixels", "50176"])):
        out = str(tmp_path / f"{name}.jsonl")
        main(["pairs", "--to", "ms-swift", *flags, str(tmp_path / "pairs.jsonl"), out])
    printed = capsys.readouterr().out
    assert re.findall(r"FPS_MAX_FRAMES=(\d+) VIDEO_MAX_PIXELS=(\d+)", printed) == [
        ("32", "602112"),
        ("16", "50176"),
    ]


def test_missing_videos_are_counted(tmp_path, toy_pairs, capsys):
    export("ms-swift", toy_pairs, tmp_path, tmp_path / "out.jsonl")
    assert f"0 found under {tmp_path}, 5 not, such as 00000.avi" in capsys.readouterr().out


@pytest.mark.parametrize("to", WRITERS)
def test_missing_and_unusable_pairs_and_existing_outputs_are_named(tmp_path, toy_pairs, to):
    command, out = ("pairs", "--to", to), tmp_path / "out.jsonl"
    assert str(tmp_path / "no.jsonl") in refused(*command, tmp_path / "no.jsonl", out)
    texts = {"query": "?", "chosen": "a", "rejected": "b"}
    write_rows(toy_pairs, [{"video": "v.mp4", "mode": "sideways"} | texts])
    assert f"{toy_pairs}:1: mode is 'sideways'" in refused(*command, toy_pairs, out)
    out.write_text("mine")
    assert "exists" in refused(*command, toy_pairs, out) and out.read_text() == "mine"


@pytest.fixture
def dataset(tmp_path, toy_pairs, toy_videos):
    """The result of the lines that the command prints."""
    datasets = pytest.importorskip("datasets")
    with patch("pasta.tools.export.read_frames", wraps=read_frames) as read:
        out = export("trl", toy_pairs, toy_videos, tmp_path / "trl", "--n_frames", str(F))
    once = [str(toy_videos / f"{v:05d}.avi") for v in range(5)]
    assert [call.args[0] for call in read.call_args_list] == once
    assert len(list((out / "images").iterdir())) == 5 * F
    file, cache = str(out / "train.jsonl"), str(tmp_path / "cache")
    pairs = datasets.load_dataset("json", data_files=file, split="train", cache_dir=cache)
    return pairs.cast_column("images", [datasets.Image()])


def frames_of(pair):
    return read_frames(pair.video, partial(uniform, n=F))[0]  # (F, H, W, 3)


def test_each_video_is_decoded_once_and_images_are_its_frames(dataset, toy_pairs, toy_videos):
    pairs = {pair.id: pair for pair in read_pairs(toy_pairs, video_root=toy_videos)}
    assert sorted(dataset["id"]) == sorted(pairs)
    for row in dataset:
        images = np.stack([np.asarray(image) for image in row["images"]])
        assert np.array_equal(images, frames_of(pairs[row["id"]]))


def test_frames_are_shrunk_to_max_pixels_in_their_ratio(tmp_path, toy_pairs, toy_videos):
    image = pytest.importorskip("PIL.Image")
    flags = ("--n_frames", "2", "--max_pixels", "800")  # of 56 x 56: 28 x 28 has 784
    out = export("trl", toy_pairs, toy_videos, tmp_path / "trl", *flags)
    assert {image.open(path).size for path in (out / "images").iterdir()} == {(28, 28)}


def test_unreadable_videos_are_named_and_skipped(tmp_path, toy_pairs, toy_videos, capsys):
    videos = Path(shutil.copytree(toy_videos, tmp_path / "videos"))
    (videos / "00000.avi").write_bytes(b"RIFF no video")
    (videos / "00003.avi").unlink()
    out = export("trl", toy_pairs, videos, tmp_path / "trl", "--n_frames", "2")
    names = [str(videos / name) for name in ("00000.avi", "00003.avi")]
    pairs, printed = read_pairs(toy_pairs, video_root=videos), capsys.readouterr().out
    lost = Counter(pair.video for pair in pairs if pair.video in names)
    assert all(f"left out: {lost[name]} pairs: {name}: " in printed for name in names)
    written = [row["id"] for row in read_rows(out / "train.jsonl")]
    assert written == [pair.id for pair in pairs if pair.video not in names]


def test_pairs_without_one_readable_video_are_an_error(tmp_path, toy_pairs, capsys):
    out = tmp_path / "out"
    assert "no video can be read" in refused("pairs", "--to", "trl", toy_pairs, out)
    assert "00000.avi: no such" in capsys.readouterr().out and not out.exists()


IMAGE_TEMPLATE = """{% for message in messages %}<|im_start|>{% for part in message['content'] %}\
{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>{% endfor %}\
{% if add_generation_prompt %}<|im_start|>{% endif %}"""


class ImageProcessor:
    """Replaces Qwen2_5_VLProcessor, which needs torchvision; keeps the images."""

    def __init__(self, tokenizer):
        self.tokenizer, self.images = tokenizer, None

    def apply_chat_template(self, messages, **settings):
        settings["chat_template"] = IMAGE_TEMPLATE
        return self.tokenizer.apply_chat_template(messages, **settings)

    def __call__(self, text, images=None, **settings):
        self.images = images or self.images
        return self.tokenizer(text, **settings)


def test_trls_collator_reads_frames_and_scores_responses(tiny, dataset, toy_pairs, toy_videos):
    trainers = pytest.importorskip("trl.trainer.dpo_trainer")
    processor = ImageProcessor(tiny.processor.tokenizer)
    pairs = {pair.id: pair for pair in read_pairs(toy_pairs, video_root=toy_videos)}
    rows = [dataset[i] for i in (0, 7)]  # about two videos
    pairs = [pairs[row["id"]] for row in rows]
    batch = trainers.DataCollatorForVisionPreference(processor)(rows)
    images = [[np.asarray(image) for image in of_pair] for of_pair in processor.images]
    assert np.array_equal(images, [frames_of(pair) for pair in pairs * 2])
    responses = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    image_token = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    for i, response in enumerate(responses):
        ids, mask = batch["input_ids"][i], batch["completion_mask"][i].bool()
        assert (ids[~mask] == image_token).sum() == F
        assert response in processor.tokenizer.decode(ids[mask])
