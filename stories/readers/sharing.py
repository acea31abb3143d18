"""What a reader does with a story of their own: shares its link, or offers it to the editors.

A link is the story's own address: whoever has it may read while the story is shared, and nobody lists it.
An offer is the reader's leave to put the story in the library and to train models on it; without one no
editor can approve it, and taking it back takes the story out of the library.
"""

from django.db.models import Case, Value, When
from django.utils import timezone
from django.utils.translation import gettext as _

from stories.errors import BadState
from stories.models import Reaction, Story
from stories.models.stories import StoryQuerySet
from stories.readers.identity import Reader, owns

State, Verdict, Visibility = Story.State, Story.Verdict, Story.Visibility


def share(story: Story, *, reader: Reader) -> None:
    """private → link; a story that is shared or in the library stays so. Raises `BadState`."""
    _check_own(story, reader)
    if not story.final_text or not story.has_ended:
        raise BadState(_("这一篇还没有写出来，等它写完再分享。"))
    if story.held_at:
        raise BadState(_("这一篇被举报了，编辑处理以前不能分享。"))
    _row(story).filter(visibility=Visibility.PRIVATE, held_at__isnull=True).update(visibility=Visibility.LINK)
    story.refresh_from_db(fields=["visibility"])


def unshare(story: Story, *, reader: Reader) -> None:
    """link → private: who has the link is refused from now on. Raises `BadState` for someone else's story."""
    _check_own(story, reader)
    _row(story).filter(visibility=Visibility.LINK).update(visibility=Visibility.PRIVATE)
    story.refresh_from_db(fields=["visibility"])


def offer(story: Story, *, reader: Reader) -> None:
    """Puts a liked story of the reader's own in the review queue. Raises `BadState`."""
    _check_own(story, reader)
    if story.origin != Story.Origin.READER or story.state != State.WRITTEN:
        raise BadState(_("写完整的故事才能投稿。"))
    if not story.reactions.filter(who=reader.identity, kind=Reaction.Kind.LIKED).exists():
        raise BadState(_("先给它点个喜欢，再投稿。"))
    _row(story).filter(state=State.WRITTEN, offered_at__isnull=True).update(
        offered_at=timezone.now(), offered_by=reader.identity
    )
    story.refresh_from_db(fields=["offered_at", "offered_by"])


def take_back(story: Story, *, reader: Reader) -> None:
    """Takes the offer back: an approved story leaves the library, and enters no further dataset."""
    _check_own(story, reader)
    approved = When(verdict=Verdict.APPROVED, then=Value(Verdict.UNREVIEWED))
    in_library = When(visibility=Visibility.LIBRARY, then=Value(Visibility.PRIVATE))
    _row(story).filter(offered_at__isnull=False).update(
        offered_at=None,
        offered_by="",
        verdict=Case(approved, default="verdict"),
        visibility=Case(in_library, default="visibility"),
        reviewed_at=Case(When(verdict=Verdict.APPROVED, then=None), default="reviewed_at"),
    )
    story.refresh_from_db()


def _row(story: Story) -> StoryQuerySet:
    return Story.objects.filter(pk=story.pk)


def _check_own(story: Story, reader: Reader) -> None:
    if not owns(reader, story):
        raise BadState(_("只有写它的读者能这样做；如果是你，请在写它的浏览器里打开，或先登录。"))
