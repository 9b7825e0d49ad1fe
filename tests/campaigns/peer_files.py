"""The model folder, videos and pairs of campaigns/peers.py, which every trainer can read."""

import json
import subprocess
from random import Random

import torch
import transformers
from campaigns.ways import PREPROCESSOR, RESPONSES, SIZES
from imageio_ffmpeg import get_ffmpeg_exe
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pasta.run.atomic import write_json
from pasta.run.rows import write_rows

N_FRAMES, FRAME = 16, "448x336"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip
TEMPLATE = """{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ m['role'] }}
{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}\
{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}\
<|vision_start|><|{{ part['type'] }}_pad|><|vision_end|>{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def make_model(folder, size="small"):
    """Write a random Qwen2.5-VL with a tokenizer of one token a byte, and Qwen's chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL),
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    names = {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    names |= {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    settings = json.loads((SIZES / f"{size}.json").read_text())
    settings |= {name: tokenizer.token_to_id(text) for name, text in names.items()}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**settings)
    transformers.AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    kinds = {"image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 3136}
    kinds |= {"processor_class": "Qwen2_5_VLProcessor"}
    write_json(folder / "preprocessor_config.json", PREPROCESSOR | kinds)


def make_pairs(folder, n_videos, k):
    """Write videos, and pairs.jsonl with k rejected responses for each. Returns the file."""
    folder.mkdir()
    draw, rows = Random(k), []
    for i in range(n_videos):
        picture = f"testsrc2=size={FRAME}:rate=2,hue=h={10 * i}"  # all videos differ
        command = [get_ffmpeg_exe(), "-loglevel", "error", "-f", "lavfi", "-i", picture]
        command += ["-frames:v", str(N_FRAMES), "-pix_fmt", "yuv420p", folder / f"{i}.mp4"]
        subprocess.run(command, check=True)
        # with the token of its end, a response has as many tokens as RESPONSES says
        chosen, *rejected = ("".join(draw.choices("abcde", k=n - 1)) for n in RESPONSES[: 1 + k])
        row = {"video": f"{i}.mp4", "mode": "spatial", "query": "What is moving there?"}
        rows += [row | {"chosen": chosen, "rejected": text} for text in rejected]
    write_rows(folder / "pairs.jsonl", rows)
    return folder / "pairs.jsonl"
