"""Epochs, batch size and learning rate: what may be asked for, what is sent, what identifies a job.

Source of the limits: https://platform.openai.com/docs/api-reference/fine-tuning/create.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass

from django.utils.translation import gettext as _

from finetuning.errors import BadJob
from finetuning.models import Dataset, Job
from stories.models import LanguageModel

AUTO = "auto"
USUAL_EPOCHS, FEWEST_EXAMPLES = 3, 100
MAX_EPOCHS, MAX_BATCH_SIZE = 50, 256


@dataclass(frozen=True)
class Hyperparameters:
    """None is "auto": the provider chooses."""

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None


AUTOMATIC = Hyperparameters()


def check_hyperparameters(asked: Hyperparameters) -> None:
    """Raises `BadJob` with a sentence on the first value that no provider takes."""
    if asked.epochs is not None and not 1 <= asked.epochs <= MAX_EPOCHS:
        raise BadJob(_("轮数要在 1 到 %(most)s 之间。") % {"most": MAX_EPOCHS})
    if asked.batch_size is not None and not 1 <= asked.batch_size <= MAX_BATCH_SIZE:
        raise BadJob(_("批大小要在 1 到 %(most)s 之间。") % {"most": MAX_BATCH_SIZE})
    rate = asked.learning_rate_multiplier
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= 100):
        raise BadJob(_("学习率倍数要大于 0，且不超过 100。"))


def fingerprint(dataset: Dataset, model: LanguageModel, asked: Hyperparameters) -> str:
    """The same for two orders that would train the same model."""
    words = json.dumps([dataset.pk, model.pk, asdict(asked)], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def priced_epochs(dataset: Dataset, model: LanguageModel, epochs: int | None) -> int | None:
    """How many epochs are ordered; None leaves it to the provider, which only a free model may.

    Where a training costs money, "auto" becomes a number, by the rule providers use themselves (three, more
    for a small file): otherwise the price shown before would not be the price of what was ordered.
    """
    if epochs is not None or model.training_price == 0:
        return epochs
    if dataset.training_rows * USUAL_EPOCHS >= FEWEST_EXAMPLES:
        return USUAL_EPOCHS
    return min(MAX_EPOCHS // 2, max(1, FEWEST_EXAMPLES // max(1, dataset.training_rows)))


def wire_parameters(job: Job) -> dict[str, object]:
    """As they are sent: numbers, or "auto"."""
    epochs = priced_epochs(job.dataset, job.language_model, job.epochs)
    asked = {
        "n_epochs": epochs,
        "batch_size": job.batch_size,
        "learning_rate_multiplier": job.learning_rate_multiplier,
    }
    return {name: AUTO if value is None else value for name, value in asked.items()}
