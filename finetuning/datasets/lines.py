"""The lines of a training file: today's chat lines, or the notebook's completion lines.

The bytes are fixed by the rows alone: UTF-8, one JSON object a line, `\\n` line ends, keys in this order.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import chain, count

from finetuning.datasets.selection import Row
from finetuning.models import Dataset
from finetuning.tokens import estimate_tokens
from stories.generation.prompts import COMPLETION_SEPARATOR, combo_prompt

STOP_CANDIDATES = (".", " END", "\n\n###\n\n", "***", "+++")
"""Tried in this order. The first is the notebook's: a story ends in 。 and has no full stop of this kind."""


def render_lines(rows: Sequence[Row], *, format: str, stop: str) -> bytes:
    """The file of these rows in their order."""
    as_line = chat_line if format == Dataset.Format.CHAT else completion_line
    objects = (as_line(row, stop=stop) for row in rows)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in objects).encode()


def chat_line(row: Row, *, stop: str = "") -> dict[str, object]:
    """`{"messages": [user, assistant]}`; a chat needs no stop string."""
    return {
        "messages": [
            {"role": "user", "content": combo_prompt(row.combo)},
            {"role": "assistant", "content": row.text},
        ]
    }


def completion_line(row: Row, *, stop: str) -> dict[str, object]:
    """`{"prompt": "唐,隐形,轻松 ->", "completion": " 故事."}`, the shape of OpenAI's old `prepare_data`."""
    return {"prompt": combo_prompt(row.combo) + COMPLETION_SEPARATOR, "completion": f" {row.text}{stop}"}


def choose_stop(texts: Iterable[str]) -> str:
    """The first candidate that ends each story at its end, never before; ` END1`, ` END2` … if all occur."""
    texts = list(texts)
    numbered = (f" END{number}" for number in count(1))
    candidates = chain(STOP_CANDIDATES, numbered)
    return next(stop for stop in candidates if all(_ends(f" {text}", stop) for text in texts))


def _ends(completion: str, stop: str) -> bool:
    return f"{completion}{stop}".find(stop) == len(completion)


def count_tokens(rows: Iterable[Row], *, format: str, stop: str) -> int:
    """The estimate for a file of these rows."""
    messages, extra = (2, "") if format == Dataset.Format.CHAT else (0, COMPLETION_SEPARATOR + " " + stop)
    return sum(estimate_tokens(combo_prompt(row.combo) + row.text + extra, messages=messages) for row in rows)
