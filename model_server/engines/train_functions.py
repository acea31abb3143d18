"""The train function for a model. Not in registry.py, so that a training child does not load the web framework."""

from __future__ import annotations

from collections.abc import Collection

from .base import TrainFunction
from .lora.bases import ENGINE as LORA
from .lora.bases import base_of
from .lora.train import train as train_lora
from .ngram.train import train as train_ngram


def train_function_for(model: str, bases: Collection[str]) -> tuple[str, TrainFunction]:
    """(the engine's name in the models table, its train function) for a model; `bases` are the base models of lora."""
    return (LORA, train_lora) if base_of(model) in bases else ("ngram", train_ngram)
