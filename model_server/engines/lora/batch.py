"""Several answers written at once: rows that join and leave a running batch over one key-value cache.

Rows are padded on the left, so that their ends stand in one column; a mask hides the padding. Rows of one adapter lie
side by side. Used by the generating thread alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from .adapters import Wardrobe
from .sampling import draw
from .sequence import Row

_ROOM = 128  # columns that a cache grows by


class RoomyLayer(DynamicLayer):  # type: ignore[misc,unused-ignore]
    """One layer's keys and values with room at the end: a token is written in place, not copied with all others."""

    keys: torch.Tensor
    values: torch.Tensor
    is_initialized: bool

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends, and returns all there is."""
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.hold(key_states, value_states)
        else:
            at = self.keys.shape[-2]
            end = at + key_states.shape[-2]
            if end > self._roomy_keys.shape[-2]:
                self.hold(self.keys, self.values, room=max(_ROOM, key_states.shape[-2]))
            self._roomy_keys[:, :, at:end] = key_states
            self._roomy_values[:, :, at:end] = value_states
            self.keys, self.values = self._roomy_keys[:, :, :end], self._roomy_values[:, :, :end]
        return self.keys, self.values

    def hold(self, keys: torch.Tensor, values: torch.Tensor, *, room: int = _ROOM) -> None:
        """Takes these as what there is, with `room` behind them."""
        self._roomy_keys = torch.nn.functional.pad(keys, (0, 0, 0, room))
        self._roomy_values = torch.nn.functional.pad(values, (0, 0, 0, room))
        size = keys.shape[-2]
        self.keys, self.values = self._roomy_keys[:, :, :size], self._roomy_values[:, :, :size]


class Batch:
    """The rows being written by one base model."""

    def __init__(self, model: Any) -> None:
        self.wardrobe = Wardrobe(model)
        self.rows: list[Row] = []
        self._model = model
        self._cache = _new_cache()
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=model.device)
        names = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in names else {}

    @torch.inference_mode()
    def join(self, rows: Sequence[Row]) -> None:
        """Reads the prompts of new rows together, draws their first tokens, and puts them beside the others."""
        rows = sorted(rows, key=_adapter)
        longest = max(len(row.prompt) for row in rows)
        pads = [longest - len(row.prompt) for row in rows]
        ids = self._tensor([[0] * pad + row.prompt for pad, row in zip(pads, rows, strict=True)])
        mask = self._tensor([[0] * pad + [1] * (longest - pad) for pad in pads])
        cache = _new_cache()
        self.wardrobe.wear([row.adapter for row in rows])
        self._forward(rows, ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache)
        for row in rows:
            row.position = len(row.prompt)
        self._merge(rows, mask, cache)

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every row."""
        ids = self._tensor([[row.last] for row in self.rows])
        positions = self._tensor([[row.position] for row in self.rows])
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        self._forward(self.rows, ids, self._mask, positions, self._cache)
        for row in self.rows:
            row.position += 1

    def clear(self) -> None:
        """Forgets all rows and what was read for them."""
        self.rows = []
        self._select([])

    @torch.inference_mode()
    def sweep(self) -> None:
        """Takes out the rows that have ended or whose client left, and columns that are padding for all others."""
        kept = [at for at, row in enumerate(self.rows) if not row.ended]
        if len(kept) < len(self.rows):
            self._select(kept)

    def _forward(
        self,
        rows: Sequence[Row],
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
        for row, token in zip(rows, draw(output.logits[:, -1], [row.dials for row in rows]), strict=True):
            row.take(token)

    def _merge(self, rows: Sequence[Row], mask: torch.Tensor, cache: Any) -> None:
        if self.rows:
            size = max(mask.shape[1], self._mask.shape[1])
            for old, new in zip(self._cache.layers, cache.layers, strict=True):
                old.hold(_joined(old.keys, new.keys, size), _joined(old.values, new.values, size))
            self._mask = torch.cat([_wider(self._mask, size), _wider(mask, size)])
        else:
            self._cache, self._mask = cache, mask
        self.rows = [*self.rows, *rows]
        self._select([at for at, row in enumerate(self.rows) if not row.ended])

    def _select(self, kept: list[int]) -> None:
        kept = sorted(kept, key=lambda at: _adapter(self.rows[at]))
        self.rows = [self.rows[at] for at in kept]
        if not kept:
            self._cache = _new_cache()
            self._mask = self._mask[:0, :0]
        else:
            mask = self._mask[kept]
            start = int(mask.any(dim=0).to(torch.uint8).argmax())
            self._mask = mask[:, start:]
            for layer in self._cache.layers:
                layer.hold(layer.keys[kept, :, start:], layer.values[kept, :, start:])
        self.wardrobe.wear([row.adapter for row in self.rows])

    def _tensor(self, values: list[list[int]]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._model.device)


def _new_cache() -> Any:
    return Cache(layer_class_to_replicate=RoomyLayer)


def _adapter(row: Row) -> str:
    return str(row.adapter or Path())


def _wider(mask: torch.Tensor, size: int) -> torch.Tensor:
    return torch.nn.functional.pad(mask, (size - mask.shape[1], 0))


def _joined(old: torch.Tensor, new: torch.Tensor, size: int) -> torch.Tensor:
    pad = torch.nn.functional.pad
    return torch.cat([pad(one, (0, 0, size - one.shape[-2], 0)) for one in (old, new)])
