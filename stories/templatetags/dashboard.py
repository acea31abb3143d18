"""The dashboard on the admin's first page: what waits for an editor today."""

from datetime import timedelta

from django import template
from django.conf import settings
from django.db.models import Max
from django.utils import timezone

from stories.models import LanguageModel, Run, Story
from stories.provider_accounts import empty_accounts
from stories.readers.moderation import moderation_troubles

register = template.Library()


@register.inclusion_tag("admin/stories/_dashboard.html", takes_context=True)
def dashboard(context: template.Context) -> dict[str, object]:
    """Figures of the moment: stories that wait, reported ones, approved ones, running runs, the serving model.

    `waits`: the models that readers' stories wait for because a provider asked for it, and until when.
    `empty_accounts`: those that are not asked until someone pays. `moderation`: pages that are absent or down.
    """
    counted = {
        "waiting": Story.objects.reviewable().count(),
        "reported": Story.objects.reported().count(),
        "approved": Story.objects.approved().count(),
    }
    soon = timezone.now() + timedelta(minutes=1)
    held_up = Story.objects.filter(
        state=Story.State.QUEUED, run__isnull=True, next_try_at__gt=soon, language_model__isnull=False
    ).exclude(error="")
    waits = held_up.order_by().values_list("language_model__name").annotate(until=Max("next_try_at"))
    running = Run.objects.filter(state=Run.State.RUNNING).count()
    serving = LanguageModel.objects.promoted().first() or settings.OPENAI_MODEL
    now = {"running": running, "serving": serving, "waits": waits.order_by("language_model__name")}
    page = {"perms": context.get("perms"), "csrf_token": context.get("csrf_token")}
    troubles = {"empty_accounts": empty_accounts(), "moderation": moderation_troubles()}
    return {**counted, **now, **page, **troubles}
