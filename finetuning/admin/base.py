"""What the trainers' pages share: errors that become messages, marks of what was shown before a press."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib import messages
from django.core import signing
from django.http import HttpRequest

from finetuning.errors import TrainingError
from stories.errors import StoryError


@contextmanager
def errors_as_messages(request: HttpRequest) -> Iterator[None]:
    """A sentence of the domain inside the block becomes a message on the next page."""
    try:
        yield
    except (TrainingError, StoryError) as error:
        messages.error(request, str(error))


def sign(shown: dict[str, Any]) -> str:
    """A mark of exactly what a page showed: the second press belongs to it and to nothing else."""
    words = json.dumps(shown, sort_keys=True, default=str)
    return signing.Signer(salt="finetuning.shown").signature(words)
