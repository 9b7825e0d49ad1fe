"""Measures TRL's DPOTrainer with ways.py: the same pairs, weights and positions.

    pip install -r requirements-dev.txt; python tests/campaigns/peer_trl.py --rounds 7

It adds the method `trl`: k pairs are 2k rows, and the reference is computed in each step. TRL 1.16
has no videos in DPO: its text collator builds the rows, and we add the video. TRL computes the
reference in each step if data has images. Everything else is TRL's default.

Shapes: k pairs make 2k rows of L tokens: k times the chosen one, then the rejected ones.
"""

import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import trl.trainer.utils
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

sys.path[:0] = [str(Path(__file__).parents[i]) for i in (1, 2)]

from campaigns.ways import SpeedConfig, main  # noqa: E402 (after the path to it)

from pasta.lora import LANGUAGE_LINEARS, adapted  # noqa: E402
from pasta.run.config import parse  # noqa: E402


class TokenTrainer(DPOTrainer):
    """A DPOTrainer for a data set of token ids instead of texts."""

    def _prepare_dataset(self, dataset, *_):
        return dataset


def trl_step(config, task, model, checkpointing):
    """{"trl": step}, which returns (1 + k,) logps. model: without adapter; it is changed."""
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
    batch, family = trainer.data_collator(list(trainer.train_dataset)), task.policy.family
    rows = batch["input_ids"]  # (2k, L)
    for name, tensor in family.feature_kwargs(task.pack.inputs).items():
        batch[name] = torch.cat([tensor] * len(rows))
    positions = [family.positions(row, task.pack.inputs) for row in rows]
    batch["position_ids"] = torch.stack(positions, dim=1)  # (3, 2k, L)

    def step():
        seen.clear()
        trainer.training_step(trained, dict(batch))
        trained.zero_grad()
        logps = seen[0].float()  # (2k,)
        return torch.cat([logps[:1], logps[len(logps) // 2 :]])

    return {"trl": step}


def make_trainer(config, task, model, checkpointing):
    """A TokenTrainer of the task's pairs, with the weights of the policy's adapter."""
    model.set_attn_implementation("sdpa")
    end, rank = str(task.end), config.lora_rank
    tokenizer = Tokenizer(WordLevel({end: task.end}, unk_token=end))  # only pads
    chosen, *rejected = (row[row >= 0].tolist() for row in task.targets)
    pair = {"prompt_ids": task.rows[0, : task.first].tolist(), "chosen_ids": chosen}
    with TemporaryDirectory() as folder:
        trainer = TokenTrainer(
            model=model,
            args=DPOConfig(
                folder,
                beta=task.beta,
                max_length=None,  # 1024 would cut the video
                bf16=config.dtype == "bfloat16",
                gradient_checkpointing=checkpointing,
                use_cpu=config.device == "cpu",
            ),
            train_dataset=Dataset.from_list([pair | {"rejected_ids": ids} for ids in rejected]),
            processing_class=PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end),
            peft_config=LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LANGUAGE_LINEARS),
        )
    for name, layer in adapted(task.policy.model):
        peft_layer = trainer.model.get_submodule(f"base_model.model.{name}")
        for matrix in ("lora_A", "lora_B"):
            getattr(peft_layer, matrix)["default"].weight.data.copy_(getattr(layer, matrix))
    return trainer


if __name__ == "__main__":
    main(parse(SpeedConfig), trl_step)
