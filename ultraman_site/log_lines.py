"""What one line of a log may hold: bounded, and without characters that look like more lines or steer a terminal.

A story, a header or a provider's answer may stand in a message. Its line breaks would make up events that never were,
its control characters would paint the terminal, its megabyte would push everything else out of the log.
"""

import logging
import re

MAX_CHARACTERS = 4_000
MAX_TRACE_LINES = 80
TRACE_MARK = "  | "  # before each line of a traceback: no event begins like this

# C0 and C1 controls, the two line separators of Unicode, bidi controls, lone surrogates; a tab may stay.
_UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str, *, cut: int = 0) -> str:
    """`text` escaped, at most `MAX_CHARACTERS` of it, with the number of those left out; `cut` were lost before."""
    cut += max(0, len(text) - MAX_CHARACTERS)
    line = _UNSAFE.sub(_escaped, text[:MAX_CHARACTERS])
    return f"{line} … [{cut:,} more characters cut]" if cut else line


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


class LineFormatter(logging.Formatter):
    """An event is one line; the lines of a traceback follow it, each marked as one."""

    def format(self, record: logging.LogRecord) -> str:
        """The event without its traceback, then the traceback's newest lines."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        lines = [one_line(self.formatMessage(record))]
        if record.exc_info:
            lines += self._marked(self.formatException(record.exc_info))
        if record.stack_info:
            lines += self._marked(self.formatStack(record.stack_info))
        return "\n".join(lines)

    def _marked(self, trace: str) -> list[str]:
        lines = trace.split("\n")
        left_out = len(lines) - MAX_TRACE_LINES
        said = [f"{TRACE_MARK}… [{left_out} older lines cut]"] if left_out > 0 else []
        return said + [TRACE_MARK + one_line(line) for line in lines[-MAX_TRACE_LINES:]]
