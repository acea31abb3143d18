"""What a provider's word for the state of a job, or of a file, means to us.

The words were collected from the documents of OpenAI, Azure, Together, Fireworks, Mistral, 百炼, 智谱 and Vertex.
"""

import re
from enum import Enum, auto

PREFIXES = ("job_state_", "job_status_", "state_", "status_")


class Meaning(Enum):
    """What a word says of a job; `UNKNOWN` is a word that is in no table."""

    GOING = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    CANCELLED = auto()
    UNKNOWN = auto()


ENDS = (Meaning.SUCCEEDED, Meaning.FAILED, Meaning.CANCELLED)
GOING = """
    validating_files validating validated queued queuing pending created create creating submitted scheduled
    notstarted not_started notrunning not_running waiting preparing initializing starting started running
    in_progress inprogress processing training compressing uploading writing_results finalizing evaluating
    pausing paused resuming cancelling canceling cancel_requested cancellation_requested stopping
"""
WORDS: dict[Meaning, str] = {
    Meaning.GOING: GOING,
    Meaning.SUCCEEDED: "succeeded success successful succeed completed complete finished done",
    Meaning.FAILED: "failed failure fail error errored user_error failed_validation validation_failed rejected expired",
    Meaning.CANCELLED: "cancelled canceled user_cancelled user_canceled aborted stopped terminated",
}
MEANINGS = {word: meaning for meaning, words in WORDS.items() for word in words.split()}
FILES_UNREADY = (
    *("uploaded", "uploading", "pending", "processing", "queued", "running", "validating"),
    *("importing", "waiting", "in_progress", "created"),
)
FILES_BROKEN = ("error", "errored", "failed", "failure", "invalid", "rejected", "failed_validation")


def meaning_of(word: str) -> Meaning:
    """What a job's status means: in any case and spelling, with or without a prefix."""
    return MEANINGS.get(plain(word), Meaning.UNKNOWN)


def plain(word: str) -> str:
    """`JOB_STATE_COMPLETED`, `In-Progress` → `completed`, `in_progress`."""
    bare = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")
    return next((bare.removeprefix(one) for one in PREFIXES if bare.startswith(one)), bare)
