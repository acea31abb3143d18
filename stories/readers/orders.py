"""A reader orders a story, or goes on with one. Every order leads to a paid call, so each counts (`quotas`)."""

from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from stories.errors import BadState
from stories.generation import states
from stories.generation.prompts import current_template
from stories.language_models import serving_model
from stories.models import LanguageModel, PromptStyle, Story
from stories.readers import moderation, quotas
from stories.readers.identity import TERMINAL, Reader
from stories.values.combos import Combo


def ask_story(
    combo: Combo, *, reader: Reader, model: LanguageModel | None = None, again_of: Story | None = None
) -> Story:
    """A queued story of `combo` for `reader`, by `model` or the serving model; the caller enqueues it.

    Who sits at the site's own terminal (`identity.TERMINAL`) has no quota. Raises `QuotaUsedUp`, or
    `UnknownModel` if no model can be asked.
    """
    with transaction.atomic():
        if reader is not TERMINAL:
            quotas.count_order(reader)
        model = model or serving_model()
        story: Story = Story.objects.create(
            dynasty=combo.dynasty,
            super_power=combo.super_power,
            story_type=combo.story_type,
            origin=Story.Origin.READER,
            owner=reader.user if reader.user.is_authenticated else None,
            reader_key="" if reader.user.is_authenticated else reader.key,
            again_of=again_of,
            **_asking(model),
        )
        return story


def order_story(combo: Combo, *, reader: Reader) -> Story:
    """`ask_story` after a look at the quotas and at the ingredients; what a reader's form leads to.

    The moderation call is made outside any transaction, and not at all for a reader who has no story left.
    Raises like `ask_story`, and like `moderation.check_combo`.
    """
    quotas.check_left(reader)
    model = serving_model()
    moderation.check_combo(combo, model=model)
    return ask_story(combo, reader=reader, model=model)


def write_again(story: Story, *, reader: Reader) -> Story:
    """A new story of the same combo, linked to the first of its versions. Raises like `ask_story`."""
    if not story.has_ended:
        raise BadState(_("这一篇还没有写完：请等它写完，或先停止。"))
    first = story.again_of or story
    return ask_story(story.combo, reader=reader, again_of=first)


# Any: values of columns.
def _asking(model: LanguageModel) -> dict[str, Any]:
    """The columns of a story that say whom it asks, and with which wording."""
    template = current_template() if model.prompt_style == PromptStyle.TEMPLATE else None
    return {"language_model": model, "template": template}


def retry_story(story: Story, *, reader: Reader) -> None:
    """Queues a failed or interrupted story from nothing, for the serving model of now: the one that was
    asked before may be why it failed.

    Raises `BadState`, `QuotaUsedUp`, or `UnknownModel` if no model can be asked.
    """
    model = serving_model()
    asked_anew = {} if model.pk == story.language_model_id else _asking(model)
    _queue_again(story, reader=reader, **asked_anew)


def continue_story(story: Story, *, reader: Reader) -> None:
    """Queues an interrupted story to be written on; its text and attempt name stay. Raises like `retry_story`."""
    _queue_again(story, reader=reader, keep_text=True)


def _queue_again(story: Story, *, reader: Reader, keep_text: bool = False, **changes: object) -> None:
    if story.origin != Story.Origin.READER:
        raise BadState(_("这篇故事属于一个生成批次：请在后台重试那个批次。"))
    with transaction.atomic():
        unedited = Story.objects.filter(pk=story.pk, edited_text="")
        if not states.queue_again(unedited, keep_text=keep_text, **changes):
            raise BadState(_("这篇故事现在不能这样做：它的状态刚刚变了，请看看它现在的样子。"))
        quotas.count_order(reader, but=story)
