"""The state from which a training resumes: adapter, optimizer and step, in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ...atomic_files import atomic_replacement

_WEIGHT, _OPTIMIZER = "weight.", "optimizer."


def save_state(path: Path, weights: Mapping[str, torch.Tensor], optimizer: Any, *, step: int) -> None:
    """Writes the state, whole or not at all."""
    tensors = {_WEIGHT + name: one.detach().contiguous() for name, one in weights.items()}
    for index, values in optimizer.state_dict()["state"].items():
        for name, one in values.items():
            tensors[f"{_OPTIMIZER}{index}.{name}"] = torch.as_tensor(one).contiguous()
    with atomic_replacement(path) as file:
        save_file(tensors, file, metadata={"step": str(step)})


def load_state(path: Path, weights: Mapping[str, torch.Tensor], optimizer: Any) -> int:
    """Restores a saved state into `weights` and `optimizer`; returns its step, 0 if there is no file."""
    if not path.exists():
        return 0
    saved: dict[int, dict[str, torch.Tensor]] = {}
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for key in file.keys():  # noqa: SIM118 - `file` is no mapping
            tensor = file.get_tensor(key)
            if key.startswith(_WEIGHT):
                weights[key.removeprefix(_WEIGHT)].copy_(tensor)
            else:
                index, _, name = key.removeprefix(_OPTIMIZER).partition(".")
                saved.setdefault(int(index), {})[name] = tensor
        step = int(file.metadata()["step"])
    optimizer.load_state_dict({"state": saved, "param_groups": optimizer.state_dict()["param_groups"]})
    return step
