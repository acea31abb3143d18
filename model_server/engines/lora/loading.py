"""Loads base models and tokenizers from local safetensors; never runs a folder's code, never uses the network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before the first import of a library that could use the network
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

_SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
DTYPES = ("auto", "float32", "bfloat16", "float16")

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def device_here() -> torch.device:
    """The first accelerator of this machine, else the CPU."""
    if torch.accelerator.is_available():
        return torch.device(torch.accelerator.current_accelerator() or "cpu")
    return torch.device("cpu")


def dtype_for(name: str, device: torch.device) -> torch.dtype:
    """`auto` is float32 on a CPU and bfloat16 on an accelerator."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    chosen: torch.dtype = getattr(torch, name)
    return chosen


def load_base(folder: Path, *, device: torch.device, dtype: str) -> Any:
    """The model in evaluation mode on `device`."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, use_safetensors=True, dtype=dtype_for(dtype, device), **_SAFE
    )
    return model.to(device).train(mode=False)  # turns off dropout and the like


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer."""
    return AutoTokenizer.from_pretrained(folder, **_SAFE)


def context_of(folder: Path) -> int:
    """How many tokens the model takes, prompt and answer together."""
    config = AutoConfig.from_pretrained(folder, **_SAFE).get_text_config(decoder=True)
    sizes = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "n_ctx")]
    return next((size for size in sizes if isinstance(size, int) and size > 0), 2048)


def end_tokens(folder: Path, tokenizer: Any) -> set[int]:
    """The tokens that end an answer, by the tokenizer, the configuration and the generation settings."""
    found: set[int] = set()
    sources = [tokenizer.eos_token_id, AutoConfig.from_pretrained(folder, **_SAFE).eos_token_id]
    if (folder / "generation_config.json").is_file():
        settings = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
        sources.append(settings.eos_token_id)
    for source in sources:
        found |= {source} if isinstance(source, int) else set(source or [])
    return found
