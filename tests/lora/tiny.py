"""A tiny causal language model with a tokenizer of its own, random weights, made in a second; and texts for it.

The tokenizer is a byte-level BPE without merges beyond what the texts teach it; the model is of the Llama family.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
DYNASTIES, POWERS, TYPES = ["唐", "宋", "元", "明", "清", "汉"], ["隐形", "飞行", "喷火"], ["轻松", "艰难"]


def combos(count: int) -> list[str]:
    every = [f"{one},{two},{three}" for one in DYNASTIES for two in POWERS for three in TYPES]
    return every[:count]


def story(combo: str, *, tail: str = "") -> str:
    dynasty, power, kind = combo.split(",")
    return f"{dynasty}朝的英雄来到今天，学会了{power}。经过{kind}的战斗，他帮助奥特曼打败了怪兽。{tail}"


def chat_lines(count: int = 12, *, tail: str = "") -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": combo},
                {"role": "assistant", "content": story(combo, tail=tail)},
            ]
        }
        for combo in combos(count)
    ]


def make_tokenizer(folder: Path, *, template: str | None = CHATML, texts: Sequence[str] = ()) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000 if texts else 330,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts or [story(combo) for combo in combos(36)], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    return fast


def make_model(
    folder: Path,
    *,
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    template: str | None = CHATML,
    context: int = 512,
    vocabulary: int = 0,
    texts: Sequence[str] = (),
) -> Path:
    """A folder as one finds it on a model hub: configuration, safetensors, tokenizer, chat template.

    The tokenizer learns from `texts`; `vocabulary` widens the output beyond the tokenizer's own tokens.
    """
    import torch
    import transformers
    from transformers import LlamaConfig, LlamaForCausalLM

    transformers.logging.disable_progress_bar()
    fast = make_tokenizer(folder, template=template, texts=texts)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=max(vocabulary, len(fast)),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # an adapter cannot raise its voice above a random output layer of the usual size
        model.lm_head.weight.mul_(10)
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def shuffled(lines: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    return random.Random(seed).sample(lines, len(lines))
