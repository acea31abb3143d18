"""The address of somebody's line: the name it is counted under, and a hash that tells two apart."""

import ipaddress

from django.utils.crypto import salted_hmac


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
