"""Continuous batching: sequences join and leave a running batch that has one key-value cache.

Each sequence is one row. Rows are padded on the left, so that their last tokens stand in one column; a mask hides the
padding. Rows of one adapter are neighbours. Only the engine's thread uses a batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from .adapters import AdapterCache
from .sampling import sample
from .sequence import Sequence

_SPARE_TOKENS = 128  # places that a cache grows by


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc,unused-ignore]
    """One layer's keys and values (rows × heads × tokens × size), in buffers with spare places at the end.

    A new token is written in place; transformers' own layer copies all earlier ones for each token.
    """

    keys: torch.Tensor
    values: torch.Tensor
    is_initialized: bool

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends the new tokens; returns all keys and values."""
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.store(key_states, value_states)
        else:
            at = self.keys.shape[-2]
            end = at + key_states.shape[-2]
            if end > self._key_buffer.shape[-2]:
                self.store(self.keys, self.values, spare=max(_SPARE_TOKENS, key_states.shape[-2]))
            self._key_buffer[:, :, at:end] = key_states
            self._value_buffer[:, :, at:end] = value_states
            self.keys, self.values = self._key_buffer[:, :, :end], self._value_buffer[:, :, :end]
        return self.keys, self.values

    def store(self, keys: torch.Tensor, values: torch.Tensor, *, spare: int = _SPARE_TOKENS) -> None:
        """Replaces the contents, with `spare` free places behind them."""
        self._key_buffer = torch.nn.functional.pad(keys, (0, 0, 0, spare))
        self._value_buffer = torch.nn.functional.pad(values, (0, 0, 0, spare))
        size = keys.shape[-2]
        self.keys, self.values = self._key_buffer[:, :, :size], self._value_buffer[:, :, :size]


class Batch:
    """The running sequences of one base model."""

    def __init__(self, model: Any) -> None:
        self.adapters = AdapterCache(model)
        self.sequences: list[Sequence] = []
        self._model = model
        self._cache = _new_cache()
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=model.device)
        names = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in names else {}

    @torch.inference_mode()
    def join(self, sequences: Iterable[Sequence]) -> None:
        """Reads the prompts of new sequences together, samples their first tokens, and adds them to the batch."""
        rows = sorted(sequences, key=_adapter)
        longest = max(len(row.prompt) for row in rows)
        pads = [longest - len(row.prompt) for row in rows]
        ids = self._tensor([[0] * pad + row.prompt for pad, row in zip(pads, rows, strict=True)])
        mask = self._tensor([[0] * pad + [1] * (longest - pad) for pad in pads])
        cache = _new_cache()
        self.adapters.activate([row.adapter for row in rows])
        self._forward(rows, ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache)
        for row in rows:
            row.position = len(row.prompt)
        self._merge(rows, mask, cache)

    @torch.inference_mode()
    def step(self) -> None:
        """Generates one more token for every sequence."""
        ids = self._tensor([[row.last_token] for row in self.sequences])
        positions = self._tensor([[row.position] for row in self.sequences])
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        self._forward(self.sequences, ids, self._mask, positions, self._cache)
        for row in self.sequences:
            row.position += 1

    def clear(self) -> None:
        """Drops all sequences and their cache."""
        self.sequences = []
        self._select([])

    @torch.inference_mode()
    def sweep(self) -> None:
        """Removes the sequences that have ended, and columns that are padding for all the others."""
        kept = [at for at, row in enumerate(self.sequences) if not row.ended]
        if len(kept) < len(self.sequences):
            self._select(kept)

    def _forward(
        self,
        rows: list[Sequence],
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        cache: Any,
    ) -> None:
        output = self._model(
            input_ids=ids,
            attention_mask=None if len(rows) == 1 else mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **self._last_only,
        )
        params, generators = [row.sampling for row in rows], [row.rng for row in rows]
        for row, token in zip(rows, sample(output.logits[:, -1], params, generators), strict=True):
            row.append(token)

    def _merge(self, rows: list[Sequence], mask: torch.Tensor, cache: Any) -> None:
        if self.sequences:
            size = max(mask.shape[1], self._mask.shape[1])
            for old, new in zip(self._cache.layers, cache.layers, strict=True):
                old.store(_joined(old.keys, new.keys, size), _joined(old.values, new.values, size))
            self._mask = torch.cat([_wider(self._mask, size), _wider(mask, size)])
        else:
            self._cache, self._mask = cache, mask
        self.sequences = [*self.sequences, *rows]
        self._select([at for at, row in enumerate(self.sequences) if not row.ended])

    def _select(self, kept: list[int]) -> None:
        kept = sorted(kept, key=lambda at: _adapter(self.sequences[at]))
        self.sequences = [self.sequences[at] for at in kept]
        if not kept:
            self._cache = _new_cache()
            self._mask = self._mask[:0, :0]
        else:
            mask = self._mask[kept]
            start = int(mask.any(dim=0).to(torch.uint8).argmax())
            self._mask = mask[:, start:]
            for layer in self._cache.layers:
                layer.store(layer.keys[kept, :, start:], layer.values[kept, :, start:])
        self.adapters.activate([row.adapter for row in self.sequences])

    def _tensor(self, values: list[list[int]]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._model.device)


def _new_cache() -> Any:
    return Cache(layer_class_to_replicate=PreallocatedLayer)


def _adapter(row: Sequence) -> str:
    return str(row.adapter or Path())


def _wider(mask: torch.Tensor, size: int) -> torch.Tensor:
    return torch.nn.functional.pad(mask, (size - mask.shape[1], 0))


def _joined(old: torch.Tensor, new: torch.Tensor, size: int) -> torch.Tensor:
    pad = torch.nn.functional.pad
    return torch.cat([pad(one, (0, 0, size - one.shape[-2], 0)) for one in (old, new)])
