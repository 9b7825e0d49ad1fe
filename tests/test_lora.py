"""pasta/lora.py against arithmetic, the base model's own bits, and the peft library.

The model is a random Qwen2.5-VL of the real class, a few thousand weights large: its vision tower
has gate_proj, up_proj and down_proj too, which the language model's adapter must not touch.

    python -m pytest -q tests/test_lora.py
"""

import json
import math
import os
import re
from contextlib import nullcontext

import pytest
import torch
from rounding import close
from safetensors.torch import load_file, save_file
from tiny_models import adapter_parameters
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from pasta.lora import LANGUAGE_LINEARS, adapted, adapter_off, add_lora
from pasta.models.peft import CONFIG, WEIGHTS, load_adapter, save_adapter

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
LETTERS = ("lora_A", "lora_B")


def tiny_model():
    """The same weights at every call."""
    torch.manual_seed(0)
    text = {
        "vocab_size": 32,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2}
    vision |= {"out_hidden_size": 16, "fullatt_block_indexes": [0]}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def randomise(model):
    """What training does to an adapter: B is no longer zero."""
    torch.manual_seed(1)
    for parameter in adapter_parameters(model):
        nn.init.normal_(parameter, std=0.3)


def adapt(model, targets=LANGUAGE_LINEARS, rank=4, alpha=6, seed=0):
    return add_lora(model, targets, rank=rank, alpha=alpha, seed=seed)


def trained(**settings):
    model = tiny_model()
    adapt(model, **settings)
    randomise(model)
    return model


@pytest.fixture
def folder(tmp_path):
    """An adapter of rank 4, alpha 6."""
    save_adapter(tmp_path / "adapter", trained(rank=4, alpha=6), "owner/base")
    return tmp_path / "adapter"


def edit(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


def rename(folder, function):
    """Rewrite the adapter's file, key by key; None drops the key."""
    tensors = load_file(folder / WEIGHTS)
    renamed = {function(key): tensor for key, tensor in tensors.items()}
    save_file({k: t for k, t in renamed.items() if k is not None}, folder / WEIGHTS)


def test_one_layer_by_hand():
    model = nn.Sequential(nn.Linear(2, 1))
    adapt(model, "0", rank=1, alpha=3)
    with torch.no_grad():
        model[0].base.weight.copy_(torch.tensor([[1.0, 10.0]]))
        model[0].base.bias.copy_(torch.tensor([100.0]))
        model[0].lora_A.copy_(torch.tensor([[1.0, 2.0]]))
        model[0].lora_B.copy_(torch.tensor([[5.0]]))
    # 1*1 + 10*1 + 100 = 111;  (3/1) * 5 * (1*1 + 2*1) = 45
    assert model(torch.ones(1, 2)).item() == 156


def test_fresh_adapter_changes_no_bit():
    model = tiny_model()
    before = logits(model)
    adapt(model)
    assert torch.equal(logits(model), before)


def test_off_switch_restores_the_base_after_training_bit_for_bit():
    before, model = logits(tiny_model()), trained()
    assert not torch.equal(logits(model), before)
    with adapter_off(model):
        assert torch.equal(logits(model), before)


def test_off_switch_comes_back_after_an_exception_and_from_within_itself():
    model = trained()
    with pytest.raises(KeyError), adapter_off(model):
        raise KeyError
    assert all(layer.enabled for _, layer in adapted(model))
    with adapter_off(model):
        with adapter_off(model):
            pass
        assert not any(layer.enabled for _, layer in adapted(model))


def test_merged_weights_equal_the_live_adapter():
    model, merged = trained(rank=4, alpha=6), tiny_model()
    for name, layer in adapted(model):
        merged.get_submodule(name).weight.data += 6 / 4 * (layer.lora_B @ layer.lora_A).detach()
    assert close(logits(merged), logits(model))


def test_only_a_and_b_have_gradients():
    model = tiny_model()
    adapt(model)
    model(input_ids=IDS).logits.square().sum().backward()
    with_gradient = {id(p) for p in model.parameters() if p.grad is not None}
    assert with_gradient == {id(p) for p in adapter_parameters(model)}


def test_default_targets_are_the_seven_linears_of_every_language_layer():
    kinds = "self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj "
    kinds += "mlp.gate_proj mlp.up_proj mlp.down_proj"
    names = [f"model.language_model.layers.{i}.{kind}" for i in range(2) for kind in kinds.split()]
    assert adapt(tiny_model()) == names


@pytest.mark.parametrize(
    ("name", "is_target"),
    [
        ("model.language_model.layers.0.self_attn.q_proj", True),  # transformers 5
        ("model.layers.27.mlp.down_proj", True),  # transformers before 4.52
        ("language_model.model.layers.3.mlp.gate_proj", True),  # LLaVA before 4.52
        ("model.visual.blocks.0.mlp.gate_proj", False),  # Qwen's vision tower
        ("visual.blocks.0.mlp.up_proj", False),
        ("model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj", False),  # SigLIP
        ("model.language_model.layers.0.self_attn.q_proj.base", False),
        ("lm_head", False),
    ],
)
def test_default_targets_in_the_layouts_of_the_field(name, is_target):
    assert bool(re.fullmatch(LANGUAGE_LINEARS, name)) == is_target


def test_a_starts_uniform_within_one_over_root_of_its_inputs():
    model = nn.Sequential(nn.Linear(400, 3))
    adapt(model, "0", rank=100)
    a = model[0].lora_A
    # Kaiming with slope sqrt(5): sqrt(6 / (1 + 5) / 400) = 0.05, of which the sd is 0.05 / sqrt(3)
    assert 0.0499 < a.abs().max().item() <= 0.05
    assert a.std().item() == pytest.approx(0.05 / math.sqrt(3), rel=0.02)


def test_seed_decides_a_and_the_global_generator_is_left_alone():
    first, second, other = tiny_model(), tiny_model(), tiny_model()
    state = torch.get_rng_state()
    for model, seed in ((first, 5), (second, 5), (other, 6)):
        adapt(model, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = (adapter_parameters(model)[0] for model in (first, second, other))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_bfloat16_model_keeps_a_float32_adapter_and_bfloat16_outputs():
    model = tiny_model().to(torch.bfloat16)
    adapt(model)
    assert {p.dtype for p in adapter_parameters(model)} == {torch.float32}
    assert logits(model).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert adapted(trained())[0][1](torch.ones(1, 16)).dtype == torch.bfloat16


def test_unknown_layer_name_is_refused_with_names_that_exist():
    with pytest.raises(ValueError, match="'.*c_attn'.*such as model.visual"):
        adapt(tiny_model(), r".*c_attn")


def test_a_second_adapter_is_refused(folder):
    model = trained()
    with pytest.raises(ValueError, match="already has an adapter"):
        adapt(model)
    with pytest.raises(ValueError, match="already has an adapter"):
        load_adapter(model, folder)


def test_saved_file_holds_only_a_and_b(folder):
    keys = set(load_file(folder / WEIGHTS))
    names = adapt(tiny_model())
    assert keys == {f"base_model.model.{n}.{matrix}.weight" for n in names for matrix in LETTERS}


def test_a_loaded_adapter_gives_the_same_logits_and_can_be_trained_further(folder):
    model = tiny_model()
    load_adapter(model, folder)
    assert torch.equal(logits(model), logits(trained()))
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert [id(p) for p in trainable] == [id(p) for p in adapter_parameters(model)]


def test_saving_replaces_an_adapter_and_leaves_no_other_file(folder):
    save_adapter(folder, trained(rank=2), "owner/other")
    assert sorted(os.listdir(folder)) == [CONFIG, WEIGHTS]
    assert os.listdir(folder.parent) == ["adapter"]
    assert json.loads((folder / CONFIG).read_text())["r"] == 2


def test_saving_over_other_files_is_refused(folder):
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files"):
        save_adapter(folder, trained(), "owner/base")
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_killed_save_leaves_the_old_adapter_whole(folder, monkeypatch):
    before = logits(trained())

    def killed(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("pasta.models.peft.save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        save_adapter(folder, trained(rank=2), "owner/base")
    model = tiny_model()
    load_adapter(model, folder)
    assert torch.equal(logits(model), before)


def test_some_layers_only_are_saved_under_a_pattern_for_exactly_these(tmp_path):
    target = r"model\.language_model\.layers\.1\.mlp\.up_proj"
    save_adapter(tmp_path / "adapter", trained(targets=target), "owner/base")
    pattern = json.loads((tmp_path / "adapter" / CONFIG).read_text())["target_modules"]
    linears = [n for n, m in tiny_model().named_modules() if isinstance(m, nn.Linear)]
    matched = [name for name in linears if re.fullmatch(pattern, name)]
    assert matched == ["model.language_model.layers.1.mlp.up_proj"]


def test_names_of_older_transformers_are_found(folder):
    rename(folder, lambda key: key.replace("model.language_model.layers", "model.layers"))
    model = tiny_model()
    load_adapter(model, folder)
    assert torch.equal(logits(model), logits(trained()))


def test_rank_stabilised_scale_is_alpha_over_root_of_rank(folder):
    edit(folder, use_rslora=True)
    model = tiny_model()
    load_adapter(model, folder)
    assert {layer.scale for _, layer in adapted(model)} == {6 / 2}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use_dora", True),
        ("bias", "lora_only"),
        ("modules_to_save", ["lm_head"]),
        ("alpha_pattern", {"q_proj": 64}),
        ("init_lora_weights", "pissa_niter_16"),
        ("peft_type", "LOHA"),
        ("fan_in_fan_out", True),
        ("lora_bias", True),
        ("velora_config", {"rank": 2}),
        ("monteclora_config", {"n": 1}),
        ("of_a_later_version", 0.5),
        ("lora_alpha", -6),
        ("lora_alpha", 0),
        ("lora_alpha", 1e9),
    ],
)
def test_settings_other_than_plain_lora_are_refused_by_name(folder, name, value):
    edit(folder, **{name: value})
    with pytest.raises(ValueError, match=re.escape(f"{name}={value!r}")):
        load_adapter(tiny_model(), folder)


WRONG_KEYS = {
    "no such layer in this model": lambda key: key.removeprefix("base_model.model."),
    "mlp.up_proj.lora_magnitude_vector.weight: no such": lambda key: key.replace(
        "up_proj.lora_A", "up_proj.lora_magnitude_vector"
    ),
    "layers.7.mlp.up_proj.lora_A.weight: no such": lambda key: key.replace("layers.1", "layers.7"),
    "layers.0.mlp.up_proj.lora_B is missing": lambda key: (
        None if key.endswith("layers.0.mlp.up_proj.lora_B.weight") else key
    ),
    "holds nothing": lambda key: None,
}


@pytest.mark.parametrize("message", WRONG_KEYS)
def test_unknown_and_missing_keys_are_named(folder, message):
    rename(folder, WRONG_KEYS[message])
    with pytest.raises(ValueError, match=f"{WEIGHTS}: .*{re.escape(message)}"):
        load_adapter(tiny_model(), folder)


def test_a_wrong_shape_is_refused_with_both_and_leaves_the_model_unchanged(folder):
    edit(folder, r=8)
    model = tiny_model()
    expected = r"layers.0.mlp.down_proj.lora_A is \(4, 24\); expected \(8, 24\)"
    with pytest.raises(ValueError, match=expected):
        load_adapter(model, folder)
    assert adapted(model) == [] and all(p.requires_grad for p in model.parameters())


# PEFT's own defaults, written out by several of its versions.
HARMLESS = {
    "megatron_core": "megatron.core", "qalora_group_size": 16, "lora_dropout": 0.05,
    "loftq_config": {}, "rank_pattern": {}, "use_dora": False, "init_lora_weights": "gaussian",
    "revision": "main", "layers_to_transform": [0, 1], "eva_config": {"rho": 2.0},
    "runtime_config": {"ephemeral_gpu_offload": False}, "auto_mapping": None, "of_the_future": None,
}  # fmt: skip


def test_settings_that_change_no_result_are_read(folder):
    edit(folder, **HARMLESS)
    model = tiny_model()
    load_adapter(model, folder)
    assert torch.equal(logits(model), logits(trained()))


KEEPS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
OTHERS = [torch.int8, torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", [*KEEPS, *OTHERS], ids=str)
def test_only_floats_are_weights(folder, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)
    model = tiny_model()
    refused = pytest.raises(ValueError, match=rf"{WEIGHTS}: .*A is {dtype}; expected float32")
    with nullcontext() if dtype in KEEPS else refused:
        load_adapter(model, folder)
    assert bool(adapted(model)) == (dtype in KEEPS)


@pytest.mark.parametrize("value", [1e30, -1e30, 3e38, 1.1e6])
def test_numbers_that_no_training_gives_are_counted_and_named(folder, value):
    tensors = load_file(folder / WEIGHTS)
    key = next(key for key in tensors if key.endswith("layers.1.self_attn.v_proj.lora_A.weight"))
    tensors[key][0, :2] = value
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ValueError, match=f"{WEIGHTS}: .*v_proj.lora_A holds 2 .*above 1e.06"):
        load_adapter(tiny_model(), folder)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_counted_and_named(folder, value):
    tensors = load_file(folder / WEIGHTS)
    key = next(key for key in tensors if key.endswith("layers.0.mlp.up_proj.lora_B.weight"))
    tensors[key][1, :3] = value
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ValueError, match=f"{WEIGHTS}: .*up_proj.lora_B holds 3 infinite or nan"):
        load_adapter(tiny_model(), folder)


def test_a_layer_under_the_names_of_two_versions_is_there_twice(folder):
    tensors = load_file(folder / WEIGHTS)
    key = next(key for key in tensors if "language_model.layers.0.mlp.up_proj.lora_A" in key)
    older = key.replace("model.language_model.layers", "model.layers")
    save_file(tensors | {older: tensors[key].clone()}, folder / WEIGHTS)
    with pytest.raises(ValueError, match="layers.0.mlp.up_proj.lora_A is there twice"):
        load_adapter(tiny_model(), folder)


def test_peft_reads_ours_with_no_key_missing_and_the_same_logits(folder, recwarn):
    peft = pytest.importorskip("peft")
    theirs = peft.PeftModel.from_pretrained(tiny_model(), folder)
    assert close(logits(theirs), logits(trained()))
    assert not [w for w in recwarn if "adapter keys" in str(w.message)]
    injected = [n for n, m in theirs.named_modules() if isinstance(m, peft.tuners.lora.Linear)]
    assert len(injected) == 14


@pytest.mark.parametrize(
    "targets",
    [
        ["q_proj", "up_proj"],  # the vision tower's up_proj too
        r".*language_model.*\.(v_proj|down_proj)",
        "all-linear",
    ],
)
@pytest.mark.parametrize("use_rslora", [False, True])
def test_ours_reads_pefts_with_the_same_logits(tmp_path, targets, use_rslora):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, lora_alpha=10, target_modules=targets, use_rslora=use_rslora)
    theirs = peft.get_peft_model(tiny_model(), config)
    torch.manual_seed(2)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(tmp_path / "theirs")
    model = tiny_model()
    load_adapter(model, tmp_path / "theirs")
    assert not torch.allclose(logits(model), logits(tiny_model()), atol=1e-2)
    assert close(logits(model), logits(theirs.eval()))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"peft_type": "LORA", "r": 4', "[" * 10**5])
def test_a_config_that_is_not_an_object_is_refused_by_name(folder, text):
    (folder / CONFIG).write_text(text)
    with pytest.raises(ValueError, match=f"{CONFIG}.*expected"):
        load_adapter(tiny_model(), folder)


@pytest.mark.parametrize(
    "change",
    [{"r": "4"}, {"r": None}, {"r": 0}, {"r": True}, {"r": -4, "use_rslora": True},
     {"lora_alpha": "6"}, {"lora_alpha": None}, {"lora_alpha": math.nan}, {"lora_alpha": 10**400}],
)  # fmt: skip
def test_a_rank_or_alpha_that_is_not_a_number_is_refused_and_the_model_unchanged(folder, change):
    model = tiny_model()
    edit(folder, **change)
    with pytest.raises(ValueError, match=rf"{CONFIG}: .*{next(iter(change))}.*expected"):
        load_adapter(model, folder)
    assert not adapted(model)


@pytest.mark.parametrize("length", [0, 4, 100, -8])
def test_weights_that_are_cut_short_are_refused_by_name(folder, length):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:length])
    with pytest.raises(ValueError, match=f"{WEIGHTS}: safetensors cannot read it.*expected"):
        load_adapter(tiny_model(), folder)
