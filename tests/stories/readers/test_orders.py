"""Orders of readers: what a queued story holds, how one goes on, and that quotas hold under pressure."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection
from django.utils import timezone

from stories.errors import BadState, QuotaUsedUp
from stories.generation.prompts import current_template
from stories.models import PromptStyle, ReaderDay, Story
from stories.readers import orders, quotas
from stories.readers.identity import Reader, new_key
from stories.tasks import forget_old_days
from tests.factories import make_combo, make_model, make_run, make_serving_model, make_story, make_template

pytestmark = pytest.mark.django_db


def visitor(*, key: str = "a" * 32, address: str = "203.0.113.7") -> Reader:
    return Reader(AnonymousUser(), key, address)


@pytest.fixture(autouse=True)
def _a_site_that_can_write() -> None:
    make_template()
    make_serving_model("base-zh")


def test_a_visitors_story_is_queued_private_and_theirs() -> None:
    story = orders.ask_story(make_combo("宋", "发射激光", "艰难"), reader=visitor())
    story.refresh_from_db()
    assert (story.state, story.origin, story.visibility) == ("queued", "reader", "private")
    assert (story.owner, story.reader_key, str(story.combo)) == (None, "a" * 32, "宋,发射激光,艰难")
    assert story.language_model is not None and story.language_model.name == "base-zh"
    assert story.template is not None


def test_an_accounts_story_belongs_to_the_account_alone(reader: User) -> None:
    story = orders.ask_story(make_combo(), reader=Reader(reader, "b" * 32, "203.0.113.7"))
    assert (story.owner, story.reader_key) == (reader, "")


def test_a_tuned_model_is_asked_without_a_template() -> None:
    tuned = make_serving_model("ft:base-zh:ultraman:1", prompt_style=PromptStyle.COMPLETION)
    story = orders.ask_story(make_combo(), reader=visitor())
    assert (story.language_model, story.template) == (tuned, None)


def test_a_readers_quota_ends_with_a_sentence_and_leaves_no_story(settings: object) -> None:
    settings.READER_STORIES_PER_DAY = 2  # type: ignore[attr-defined]
    for _ in range(2):
        orders.ask_story(make_combo(), reader=visitor())
    with pytest.raises(QuotaUsedUp, match=r"^今天的 2 篇已经用完了，请明天再来。$"):
        orders.ask_story(make_combo(), reader=visitor())
    assert Story.objects.count() == 2
    assert quotas.quota_left(visitor()).today == 0
    orders.ask_story(make_combo(), reader=visitor(key="c" * 32))


def test_the_counts_of_days_gone_by_are_forgotten() -> None:
    today = timezone.localdate()
    for days in range(4):
        ReaderDay.objects.create(day=today - timedelta(days=days), who="address:203.0.113.7", stories=1)
    forget_old_days()
    kept = ReaderDay.objects.order_by("day").values_list("day", flat=True)
    assert list(kept) == [today - timedelta(days=1), today]


def test_an_addresss_quota_counts_all_its_readers(settings: object) -> None:
    settings.ADDRESS_STORIES_PER_DAY = 3  # type: ignore[attr-defined]
    for _ in range(3):
        orders.ask_story(make_combo(), reader=visitor(key=new_key()))
    with pytest.raises(QuotaUsedUp, match=r"^你所在的网络今天已经写了 3 篇，请明天再来。$"):
        orders.ask_story(make_combo(), reader=visitor(key=new_key()))
    orders.ask_story(make_combo(), reader=visitor(key=new_key(), address="203.0.113.8"))


def test_one_ipv6_line_is_one_address() -> None:
    names = {quotas.address_name(visitor(address=f"2001:db8:1:2::{host}")) for host in ("1", "ffff", "a:b")}
    assert names == {"address:2001:db8:1:2::/64"}
    assert quotas.address_name(visitor(address="")) == "address:"


def test_unfinished_stories_are_limited_until_one_ends(settings: object) -> None:
    settings.READER_STREAMS = 2  # type: ignore[attr-defined]
    first = orders.ask_story(make_combo(), reader=visitor())
    orders.ask_story(make_combo(), reader=visitor())
    with pytest.raises(QuotaUsedUp, match=r"^你已有 2 篇正在写"):
        orders.ask_story(make_combo(), reader=visitor())
    assert ReaderDay.objects.get(who="key:" + "a" * 32).stories == 2
    Story.objects.filter(pk=first.pk).update(state=Story.State.CANCELLED)
    orders.ask_story(make_combo(), reader=visitor())


def test_retry_begins_from_nothing() -> None:
    story = make_story(
        state="failed", reader_key="a" * 32, tries=5, attempt_name="f" * 16, stop_requested=True
    )
    orders.retry_story(story, reader=visitor())
    story.refresh_from_db()
    assert (story.state, story.text, story.length, story.tries) == ("queued", "", 0, 0)
    assert (story.end_reason, str(story.error), story.stop_requested) == ("", "", False)


def test_a_retry_from_nothing_is_for_the_serving_model_of_now() -> None:
    dead = make_model("ft:base-zh:ultraman:dead", prompt_style=PromptStyle.CHAT)
    story = make_story(state="failed", reader_key="a" * 32, language_model=dead, template=None)
    serving = make_serving_model("living")
    orders.retry_story(story, reader=visitor())
    story.refresh_from_db()
    assert (story.language_model, story.template) == (serving, current_template())


def test_a_retry_for_a_tuned_model_needs_no_template() -> None:
    story = make_story(state="interrupted", reader_key="a" * 32)
    tuned = make_serving_model("ft:base-zh:ultraman:2", prompt_style=PromptStyle.CHAT)
    orders.retry_story(story, reader=visitor())
    story.refresh_from_db()
    assert (story.language_model, story.template, story.text) == (tuned, None, "")


def test_a_retry_by_the_same_model_keeps_its_wording() -> None:
    story = make_story(state="failed", reader_key="a" * 32)
    make_template()
    orders.retry_story(story, reader=visitor())
    again = Story.objects.get(pk=story.pk)
    assert (again.language_model, again.template) == (story.language_model, story.template)


def test_a_continuation_stays_with_the_model_that_began() -> None:
    story = make_story(state="interrupted", text="从前有座", reader_key="a" * 32)
    make_serving_model("ft:base-zh:ultraman:2", prompt_style=PromptStyle.CHAT)
    orders.continue_story(story, reader=visitor())
    again = Story.objects.get(pk=story.pk)
    assert (again.language_model, again.template) == (story.language_model, story.template)


def test_continue_keeps_the_text_and_its_name() -> None:
    story = make_story(
        state="interrupted", text="从前有座", attempt_name="f" * 16, reader_key="a" * 32, tries=2
    )
    orders.continue_story(story, reader=visitor())
    story.refresh_from_db()
    assert (story.state, story.text, story.length, story.attempt_name) == ("queued", "从前有座", 4, "f" * 16)
    assert (story.tries, story.end_reason) == (0, "")


@pytest.mark.parametrize("state", ["queued", "writing", "written", "cancelled"])
def test_only_what_broke_off_goes_on(state: str) -> None:
    story = make_story(state=state, reader_key="a" * 32)
    for order in (orders.retry_story, orders.continue_story):
        with pytest.raises(BadState):
            order(story, reader=visitor())
    story.refresh_from_db()
    assert story.state == state
    assert not ReaderDay.objects.exists()


def test_a_failed_story_has_nothing_to_continue() -> None:
    with pytest.raises(BadState):
        orders.continue_story(make_story(state="failed"), reader=visitor())


def test_a_runs_story_is_not_retried_by_a_reader() -> None:
    story = make_story(state="failed", run=make_run())
    with pytest.raises(BadState, match="生成批次"):
        orders.retry_story(story, reader=visitor())


def test_going_on_counts_as_an_order_and_needs_quota(settings: object) -> None:
    settings.READER_STORIES_PER_DAY = 1  # type: ignore[attr-defined]
    story = make_story(state="failed", reader_key="a" * 32)
    orders.retry_story(story, reader=visitor())
    Story.objects.filter(pk=story.pk).update(state=Story.State.FAILED)
    with pytest.raises(QuotaUsedUp):
        orders.retry_story(story, reader=visitor())
    story.refresh_from_db()
    assert story.state == "failed"


def test_written_again_is_a_new_story_linked_to_the_first() -> None:
    first = make_story(combo=make_combo("汉", "冰冻大海", "艰难"), reader_key="a" * 32)
    second = orders.write_again(first, reader=visitor())
    Story.objects.filter(pk=second.pk).update(state=Story.State.CANCELLED)
    second.refresh_from_db()
    third = orders.write_again(second, reader=visitor())
    assert (second.again_of, third.again_of, third.combo) == (first, first, first.combo)
    first.refresh_from_db()
    assert first.state == "written"


def test_an_unfinished_story_is_not_written_again() -> None:
    with pytest.raises(BadState):
        orders.write_again(make_story(state="writing"), reader=visitor())


# --- 200 at once ----------------------------------------------------------------------------------------

REQUESTS, THREADS, LIMIT = 200, 16, 10


def order_at_once(readers: list[Reader]) -> int:
    """How many of the orders, sent from `THREADS` threads, became stories."""
    start = Barrier(THREADS)

    def order(place: int) -> bool:
        if place < THREADS:
            start.wait()
        try:
            orders.ask_story(make_combo(), reader=readers[place])
        except QuotaUsedUp:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(order, range(len(readers))))


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_200_parallel_orders_of_one_reader_never_pass_the_quota(settings: object) -> None:
    settings.READER_STORIES_PER_DAY, settings.READER_STREAMS = LIMIT, REQUESTS  # type: ignore[attr-defined]
    assert order_at_once([visitor()] * REQUESTS) == LIMIT
    assert Story.objects.count() == LIMIT
    assert ReaderDay.objects.get(who="key:" + "a" * 32).stories == LIMIT


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_200_parallel_orders_from_one_address_never_pass_the_quota(settings: object) -> None:
    settings.ADDRESS_STORIES_PER_DAY = LIMIT  # type: ignore[attr-defined]
    assert order_at_once([visitor(key=new_key()) for _ in range(REQUESTS)]) == LIMIT
    assert Story.objects.count() == LIMIT


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_parallel_orders_never_pass_the_streams_of_a_reader(settings: object) -> None:
    settings.READER_STREAMS = 5  # type: ignore[attr-defined]
    assert order_at_once([visitor()] * THREADS * 2) == 5


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_a_look_before_the_leap_would_pass_the_quota(
    settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: without the conditional update, the same threads pass the limit."""
    settings.READER_STORIES_PER_DAY = settings.READER_STREAMS = LIMIT  # type: ignore[attr-defined]
    looked = Barrier(THREADS)
    ask = orders.ask_story

    def look_then_ask(combo: object, *, reader: Reader) -> Story:
        if Story.objects.count() >= LIMIT:
            raise QuotaUsedUp("used up")
        looked.wait()
        return ask(combo, reader=reader)  # type: ignore[arg-type]

    monkeypatch.setattr(quotas, "count_order", lambda *_args, **_kw: None)
    monkeypatch.setattr(orders, "ask_story", look_then_ask)
    assert order_at_once([visitor()] * THREADS) == THREADS > LIMIT


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_parallel_orders_never_pass_the_sites_own_cap(settings: object) -> None:
    settings.SITE_STORIES_PER_DAY = LIMIT  # type: ignore[attr-defined]
    readers = [visitor(key=new_key(), address=f"203.0.113.{place % 200}") for place in range(REQUESTS // 2)]
    assert order_at_once(readers) == LIMIT
    assert Story.objects.count() == LIMIT
