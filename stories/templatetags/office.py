"""The desk on the admin's first page: what waits for an editor today."""

from typing import Any

from django import template
from django.conf import settings

from stories.models import LanguageModel, Run, Story

register = template.Library()


@register.inclusion_tag("admin/stories/_desk.html", takes_context=True)
def desk(context: template.Context) -> dict[str, Any]:
    """Figures of the moment: stories that wait, reported ones, approved ones, running runs, the serving model."""
    counted = {
        "waiting": Story.objects.reviewable().count(),
        "reported": Story.objects.reported().count(),
        "approved": Story.objects.approved().count(),
    }
    running = Run.objects.filter(state=Run.State.RUNNING).count()
    serving = LanguageModel.objects.promoted().first() or settings.OPENAI_MODEL
    return {**counted, "running": running, "serving": serving, "perms": context.get("perms")}
