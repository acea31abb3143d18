"""The engine for each model name, and a cache of the models that were used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ApiError, invalid, not_found
from ..settings import Settings
from ..store import Store
from .base import Answering, Writer
from .grammar.writer import GrammarWriter
from .lora.bases import ENGINE as LORA
from .lora.bases import base_of
from .ngram.writer import NgramWriter

if TYPE_CHECKING:
    from .lora.engine import Engine

BASE_MODEL = "base-zh"
BASE_CREATED = 1795000000
_MAX_LOADED = 3


class Registry:
    """Finds the writer for a model; the least recently used tuned model leaves the cache first."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._base = GrammarWriter(mistake_rate=settings.mistake_rate)
        self._lora_engine = _new_lora_engine(settings) if settings.base_models else None
        self._loaded: OrderedDict[str, Writer | Answering] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bases(self) -> list[str]:
        """The names of the base models."""
        return [BASE_MODEL, *self._settings.base_models]

    def start(self) -> None:
        """Starts the engine lora, which loads a base model."""
        if self._lora_engine:
            self._lora_engine.start()

    def stop(self) -> None:
        """Stops the engine lora."""
        if self._lora_engine:
            self._lora_engine.stop()

    def writer(self, model: str, *, client: str) -> Writer | Answering:
        """The writer for `model`; blocks while a file is read. ApiError 404 for a name unknown to `client`."""
        if model == BASE_MODEL:
            return self._base
        if self._lora_engine and model in self._settings.base_models:
            return self._lora(model, None)
        row = self._store.model(model)
        if row is None or row["client"] != client:
            raise _unknown(model)
        with self._lock:
            if model not in self._loaded:
                self._loaded[model] = self._load(row)
            self._loaded.move_to_end(model)
            while len(self._loaded) > _MAX_LOADED:
                self._loaded.popitem(last=False)
            return self._loaded[model]

    def check_trainable(self, model: str, *, method: str, client: str) -> None:
        """Raises ApiError unless `model` can be trained by `method`."""
        row = self._store.model(model)
        if model not in self.bases and (row is None or row["client"] != client):
            raise _unknown(model)
        if model in self._settings.base_models or (row and row["engine"] == LORA):
            self._need_base(model)
        elif method != "supervised":
            raise invalid(f"{model[:200]} can only be trained by 'supervised'.", param="method.type")

    def forget(self, model: str) -> None:
        """Drops a deleted model from the cache."""
        with self._lock:
            self._loaded.pop(model, None)

    def forget_folder(self, folder: Path) -> None:
        """Drops a deleted adapter from memory."""
        if self._lora_engine:
            self._lora_engine.forget(folder)

    def _load(self, row: Mapping[str, Any]) -> Writer | Answering:
        path = self._settings.models / row["path"]
        if row["engine"] == LORA:
            return self._lora(self._need_base(row["id"]), path)
        return NgramWriter.load(path)

    def _lora(self, base: str, adapter: Path | None) -> Answering:
        from .lora.writer import LoraWriter

        assert self._lora_engine is not None
        return LoraWriter(self._lora_engine, base, adapter)

    def _need_base(self, model: str) -> str:
        base = base_of(model)
        if base not in self._settings.base_models:
            raise invalid(
                f"The model {model[:200]} needs its base model: start the server with --base-model {base}=PATH.",
                param="model",
                code="base_model_missing",
            )
        return base


def _new_lora_engine(settings: Settings) -> Engine:
    from .lora.engine import Engine  # imports torch, so only where a base model is named

    return Engine(
        settings.base_models,
        dtype=settings.dtype,
        max_sequences=settings.rows,
        max_requests=settings.max_requests,
    )


def _unknown(model: str) -> ApiError:
    return not_found("model", model, param="model", code="model_not_found")
