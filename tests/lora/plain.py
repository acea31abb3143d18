"""The same training as a plain transformers/peft script, without a line of ours: what the engine is measured against.

It pads a batch to its longest line, and lets transformers compute the mean loss over the batch's labels.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer


def encode(tokenizer: Any, line: dict[str, Any]) -> tuple[list[int], list[int]]:
    """(ids, labels): labels hide the prompt. The line break that the template sets behind the answer is left away."""
    messages = line["messages"]
    prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(messages, tokenize=False).rstrip("\n")
    head = tokenizer.encode(prompt, add_special_tokens=False)
    tail = tokenizer.encode(whole[len(prompt) :], add_special_tokens=False)
    return head + tail, [-100] * len(head) + tail


def padded(lines: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(ids) for ids, _ in lines)
    return {
        "input_ids": torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in lines]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in lines]),
        "labels": torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in lines]),
    }


def new_model(folder: Path, *, seed: int, device: Any, dtype: Any, rank: int = 16) -> Any:
    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device)
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(base, config)


def plain_losses(
    folder: Path,
    lines: list[dict[str, Any]],
    *,
    seed: int,
    n_epochs: int,
    batch_size: int,
    learning_rate_multiplier: float,
    after_step: Callable[[], None] = lambda: None,
    device: Any = "cpu",
    dtype: Any = torch.float32,
) -> list[float]:
    """The loss of each step; data order and learning rates as the README says."""
    model = new_model(folder, seed=seed, device=device, dtype=dtype).train()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    data = [encode(tokenizer, line) for line in lines]
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0)
    total = n_epochs * math.ceil(len(data) / batch_size)
    warm_up = max(1, round(0.05 * total))
    losses: list[float] = []
    for epoch in range(1, n_epochs + 1):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        for start in range(0, len(data), batch_size):
            number = len(losses) + 1
            share = min(number / warm_up, (total - number + 1) / (total - warm_up + 1))
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * learning_rate_multiplier * share
            batch = padded([data[at] for at in order[start : start + batch_size]])
            loss = model(**{name: one.to(device) for name, one in batch.items()}).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            after_step()
    return losses
