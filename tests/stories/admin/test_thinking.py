"""Staff see and set how a model's answers begin."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from stories.models import LanguageModel
from tests.factories import make_model

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("said", "kept"), [("true", True), ("false", False), ("unknown", None)])
def test_a_trainer_sets_whether_answers_begin_inside_the_thinking(
    client: Client, tom: User, said: str, kept: bool | None
) -> None:
    model = make_model("qwq-32b", opens_in_thinking=not kept)
    client.force_login(tom)
    address = f"/admin/stories/languagemodel/{model.pk}/change/"
    assert "回答从思考里开始" in client.get(address).content.decode()
    prices = {"input_price": "0", "output_price": "0", "training_price": "0", "shutdown_date": ""}
    client.post(address, prices | {"opens_in_thinking": said})
    row = LanguageModel.objects.get()
    assert row.opens_in_thinking is kept
    assert row.opens_inside is (kept is not False)
