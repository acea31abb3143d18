"""A reader or an editor stops a story: queued → cancelled at once, writing → asked to stop (floor 3)."""

from django.utils import timezone

from stories.models import EndReason, Story


def request_stop(story: Story) -> bool:
    """Stops the story; False if it had already ended. The desk closes the provider's call within a second."""
    cancelled = Story.objects.filter(pk=story.pk, state=Story.State.QUEUED).update(
        state=Story.State.CANCELLED, end_reason=EndReason.STOPPED, ended_at=timezone.now()
    )
    if cancelled:
        return True
    return bool(Story.objects.filter(pk=story.pk, state=Story.State.WRITING).update(stop_requested=True))
