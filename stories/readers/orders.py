"""A reader orders a story, or goes on with one; quotas are counted here.

Every order leads to a paid call, so each counts: a new story, a retry, a continuation. The reader's and the
address's counters are rows changed by conditional updates. The reader's row also serialises their orders:
whoever changed it holds its lock until the commit, so the count of unfinished stories that follows is exact.
"""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from stories.errors import BadState, QuotaUsedUp
from stories.generation import states
from stories.generation.prompts import current_template
from stories.language_models import serving_model
from stories.models import LanguageModel, PromptStyle, ReaderDay, Story
from stories.models.stories import StoryQuerySet
from stories.readers import moderation
from stories.readers.identity import TERMINAL, Reader, stories_of
from stories.values import addresses
from stories.values.combos import Combo

SITE = "site"


@dataclass(frozen=True)
class QuotaLeft:
    """What a reader may still order: stories today, and how many are being written of how many at once."""

    today: int
    unfinished: int
    streams: int


def ask_story(
    combo: Combo, *, reader: Reader, model: LanguageModel | None = None, again_of: Story | None = None
) -> Story:
    """A queued story of `combo` for `reader`, by `model` or the serving model; the caller enqueues it.

    Who sits at the site's own terminal (`identity.TERMINAL`) has no quota. Raises `QuotaUsedUp`, or
    `UnknownModel` if no model can be asked.
    """
    with transaction.atomic():
        if reader is not TERMINAL:
            _count_order(reader)
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
    used = _used_today(reader)
    for who, limit, sentence in _limits(reader):
        if used.get(who, 0) >= limit:
            raise QuotaUsedUp(sentence)
    model = serving_model()
    moderation.check_combo(combo, model=model)
    return ask_story(combo, reader=reader, model=model)


def write_again(story: Story, *, reader: Reader) -> Story:
    """A new story of the same combo, linked to the first of its versions. Raises like `ask_story`."""
    if not story.has_ended:
        raise BadState(_("这一篇还没有写完：请等它写完，或先停止。"))
    first = story.again_of or story
    return ask_story(story.combo, reader=reader, again_of=first)


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


def _queue_again(story: Story, *, reader: Reader, keep_text: bool = False, **changes: Any) -> None:
    if story.origin != Story.Origin.READER:
        raise BadState(_("这篇故事属于一个生成批次：请在后台重试那个批次。"))
    with transaction.atomic():
        unedited = Story.objects.filter(pk=story.pk, edited_text="")
        if not states.queue_again(unedited, keep_text=keep_text, **changes):
            raise BadState(_("这篇故事现在不能这样做：它的状态刚刚变了，请看看它现在的样子。"))
        _count_order(reader, but=story)


def quota_left(reader: Reader) -> QuotaLeft:
    """What `reader` may still order now; for showing, not for deciding."""
    used = _used_today(reader)
    left = min(limit - used.get(who, 0) for who, limit, _sentence in _limits(reader))
    return QuotaLeft(
        today=max(0, left),
        unfinished=_unfinished_of(reader).count(),
        streams=settings.READER_STREAMS,
    )


def address_name(reader: Reader) -> str:
    """The name a reader's address is counted under."""
    return addresses.name_address(reader.address)


def _used_today(reader: Reader) -> dict[str, int]:
    names = [who for who, _limit, _sentence in _limits(reader)]
    counted = ReaderDay.objects.filter(day=timezone.localdate(), who__in=names)
    return dict(counted.values_list("who", "stories"))


def _limits(reader: Reader) -> tuple[tuple[str, int, str], ...]:
    """The counters of an order: who is counted, the limit, the sentence at it; for reader, address and site."""
    mine, theirs = settings.READER_STORIES_PER_DAY, settings.ADDRESS_STORIES_PER_DAY
    ours = settings.SITE_STORIES_PER_DAY
    site = ((SITE, ours, _("本站今天的故事已经写满了，请明天再来。")),) if ours else ()
    return (
        (reader.identity, mine, _("今天的 %(n)s 篇已经用完了，请明天再来。") % {"n": mine}),
        (
            address_name(reader),
            theirs,
            _("你所在的网络今天已经写了 %(n)s 篇，请明天再来。") % {"n": theirs},
        ),
        *site,
    )


def _count_order(reader: Reader, *, but: Story | None = None) -> None:
    """Counts one order within the caller's transaction; `but` is the story ordered. Raises `QuotaUsedUp`."""
    day = timezone.localdate()
    limits = _limits(reader)
    ReaderDay.objects.bulk_create(
        [ReaderDay(day=day, who=who) for who, _limit, _sentence in limits], ignore_conflicts=True
    )
    for who, limit, sentence in limits:
        within = ReaderDay.objects.filter(day=day, who=who, stories__lt=limit)
        if not within.update(stories=F("stories") + 1):
            raise QuotaUsedUp(sentence)
    others = _unfinished_of(reader).exclude(pk=but.pk) if but else _unfinished_of(reader)
    if others.count() >= settings.READER_STREAMS:
        words = {"n": settings.READER_STREAMS}
        raise QuotaUsedUp(_("你已有 %(n)s 篇正在写：等一篇写完，或停止一篇，再来。") % words)


def _unfinished_of(reader: Reader) -> StoryQuerySet:
    return stories_of(reader).unfinished()
