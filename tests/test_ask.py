"""pasta/tools/ask.py: one question, before and after training.

python -m pytest -q tests/test_ask.py
"""

import pytest
import torch
from tiny_models import adapter_parameters, make_tiny

from pasta.lora import add_lora
from pasta.models.generate import Request, ask
from pasta.models.load import load_vlm
from pasta.models.peft import load_adapter, save_adapter
from pasta.run.command import command_line
from pasta.sampling import uniform
from pasta.tools.ask import main
from pasta.video import read_frames

QUERY = "Is the red circle above or below?"


@pytest.fixture
def adapter(tmp_path, tiny, tiny_folder):
    """An adapter that changes the answers."""
    add_lora(tiny.model, rank=4, alpha=400)
    for i, p in enumerate(adapter_parameters(tiny.model)):
        torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(i))
    save_adapter(tmp_path / "adapter", tiny.model, tiny_folder)
    return tmp_path / "adapter"


def asked(capsys, *argv):
    with command_line():
        main(list(map(str, argv)))
    return capsys.readouterr().out


def test_it_prints_times_and_the_answers_without_and_with_the_adapter(
    capsys, adapter, tiny_folder, toy_videos
):
    video, vlm = toy_videos / "00000.avi", load_vlm(tiny_folder, "bfloat16")
    frames, times = read_frames(video, lambda seconds: uniform(seconds, 6), vlm.processor.fit)
    request = Request(vlm.processor.prepare(frames, times), QUERY)
    (before,) = ask(vlm, [request], max_new_tokens=5)
    load_adapter(vlm.model, adapter)
    (after,) = ask(vlm, [request], max_new_tokens=5)
    assert before.text != after.text
    flags = ["--model", tiny_folder, "--adapter", adapter, "--n_frames", 6, "--max_new_tokens", 5]
    text = asked(capsys, video, QUERY, *flags)
    seen = [f"{tiny_folder} sees frames at", *(f"{time:.1f}" for time in times), "seconds"]
    assert text.startswith(" ".join(seen))
    assert f"before: {before.text}" in text and f"after:  {after.text}" in text


def test_without_flags_it_asks_the_toy_model(capsys, toy_videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = asked(capsys, toy_videos / "00000.avi", QUERY)
    assert "no adapter: out/dpo/adapter is missing" in text and "answer: The" in text


@pytest.mark.parametrize("wrong", ["video", "adapter", "model"])
def test_a_mistake_is_one_sentence(capsys, wrong, adapter, tiny_folder, toy_videos, tmp_path):
    flags = {"video": toy_videos / "00000.avi", "adapter": adapter, "model": tiny_folder}
    flags[wrong] = make_tiny(tmp_path / "a", "Qwen2-VL") if wrong == "model" else tmp_path / "no"
    with pytest.raises(SystemExit, match="no: no such file|no/adapter|no such layer") as error:
        asked(capsys, flags.pop("video"), QUERY, *(f"--{k}={v}" for k, v in flags.items()))
    assert "\n" not in str(error.value)
