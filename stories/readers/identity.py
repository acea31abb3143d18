"""Who a reader is, and what is theirs: an account, or a key in a signed cookie."""

import secrets
from dataclasses import dataclass
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.core import signing
from django.db import transaction
from django.db.models import Count, Q

from stories.models import Reaction, Story
from stories.models.stories import StoryQuerySet

COOKIE = "reader"
COOKIE_AGE = 365 * 24 * 3600
_SALT = "stories.reader"
VIEW, REVIEW = "stories.view_story", "stories.review_story"


@dataclass(frozen=True)
class Reader:
    """`key` is 32 hex digits, "" for a visitor without the cookie; `address` is the peer's IP address."""

    user: User | AnonymousUser
    key: str
    address: str

    @property
    def identity(self) -> str:
        """The name their quotas are counted under."""
        return f"user:{self.user.pk}" if self.user.is_authenticated else f"key:{self.key}"


# Whoever runs the site's commands; has neither account nor cookie.
TERMINAL = Reader(AnonymousUser(), key="", address="")


def new_key() -> str:
    return secrets.token_hex(16)


def sign_key(key: str) -> str:
    """The cookie's value for a key."""
    return signing.dumps(key, salt=_SALT)


def read_key(cookie: str | None) -> str:
    """The key of a cookie's value; "" if there is none or it was tampered with."""
    try:
        key = signing.loads(cookie or "", salt=_SALT, max_age=COOKIE_AGE)
    except signing.BadSignature:
        return ""
    return key if isinstance(key, str) else ""


def owns(reader: Reader, story: Story) -> bool:
    """Whether the reader asked for this story."""
    if reader.user.is_authenticated and story.owner_id == reader.user.pk:
        return True
    return bool(story.reader_key) and story.reader_key == reader.key


def may_read(reader: Reader, story: Story) -> bool:
    """Library stories and shared links are for all, unless held back by a report; the rest for reader and editors.

    An account's rights are read once and kept with its user object.
    """
    shown = story.visibility != Story.Visibility.PRIVATE and story.held_at is None
    return shown or owns(reader, story) or reader.user.has_perm(VIEW)


def may_stop(reader: Reader, story: Story) -> bool:
    """Stopping, and going on, is for the story's reader and whoever decides on stories."""
    return owns(reader, story) or reader.user.has_perm(REVIEW)


def stories_of(reader: Reader) -> StoryQuerySet:
    """The stories a reader asked for, by account or by cookie; of a visitor without either, none."""
    mine = Q(pk__in=[])
    if reader.user.is_authenticated:
        mine |= Q(owner=reader.user.pk)
    if reader.key:
        mine |= Q(reader_key=reader.key)
    return Story.objects.filter(mine)


@transaction.atomic
def keep_stories(key: str, *, user: User) -> int:
    """What the cookie's reader wrote and said is the account's from now on; how many stories.

    Where both said something of the same story, the account's word stands; where both reported it, both do.
    """
    theirs, mine = f"key:{key}", f"user:{user.pk}"
    rated = _drop_doubles(theirs, mine)
    reported = Reaction.objects.reports().filter(who=mine).values_list("story", flat=True)
    reported_twice = Q(kind=Reaction.Kind.REPORTED, story__in=list(reported))
    Reaction.objects.filter(who=theirs).exclude(reported_twice).update(who=mine)
    likes = Count("reactions", filter=Q(reactions__kind=Reaction.Kind.LIKED))
    recounted = Story.objects.filter(pk__in=rated).annotate(liked=likes)
    for pk, liked in recounted.values_list("pk", "liked"):
        Story.objects.filter(pk=pk).update(likes=liked)
    Story.objects.filter(offered_by=theirs).update(offered_by=mine)
    return Story.objects.filter(reader_key=key).update(owner=user, reader_key="")


def _drop_doubles(theirs: str, mine: str) -> set[UUID]:
    """Deletes what `theirs` said where `mine` spoke too; the stories whose likes are to be counted anew."""
    tastes = Reaction.objects.tastes().filter(who=mine).values("story")
    doubled = Reaction.objects.tastes().filter(who=theirs, story__in=tastes)
    rated = set(doubled.values_list("story", flat=True))
    doubled.delete()
    finished = Reaction.objects.filter(kind=Reaction.Kind.FINISHED)
    finished.filter(who=theirs, story__in=finished.filter(who=mine).values("story")).delete()
    return rated
