"""Every family's model, tiny and random, from packed rows to training, against transformers.

The oracle is transformers' forward as its users call it: sdpa, pixels, one response a row, no
cache. Qwen2-VL and Qwen2.5-VL get our positions, because transformers' are wrong (models/qwen.py).

    python -m pytest -q tests/test_family_models.py
"""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import finish, pairs_or_none
from golden.make_families import make_clip
from rounding import close, close_sums, margin_bound
from tiny_models import TINY, adapter_parameters, make_language_model, make_tiny
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

import evaluate
import make_pairs
import train_dpo
from pasta.benchmarks import mvbench
from pasta.benchmarks.inputs import find_adapters
from pasta.lora import add_lora
from pasta.making import queries
from pasta.models.families import FAMILIES
from pasta.models.generate import Request, ask, letter_logps
from pasta.models.load import (
    checkpoint_activations,
    load_processor,
    load_vlm,
    shard_units,
    tune_all,
)
from pasta.models.peft import save_adapter
from pasta.models.vision import video_features
from pasta.packs import pack_responses
from pasta.pairs import MODES
from pasta.policy import Policy
from pasta.run.rows import read_rows
from pasta.tools.export import merge
from pasta.toy import files

TEXTS = [("Is it left?", "Yes"), ("Is it left?", "No, right."), ("Where?", "Up"), ("Where?", "")]
every_family = pytest.mark.parametrize("name", TINY)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """name -> the folder of a tiny model."""
    root = tmp_path_factory.mktemp("families")
    return {name: make_tiny(root / name, name) for name in TINY}


@pytest.fixture
def vlm(folders, name):
    return load_vlm(folders[name])


@pytest.fixture
def videos(vlm):
    """Three videos: a landscape, one of other length and shape, one as long as the first."""
    clips = [(4, 60, 100), (7, 90, 50), (4, 60, 100)]
    frames = [make_clip(*clip) // (i + 1) for i, clip in enumerate(clips)]
    return [vlm.processor.prepare(f, np.arange(len(f)) / 2) for f in frames]


class Oracle:
    """transformers' model of a folder, called as its users do."""

    def __init__(self, vlm, auto=AutoModelForImageTextToText):
        self.processor = vlm.processor
        self.model = auto.from_pretrained(vlm.name, dtype=torch.float32).eval()
        self.kind = self.model.config.model_type

    @torch.no_grad()
    def logps(self, ids, inputs=None):
        """(L, V) log-probabilities after each of the ids."""
        more = {} if inputs is None else self.processor.family.feature_kwargs(inputs)
        ids = torch.tensor([ids])
        if self.kind in ("qwen2_vl", "qwen2_5_vl"):
            more["position_ids"] = self.processor.positions(ids[0].tolist(), inputs)[:, None]
        elif self.kind.startswith("qwen3") and inputs is not None:
            more["mm_token_type_ids"] = 2 * (ids == self.model.config.video_token_id).int()
        return self.model(input_ids=ids, **more).logits[0].log_softmax(-1)

    def score(self, inputs, query, response):
        head = self.prompt(inputs, query)
        tail = self.processor.response_ids(response)
        logps = self.logps(head + tail, inputs)[len(head) - 1 : -1]
        return logps[range(len(tail)), tail].sum()

    def prompt(self, inputs, query):
        with_video = inputs is not None
        return self.processor.prefix_ids(inputs) + self.processor.query_ids(query, with_video)


def test_every_family_has_a_tiny_model(folders):
    kinds = {load_processor(folder).family.model_type for folder in folders.values()}
    assert kinds == set(FAMILIES)


# -------------------------------------------------------------------------------- scoring


@every_family
def test_packed_rows_score_as_transformers_own_forward(vlm, videos):
    oracle = Oracle(vlm)
    for inputs in (videos[0], videos[1], None):
        packed, where = pack_responses(vlm.processor, inputs, TEXTS)
        expected = torch.stack([oracle.score(inputs, *text) for text in TEXTS])
        scores = Policy(vlm)(packed)[where]
        assert close_sums(scores, expected, packed.response_lengths[where])
    one, two = (Policy(vlm)(pack_responses(vlm.processor, x, TEXTS)[0]) for x in videos[::2])
    assert (one - two).abs().max() > 1e-3  # the video counts


@every_family
def test_features_do_not_depend_on_what_is_computed_with_them(vlm, videos):
    family, calls = vlm.processor.family, []
    vlm.model.requires_grad_(True)
    encoder = f"get_{family.encoder}_features"
    base = vlm.model.base_model
    own = getattr(base, encoder)
    object.__setattr__(base, encoder, lambda **kwargs: calls.append(kwargs) or own(**kwargs))
    order = [videos[1], videos[0], videos[2], videos[0]]
    together = flat(video_features(vlm.model, family, order)[family.encoder])
    shapes = {tuple(x.shape[1:] for x in family.feature_kwargs(v).values()) for v in videos}
    assert len(calls) == len(shapes)  # videos of one shape side by side, none twice
    pixels = sum(next(iter(kwargs.values())).numel() for kwargs in calls)
    assert pixels == sum(v.pixel_values.numel() for v in videos)
    alone = [flat(video_features(vlm.model, family, [v])[family.encoder]) for v in order]
    for level, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert close(level, torch.cat(parts))
        assert not level.requires_grad


def flat(output):
    """[(tokens, width)] of each level of a tower's output."""
    found = [output.pooler_output, *output.deepstack_features]
    return [torch.cat(x) if isinstance(x, tuple) else x.flatten(0, 1) for x in found]


@every_family
def test_bfloat16_changes_scores_less_than_another_video_does(vlm, videos, folders, name):
    packed, other = (pack_responses(vlm.processor, x, TEXTS)[0] for x in videos[::2])
    half = load_vlm(folders[name], "bfloat16")
    exact = Policy(vlm)(packed)

    def change(scores):  # the root of the mean square, which no single response decides
        return ((scores - exact) / packed.response_lengths).square().mean().sqrt()

    for policy in (Policy(half), Policy(vlm, amp=True)):
        assert change(policy(packed)) < change(Policy(vlm)(other))


# ----------------------------------------------------------------------------- generation


@every_family
def test_answers_over_the_cache_are_the_argmax_of_full_forwards(vlm, videos):
    oracle = Oracle(vlm)
    for inputs in (videos[0], None):
        (answer,) = ask(vlm, [Request(inputs, "Where?")], max_new_tokens=8)
        head = oracle.prompt(inputs, "Where?")
        logps = oracle.logps(head + list(answer.ids), inputs)[len(head) - 1 : -1]
        assert answer.ids == tuple(logps.argmax(-1).tolist())
        assert close_sums(answer.logps, logps.max(-1).values.sum(), len(answer.ids))


@every_family
def test_a_batch_of_several_videos_answers_as_one_by_one(vlm, videos):
    long, short, other = videos
    wanted = [Request(x, q) for q in ("Where?", "Is it left or right?") for x in (long, short)]
    wanted += [Request(other, "Why?"), Request(None, "Why?"), Request(long, "Why?")]
    for request, answer in zip(wanted, ask(vlm, wanted, 6), strict=True):
        (alone,) = ask(vlm, [request], 6)
        assert answer.ids == alone.ids
        assert close_sums(answer.logps, alone.logps, len(answer.ids))


@every_family
def test_letters_score_as_transformers_first_token(vlm, videos):
    (found,) = letter_logps(vlm, [Request(videos[0], "A or B?")], [["A", "B"]])
    oracle = Oracle(vlm)
    last = oracle.logps(oracle.prompt(videos[0], "A or B?"), videos[0])[-1]
    blank = " " if vlm.processor.family.model_type == "smolvlm" else ""
    expected = [last[vlm.processor.ids(f"{blank}{letter}")[0]].item() for letter in "AB"]
    assert close_sums(found, expected, 1)


@every_family
def test_a_query_may_not_hold_the_models_own_video_tokens(vlm, videos):
    family = vlm.processor.family
    for mark in {family.placeholder, family.token}:
        [answer] = ask(vlm, [Request(videos[0], f"What is {mark}?")])
        assert answer.error.startswith(f"the prompt contains {mark}, a ") and not answer.ids
        with pytest.raises(ValueError, match="may not contain .*, a token of the model"):
            vlm.processor.query_ids(f"What is {mark}?")


# ------------------------------------------------------------------------------- training


def step_gradients(vlm, inputs):
    """name -> gradient of a made-up loss, of all that is trained."""
    packed, _ = pack_responses(vlm.processor, inputs, TEXTS)
    vlm.model.zero_grad()
    (Policy(vlm)(packed) * torch.tensor([1.0, -2.0, 0.5, 1.0])).sum().backward()
    return {name: p.grad.clone() for name, p in vlm.model.named_parameters() if p.requires_grad}


@every_family
def test_full_tuning_reaches_the_language_model_alone_and_checkpointing_changes_nothing(
    vlm, videos
):
    tune_all(vlm.model)
    vlm.model.train()
    plain = step_gradients(vlm, videos[0])
    checkpoint_activations(vlm.model)
    recomputed = step_gradients(vlm, videos[0])
    assert all(torch.equal(plain[key], recomputed[key]) for key in plain)
    assert all(grad.any() for grad in plain.values())
    tuned = {re.sub("(language|text)_model.", "", key).split(".layers.")[0] for key in plain}
    assert tuned <= {"model", "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    frozen = [p for p in vlm.model.parameters() if not p.requires_grad]
    assert frozen and all(p.grad is None for p in frozen)


@every_family
def test_adapters_are_in_the_language_layers_and_both_towers_layers_are_sharded(vlm):
    units = {type(unit).__name__ for unit in shard_units(vlm.model)}
    assert any("Decoder" in name for name in units)
    assert any("Vision" in name or "Encoder" in name for name in units)
    names = add_lora(vlm.model, rank=2, alpha=4)
    text = vlm.model.config.get_text_config()
    mixers = dict.fromkeys(
        ["full_attention", "sliding_attention"], {"q_proj", "k_proj", "v_proj", "o_proj"}
    )
    mixers["linear_attention"] = {"in_proj_qkv", "in_proj_z", "out_proj"}
    layers = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    for i, kind in enumerate(layers):
        inside = [n for n in names if re.match(rf"model\.(language|text)_model\.layers\.{i}\.", n)]
        kinds = mixers[kind] | {"gate_proj", "up_proj", "down_proj"}
        assert sorted(n.rsplit(".", 1)[1] for n in inside) == sorted(kinds)
        names = [n for n in names if n not in inside]
    assert not names


@every_family
def test_an_adapter_is_the_same_in_peft_and_merged(vlm, videos, folders, name, tmp_path):
    peft = pytest.importorskip("peft")
    add_lora(vlm.model, rank=2, alpha=4)
    for p in adapter_parameters(vlm.model):
        torch.nn.init.normal_(p, std=0.2)
    packed, where = pack_responses(vlm.processor, videos[0], TEXTS)
    ours = Policy(vlm)(packed)[where]
    save_adapter(tmp_path / "adapter", vlm.model, str(folders[name]))
    oracle = Oracle(vlm)
    oracle.model = peft.PeftModel.from_pretrained(oracle.model, tmp_path / "adapter").eval()
    merge(tmp_path / "adapter", tmp_path / "merged")
    merged = Oracle(replace(vlm, name=str(tmp_path / "merged")))
    for theirs in (oracle, merged):
        expected = torch.stack([theirs.score(videos[0], *text) for text in TEXTS])
        assert close_sums(ours, expected, packed.response_lengths[where])


@pytest.fixture
def train(folders, name, toy_videos, toy_pairs, tmp_path):
    def run(**flags):
        settings = {"model": str(folders[name]), "pairs": toy_pairs, "video_root": toy_videos}
        settings |= {"dtype": "float32", "device": "cpu", "workers": 0, "n_frames": 4, "lr": 2e-2}
        settings |= {"batch_pairs": 8, "epochs": 4, "warmup": 0.0, "out": tmp_path / "run"}
        train_dpo.main(train_dpo.TrainConfig(**settings | flags))
        return read_rows(tmp_path / "run/metrics.jsonl")

    return run


@every_family
def test_training_begins_at_ln_2_and_learns(train):
    first, *_, last = train(lora_rank=4, lora_alpha=8)
    assert first["loss"] == pytest.approx(math.log(2), abs=margin_bound(10))
    assert last["loss"] < 0.9 * math.log(2)


@pytest.mark.parametrize("name", ["Qwen3-VL"])
def test_full_tuning_learns_and_its_folder_is_evaluated(train, name, tmp_path, bench):
    first, *_, last = train(lora_rank=0, checkpointing=True, lr=2e-3)
    assert first["loss"] == pytest.approx(math.log(2), abs=margin_bound(10))
    assert last["loss"] < 0.9 * math.log(2)
    assert len(evaluated(tmp_path / "run/model", bench, tmp_path)) == 12


# ---------------------------------------------------------------------- the other scripts


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A benchmark of twelve questions in MVBench's layout."""
    folder = tmp_path_factory.mktemp("bench")
    files.write_benchmark(folder, 4, seed=0)
    return folder


def evaluated(model, bench, out, **flags):
    settings = {"model": str(model), "data": bench, "dtype": "float32", "device": "cpu"}
    settings |= {"n_frames": 4, "out": out / "eval"} | flags
    evaluate.main(evaluate.EvalConfig(**settings))
    (base,) = find_adapters(model, ["none"])
    return read_rows(out / "eval/mvbench" / base / "answers.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shard"), [
    ("Qwen3-VL", ["--shard"]), ("LLaVA-OneVision", ["--shard"]), ("InternVL3", ["--shard"]),
    ("Qwen3.5", ["--shard"]), ("Qwen3.5", []), ("SmolVLM2", ["--shard"]),
    ("Qwen2.5-VL with windows", []),
])  # fmt: skip
def test_over_two_processes_the_losses_are_those_of_one(
    train, torchrun, folders, name, shard, tmp_path
):
    alone = train(lora_rank=0, epochs=2, lr=1e-3)
    flags = {"model": folders[name], "n_frames": 4, "warmup": 0.0, "batch_pairs": 8, "epochs": 2}
    finish(torchrun(2, "both", *shard, lora_rank=0, **flags))
    both = read_rows(tmp_path / "both/metrics.jsonl")
    losses, right = ([row["loss"] for row in rows] for rows in (both, alone))
    assert losses == pytest.approx(right, abs=margin_bound(10))


@every_family
def test_a_benchmark_is_answered(folders, name, bench, tmp_path, monkeypatch):
    short = replace(mvbench.BENCHMARK, max_new_tokens=4)
    monkeypatch.setattr(mvbench, "BENCHMARK", short)
    rows = evaluated(folders[name], bench, tmp_path)
    assert len(rows) == 12 and all("error" not in row for row in rows)
    rows = evaluated(folders[name], bench, tmp_path / "letter", scoring="letter")
    assert all(set(row["predicted"]) <= set("AB") for row in rows)


@every_family
def test_candidates_are_made(folders, name, toy_videos, tmp_path, monkeypatch):
    settings = {"responder": str(folders[name]), "videos": toy_videos, "out": tmp_path, "limit": 1}
    settings |= {"max_new_tokens": 4, "dtype": "float32", "device": "cpu", "select": "none"}
    monkeypatch.setattr(queries, "query_flaw", lambda *_: "")  # accept its random queries
    with pairs_or_none():
        make_pairs.main(make_pairs.PairsConfig(n_frames=4, **settings))
    assert {row["mode"] for row in read_rows(tmp_path / "candidates.jsonl")} == set(MODES)
    assert not read_rows(tmp_path / "skipped.jsonl")


# ------------------------------------------------------------- language models, for judges


@pytest.mark.parametrize("kind", ["Qwen2", "Llama", "Llama with windows"])
def test_a_language_model_answers_as_transformers_generates(kind, tmp_path):
    folder = make_language_model(tmp_path / kind, kind.split()[0])
    if "windows" in kind:  # of fewer tokens than the prompts have
        changes = {"model_type": "mistral", "sliding_window": 8}
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))
    vlm = load_vlm(folder)
    theirs = Oracle(vlm, AutoModelForCausalLM)
    prompts = ["Does B contradict A?", "Yes or no: is it so?"]
    answers = ask(vlm, [Request(None, prompt) for prompt in prompts], 8)
    for prompt, answer in zip(prompts, answers, strict=True):
        text = vlm.processor.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=True, add_generation_prompt=True
        )["input_ids"]
        assert theirs.prompt(None, prompt) == text
        ids = theirs.model.generate(torch.tensor([text]), max_new_tokens=8, do_sample=False)
        assert list(answer.ids) == ids[0, len(text) :].tolist()
    with pytest.raises(ValueError, match="reads text only .* Expected one of internvl"):
        vlm.processor.prepare(make_clip(2, 56, 56), [0.0, 0.5])


def test_a_language_model_with_attention_of_its_own_is_refused(tmp_path):
    folder = make_language_model(tmp_path / "model", "Llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bloom"}))
    with pytest.raises(ValueError, match="cannot replace the attention of a bloom"):
        load_vlm(folder)
