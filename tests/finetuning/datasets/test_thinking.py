"""What a model thought before it wrote is trained on nowhere."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from finetuning.datasets import build_dataset, count_thinking, full_path, preview_dataset
from finetuning.errors import BadDataset, BadJob
from finetuning.models import DatasetRow, Job
from stories.models import Story
from stories.review import mending
from tests.finetuning.factories import make_approved, make_built_dataset, make_model, order_job

pytestmark = pytest.mark.django_db
HELD = "<think>先想一想。</think>\n\n从前有座山。"


def spoil(story: Story, text: str = HELD) -> None:
    Story.objects.filter(pk=story.pk).update(text=text, length=len(text))


@pytest.mark.both_databases
@pytest.mark.parametrize(
    "text", [HELD, "先想。</think>从前。", "[THINK]想", "从前，<thought>想</thought>山。"]
)
def test_a_text_with_thinking_is_left_out_and_counted(text: str) -> None:
    stories = make_approved(15)
    spoil(stories[3], text)
    preview = preview_dataset()
    assert (preview.rows, preview.thinking, preview.duplicates, preview.problem) == (14, 1, 0, "")
    dataset = build_dataset("a")
    assert count_thinking(dataset) == 0
    assert not dataset.rows.filter(story=stories[3]).exists()
    files = [
        full_path(name).read_text("utf-8")
        for name in (dataset.training_file, dataset.validation_file)
        if name
    ]
    assert "think" not in "".join(files).lower()


def test_an_edit_brings_it_back(alice: User) -> None:
    stories = make_approved(15)
    spoil(stories[3])
    for finding in mending.find(Story.objects.all()):
        mending.carry_out(finding, by=alice)
    assert (preview_dataset().rows, preview_dataset().thinking) == (15, 0)


def test_too_few_for_that_reason_names_the_reason() -> None:
    for story in make_approved(12)[:4]:
        spoil(story)
    with pytest.raises(BadDataset, match="另有 4 篇的正文里有模型的思考，不能用来训练"):
        build_dataset("a")


def test_the_command_says_how_many(capsys: Any) -> None:
    spoil(make_approved(15)[0])
    call_command("build_dataset", "a", "--json")
    *lines, last = capsys.readouterr().out.strip().split("\n")
    assert json.loads(last)["with_thinking"] == 1
    assert any("另有 1 篇的正文里有模型的思考，没有放进去" in line for line in lines)


def test_the_page_says_how_many(client: Client, tom: User) -> None:
    spoil(make_approved(15)[0])
    client.force_login(tom)
    page = client.post("/admin/finetuning/dataset/add/", {"name": "a", "format": "chat"}).content.decode()
    assert "另有 1 篇的正文里有模型的思考，不放进去" in page


def test_a_dataset_that_was_frozen_with_thinking_is_not_trained_on() -> None:
    dataset = make_built_dataset()
    row = DatasetRow.objects.filter(dataset=dataset).first()
    assert row is not None
    DatasetRow.objects.filter(pk=row.pk).update(text=HELD)
    with pytest.raises(BadJob, match="里有 1 行带着模型的思考，不能用来训练"):
        order_job(dataset, model=make_model("gpt-4o-mini", training_price=3))
    assert Job.objects.count() == 0
