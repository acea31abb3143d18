"""The suite's provider: `server` takes the calls, `jobs` holds files and fine-tuning jobs, `batches` its batches."""

from tests.provider.server import CHAT, COMPLETIONS, MODERATIONS, Call, Fault, Provider

__all__ = ["CHAT", "COMPLETIONS", "MODERATIONS", "Call", "Fault", "Provider"]
