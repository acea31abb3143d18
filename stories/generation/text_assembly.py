"""Makes the pieces of a provider into text that can be stored, counted and shown (pure).

It joins surrogates that were split across two pieces, replaces lone surrogates and NULs (PostgreSQL stores neither),
drops white space in front of a text, and drops what a continuation repeats of the end of the text so far. Offsets count
Unicode code points of what `take()` returned.
"""

REPLACEMENT = "\ufffd"
OVERLAP = 200  # code points of a repeated end that a continuation is searched for
SETTLED = 24  # code points of a continuation that show whether it repeats


class TextAssembler:
    """Assembles one answer. `so_far` is the committed text that a continuation goes on from."""

    def __init__(self, so_far: str = "") -> None:
        self._tail = so_far[-OVERLAP:]
        self._begun = bool(so_far)
        self._undecided = bool(so_far)
        self._pending = ""
        self._ready = ""

    def add(self, piece: str) -> None:
        """Adds what the provider sent; any string, also an empty one."""
        text = self._pending + piece
        # A high surrogate at the end waits for its other half in the next piece.
        keep = 1 if text and "\ud800" <= text[-1] <= "\udbff" else 0
        self._pending = text[len(text) - keep :]
        self._ready += _storable(text[: len(text) - keep])
        if not self._begun:
            self._ready = self._ready.lstrip()
            self._begun = bool(self._ready)

    def finish(self) -> None:
        """Makes all text ready that was held back: no more pieces will come."""
        self._ready += _storable(self._pending)
        self._pending = ""
        if self._undecided:
            self._trim_overlap()

    def take(self) -> str:
        """The text that became ready since the last call; "" while a continuation may still be a repetition."""
        if self._undecided and len(self._ready) >= SETTLED:
            still_repeating = len(self._ready) < OVERLAP and self._ready in self._tail
            if not still_repeating:
                self._trim_overlap()
        if self._undecided:
            return ""
        ready, self._ready = self._ready, ""
        return ready

    def _trim_overlap(self) -> None:
        """Drops the longest beginning that is also the end of the text so far, if it has at least four code points."""
        self._undecided = False
        longest = min(len(self._tail), len(self._ready))
        for size in range(longest, 3, -1):
            if self._tail.endswith(self._ready[:size]):
                self._ready = self._ready[size:]
                return


def _storable(text: str) -> str:
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return joined.replace("\x00", REPLACEMENT)
