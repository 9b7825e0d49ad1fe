"""--dry_run: its counts are those of the run, and nothing is written."""

import re
from functools import partial

import pytest
from campaigns.ways import SIZES
from transformers import Qwen2_5_VLConfig

import train_dpo
from pasta.models.load import bare_model
from pasta.packs import TooLong
from pasta.pairs import MODES
from pasta.run.config import parse
from pasta.run.rows import read_rows, write_rows
from pasta.tools.dry_run import n_trained, print_memory


@pytest.fixture
def dry(tmp_path, capsys):
    """The output of a script with --dry_run, without the commas in numbers."""

    def run(script, cls, *argv):
        out = ["--out", tmp_path / "run", "--device", "cpu", "--dtype", "float32", "--dry_run"]
        script.main(parse(cls, list(map(str, [*argv, *out]))))
        return re.sub(r"(?<=\d),(?=\d)", "", capsys.readouterr().out)

    return run


@pytest.fixture
def training(dry, tiny_folder, toy_pairs, toy_videos):
    argv = ["--model", tiny_folder, "--pairs", toy_pairs, "--video_root", toy_videos]
    return partial(dry, train_dpo, train_dpo.TrainConfig, *argv)


def test_an_adapter_of_the_7b_has_as_many_weights_as_by_hand(tmp_path):
    settings = Qwen2_5_VLConfig.from_json_file(SIZES / "qwen2.5-vl-7b.json")
    settings.save_pretrained(tmp_path)
    q_o, k_v, mlp = 2 * (3584 + 3584), 2 * (3584 + 512), 3 * (3584 + 18944)
    assert n_trained(bare_model(tmp_path), lora_rank=32) == 28 * 32 * (q_o + k_v + mlp)


def test_a_training_is_counted(training):
    text = training("--batch_pairs", 4, "--epochs", 2)
    assert "8 pairs of 5 videos, 2 times; 0 videos held out" in text
    (updates,) = re.findall(r"(\d+) updates", text)
    assert int(updates) in (4, 5, 6)  # 8 pairs in videos of 3, 1, 2, 1, 1: two or three an epoch


def test_an_estimate_says_how_many_videos_it_is_made_from(training, monkeypatch):
    monkeypatch.setattr("pasta.tools.dry_run.SAMPLE", 2)
    assert "\nread 2 of 2 sampled videos, 5 in all; estimates:\n" in training()


def test_tokens_of_an_epoch_are_those_of_the_packs(training, tiny, toy_pairs, toy_videos):
    rows, total = read_rows(toy_pairs), 0
    for video in {row["video"] for row in rows}:
        here = [row for row in rows if row["video"] == video]
        texts = {(r["query"], r[side]) for r in here for side in ("chosen", "rejected")}
        segments = [tiny.processor.query_ids(q) + tiny.processor.response_ids(r) for q, r in texts]
        total += 2 + 8 * 4 + sum(map(len, segments))  # marks, and 8 grids of 4 tokens
    (n_tokens,) = re.findall(r"tokens: about (\d+) per epoch", training())
    assert int(n_tokens) == total


def test_a_dry_training_writes_nothing(training, tmp_path, toy_videos):
    before = sorted([*tmp_path.rglob("*"), *toy_videos.rglob("*")])
    assert training().rstrip().endswith("without --dry_run starts the run")
    assert sorted([*tmp_path.rglob("*"), *toy_videos.rglob("*")]) == before


def test_a_video_that_cannot_be_read_is_named_and_the_others_count(training, toy_pairs):
    rows, corrupted = read_rows(toy_pairs), toy_pairs.with_name("corrupted.avi")
    corrupted.write_bytes(b"no video")
    write_rows(toy_pairs, [rows[0] | {"video": str(corrupted)}, *rows[1:]])
    text = training()
    assert "left out" in text and "corrupted.avi" in text and "tokens: about" in text


def test_a_pair_that_is_too_long_stops_the_dry_run_too(training):
    with pytest.raises(TooLong, match="--max_length is 40"):
        training("--max_length", 40)


@pytest.mark.parametrize("rank", [0, 8])
def test_the_memory_is_that_of_weights_gradients_and_moments(training, tiny, tiny_folder, rank):
    total = sum(p.numel() for p in tiny.model.parameters())
    if rank:  # an adapter next to a frozen model
        by_hand = 4 * total + 16 * n_trained(bare_model(tiny_folder), rank)
    else:  # everything but the vision tower is trained
        vision = sum(p.numel() for p in tiny.model.model.visual.parameters())
        by_hand = 4 * vision + 16 * (total - vision)
    assert f"memory: {by_hand / 1e6:.1f} MB for weights" in training("--lora_rank", rank)


def test_flags_that_a_run_cannot_start_with_are_refused(training):
    with pytest.raises(SystemExit, match=f"--mode_weights takes {len(MODES)} numbers"):
        training("--mode_weights", 1, 2)


def test_a_card_that_is_too_small_has_the_largest_value_that_fits(capsys):
    print_memory(20e9, {"cache": 8e9, "more": 24e9}, 8)
    # 95 % of 24 GB less 20 are 2.8, less than one of 8 frames of 4 GB; of 40 GB, 18: four
    expected = "24 GB too small, 40 GB with --n_frames 4, 80 GB enough"
    assert capsys.readouterr().out.endswith(f"GPU: {expected}\n")
