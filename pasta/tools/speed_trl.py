"""The peer: TRL's DPOTrainer on the same pairs, with the same weights, adapter and positions.

TRL 1.16 has no videos in DPO: its collator of texts lays the rows out here, and another one adds
the video to each. Every pair is two rows, each with the video, and the reference is computed at
each step, for TRL does not precompute it for what it sees as well. All else is TRL's default.

    pip install trl==1.16.0 peft==0.21.2

Shapes: k rejected responses, so k pairs and 2k rows: k times the chosen one, then the rejected.
"""

import warnings
from tempfile import TemporaryDirectory

import torch
import trl.trainer.utils
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from pasta.lora import LANGUAGE_LINEARS, adapted
from pasta.tools.speed_layouts import BETA, END


def trl_step(config, task, model, checkpointing):
    """A way of speed.py: a function that takes one step of TRL's and returns (1 + k,) logps.

    model: the policy's model as it was before the adapter; its linear layers are replaced.
    """
    warnings.filterwarnings("ignore", category=FutureWarning)  # names that TRL still uses
    # On a GPU the LM head scores responses alone; on a CPU it would score all tokens of all rows.
    trl.trainer.utils._use_triton = lambda device: True
    trainer = make_trainer(config, task, model, checkpointing)
    # What train() does before its first step:
    trainer.current_gradient_accumulation_steps = 1
    trained = trainer.accelerator.prepare_model(trainer.model)
    if checkpointing:
        trained.activation_checkpointing_enable()

    seen = []  # log-probabilities of the rows: the policy's, then the reference's
    trained.register_forward_hook(lambda *call: seen.append(call[-1].log_probs.detach().sum(1)))
    batch = trainer.data_collator(list(trainer.train_dataset))

    def step():
        seen.clear()
        trainer.training_step(trained, dict(batch))
        trained.zero_grad()
        logps = seen[0].float()  # (2k,)
        return torch.cat([logps[:1], logps[len(logps) // 2 :]])

    return step


def text_pairs(task):
    """The pairs as TRL's dataset: texts whose words are token ids."""

    def text(ids):
        return " ".join(map(str, ids.tolist()))

    ends = [task.first + n for n in task.lengths]
    prompt, rows = text(task.rows[0, : task.first]) + " ", zip(task.rows, ends, strict=True)
    chosen, *rejected = [text(row[task.first : end]) for row, end in rows]
    pairs = [{"prompt": prompt, "chosen": chosen, "rejected": other} for other in rejected]
    return Dataset.from_list(pairs)


def make_trainer(config, task, model, checkpointing):
    """A DPOTrainer whose adapter equals the policy's."""
    model.set_attn_implementation("sdpa")
    adapter = LoraConfig(
        r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules=LANGUAGE_LINEARS
    )
    disable_progress_bars()
    with TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model=model,
            args=DPOConfig(
                folder,
                beta=BETA,
                max_length=None,  # 1024 would cut the video
                bf16=config.dtype == "bfloat16",
                gradient_checkpointing=checkpointing,
                use_cpu=config.device == "cpu",
                report_to=[],
                disable_tqdm=True,
            ),
            data_collator=VideoCollator(task),
            train_dataset=text_pairs(task),
            processing_class=number_tokenizer(model.config.text_config.vocab_size),
            peft_config=adapter,
        )
    for name, layer in adapted(task.policy.model):
        peft_layer = trainer.model.get_submodule(f"base_model.model.{name}")
        for matrix in ("lora_A", "lora_B"):
            getattr(peft_layer, matrix)["default"].weight.data.copy_(getattr(layer, matrix))
    return trainer


class VideoCollator:
    """TRL's collator of texts, and for every row the video and positions."""

    def __init__(self, task):
        self.task, self.texts = task, DataCollatorForPreference(pad_token_id=END)

    def __call__(self, examples):
        family, inputs = self.task.policy.family, self.task.inputs
        batch = self.texts(examples)
        rows = batch["input_ids"]  # (2k, L)
        positions = [family.positions(row, inputs) for row in rows]
        video = family.feature_kwargs(inputs)
        videos = {name: torch.cat([x] * len(rows)) for name, x in video.items()}
        return batch | videos | {"position_ids": torch.stack(positions, dim=1)}  # (3, 2k, L)


def number_tokenizer(vocabulary):
    """A tokenizer whose words are token ids."""
    end = str(END)
    tokenizer = Tokenizer(WordLevel({str(i): i for i in range(vocabulary)}, unk_token=end))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    end = AddedToken(end, single_word=True)  # or it would be found within 10, too
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end)
