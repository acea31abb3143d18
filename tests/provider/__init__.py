"""The suite's provider: `server` takes the calls; `jobs`, `batches` and `limits` are parts of it."""

from tests.provider.limits import AtOnce, Bucket, FixedMinute, Limit, SlidingMinute, Telling
from tests.provider.server import CHAT, COMPLETIONS, MODERATIONS, Call, Fault, Provider

__all__ = [
    "CHAT",
    "COMPLETIONS",
    "MODERATIONS",
    "AtOnce",
    "Bucket",
    "Call",
    "Fault",
    "FixedMinute",
    "Limit",
    "Provider",
    "SlidingMinute",
    "Telling",
]
