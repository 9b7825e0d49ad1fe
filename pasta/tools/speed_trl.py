"""TRL's DPOTrainer on the same pairs, with the same weights, adapter and positions.

    pip install trl==1.16.0 peft==0.21.2

TRL 1.16 has no videos in DPO: its collator of texts builds the rows, and ours adds the video. Each
pair is two rows, each with the video. The reference is computed in each step, because TRL does not
precompute it for data with pictures. Everything else is TRL's default.

Shapes: k pairs make 2k rows: k times the chosen one, then the rejected ones.
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


def trl_step(config, task, model, checkpointing):
    """A function that does one training step of TRL and returns (1 + k,) logps.

    model: the model of the policy before it got its adapter; its linear layers are replaced.
    """
    warnings.filterwarnings("ignore", category=FutureWarning)  # names that TRL still uses
    # On a GPU, TRL's LM head scores only responses; without this, a CPU would score all tokens.
    trl.trainer.utils._use_triton = lambda device: True
    trainer = make_trainer(config, task, model, checkpointing)
    # train() does this before its first step:
    trainer.current_gradient_accumulation_steps = 1
    trained = trainer.accelerator.prepare_model(trainer.model)
    if checkpointing:
        trained.activation_checkpointing_enable()

    seen = []  # log-probabilities of the rows: first the policy's, then the reference's
    trained.register_forward_hook(lambda *call: seen.append(call[-1].log_probs.detach().sum(1)))
    batch = trainer.data_collator(list(trainer.train_dataset))

    def step():
        seen.clear()
        trainer.training_step(trained, dict(batch))
        trained.zero_grad()
        logps = seen[0].float()  # (2k,)
        return torch.cat([logps[:1], logps[len(logps) // 2 :]])

    return step


def make_trainer(config, task, model, checkpointing):
    """A DPOTrainer with the weights of the policy's adapter."""
    model.set_attn_implementation("sdpa")
    disable_progress_bars()
    rank = config.lora_rank
    with TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model=model,
            args=DPOConfig(
                folder,
                beta=task.beta,
                max_length=None,  # 1024 would cut the video
                bf16=config.dtype == "bfloat16",
                gradient_checkpointing=checkpointing,
                use_cpu=config.device == "cpu",
                report_to=[],
                disable_tqdm=True,
            ),
            data_collator=video_collator(task),
            train_dataset=text_pairs(task),
            processing_class=number_tokenizer(model.config.text_config.vocab_size, str(task.end)),
            peft_config=LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LANGUAGE_LINEARS),
        )
    for name, layer in adapted(task.policy.model):
        peft_layer = trainer.model.get_submodule(f"base_model.model.{name}")
        for matrix in ("lora_A", "lora_B"):
            getattr(peft_layer, matrix)["default"].weight.data.copy_(getattr(layer, matrix))
    return trainer


def video_collator(task):
    """TRL's collator of texts, plus the video and the positions of each row."""
    collate, family = DataCollatorForPreference(pad_token_id=task.end), task.policy.family
    video = family.feature_kwargs(task.inputs)

    def collator(examples):
        batch = collate(examples)
        rows = batch["input_ids"]  # (2k, L)
        positions = [family.positions(row, task.inputs) for row in rows]
        videos = {name: torch.cat([x] * len(rows)) for name, x in video.items()}
        return batch | videos | {"position_ids": torch.stack(positions, dim=1)}  # (3, 2k, L)

    return collator


def text_pairs(task):
    """The pairs as TRL's dataset: texts with token ids as words."""
    ends = [task.first + n for n in task.lengths]
    texts = [[str(i) for i in row[:end].tolist()] for row, end in zip(task.rows, ends, strict=True)]
    prompt = " ".join(texts[0][: task.first]) + " "
    chosen, *rejected = (" ".join(words[task.first :]) for words in texts)
    pairs = [{"prompt": prompt, "chosen": chosen, "rejected": other} for other in rejected]
    return Dataset.from_list(pairs)


def number_tokenizer(vocabulary, end):
    """A tokenizer with token ids as words. end: the word that ends a response."""
    tokenizer = Tokenizer(WordLevel({str(i): i for i in range(vocabulary)}, unk_token=end))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    end = AddedToken(end, single_word=True)  # else it would be found within 10, too
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end)
