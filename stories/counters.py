"""How often somebody did something today: rows changed by conditional updates (floor 3).

One UPDATE whose WHERE holds the limit, so that parallel requests never pass it.
"""

import ipaddress
from datetime import timedelta

from django.db.models import F
from django.utils import timezone
from django.utils.crypto import salted_hmac

from stories.models import ReaderDay

KEPT = timedelta(days=1)


def count(who: str, *, limit: int) -> bool:
    """Counts one more for `who` today; False, and nothing counted, at the limit."""
    day = timezone.localdate()
    ReaderDay.objects.bulk_create([ReaderDay(day=day, who=who)], ignore_conflicts=True)
    within = ReaderDay.objects.filter(day=day, who=who, stories__lt=limit)
    return bool(within.update(stories=F("stories") + 1))


def forget_old_days() -> int:
    """Removes the counts of days before yesterday, which name readers and addresses; how many."""
    old = ReaderDay.objects.filter(day__lt=timezone.localdate() - KEPT)
    return old.delete()[0]


def name_address(raw: str) -> str:
    """The name an address is counted under."""
    line = _line(raw)
    if line is None:
        return f"address:{raw[:60]}"
    return f"address:{line if line.version == 6 else line.network_address}"


def line_of(raw: str) -> str | None:
    """The first address of somebody's line; None if it is no address."""
    line = _line(raw)
    return str(line.network_address) if line else None


def _line(raw: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """One IPv6 line is a /64, whatever its lower half says."""
    try:
        address = ipaddress.ip_address(raw)
    except ValueError:
        return None
    return ipaddress.ip_network((address, 64 if address.version == 6 else 32), strict=False)


def hash_address(raw: str) -> str:
    """What tells one `name_address` from another without saying which: 64 hex digits, keyed with SECRET_KEY."""
    return salted_hmac("stories.address", name_address(raw), algorithm="sha256").hexdigest()
