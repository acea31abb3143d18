"""The logic of a viewer: each piece of text exactly once, whatever is lost, late or doubled."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stories.live.viewer import Snapshot, Viewer

WRITING = Snapshot(attempt="a1", fence=1, state="writing", text="", reason="", position=None)
QUEUED = Snapshot(attempt="", fence=0, state="queued", text="", reason="", position=3)


def published(text: str, offset: int, *, attempt: str = "a1", fence: int = 1) -> dict:
    return {"type": "story.text", "attempt": attempt, "fence": fence, "offset": offset, "text": text}


def test_a_queued_story_says_hello_and_its_position() -> None:
    assert Viewer(attempt="", offset=0).catch_up(QUEUED) == [
        {"type": "hello", "attempt": None, "offset": 0, "state": "queued"},
        {"type": "state", "state": "queued", "position": 3},
    ]


def test_a_story_that_waits_for_its_provider_says_how_long_and_again_each_minute() -> None:
    viewer = Viewer(attempt="", offset=0)
    told = [viewer.catch_up(replace(QUEUED, wait=wait)) for wait in (100, 98, 61, 60, 0)]
    state = {"type": "state", "state": "queued", "position": 3}
    assert [messages[-1:] for messages in told] == [
        [state | {"wait": 100}],
        [],
        [],
        [state | {"wait": 60}],
        [state],
    ]


def test_a_model_that_thinks_is_told_of_until_it_writes() -> None:
    viewer = Viewer(attempt="", offset=0)
    state = {"type": "state", "state": "writing"}
    assert viewer.catch_up(replace(WRITING, thinking=7))[1:] == [state | {"thinking": 7}]
    assert viewer.catch_up(replace(WRITING, thinking=9)) == []
    assert viewer.relay(published("从前", 0)) is None
    text = {"type": "text", "offset": 0, "text": "从前"}
    assert viewer.catch_up(replace(WRITING, text="从前")) == [state, text]
    assert viewer.relay(published("有", 2)) == [{"type": "text", "offset": 2, "text": "有"}]


def test_text_that_was_thinking_is_forgotten_by_a_restart() -> None:
    viewer = Viewer(attempt="", offset=0)
    viewer.catch_up(replace(WRITING, text="先想一想"))
    assert viewer.relay(published("从前", 0, attempt="a2")) is None
    assert viewer.catch_up(replace(WRITING, attempt="a2", text="从前")) == [
        {"type": "restart", "attempt": "a2"},
        {"type": "text", "offset": 0, "text": "从前"},
    ]
    assert viewer.relay(published("，再写", 4)) is None  # what was published before under the old name


def test_the_first_attempt_after_none_begins_with_restart() -> None:
    viewer = Viewer(attempt="", offset=0)
    viewer.catch_up(QUEUED)
    assert viewer.catch_up(replace(WRITING, text="从前")) == [
        {"type": "restart", "attempt": "a1"},
        {"type": "state", "state": "writing"},
        {"type": "text", "offset": 0, "text": "从前"},
    ]


def test_who_comes_back_gets_the_rest_only() -> None:
    assert Viewer(attempt="a1", offset=2).catch_up(replace(WRITING, text="从前有😀山")) == [
        {"type": "hello", "attempt": "a1", "offset": 2, "state": "writing"},
        {"type": "text", "offset": 2, "text": "有😀山"},
    ]


def test_who_holds_more_than_is_committed_is_told_where_to_cut() -> None:
    viewer = Viewer(attempt="a1", offset=99)
    assert viewer.catch_up(replace(WRITING, text="从前"))[0]["offset"] == 2
    assert viewer.relay(published("有", 2)) == [{"type": "text", "offset": 2, "text": "有"}]


def test_another_attempt_starts_from_nothing() -> None:
    messages = Viewer(attempt="old", offset=2).catch_up(replace(WRITING, text="从前"))
    assert messages[0] == {"type": "hello", "attempt": "a1", "offset": 0, "state": "writing"}
    assert messages[1] == {"type": "text", "offset": 0, "text": "从前"}


def test_a_story_that_has_ended_says_hello_the_rest_and_end() -> None:
    row = replace(WRITING, state="written", text="从前。", reason="stop")
    assert [m["type"] for m in Viewer(attempt="", offset=0).catch_up(row)] == ["hello", "text", "end"]
    assert Viewer(attempt="a1", offset=3).catch_up(row)[1:] == [
        {"type": "end", "state": "written", "length": 3, "reason": "stop"}
    ]


def test_a_continuation_is_no_restart() -> None:
    viewer = Viewer(attempt="", offset=0)
    viewer.catch_up(replace(WRITING, text="从前"))
    messages = viewer.catch_up(replace(WRITING, fence=2, text="从前有"))
    assert messages == [{"type": "text", "offset": 2, "text": "有"}]


def test_a_gap_a_newer_fence_and_another_attempt_ask_for_the_row() -> None:
    viewer = Viewer(attempt="", offset=0)
    viewer.catch_up(replace(WRITING, text="从前"))
    assert viewer.relay(published("山", 3)) is None
    assert viewer.relay(published("有", 2, fence=2)) is None
    assert viewer.relay(published("有", 2, attempt="a2")) is None
    assert viewer.relay(published("有", 2)) == [{"type": "text", "offset": 2, "text": "有"}]


def test_stale_rows_and_publications_say_nothing() -> None:
    viewer = Viewer(attempt="", offset=0)
    viewer.catch_up(replace(WRITING, fence=2, text="从前有山"))
    assert viewer.relay(published("有山", 2, fence=1)) == []
    assert viewer.catch_up(replace(WRITING, fence=1, text="从")) == []


class Client:
    """What a browser does with the messages."""

    def __init__(self) -> None:
        self.text = ""

    def take(self, messages: list[dict]) -> None:
        for message in messages:
            if message["type"] in {"hello", "restart"}:
                self.text = self.text[: message.get("offset", 0)]
            elif message["type"] == "text":
                assert message["offset"] == len(self.text), "a gap or a repetition on the wire"
                self.text += message["text"]


@given(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=12), st.data())
def test_any_delivery_of_publications_ends_with_the_rows_text(slices: list[str], data: st.DataObject) -> None:
    """Publications are lost, doubled, late and out of order; rows are read when the viewer asks, and at the end."""
    text = "".join(slices)
    publications = [published(part, len("".join(slices[:i]))) for i, part in enumerate(slices)]
    delivered = data.draw(st.lists(st.sampled_from(publications), max_size=2 * len(publications)))
    viewer, client = Viewer(attempt="", offset=0), Client()
    client.take(viewer.catch_up(WRITING))
    for one in delivered:
        messages = viewer.relay(one)
        if messages is None:  # the row is always at least as far as any publication
            committed = one["offset"] + len(one["text"])
            messages = viewer.catch_up(replace(WRITING, text=text[: max(committed, viewer.offset)]))
        client.take(messages)
        assert text.startswith(client.text)
    client.take(viewer.catch_up(replace(WRITING, state="written", text=text, reason="stop")))
    assert client.text == text
    assert viewer.ended
