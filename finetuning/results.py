"""Reads what a provider measured: metrics of events, the results file in today's or the notebook's columns, or in JSON.

Pure: bytes, words or a mapping in, `Figures` out. Blank, -1 and not-a-number are all "not measured".
"""

import base64
import binascii
import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from finetuning.errors import UnreadableResults
from sentences import sentence as _

MAX_STEPS = 2_000_000_000
MAX_FIGURE = 1e15
SOURCES: dict[str, tuple[str, ...]] = {
    "elapsed_tokens": ("elapsed_tokens",),
    "elapsed_examples": ("elapsed_examples",),
    "training_loss": ("training_loss", "train_loss", "loss"),
    "training_sequence_accuracy": ("training_sequence_accuracy",),
    "training_token_accuracy": (
        "training_token_accuracy",
        "train_mean_token_accuracy",
        "train_accuracy",
    ),
    "validation_loss": (
        "validation_loss",
        "valid_loss",
        "full_valid_loss",
        "eval_loss",
        "full_validation_loss",
    ),
    "validation_token_accuracy": (
        "validation_token_accuracy",
        "valid_mean_token_accuracy",
        "valid_accuracy",
        "full_valid_mean_token_accuracy",
    ),
}
"""Where each figure may stand: the notebook's name, then those in use since; the first number counts."""
WHOLE = ("elapsed_tokens", "elapsed_examples")
STEP_WORDS = re.compile(r"\bstep\s*[:=]?\s*(\d{1,12})(?:\s*(?:/|of)\s*(\d{1,12}))?", re.IGNORECASE)
FIGURE_WORDS = re.compile(r"([a-z][a-z _]{0,40})[=:]\s*(-?\d[\d.e+-]{0,30})", re.IGNORECASE)
INSIDE = ("metrics", "data")
"""Where a line of JSON may hold its figures, if not at its top."""


@dataclass(frozen=True)
class Figures:
    """What is known about one step; losses in nats per token, accuracies from 0 to 1."""

    step: int
    elapsed_tokens: int | None = None
    elapsed_examples: int | None = None
    training_loss: float | None = None
    training_sequence_accuracy: float | None = None
    training_token_accuracy: float | None = None
    validation_loss: float | None = None
    validation_token_accuracy: float | None = None

    def over(self, older: "Figures") -> "Figures":
        """These figures, and those of `older` where these are blank."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return Figures(**(asdict(older) | known))


COLUMNS = tuple(field.name for field in fields(Figures))
"""The columns of `job_results`, in their order."""


def read_figures(values: Mapping[str, object]) -> Figures | None:
    """The figures of one event or one line; None if it names no step or measures nothing."""
    step = _number(values.get("step"))
    if step is None or step > MAX_STEPS:
        return None
    # Any: a provider's JSON, whose values are checked one by one here.
    known: dict[str, Any] = {}
    for name, sources in SOURCES.items():
        found = next((one for one in map(_number, map(values.get, sources)) if one is not None), None)
        if found is not None:
            known[name] = int(found) if name in WHOLE else found
    return Figures(step=int(step), **known) if known else None


# Any: a provider's JSON, whose values are checked one by one here.
def read_total_steps(values: Mapping[str, Any]) -> int:
    """How many steps the training will take, by one of its events; 0 if it does not say."""
    total = _number(values.get("total_steps")) or 0
    return int(total) if total <= MAX_STEPS else 0


def read_message(words: str) -> dict[str, str]:
    """The figures in an event's words ("Step 3/88: training loss=0.52"), by name; empty where they name no step."""
    step = STEP_WORDS.search(words)
    if not step:
        return {}
    figures = {
        "_".join(name.lower().split()): value for name, value in FIGURE_WORDS.findall(words[step.end() :])
    }
    return figures | {"step": step[1]} | ({"total_steps": step[2]} if step[2] else {})


def parse_results(content: bytes) -> list[Figures]:
    """The steps of a results file, in order, each once: CSV or lines of JSON, plain or base64.

    Raises `UnreadableResults`.
    """
    for text in _readings(content):
        if lines := _json_lines(text):
            return merge(figures for line in lines if (figures := read_figures(line)))
        try:
            reader = csv.DictReader(io.StringIO(text, newline=""))
            if reader.fieldnames and "step" in reader.fieldnames:
                return merge(figures for row in reader if (figures := read_figures(row)))
        except csv.Error as error:
            raise UnreadableResults(_("对方的结果文件读不懂：%(error)s。") % {"error": error}) from error
    raise UnreadableResults(_("对方的结果文件读不懂：里面没有 step 一列。"))


def merge(figures: Iterable[Figures]) -> list[Figures]:
    """Sorted by step; of two for one step the later counts, its blanks filled from the earlier."""
    by_step: dict[int, Figures] = {}
    for one in figures:
        by_step[one.step] = one.over(by_step[one.step]) if one.step in by_step else one
    return [by_step[step] for step in sorted(by_step)]


# Any: a provider's JSON, whose values are checked one by one here.
def _json_lines(text: str) -> list[dict[str, Any]]:
    """The objects of a text in JSON, an object a line or one list; empty if none of them names a step.

    A line that is no JSON is left out: a file may be cut in the middle of its last one.
    """
    if not text.lstrip().startswith(("{", "[")):
        return []
    whole = _json(text)
    entries = whole if isinstance(whole, list) else list(map(_json, text.split("\n")))
    lines = [_flat(entry) for entry in entries if isinstance(entry, dict)]
    return lines if any(line["step"] is not None for line in lines) else []


# Any: a provider's JSON, whose values are checked one by one here.
def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


# Any: a provider's JSON, whose values are checked one by one here.
def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    """An object with the figures inside it beside its own; Azure and OpenAI call a checkpoint's step `step_number`."""
    inside = [entry[name] for name in INSIDE if isinstance(entry.get(name), dict)]
    flat = {name: value for values in (*inside, entry) for name, value in values.items()}
    return flat if "step" in flat else flat | {"step": flat.get("step_number")}


def _readings(content: bytes) -> Iterable[str]:
    """The content as it is, and as base64; a reading that is no UTF-8 is left out."""
    candidates = [content]
    try:
        candidates.append(base64.b64decode(b"".join(content.split()), validate=True))
    except binascii.Error:
        candidates.append(b"")
    for candidate in candidates:
        try:
            yield candidate.decode("utf-8-sig")
        except UnicodeDecodeError:
            continue


# Any: a provider's JSON, whose values are checked one by one here.
def _number(raw: Any) -> float | None:
    """A finite number; None for blanks, words, and -1 for "missing" (nothing measured is negative)."""
    try:
        number = float(raw)
    except (TypeError, ValueError, OverflowError):
        return None
    if isinstance(raw, bool):
        return None
    return number if math.isfinite(number) and 0 <= number <= MAX_FIGURE else None
