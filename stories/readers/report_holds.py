"""Whether a report takes a story away from its readers at once, before an editor has looked.

Every report reaches the editors' queue; a hold is the exception. A story that no editor vouched for is held by
any report. One that an editor approved stays where it is, unless several readers of different addresses
report it, or one whose word is enough for today: for a grave cause, or by an account in good standing.
Those holds of one reader are counted by the day, by reader and by address: signing up and cookies are cheap.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from django.db.models import Count, Q
from django.utils import timezone

from stories.models import Reaction, Review, Story
from stories.readers import quotas
from stories.readers.identity import Reader
from stories.review import decisions
from stories.values import addresses

Cause, Decision = Reaction.Cause, Review.Decision

GRAVE = frozenset({Cause.SEXUAL, Cause.ILLEGAL, Cause.PERSON})
"""What does harm each hour it is shown. Violence is not among them: every story here is a fight, and how
much of it is too much is for an editor to say."""
SEVERAL = 3
"""Different addresses whose open reports hold a story together."""
HOLDS_PER_DAY = 2
"""Approved stories that one reader, and one address, can have held by themselves."""
KNOWN_AFTER = timedelta(days=7)
"""The age from which an account may be in good standing."""
UPHELD_PER_WRONG = 3
"""How many reports an editor upheld make up for one that was found wrong."""


class Ground(Enum):
    """Why a report holds a story."""

    UNVOUCHED = "no editor vouched for it"
    SEVERAL = "several addresses"
    GRAVE = "a grave cause"
    STANDING = "an account in good standing"

    @property
    def is_single(self) -> bool:
        """Whether one reader's word is all there is."""
        return self in (Ground.GRAVE, Ground.STANDING)


@dataclass(frozen=True)
class Claim:
    """What is known when a report is made.

    `vouched`: an editor approved the story, or kept it after an earlier report. `answered`: an editor kept it,
    with the text it has now, after a report for this very cause. `addresses`: how many different ones its open
    reports came from, this one's among them. `sound`: the reader's earlier reports were mostly upheld, or none
    was decided yet. `known`: the reader is signed in, with an account that is not new.
    """

    vouched: bool
    grave: bool
    answered: bool
    addresses: int
    sound: bool
    known: bool


def ground(claim: Claim) -> Ground | None:
    """The first ground that applies; None: the story stays where it is until an editor decides."""
    if not claim.vouched:
        return Ground.UNVOUCHED
    if claim.addresses >= SEVERAL:
        return Ground.SEVERAL
    if claim.answered or not claim.sound:
        return None
    if claim.grave:
        return Ground.GRAVE
    return Ground.STANDING if claim.known else None


def is_sound(*, upheld: int, wrong: int) -> bool:
    """Whether a reader's reports so far were mostly right; one that nobody decided yet says nothing."""
    return upheld >= UPHELD_PER_WRONG * wrong


def holds(report: Reaction, *, reader: Reader, story: Story) -> bool:
    """Whether this new report of the story holds it; counts the hold if one reader's word is enough.

    The caller has locked the story's row: who reports it at the same time is counted before or after.
    """
    found = ground(_claim(report, reader=reader, story=story))
    return found is not None and (not found.is_single or _count_hold(reader))


def _claim(report: Reaction, *, reader: Reader, story: Story) -> Claim:
    open_reports = story.reactions.open_reports().order_by().exclude(address_hash="")
    upheld, wrong = _record_of(reader)
    return Claim(
        vouched=_is_vouched(story),
        grave=report.cause in GRAVE,
        answered=_is_answered(story, report.cause),
        addresses=open_reports.values("address_hash").distinct().count(),
        sound=is_sound(upheld=upheld, wrong=wrong),
        known=reader.user.is_authenticated and reader.user.date_joined <= timezone.now() - KNOWN_AFTER,
    )


def _is_vouched(story: Story) -> bool:
    if story.verdict == Story.Verdict.APPROVED:
        return True
    standing = decisions.standing_decisions(story)
    kept = bool(standing) and standing[-1].decision == Decision.RESTORED
    return kept and standing[-1].text_after == story.final_text


def _is_answered(story: Story, cause: str) -> bool:
    wrong = story.reactions.reports().found_wrong().filter(cause=cause)
    return story.final_text in wrong.values_list("settled_by__text_after", flat=True)


def _record_of(reader: Reader) -> tuple[int, int]:
    """How many of the reader's reports an editor upheld, and how many were found wrong."""
    theirs = Reaction.objects.reports().filter(who=reader.identity)
    counted = theirs.aggregate(
        upheld=Count("pk", filter=Q(settled_by__decision=Decision.REJECTED)),
        wrong=Count("pk", filter=Q(settled_by__decision__in=[Decision.RESTORED, Decision.APPROVED])),
    )
    return counted["upheld"], counted["wrong"]


def _count_hold(reader: Reader) -> bool:
    """Counts one more for the reader and for the address; False at the limit of either."""
    names = (f"holds:{reader.identity}", f"holds:{addresses.name_address(reader.address)}")
    return all(quotas.count(name, limit=HOLDS_PER_DAY) for name in names)
