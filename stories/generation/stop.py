"""A reader or an editor stops a story: queued → cancelled at once, writing → asked to stop."""

from stories.generation import states
from stories.models import EndReason, Story


def request_stop(story: Story) -> bool:
    """Stops the story; False if it had already ended. The stream engine closes the provider's call within a second."""
    mine = Story.objects.filter(pk=story.pk)
    if states.cancel_queued(mine, reason=EndReason.STOPPED):
        return True
    return bool(mine.filter(state=Story.State.WRITING).update(stop_requested=True))
