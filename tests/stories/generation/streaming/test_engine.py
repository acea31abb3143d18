"""Readers' stories, streamed from a real provider over HTTP and committed piece by piece."""

import threading
import time
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser

from stories.generation import streaming
from stories.generation.sweeper import expire_leases
from stories.models import Attempt, EndReason, Story
from stories.readers import orders
from stories.readers.identity import Reader
from tests.factories import make_serving_model, make_story
from tests.provider import Fault, Provider
from tests.servers import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]
CHAT = "/v1/chat/completions"


@pytest.fixture
def story(provider: Provider) -> Story:
    return make_story(state=Story.State.QUEUED, language_model=make_serving_model())


def written(story: Story) -> Story:
    streaming.write(story)
    return Story.objects.get(pk=story.pk)


def in_thread(story: Story) -> threading.Thread:
    thread = threading.Thread(target=streaming.write, args=(story,))
    thread.start()
    return thread


@pytest.mark.both_databases
def test_it_works(provider: Provider, story: Story) -> None:
    story = written(story)
    assert (story.state, story.end_reason, str(story.error)) == ("written", "stop", "")
    assert story.text == provider.text
    assert story.length == len(provider.text)
    attempt = story.attempts.get()
    assert attempt.state == Attempt.State.COMPLETE
    assert attempt.finish_reason == "stop"
    assert attempt.completion_tokens > 0
    assert len(provider.posts(CHAT)) == 1


@pytest.mark.both_databases
def test_text_is_committed_while_it_is_being_written(provider: Provider, story: Story) -> None:
    provider.pieces, provider.hold_after = ["从前", "有座", "山。"], 2
    thread = in_thread(story)
    wait_until(lambda: Story.objects.get(pk=story.pk).text == "从前有座")
    assert Story.objects.get(pk=story.pk).state == Story.State.WRITING
    assert story.attempts.get().state == Attempt.State.STREAMING
    provider.release()
    thread.join(10)
    assert Story.objects.get(pk=story.pk).text == "从前有座山。"


def test_the_row_and_what_went_out_hold_split_surrogates_and_no_nul(provider: Provider, story: Story) -> None:
    provider.pieces = ["火\ud83d", "\ude00山", "\x00海"]
    story = written(story)
    assert story.text == "火😀山\ufffd海"
    assert story.length == 5


def test_the_same_message_three_times_is_one_call(provider: Provider, story: Story) -> None:
    copies = [Story.objects.get(pk=story.pk) for _ in range(3)]
    threads = [in_thread(copy) for copy in copies]
    for thread in threads:
        thread.join(10)
    assert len(provider.posts(CHAT)) == 1
    assert story.attempts.count() == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.NO_FINISH, EndReason.CUT),
        (Fault.LENGTH, EndReason.LENGTH),
        (Fault.CONTENT_FILTER, EndReason.CONTENT_FILTER),
        (Fault.GARBAGE, EndReason.CUT),
        (Fault.ERROR_EVENT, EndReason.CUT),
        (Fault.RESET, EndReason.CUT),
    ],
)
def test_a_text_that_broke_off_is_kept_and_never_called_complete(
    provider: Provider, story: Story, fault: Fault, reason: str
) -> None:
    provider.pieces = ["从前", "有座", "山。"]
    provider.next(fault, after=2)
    story = written(story)
    assert (story.state, story.end_reason) == ("interrupted", reason)
    assert provider.pieces[0] in story.text
    assert story.attempts.get().state == Attempt.State.INTERRUPTED
    assert len(provider.posts(CHAT)) == 1


@pytest.mark.parametrize("fault", [Fault.HTML, Fault.RESET])
def test_an_unknown_outcome_without_text_fails_and_is_not_sent_again(
    provider: Provider, story: Story, fault: Fault
) -> None:
    provider.next(fault, after=0)
    story = written(story)
    assert story.state == Story.State.FAILED
    assert str(story.error) != "" or story.end_reason in {EndReason.EMPTY, EndReason.CUT}
    assert len(provider.posts(CHAT)) == 1


def test_a_limit_puts_the_story_back_without_using_up_a_try(provider: Provider, story: Story) -> None:
    provider.next(Fault.RATE_LIMIT, retry_after=0)
    story = written(story)
    assert (story.state, story.tries) == ("queued", 0)
    assert "429" in str(story.error)
    assert story.attempts.get().state == Attempt.State.REFUSED
    assert written(story).state == Story.State.WRITTEN


def test_a_server_error_is_tried_again_a_bounded_number_of_times(provider: Provider, story: Story) -> None:
    provider.always(Fault.SERVER_ERROR)
    for _ in range(9):
        Story.objects.filter(pk=story.pk).update(next_try_at=None)
        story = written(Story.objects.get(pk=story.pk))
    assert (story.state, story.end_reason) == ("failed", "refused")
    assert len(provider.posts(CHAT)) == 6


def test_a_refusal_is_final_and_says_why(provider: Provider, story: Story) -> None:
    provider.next(Fault.BAD_REQUEST, message="this model does not write stories")
    story = written(story)
    assert (story.state, story.end_reason) == ("failed", "refused")
    assert "this model does not write stories" in str(story.error)


def test_out_of_quota_says_so(provider: Provider, story: Story) -> None:
    provider.next(Fault.QUOTA)
    story = written(story)
    assert (story.state, story.end_reason) == ("failed", "quota")


def test_stop_closes_the_call_within_a_second_and_keeps_the_text(provider: Provider, story: Story) -> None:
    provider.pieces, provider.hold_after = ["从前", "有座", "山。"], 2
    thread = in_thread(story)
    wait_until(lambda: Story.objects.get(pk=story.pk).length == 4)
    asked = time.monotonic()
    assert streaming.request_stop(story)
    thread.join(10)
    story.refresh_from_db()
    assert (story.state, story.end_reason, story.text) == ("interrupted", "stopped", "从前有座")
    wait_until(lambda: provider.posts(CHAT)[0].closed_early_at)
    assert provider.posts(CHAT)[0].closed_early_at - asked < 1.5


def test_a_queued_story_is_cancelled_and_never_called(provider: Provider, story: Story) -> None:
    assert streaming.request_stop(story)
    assert written(story).state == Story.State.CANCELLED
    assert provider.posts(CHAT) == []


def test_a_continuation_goes_on_from_the_text_under_the_same_name(provider: Provider, story: Story) -> None:
    Story.objects.filter(pk=story.pk).update(text="从前有座山，", length=6, attempt_name="first")
    provider.pieces = ["山里", "有座庙。"]
    story = written(Story.objects.get(pk=story.pk))
    assert (story.state, story.text, story.attempt_name) == ("written", "从前有座山，山里有座庙。", "first")
    messages = provider.posts(CHAT)[0].body["messages"]
    assert messages[-2:] == [
        {"role": "assistant", "content": "从前有座山，"},
        {"role": "user", "content": "接着写"},
    ]


def test_a_retry_from_nothing_has_another_name(provider: Provider, story: Story) -> None:
    Story.objects.filter(pk=story.pk).update(attempt_name="first")
    assert written(Story.objects.get(pk=story.pk)).attempt_name not in {"first", ""}


def test_a_story_taken_from_this_worker_is_left_alone(provider: Provider, story: Story) -> None:
    provider.pieces, provider.hold_after = ["从前", "有座", "山。"], 2
    thread = in_thread(story)
    wait_until(lambda: Story.objects.get(pk=story.pk).length == 4)
    Story.objects.filter(pk=story.pk).update(fence=77, text="别人写的", length=4)
    provider.release()
    thread.join(15)
    story.refresh_from_db()
    assert (story.text, story.fence, story.state) == ("别人写的", 77, "writing")
    assert story.attempts.get().state not in Attempt.OPEN


def test_a_lease_that_ran_out_ends_with_the_text(provider: Provider, django_user_model: Any) -> None:
    from datetime import timedelta

    from django.utils import timezone

    gone = timezone.now() - timedelta(seconds=1)
    model = make_serving_model()
    with_text = make_story(state="writing", text="从前", lease_until=gone, language_model=model)
    without = make_story(state="writing", lease_until=gone, language_model=model)
    never_called = make_story(state="writing", lease_until=gone, language_model=model)
    for story in (with_text, without):
        Attempt.objects.create(story=story, language_model=model, fence=1, day=timezone.localdate())
    assert len(expire_leases()) == 3
    states = {s.pk: (s.state, s.end_reason) for s in Story.objects.all()}
    assert states == {
        with_text.pk: ("interrupted", "lost"),
        without.pk: ("failed", "lost"),
        never_called.pk: ("queued", ""),
    }
    assert set(Attempt.objects.values_list("state", flat=True)) == {"unknown"}


def test_after_its_model_died_a_retry_is_written_by_the_one_in_use(provider: Provider, story: Story) -> None:
    provider.models = {"living"}
    assert written(story).end_reason == EndReason.REFUSED
    living = make_serving_model("living")
    orders.retry_story(Story.objects.get(), reader=Reader(AnonymousUser(), "a" * 32, "203.0.113.7"))
    again = written(Story.objects.select_related("language_model", "template").get())
    assert (again.state, again.text, again.language_model) == ("written", provider.text, living)
