"""Lists, ids and metadata as compatible servers send them; the calls themselves are tested with batches and jobs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from llm import remote_objects
from llm.errors import OutcomeUnknown


@dataclass
class Entry:
    id: Any = None
    metadata: Any = None


@dataclass
class Page:
    """A page of the SDK: `data` is its own, iterating goes on to the next pages."""

    data: Any = field(default_factory=list)
    rest: list[Entry] = field(default_factory=list)

    def __iter__(self) -> Iterator[Entry]:
        yield from self.data
        yield from self.rest


def test_all_pages_are_listed_and_what_is_repeated_once() -> None:
    first, second, third, nameless = Entry("a"), Entry("b"), Entry("c"), Entry()
    page = Page([first, nameless, nameless], [second, first, second, third])
    assert list(remote_objects.entries(page, most=10)) == [first, nameless, nameless, second, third]
    assert list(remote_objects.entries(page, most=2)) == [first, nameless]


@pytest.mark.parametrize("page", [[Entry("a"), Entry("b")], [Entry("a"), Entry()], [Entry("a")]])
def test_a_provider_that_answers_the_first_page_for_ever_is_left(page: list[Entry]) -> None:
    endless = Page(page, page * 100)
    listed = list(remote_objects.entries(endless, most=1000))
    assert [one for one in listed if one.id] == [one for one in page if one.id]
    assert len(listed) <= 2 * len(page)


@pytest.mark.parametrize("page", [Page(None), Page("<html>"), "<html>", None])
def test_what_is_no_list_cannot_be_read(page: Any) -> None:
    assert not remote_objects.is_list(page)
    with pytest.raises(OutcomeUnknown):
        list(remote_objects.entries(page, most=10))


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("file-1", True),
        ("x" * 100, True),
        ("x" * 101, False),
        ("", False),
        (7, False),
        (None, False),
        ("a\0b", False),
    ],
)
def test_an_id_is_a_string_that_a_column_can_keep(id: Any, expected: bool) -> None:
    assert remote_objects.is_id(id) is expected
    if expected:
        assert remote_objects.id_of(Entry(id)) == id
    else:
        with pytest.raises(OutcomeUnknown):
            remote_objects.id_of(Entry(id))


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [({"ours": "k"}, True), ({"ours": "other"}, False), ({}, False), (None, False), ("ours", False)],
)
def test_an_object_is_ours_by_the_key_in_its_metadata(metadata: Any, expected: bool) -> None:
    assert remote_objects.carries(Entry("a", metadata), name="ours", key="k") is expected


@pytest.mark.parametrize(
    "error", [AttributeError("id"), TypeError("str"), ValueError("digits"), RecursionError()]
)
def test_what_we_trip_over_in_an_odd_answer_makes_it_unreadable(error: Exception) -> None:
    with pytest.raises(OutcomeUnknown), remote_objects.provider_call():
        raise error
