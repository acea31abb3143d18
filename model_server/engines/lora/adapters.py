"""LoRA adapters of one base model: read from safetensors, and added to the output of its layers for each row.

The arithmetic is that of peft (y + B·A·x · alpha/rank). We read the two matrices ourselves, so that adapters can be
loaded and dropped while sequences are running, and rows with different adapters can share a forward pass.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

_MAX_LOADED = 16
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"


class BadAdapter(ValueError):
    """An adapter's folder that cannot be used."""


@dataclass(frozen=True)
class Adapter:
    """Per layer name: A (rank × in) and B (out × rank), B already scaled."""

    layers: dict[str, tuple[torch.Tensor, torch.Tensor]]


def read_adapter(folder: Path, *, device: torch.device, dtype: torch.dtype) -> Adapter:
    """The adapter that training left in `folder`. Raises BadAdapter."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        weights = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError) as error:
        raise BadAdapter(f"The adapter in {folder.name} cannot be read: {error}") from None
    scale = config["lora_alpha"] / config["r"]
    layers = {}
    for key, a in weights.items():
        if key.endswith(_A):
            name = key.removeprefix(_PREFIX).removesuffix(_A)
            b = weights[key.removesuffix(_A) + _B] * scale
            layers[name] = (a.to(device, dtype), b.to(device, dtype))
    return Adapter(layers)


class AdapterCache:
    """The adapters of one base model in memory, and which of them is active for each row of the running batch.

    Only the engine's thread uses it. Rows of one adapter must be neighbours.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._loaded: OrderedDict[Path, Adapter] = OrderedDict()
        self._modules = dict(model.named_modules())
        self._hooked: set[str] = set()
        self._active: list[tuple[slice, Adapter]] = []

    def activate(self, folders: Sequence[Path | None]) -> None:
        """Sets the adapter of each row for the next forward passes; loads what is missing, drops what is unused."""
        self._active = []
        start = 0
        for at in range(1, len(folders) + 1):
            if at == len(folders) or folders[at] != folders[start]:
                folder = folders[start]
                if folder is not None:
                    self._active.append((slice(start, at), self._get(folder)))
                start = at
        active = {id(adapter) for _, adapter in self._active}
        for folder in [folder for folder, one in self._loaded.items() if id(one) not in active]:
            if len(self._loaded) <= _MAX_LOADED:
                break
            del self._loaded[folder]

    def load(self, folder: Path) -> None:
        """Loads an adapter ahead of its use. Raises BadAdapter."""
        self._get(folder)

    def forget(self, folder: Path) -> None:
        """Drops an adapter whose files were deleted."""
        self._loaded.pop(folder, None)

    def _get(self, folder: Path) -> Adapter:
        if folder not in self._loaded:
            adapter = read_adapter(folder, device=self._model.device, dtype=self._model.dtype)
            unknown = adapter.layers.keys() - self._modules.keys()
            if unknown:
                raise BadAdapter(f"The adapter in {folder.name} is of another base model: no {min(unknown)}.")
            for name in adapter.layers.keys() - self._hooked:
                self._hook(name)
            self._loaded[folder] = adapter
        self._loaded.move_to_end(folder)
        return self._loaded[folder]

    def _hook(self, name: str) -> None:
        self._hooked.add(name)

        def add(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            return self._add(name, inputs[0], output)

        self._modules[name].register_forward_hook(add)

    def _add(self, name: str, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        for rows, adapter in self._active:
            layer = adapter.layers.get(name)
            if layer is not None:
                a, b = layer
                output[rows] += torch.nn.functional.linear(torch.nn.functional.linear(x[rows], a), b)
        return output
