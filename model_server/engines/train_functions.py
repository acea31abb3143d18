"""Which engine trains a model; apart from registry.py, so that the training child need not load the web framework."""

from __future__ import annotations

from collections.abc import Collection

from .base import TrainFunction
from .lora.bases import ENGINE as LORA
from .lora.bases import base_of
from .lora.train import train as train_lora
from .ngram.train import train as train_ngram


def train_function_for(model: str, bases: Collection[str]) -> tuple[str, TrainFunction]:
    """(the engine's name for the models table, its trainer) for a base or tuned model; `bases` are those of lora."""
    return (LORA, train_lora) if base_of(model) in bases else ("ngram", train_ngram)
