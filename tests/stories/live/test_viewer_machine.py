"""Any life of a story, any delivery of its publications, any coming and going of its viewer: the text stays right.

A state machine plays the worker (claims, commits, ends, continuations, retries), the network (publications lost,
late, doubled, out of order) and the browser (drops the connection, comes back with what it holds).
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stories.live.viewer import Snapshot, Viewer

PIECES = st.text(
    st.one_of(
        st.sampled_from("他举手，😀e\u0301👨\u200d👩\u200d👧🇨🇳𠮷\n"), st.characters(exclude_categories=["Cs"])
    ),
    min_size=1,
    max_size=5,
)
ENDS = ["written", "interrupted"]


class Browser:
    """What the page does with the messages of its connections (static/js/stream.js)."""

    def __init__(self) -> None:
        self.attempt, self.text, self.ended, self.is_thinking = "", "", False, False

    def take(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            assert not self.ended, "something after the end"
            if message["type"] == "hello":
                self.is_thinking = False
                self.text = self.text[: message["offset"]] if message["attempt"] == self.attempt else ""
                self.attempt = message["attempt"] or ""
            elif message["type"] == "restart":
                assert message["attempt"]
                self.attempt, self.text = message["attempt"], ""
            elif message["type"] == "text":
                assert message["offset"] == len(self.text), "a gap or a repetition on the wire"
                assert message["text"]
                self.text += message["text"]
            elif message["type"] == "state":
                self.is_thinking = "thinking" in message
            elif message["type"] == "end":
                assert message["length"] == len(self.text)
                self.ended = True


class StoryLife(RuleBasedStateMachine):
    """`row` is the database, `committed` the longest text each attempt ever had, `publications` all ever sent."""

    def __init__(self) -> None:
        super().__init__()
        self.row = {"attempt": "", "fence": 0, "state": "queued", "text": "", "reason": "", "thinking": None}
        self.committed: dict[str, str] = {"": ""}
        self.publications: list[dict[str, Any]] = []
        self.old_rows: list[Snapshot] = []
        self.browser = Browser()
        self.connect()

    def show(self, messages: list[dict[str, Any]]) -> None:
        self.browser.take(messages)
        if self.browser.ended:
            assert messages[-1]["state"] == self.row["state"]
            assert self.browser.text == self.row["text"]

    def snapshot(self) -> Snapshot:
        return Snapshot(**self.row, position=1 if self.row["state"] == "queued" else None)

    def change(self, **changes: Any) -> None:
        self.old_rows.append(self.snapshot())
        self.row |= {"thinking": None} | changes
        if len(self.row["text"]) > len(self.committed.get(self.row["attempt"], "")):
            self.committed[self.row["attempt"]] = self.row["text"]
        self.publications.append({"story": "0"})

    # --- the worker

    @precondition(lambda self: self.row["state"] == "queued")
    @rule()
    def claim(self) -> None:
        name = self.row["attempt"] if self.row["text"] else f"a{self.row['fence'] + 1}"
        self.committed.setdefault(name, "")
        self.change(state="writing", fence=self.row["fence"] + 1, attempt=name)

    @precondition(lambda self: self.row["state"] == "writing")
    @rule(piece=PIECES)
    def commit(self, piece: str) -> None:
        slice_ = {"attempt": self.row["attempt"], "fence": self.row["fence"], "offset": len(self.row["text"])}
        self.change(text=self.row["text"] + piece)
        self.publications[-1] |= slice_ | {"text": piece}

    @precondition(lambda self: self.row["state"] == "writing" and not self.row["text"])
    @rule()
    def begin_to_think(self) -> None:
        self.change(thinking=0)

    @precondition(lambda self: self.row["state"] == "writing" and self.row["text"])
    @rule(piece=PIECES, keep=st.integers(0, 3))
    def take_back_what_was_thinking(self, piece: str, keep: int) -> None:
        """The text begins anew under the same fence, in a commit that may bring its first piece."""
        name, base = f"b{len(self.publications)}", self.row["text"][:keep]
        self.committed[name] = ""
        self.change(attempt=name, text=base + piece)
        slice_ = {"attempt": name, "fence": self.row["fence"], "offset": len(base), "text": piece}
        self.publications[-1] |= slice_

    @precondition(lambda self: self.row["state"] == "writing")
    @rule(state=st.sampled_from(ENDS))
    def end(self, state: str) -> None:
        self.change(state=state if self.row["text"] else "failed", reason="stop")

    @precondition(lambda self: self.row["state"] == "writing" and not self.row["text"])
    @rule()
    def try_again_later(self) -> None:
        self.change(state="queued")

    @precondition(lambda self: self.row["state"] == "interrupted")
    @rule()
    def go_on(self) -> None:
        self.change(state="queued", reason="")

    @precondition(lambda self: self.row["state"] in {"interrupted", "failed"})
    @rule()
    def retry(self) -> None:
        self.change(state="queued", reason="", text="")

    # --- the network and the viewer

    @precondition(lambda self: self.publications and not self.viewer.ended)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """Any publication ever sent, most often one of the last: so each may be lost, late, doubled or overtaken."""
        choice = st.one_of(st.sampled_from(self.publications[-3:]), st.sampled_from(self.publications))
        messages = self.viewer.relay(data.draw(choice))
        self.show(self.viewer.catch_up(self.snapshot()) if messages is None else messages)

    @precondition(lambda self: not self.viewer.ended)
    @rule()
    def read_after_silence(self) -> None:
        self.show(self.viewer.catch_up(self.snapshot()))

    @precondition(lambda self: self.old_rows and not self.viewer.ended)
    @rule(data=st.data())
    def read_a_row_of_an_older_claim(self, data: st.DataObject) -> None:
        """A read that was under way while the story was claimed anew."""
        old = data.draw(st.sampled_from(self.old_rows))
        if old.fence < self.viewer.fence:
            assert self.viewer.catch_up(old) == []

    @rule()
    def connect(self) -> None:
        """The connection is lost, or the page reloads after an end; the browser says what it holds."""
        self.browser.ended = False
        self.viewer = Viewer(attempt=self.browser.attempt, offset=len(self.browser.text))
        self.show(self.viewer.catch_up(self.snapshot()))

    # --- what must hold, always

    @invariant()
    def nothing_is_shown_that_was_not_committed(self) -> None:
        assert self.committed[self.browser.attempt].startswith(self.browser.text)

    def teardown(self) -> None:
        """At rest, whoever reads the row has all of it (a retried text is gone only when a new one begins)."""
        if not self.viewer.ended:
            self.show(self.viewer.catch_up(self.snapshot()))
            assert self.browser.ended or self.browser.is_thinking == (self.row["thinking"] is not None)
            assert self.row["state"] == "queued" or self.browser.text == self.row["text"]


StoryLife.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestStoryLife = StoryLife.TestCase
