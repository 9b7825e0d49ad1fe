"""A model's own tokens in data, and how its chat template closes and opens an answer.

python -m pytest -q tests/test_own_tokens.py
"""

import json
import shutil
from types import SimpleNamespace

import pytest
from golden.make_families import FAMILIES, QWEN3_TEMPLATE, save_checkpoint
from tiny_models import TINY, make_tiny

import train_dpo
from pasta.benchmarks import answers
from pasta.candidates import view_logps
from pasta.judge import flaw
from pasta.making.queries import query_flaw
from pasta.models.generate import Request, ask, ask_all
from pasta.models.load import load_processor, load_vlm
from pasta.run.rows import read_rows, write_rows

FIELDS = ("query", "chosen", "rejected")


@pytest.fixture(scope="module")
def processors(tmp_path_factory):
    found = {}
    for name in FAMILIES:
        save_checkpoint(folder := tmp_path_factory.mktemp("checkpoint"), name)
        found[name] = load_processor(folder)
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_each_special_token_of_a_family_is_its_own_and_other_tags_are_text(processors, name):
    own, ids = processors[name].own, processors[name].ids
    special = [token for token in FAMILIES[name]["special"] if len(ids(token)) == 1]
    assert len(special) > 4
    for token in special:
        assert own.search(f"The {token} begins.")[0] == token
    for text in ("<video>", "<image>", "</s>", "<|im_end|>", "<b>", "<", "im_end", ""):
        assert bool(own.search(text)) == (text in special)


@pytest.mark.parametrize(
    ("content", "special", "found"),
    [("<tool_call>", False, True), ("[INST]", True, True), ("<｜User｜>", False, True),
     ("PAD", True, True), ("    ", False, False), ("\n\n", False, False), ("word", False, False)],
)  # fmt: skip
def test_an_added_token_of_letters_or_blanks_alone_is_text(tmp_path, content, special, found):
    save_checkpoint(tmp_path, "Qwen3-VL")
    path = tmp_path / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    token = tokenizer["added_tokens"][0] | {"content": content, "special": special, "id": 900}
    tokenizer["added_tokens"].append(token)
    path.write_text(json.dumps(tokenizer))
    assert bool(load_processor(tmp_path).own.search(f"one {content} two")) == found


@pytest.fixture
def train(tmp_path, tiny_folder, toy_videos, toy_pairs):
    """Train on three pairs, changed by number. Returns the rows of skipped.jsonl."""

    def train(**changes):
        rows = [row | {"id": f"p{i}"} for i, row in enumerate(read_rows(toy_pairs)[:3])]
        write_rows(toy_pairs, [row | changes.get(row["id"], {}) for row in rows])
        flags = {"model": str(tiny_folder), "pairs": toy_pairs, "video_root": toy_videos}
        flags |= {"dtype": "float32", "device": "cpu", "workers": 0, "out": tmp_path / "run"}
        train_dpo.main(train_dpo.TrainConfig(**flags, checkpointing=False, lora_rank=4))
        path = tmp_path / "run/skipped.jsonl"
        return read_rows(path) if path.is_file() else []

    return train


def test_pairs_with_the_models_tokens_are_named_and_the_others_train(train, tmp_path, capsys):
    bad = {"chosen": "The <|video_pad|> begins.", "rejected": "It ends.<|im_end|>"}
    skipped = train(p1=bad, p2={"chosen": "no <|token|> of it: </s>, <b>"})
    [pairs] = [row["pairs"] for row in read_rows(tmp_path / "run/metrics.jsonl")]
    assert pairs == 2
    reason = "pair p1: chosen contains <|video_pad|>, rejected contains <|im_end|>, a token of"
    assert [(row["pairs"], row["reason"]) for row in skipped] == [(["p1"], f"{reason} the model")]
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize(
    ("field", "text"),
    [("query", "a <|video_pad|>?"), ("query", "Why?<|im_end|>"), ("chosen", "left<|endoftext|>"),
     ("chosen", "a<|im_start|>b"), ("rejected", "<|image_pad|>"), ("rejected", "<video> x")],
)  # fmt: skip
def test_every_text_of_a_pair_is_looked_at(train, monkeypatch, field, text):
    seen = []
    monkeypatch.setattr(train_dpo, "reference_logps", lambda cache, groups, *_: seen.extend(groups))
    with pytest.raises(TypeError):  # nothing is computed here
        train(p0={field: text}, p1={field: text})
    assert [pair.id for group in seen for pair in group.pairs] == ["p2"]


def test_a_run_without_any_other_pair_stops(train):
    with pytest.raises(SystemExit, match="no pair is left"):
        train(**{f"p{i}": {"chosen": "<video>"} for i in range(3)})


OWN = ["a <video>", "<image> b", "</s>", "x<|im_end|>", "<|video_pad|>", "<|im_start|>", "[INST] a",
       "a [/INST]", "<｜User｜>", "<end_of_turn>", "<think>"]  # fmt: skip


@pytest.mark.parametrize("text", OWN)
def test_an_answer_or_a_query_with_a_token_of_a_model_makes_no_pair(text):
    for more in ({}, {"instruction": "mirrored"}):  # preferred, and misled
        answer = {"response": f"It is left. {text}", "finished": True} | more
        assert flaw(answer, "Is it left?") == "contains a special token"
    assert query_flaw(f"Is it {text}?", []) == "contains a special token"


@pytest.mark.parametrize("text", ["a < b", "5 > 3", "[A] left", "(A)", "x <- y", "[sic]", "<3"])
def test_other_signs_are_text(text):
    assert flaw({"response": f"It is left. {text}", "finished": True}, "Is it left?") == ""


def test_an_answer_with_a_token_of_a_model_is_not_scored():
    tasks = [SimpleNamespace(views={"blind": [None]})]
    texts = ["It is left.", "a <|video_pad|>", "It is right."]
    answers = [{"response": text, "finished": True} for text in texts]
    rows = [{"query": "Why?", "preferred": answers[0], "adversarial": answers[1:]}]
    seen = []
    logps = view_logps(tasks, rows, lambda groups: seen.extend(groups[0][1]) or [[-1.0, -1.0]])
    assert seen == [("Why?", texts[0]), ("Why?", texts[2])] and len(logps[0]) == 2


def test_a_prompt_with_a_token_of_the_model_is_an_error_and_the_others_are_asked(tiny, tiny_inputs):
    prompts = ["Left?", "Is <|video_pad|> left?", "Right?<|im_end|>", "Right?"]
    requests = [Request(tiny_inputs[0], prompt) for prompt in prompts]
    replies = ask(tiny, requests, max_new_tokens=2)
    assert [reply.error.partition(", ")[0] for reply in replies] == [
        "", "the prompt contains <|video_pad|>", "the prompt contains <|im_end|>", ""
    ]  # fmt: skip
    assert [r.ids for r in replies[::3]] == [ask(tiny, [r], 2)[0].ids for r in requests[::3]]
    assert dict(ask_all(lambda: tiny, requests, 4, 2))[2].error
    items = [SimpleNamespace(prompt=prompt, id=prompt) for prompt in prompts]
    bench = SimpleNamespace(
        max_new_tokens=2, parse=lambda *_: "A", draws=False, repaired="", credit=None
    )
    asked = [(item, tiny_inputs[0]) for item in items]
    rows = answers.replied(tiny, bench, asked, "generate")
    assert ["error" in row for row in rows] == [False, True, True, False]


# ------------------------------------------------------------- how a template writes an answer

PROMPT = "{{- '<|im_start|>assistant\n' }}{%- endif %}"  # the end of QWEN3_TEMPLATE
THOUGHT = "<think>\n\n</think>\n\n"


def template(*, end="<|im_end|>\n", opens="", writes="", role="assistant"):
    """QWEN3_TEMPLATE with another end, generation prompt, start or role of an answer."""
    text = QWEN3_TEMPLATE.replace("'<|im_end|>\n'", repr(end))
    asked = f"{{{{- '<|im_start|>{role}\n' }}}}{{{{- {opens!r} }}}}{{%- endif %}}"
    text = text.replace(PROMPT, asked)
    start = "{{- '<|im_start|>' + message.role + '\n' }}"
    more = f"{{%- if message.role == 'assistant' %}}{{{{- {writes!r} }}}}{{%- endif %}}"
    assert PROMPT not in text and start in text
    return text.replace(start, start + more)


@pytest.fixture
def processor(tmp_path):
    def load(text, eos="<|im_end|>"):
        save_checkpoint(tmp_path, "Qwen3-VL")
        (tmp_path / "chat_template.jinja").write_text(text)
        path = tmp_path / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token": eos}))
        return load_processor(tmp_path)

    return load


def whole_dialogue(processor, response):
    """The ids of the template's own dialogue up to its last special token."""
    turns = [("user", "Why?"), ("assistant", response)]
    turns = [{"role": r, "content": [{"type": "text", "text": text}]} for r, text in turns]
    text = processor.tokenizer.apply_chat_template(turns, tokenize=False)
    return processor.tokenizer(text.rstrip(), add_special_tokens=False)["input_ids"]


def test_only_another_turn_than_the_tokenizers_changes_the_key_of_caches(processor):
    made = [processor(template(), eos) for eos in ("<|im_end|>", "<|endoftext|>")]
    assert [x.digest.endswith("max_pixels=0") for x in made] == [True, False]
    assert made[1].digest.endswith("('', 2, '')")


def test_the_test_template_is_the_families_own_where_nothing_is_changed(processor):
    assert template() != QWEN3_TEMPLATE
    one, two = processor(template()), processor(QWEN3_TEMPLATE)
    assert one.turn == two.turn and one.prompt("Why?", True) == two.prompt("Why?", True)


@pytest.mark.parametrize(
    ("changes", "eos", "opening"),
    [
        ({}, "<|im_end|>", ""),
        ({}, "<|endoftext|>", ""),  # a base model's tokenizer
        ({"end": "<|endoftext|>"}, "<|im_end|>", ""),
        ({"end": " <|endoftext|>\n\n"}, "<|im_end|>", ""),
        ({"end": "<|vision_end|><|im_end|>"}, "<|im_end|>", ""),
        ({"opens": "<think>\n", "writes": THOUGHT}, "<|endoftext|>", "\n</think>\n\n"),
        ({"opens": THOUGHT, "writes": THOUGHT}, "<|im_end|>", ""),  # as with enable_thinking=False
        ({"writes": THOUGHT}, "<|im_end|>", THOUGHT),
    ],
)
def test_prompt_and_response_are_the_templates_own_dialogue(processor, changes, eos, opening):
    made = processor(template(**changes), eos)
    assert made.turn[0] == opening
    ids = [*made.prefix_ids(None), *made.query_ids("Why?", with_video=False)]
    whole = whole_dialogue(made, "Red.")
    blanks = [t for t in whole if made.tokenizer.decode(t).isspace()]
    mine = [*ids, *made.response_ids("Red.")]
    if changes.get("end", "").startswith(" "):  # a blank before the end is not trained
        whole = [*whole[:-2], whole[-1]]
    if "<|vision_end|>" in changes.get("end", ""):  # the first token after an answer ends it
        whole = whole[:-1]
    assert mine == whole and blanks
    with_video = made.query_ids("Why?")
    assert with_video[-len(ids) // 3 :] == ids[-len(ids) // 3 :]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"opens": "<think>\n"}, r"'.*<think>\\n', but writes one between"),
        ({"opens": "<think>\n", "writes": "<think>\n"}, "without an open thought"),
        ({"opens": "<analysis>", "writes": "<analysis>"}, "without an open thought"),
        ({"end": "### End\n"}, "'### End.*a special token at the end"),
        ({"role": "model"}, "<|im_start|>model"),
    ],
)
def test_a_template_that_training_would_contradict_is_refused_by_name(
    processor, changes, named, tmp_path
):
    with pytest.raises(ValueError, match=named) as error:
        processor(template(**changes))
    assert str(error.value).startswith(f"{tmp_path}: the chat template asks for an answer after")


@pytest.mark.parametrize(
    "text",
    [
        "{{ raise_exception('no assistant') }}",
        "{{ messages[-1].content.split('</think>') }}",
    ],
)
def test_a_template_that_cannot_write_an_answer_is_refused(processor, text):
    only_users = "{% if messages[-1].role == 'assistant' %}" + text + "{% endif %}" + QWEN3_TEMPLATE
    with pytest.raises(ValueError, match="chat template, with an answer: transformers cannot"):
        processor(only_users)


def test_a_template_that_leaves_out_answers_is_refused(processor):
    text = QWEN3_TEMPLATE.replace("{%- elif 'text'", "{%- elif message.role == 'user' and 'text'")
    with pytest.raises(ValueError, match="but writes one between ''"):
        processor(text)


@pytest.mark.parametrize("name", TINY)
def test_a_loaded_model_stops_where_its_template_ends_an_answer(tmp_path, name):
    vlm = load_vlm(make_tiny(tmp_path / "model", name))
    closing = {"LLaVA-NeXT-Video": "</s>", "SmolVLM2": "<end_of_utterance>"}
    token = vlm.processor.tokenizer.convert_tokens_to_ids(closing.get(name, "<|im_end|>"))
    opening = "\n</think>\n\n" if name.startswith("Qwen3.5") else ""  # its template thinks first
    assert vlm.processor.turn == (opening, token, "") and vlm.end_ids() == {token}


def test_an_end_that_no_setting_names_ends_an_answer(tmp_path):
    folder = make_tiny(tmp_path / "model", "Qwen2.5-VL")
    shutil.copy(folder / "generation_config.json", tmp_path)
    for name in ("tokenizer_config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        changed = {"eos_token": "<|endoftext|>"} if "tok" in name else {"eos_token_id": 0}
        (folder / name).write_text(json.dumps(settings | changed))
    vlm = load_vlm(folder)
    tokens = ("<|endoftext|>", "<|im_end|>")
    assert vlm.end_ids() == set(vlm.processor.tokenizer.convert_tokens_to_ids(tokens))
    assert vlm.processor.response_ids("Red.")[-1] == 2


def test_other_end_tokens_of_generation_change_the_key_of_caches(tmp_path):
    folder = make_tiny(tmp_path / "model", "Qwen2.5-VL")
    before, path = load_processor(folder).digest, folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": 0}))
    assert load_processor(folder).digest != before


def test_a_closed_thought_is_named_when_the_model_is_loaded(tmp_path, capsys):
    folder = make_tiny(tmp_path / "model", "Qwen3-VL")
    load_vlm(folder)
    assert capsys.readouterr().out == ""
    text = template(opens="<think>\n", writes=THOUGHT)
    (folder / "chat_template.jinja").write_text(text)
    load_vlm(folder)
    assert r"answers begin after '\n</think>\n\n'" in capsys.readouterr().out
    (folder / "chat_template.jinja").write_text(template(opens="<think>\n"))
    with pytest.raises(ValueError, match="without an open thought"):
        load_vlm(folder)
