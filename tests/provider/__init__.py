"""The suite's provider: `server` takes the calls; `jobs`, `batches` and `limits` are parts of it."""

from tests.provider.limits import RequestLimit
from tests.provider.server import CHAT, COMPLETIONS, MODERATIONS, Call, Fault, Provider

__all__ = ["CHAT", "COMPLETIONS", "MODERATIONS", "Call", "Fault", "Provider", "RequestLimit"]
