"""What a trainer sees before the second press: price, today's limit, warnings, an unfinished job alike."""

from dataclasses import dataclass

from django.conf import settings
from django.utils import timezone

from finetuning import training
from finetuning.admin.forms import JobOrderForm
from finetuning.models import Dataset, Job
from stories.models import SpendDay
from stories.values.money import show, to_micros


@dataclass(frozen=True)
class JobQuote:
    """Money as it is shown; `price` in micro-USD, None if unknown. `limit` is "" without a daily limit."""

    dataset: Dataset
    price: int | None
    shown: str
    most: str
    epochs: int | None
    today: str
    limit: str
    warnings: list[str]
    unfinished: Job | None


def quote_order(form: JobOrderForm) -> JobQuote:
    """The quote for a valid form. Raises `BadJob` or `UnknownModel` if it can't be ordered at all."""
    dataset, model = form.cleaned_data["dataset"], form.cleaned_data["model"]
    training.check_order(model, form.asked, suffix=form.cleaned_data["suffix"])
    price = training.estimate_price(dataset, model, form.asked.epochs)
    today = SpendDay.objects.filter(day=timezone.localdate()).first()
    limit = settings.DAILY_SPEND_LIMIT_USD
    return JobQuote(
        dataset=dataset,
        price=price,
        shown=show(price),
        most=show(training.reservation(price)),
        epochs=training.priced_epochs(dataset, model, form.asked.epochs),
        today=show(today.spent + today.reserved if today else 0),
        limit="" if limit is None else show(to_micros(limit)),
        warnings=training.list_warnings(dataset, model, form.asked),
        unfinished=training.find_unfinished(dataset, model, form.asked),
    )
