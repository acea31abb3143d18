"""What a reader says of a story: 👍 or 👎, read to the end, reported.

Each is a row with the model that wrote the story. Every report waits for an editor, whose decision
(`stories/review/decisions.py`) settles it; `holds` says which reports hold the story back until then (`held_at`).
"""

from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import Count
from django.utils import timezone
from django.utils.translation import gettext as _

from stories.errors import BadState, QuotaUsedUp
from stories.models import Reaction, Story
from stories.readers import quotas, report_holds, sharing
from stories.readers.identity import Reader, owns
from stories.values import addresses

REACTIONS_PER_DAY = 300
"""New ones from one address: a visitor without a cookie is a new reader each time."""
REPORTS_PER_DAY = 20
"""From one address; each is work for an editor."""
ADDRESS_KEPT = timedelta(days=30)
"""How long the address of an undecided report is kept, to tell reports of different addresses apart."""
Kind = Reaction.Kind


@dataclass(frozen=True)
class OwnReactions:
    """What one reader said of one story; `taste` is "" for neither 👍 nor 👎. `settled`: an editor saw the report."""

    taste: str
    finished: bool
    reported: bool
    settled: bool


def own_reactions(story: Story, *, reader: Reader) -> OwnReactions:
    found = dict(story.reactions.filter(who=reader.identity).values_list("kind", "settled_by"))
    return OwnReactions(
        taste=next((kind for kind in (Kind.LIKED, Kind.DISLIKED) if kind in found), ""),
        finished=Kind.FINISHED in found,
        reported=Kind.REPORTED in found,
        settled=found.get(Kind.REPORTED) is not None,
    )


def count_of(story: Story) -> dict[str, int]:
    """How many readers said what: by `Reaction.Kind`, 0 for none."""
    counted = dict(story.reactions.order_by().values_list("kind").annotate(n=Count("pk")))
    return {kind.value: counted.get(kind, 0) for kind in Kind}


@transaction.atomic
def rate(story: Story, *, reader: Reader, taste: str) -> None:
    """👍, 👎, or "" to take either back. Who no longer likes their own story takes back its offer too.

    Raises `BadState` for a story without text, `QuotaUsedUp` at the address's limit.
    """
    _check_readable_end(story)
    # Two readers of one story wait for each other here, so that the count of likes is exact.
    Story.objects.select_for_update().only("pk").get(pk=story.pk)
    mine = story.reactions.tastes().filter(who=reader.identity)
    if not taste:
        mine.delete()
    elif not mine.update(kind=taste):
        _count(reader, "reactions", limit=REACTIONS_PER_DAY)
        _make(story, reader, kind=taste)
    story.likes = story.reactions.filter(kind=Kind.LIKED).count()
    Story.objects.filter(pk=story.pk).update(likes=story.likes)
    if taste != Kind.LIKED and story.offered_at and owns(reader, story):
        sharing.take_back(story, reader=reader)


@transaction.atomic
def finish(story: Story, *, reader: Reader) -> None:
    """The reader reached the end; once. Raises like `rate`."""
    _check_readable_end(story)
    if not story.reactions.filter(who=reader.identity, kind=Kind.FINISHED).exists():
        _count(reader, "reactions", limit=REACTIONS_PER_DAY)
        _make(story, reader, kind=Kind.FINISHED)


@transaction.atomic
def report(story: Story, *, reader: Reader, cause: str, reason: str = "", passage: str = "") -> Reaction:
    """Reports a story, which an editor will decide on; until then it may be held back (`story.held_at`).

    Raises `BadState` for a second report by the same reader, `QuotaUsedUp` at the address's limit.
    """
    _check_readable_end(story)
    if story.reactions.reports().filter(who=reader.identity).exists():
        raise BadState(_("你已经举报过这一篇，编辑会看的。"))
    _count(reader, "reports", limit=REPORTS_PER_DAY)
    # Readers who report one story at once wait for each other here: the last of them counts all.
    row = Story.objects.select_for_update().get(pk=story.pk)
    values = {"cause": cause, "reason": reason, "passage": passage}
    address = addresses.hash_address(reader.address)
    made = _make(row, reader, kind=Kind.REPORTED, address_hash=address, **values)
    row.reported_at = timezone.now()
    if row.held_at is None and report_holds.holds(made, reader=reader, story=row):
        row.held_at = row.reported_at
    row.save(update_fields=["reported_at", "held_at"])
    story.reported_at, story.held_at = row.reported_at, row.held_at
    return made


def forget_old_addresses() -> int:
    """Addresses of reports that nobody decided on for long; how many. A decision forgets them at once."""
    old = Reaction.objects.reports().filter(created_at__lt=timezone.now() - ADDRESS_KEPT)
    return old.exclude(address_hash="").order_by().update(address_hash="")


def _make(story: Story, reader: Reader, **values: str) -> Reaction:
    """Makes the row. Of two tabs at once only one makes it; the other finds it."""
    reaction, _created = Reaction.objects.get_or_create(
        story=story,
        who=reader.identity,
        kind=values["kind"],
        defaults=values | {"language_model": story.language_model},
    )
    return reaction


def _check_readable_end(story: Story) -> None:
    if not story.has_ended or not story.final_text:
        raise BadState(_("这一篇还没有写出来，等它写完再说。"))


def _count(reader: Reader, what: str, *, limit: int) -> None:
    if not quotas.count(f"{what}:{addresses.name_address(reader.address)}", limit=limit):
        raise QuotaUsedUp(_("你所在的网络今天点得太多了，请明天再来。"))
