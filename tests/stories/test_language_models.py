"""Which models there are, and what they cost; putting one in use is in test_promotion.py."""

from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.test import Client

from stories.errors import StoryError
from stories.language_models import reprice
from stories.models import AuditEntry, LanguageModel
from stories.values.prices import Prices
from tests.factories import make_model

pytestmark = pytest.mark.django_db


def test_whoever_changes_a_price_is_written_down(tom: User) -> None:
    model = make_model("m", output_price=None)
    assert reprice(model, Prices(Decimal("0.3"), Decimal(2), Decimal(0)), by=tom)
    model.refresh_from_db()
    assert (model.input_price, model.output_price) == (Decimal("0.3"), Decimal(2))
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.by, entry.subject_label) == ("model_repriced", tom, "m")
    cached = {"cached_input_price": None}
    assert entry.before == {"input_price": "0", "output_price": None, "training_price": "0"} | cached
    assert entry.after == {"input_price": "0.3", "output_price": "2", "training_price": "0"} | cached
    assert not reprice(model, Prices(Decimal("0.30"), Decimal(2), Decimal(0)), by=tom)
    assert AuditEntry.objects.count() == 1


@pytest.mark.parametrize("price", ["-0.0001", "NaN", "Infinity", "10000.0001"])
def test_a_price_that_cannot_be_is_refused(tom: User, price: str) -> None:
    model = make_model()
    with pytest.raises(StoryError, match=r"^价格要在 0 到 10000 美元之间。$"):
        reprice(model, Prices(Decimal(price), None, None), by=tom)
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("field", ["input_price", "output_price", "training_price", "cached_input_price"])
@pytest.mark.parametrize("price", ["-0.0001", "NaN", "Infinity", "1e9"])
def test_a_form_refuses_it_beside_its_field(client: Client, tom: User, field: str, price: str) -> None:
    model = make_model()
    client.force_login(tom)
    fields = {"input_price": "1", "output_price": "1", "training_price": "1", field: price}
    answer = client.post(f"/admin/stories/languagemodel/{model.pk}/change/", fields)
    assert answer.context["adminform"].form.errors.keys() == {field}
    assert LanguageModel.objects.get().input_price == 0


def test_a_form_sets_prices_and_the_shutdown_date(client: Client, tom: User) -> None:
    model = make_model()
    client.force_login(tom)
    fields = {"input_price": "1", "output_price": "", "training_price": "3", "shutdown_date": "2030-01-02"}
    assert client.post(f"/admin/stories/languagemodel/{model.pk}/change/", fields).status_code == 302
    model.refresh_from_db()
    assert (model.input_price, model.output_price, str(model.shutdown_date)) == (1, None, "2030-01-02")
    assert AuditEntry.objects.get().by == tom
