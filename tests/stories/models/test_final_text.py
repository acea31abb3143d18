"""After its end a story is its final text: the same on page, .txt, socket, shelf and export, or on none of them."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from stories.errors import StoryError
from stories.library.csv_files import dump_stories
from stories.live import snapshots
from stories.live.follow import follow
from stories.models import Reaction, Story
from stories.readers.identity import COOKIE, TERMINAL, Reader, sign_key
from stories.readers.sharing import offer, share, take_back, unshare
from stories.review import decisions
from tests.factories import make_approved_story, make_story
from tests.sites import Web
from tests.sockets import KEY, Viewer, open_socket

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "不该留下的字"
CLEAN = "长安的灯亮了，😀怪兽走了。"
OWNER = Reader(TERMINAL.user, KEY, "")


def fresh(story: Story) -> Story:
    return Story.objects.get(pk=story.pk)


@pytest.fixture
def watch(web: Web) -> Iterator[Callable[..., Viewer]]:
    """`watch(story, held, key=…)`: reads to the end, as a client that holds what `held` received."""
    with ExitStack() as stack:

        def start(story: Story, held: Viewer | None = None, *, key: str = "") -> Viewer:
            query = f"?attempt={held.attempt}&offset={len(held.text)}" if held else ""
            viewer = Viewer(stack.enter_context(open_socket(web.socket_url, story, query, key=key)))
            viewer.text = held.text if held else ""
            viewer.read()
            return viewer

        yield start


def browser(key: str = "") -> Client:
    client = Client()
    if key:
        client.cookies[COOKIE] = sign_key(key)
    return client


def test_the_socket_does_not_give_what_an_editor_removed(watch: Callable[..., Viewer], alice: Any) -> None:
    story = make_approved_story(text=f"{SECRET}。{CLEAN}")
    before = watch(story)
    assert before.text == story.text
    decisions.edit(story, by=alice, text=CLEAN)
    for held in (None, before):
        viewer = watch(story, held)
        assert viewer.text == CLEAN
        assert viewer.messages[0]["offset"] == 0
        assert viewer.messages[-1]["length"] == len(CLEAN)
        assert SECRET not in str(viewer.messages)
    decisions.undo(fresh(story), by=alice)
    back = watch(story, before)
    assert back.messages[0] == before.messages[0] | {"offset": len(story.text)}
    assert back.text == story.text


def test_an_edit_of_a_cut_story_replaces_it(watch: Callable[..., Viewer], alice: Any) -> None:
    story = make_story(state="interrupted", text="她跑", visibility="link")
    held = watch(story)
    decisions.edit(story, by=alice, text="她跑了，他们赢了。")
    viewer = watch(story, held)
    assert (viewer.text, viewer.messages[-1]["state"]) == ("她跑了，他们赢了。", "written")


def test_the_page_names_the_text_as_the_socket_does(watch: Callable[..., Viewer]) -> None:
    """So a page that was rendered before an edit asks with a name that no longer fits."""
    for story in (make_approved_story(), make_approved_story(edited_text=CLEAN)):
        page = browser().get(story.get_absolute_url()).content.decode()
        assert f'data-attempt="{watch(story).attempt}"' in page
    assert watch(story).attempt != story.attempt_name


def test_a_text_without_a_call_has_a_name_too(watch: Callable[..., Viewer]) -> None:
    """Imported: the contract allows null only where there is no text."""
    story = make_approved_story(attempt_name="", text=CLEAN)
    viewer = watch(story)
    assert (bool(viewer.attempt), viewer.text) == (True, CLEAN)
    assert watch(story, viewer).messages[0]["offset"] == len(CLEAN)


def test_the_terminal_follows_the_edited_text() -> None:
    story = make_story(text=SECRET, edited_text=CLEAN)

    async def listen() -> str:
        return "".join([message.get("text", "") async for message in follow(story)])

    assert asyncio.run(listen()) == CLEAN


def test_the_list_of_the_office_counts_the_edited_text(client: Client, alice: Any) -> None:
    make_story(text=SECRET * 100, edited_text=CLEAN)
    client.force_login(alice)
    page = client.get("/admin/stories/story/").content.decode()
    assert f'<td class="field-final_length">{len(CLEAN)}</td>' in page


# --- any history ----------------------------------------------------------------------------------------------


class History:
    """One story that people keep changing, and what everyone should see of it meanwhile."""

    def __init__(self, seed: int, alice: Any) -> None:
        self.luck, self.alice = random.Random(seed), alice
        state = self.luck.choice(["written", "written", "interrupted"])
        self.story = make_story(state=state, reader_key=KEY, text=self.draw_text())
        Reaction.objects.create(story=self.story, who=OWNER.identity, kind=Reaction.Kind.LIKED)

    def draw_text(self) -> str:
        """Unlike any other, of any length, with characters outside the basic plane."""
        words = "".join(self.luck.choices("长安灯亮了怪兽走😀𠮷", k=self.luck.randint(1, 40)))
        return f"{self.luck.getrandbits(40):x}{words}"

    def step(self) -> None:
        """Something that a person does; what is refused changes nothing."""
        story, alice = fresh(self.story), self.alice
        acts: list[Callable[[], Any]] = [
            lambda: decisions.edit(story, by=alice, text=self.draw_text()),
            lambda: decisions.edit(story, by=alice, text=story.text),
            lambda: decisions.undo(story, by=alice),
            lambda: decisions.approve(story, by=alice),
            lambda: decisions.reject(story, by=alice),
            lambda: decisions.restore(story, by=alice),
            lambda: Story.objects.filter(pk=story.pk).update(held_at=timezone.now()),
            lambda: share(story, reader=OWNER),
            lambda: unshare(story, reader=OWNER),
            lambda: offer(story, reader=OWNER),
            lambda: take_back(story, reader=OWNER),
        ]
        try:
            self.luck.choice(acts)()
        except StoryError:
            return


def read_page(client: Client, story: Story) -> str | None:
    """The text on the page, which must hold nothing else of the story's; None for who may not read."""
    response = client.get(story.get_absolute_url())
    return None if response.status_code == 403 else response.context["text"]


def read_plain(client: Client, story: Story) -> str | None:
    response = client.get(f"/stories/{story.pk}.txt")
    if response.status_code == 403:
        return None
    return response.content.decode().split("\n\n", 1)[1].rpartition("\n\n")[0]


def read_shelf(client: Client) -> list[str]:
    return [story.beginning for story in client.get("/").context["page"].stories]


@pytest.mark.both_databases
@pytest.mark.parametrize("seed", range(6))
def test_after_any_history_every_channel_says_the_same(
    seed: int, watch: Callable[..., Viewer], alice: Any
) -> None:
    history = History(seed, alice)
    stranger, owner = browser(), browser(KEY)
    held: list[Viewer] = []
    for _ in range(14):
        history.step()
        story = fresh(history.story)
        final = story.edited_text or story.text
        public = story.visibility != "private" and story.held_at is None
        for client, key, text in ((owner, KEY, final), (stranger, "", final if public else None)):
            assert (read_page(client, story), read_plain(client, story)) == (text, text)
            viewer = watch(story, history.luck.choice([None, *held]), key=key)
            assert viewer.text == (text or "") or viewer.socket.close_code == 4403
            assert (viewer.messages == []) == (text is None)
            held += [viewer] if text is not None else []
        assert read_shelf(stranger) == ([final] if public and story.verdict == "approved" else [])
        assert f'"{final}"' in dump_stories(Story.objects.all())[0].decode()


def test_without_the_name_of_the_edit_a_viewer_would_keep_a_mixture(
    monkeypatch: pytest.MonkeyPatch, alice: Any
) -> None:
    """The negative control: the edited text under the old name goes on where the old one was left."""
    from stories.live.viewer import Viewer as Machine

    story = make_approved_story(text=f"{SECRET}。{CLEAN}")
    held = Machine(attempt=story.attempt_name, offset=len(SECRET))
    decisions.edit(story, by=alice, text=CLEAN)
    monkeypatch.setattr(Story, "text_name", property(lambda story: story.attempt_name))
    row = snapshots.take_snapshots([story.pk])[story.pk]
    hello, rest, _end = held.catch_up(row)
    assert (hello["offset"], rest["text"]) == (len(SECRET), CLEAN[len(SECRET) :])
