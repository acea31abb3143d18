"""Who a reader is, and what is theirs."""

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core import signing

from stories.models import Story
from stories.readers.identity import (
    Reader,
    may_read,
    may_stop,
    new_key,
    owns,
    read_key,
    sign_key,
    stories_of,
)
from tests.factories import make_approved_story, make_story

pytestmark = pytest.mark.django_db
KEY = new_key()


def visitor(key: str = KEY) -> Reader:
    return Reader(AnonymousUser(), key, "203.0.113.7")


def test_a_signed_key_is_read_back_and_a_forged_one_is_no_key() -> None:
    assert read_key(sign_key(KEY)) == KEY
    for forged in (None, "", KEY, sign_key(KEY)[:-1], signing.dumps(KEY, salt="another"), "\udcff"):
        assert read_key(forged) == ""


def test_a_visitor_without_a_key_owns_nothing() -> None:
    story = make_story(reader_key="")
    assert not owns(visitor(""), story)
    assert list(stories_of(visitor(""))) == []


def test_what_is_private_is_for_its_reader_and_staff(alice: User, reader: User) -> None:
    story = make_story(reader_key=KEY)
    people = (visitor(), visitor(new_key()), Reader(reader, "", ""), Reader(alice, "", ""))
    assert [may_read(person, story) for person in people] == [True, False, False, True]
    assert [may_stop(person, story) for person in people] == [True, False, False, True]


def test_what_is_shared_is_read_by_all_and_stopped_by_few() -> None:
    shared = make_story(visibility=Story.Visibility.LINK, reader_key=KEY)
    for story in (shared, make_approved_story()):
        assert may_read(visitor(""), story)
        assert not may_stop(visitor(""), story)


def test_staff_who_left_are_staff_no_more(alice: User) -> None:
    alice.is_active = False
    assert not may_read(Reader(alice, "", ""), make_story())


def test_my_stories_are_the_accounts_and_the_cookies(reader: User) -> None:
    mine = make_story(owner=reader)
    before_login = make_story(reader_key=KEY)
    make_story(reader_key=new_key())
    assert set(stories_of(Reader(reader, KEY, ""))) == {mine, before_login}
    assert set(stories_of(visitor())) == {before_login}
