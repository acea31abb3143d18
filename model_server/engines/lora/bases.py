"""The folders of `--base-model NAME=PATH`, checked before torch is imported."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ENGINE = "lora"
PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors")
HOW_TO_GET_IT = (
    'The engine "lora" is not installed (missing: {missing}). Get it with: pip install -r requirements-lora.txt '
    "(on a machine without a GPU install the CPU build of torch first; see model_server/README.md)."
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_RECURRENT = ("mamba", "rwkv", "jamba", "falcon_h1", "recurrent_gemma", "zamba", "bamba", "lfm2")


class BadBase(ValueError):
    """A base model that cannot be served; the message says why and what to do."""


def missing_packages() -> list[str]:
    """The packages of requirements-lora.txt that are not installed here."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def read_bases(given: Iterable[str], *, reserved: Iterable[str] = ()) -> dict[str, Path]:
    """Name to folder for each `NAME=PATH`. Raises BadBase, also when the engine is not installed."""
    bases: dict[str, Path] = {}
    for one in given:
        name, sign, path = one.partition("=")
        if not sign or not _NAME.fullmatch(name):
            raise BadBase(
                f"--base-model {one!r}: write NAME=PATH; a name has letters, digits and . _ - / and no colon."
            )
        if name in bases or name in reserved:
            raise BadBase(f"--base-model {name!r}: there is already a model of this name.")
        bases[name] = Path(path).expanduser().resolve()
    missing = missing_packages() if bases else []
    if missing:
        raise BadBase(HOW_TO_GET_IT.format(missing=", ".join(missing)))
    for name, folder in bases.items():
        check_folder(name, folder)
    return bases


def check_folder(name: str, folder: Path) -> None:
    """Raises BadBase unless the folder holds a model of safetensors, its configuration and a tokenizer."""
    if not (folder / "config.json").is_file():
        raise BadBase(f"The base model {name!r}: there is no config.json in {folder}.")
    if not any(folder.glob("*.safetensors")):
        pickled = any(any(folder.glob(pattern)) for pattern in _PICKLED)
        why = (
            "its weights are pickled, which is never loaded here; convert them"
            if pickled
            else "it needs them"
        )
        raise BadBase(f"The base model {name!r}: no *.safetensors file in {folder}: {why}.")
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise BadBase(f"The base model {name!r}: there is no tokenizer in {folder}.")
    config = read_config(name, folder)
    if "auto_map" in config and not config.get("model_type"):
        raise BadBase(f"The base model {name!r} needs code of its own, which is never run here.")
    kinds = [str(config.get("model_type", "")), *map(str, config.get("layer_types") or [])]
    if any(kind.startswith((*_RECURRENT, "linear_attention")) for kind in kinds):
        raise BadBase(
            f"The base model {name!r} has recurrent layers, which cannot be served in batches here."
        )


def read_config(name: str, folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises BadBase where it is no JSON object."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise BadBase(f"The base model {name!r}: config.json in {folder} is not a JSON object.")
    return config


def base_of(model: str) -> str:
    """The base model's name within a tuned model's, or the name itself."""
    return model.split(":")[1] if model.startswith("ft:") else model
