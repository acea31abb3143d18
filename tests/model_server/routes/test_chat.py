"""POST /v1/chat/completions, not streamed and streamed."""

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from tests.model_server.conftest import LONG_PROMPT, ask

PROMPT = LONG_PROMPT.format("宋", "发射激光", "艰难")


def test_it_works(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="base-zh",
        messages=[
            {"role": "system", "content": "你是一位中文短篇故事作者。"},
            {"role": "user", "content": PROMPT},
        ],
        temperature=0.5,
        top_p=1,
        max_tokens=2048,
    )
    story = answer.choices[0].message.content
    assert story
    assert 240 <= len(story) <= 380
    for word in ("宋", "发射激光", "艰难", "奥特曼", "怪兽"):
        assert word in story
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.usage
    assert answer.usage.completion_tokens == len(story)
    assert answer.usage.prompt_tokens == len(PROMPT) + len("你是一位中文短篇故事作者。")


def test_stream_gives_role_text_reason_usage(client: OpenAI) -> None:
    with client.chat.completions.create(
        model="base-zh",
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
        seed=5,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == len(text)
    assert text == ask(client, PROMPT, seed=5)


def test_seed_repeats_and_no_seed_varies(client: OpenAI) -> None:
    assert ask(client, PROMPT, seed=1) == ask(client, PROMPT, seed=1)
    assert ask(client, PROMPT, seed=1) != ask(client, PROMPT, seed=2)
    assert ask(client, PROMPT) != ask(client, PROMPT)


def test_a_prompt_without_ingredients_gets_a_story(client: OpenAI) -> None:
    assert 240 <= len(ask(client, "讲个故事吧")) <= 380


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_limit_ends_with_length(client: OpenAI, limit: str) -> None:
    answer = client.chat.completions.create(
        model="base-zh", messages=[{"role": "user", "content": PROMPT}], seed=1, **{limit: 50}
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == ask(client, PROMPT, seed=1)[:50]


def test_stop_string_is_not_in_the_output(client: OpenAI) -> None:
    whole = ask(client, PROMPT, seed=1)
    assert ask(client, PROMPT, seed=1, stop=["奥特曼"]) == whole[: whole.index("奥特曼")]


@pytest.mark.parametrize("cut", [0.15, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("trailing", [False, True])
def test_continuation_goes_on_from_the_text(client: OpenAI, cut: float, trailing: bool) -> None:
    for seed in range(5):
        whole = ask(client, PROMPT, seed=seed)
        written = whole[: int(len(whole) * cut)]
        messages = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": written}]
        if not trailing:
            messages.append({"role": "user", "content": "接着写"})
        answer = client.chat.completions.create(model="base-zh", messages=messages, seed=seed)
        rest = answer.choices[0].message.content
        assert rest
        story = written + rest
        assert not rest.startswith(written[:10])
        assert "奥特曼" in story
        assert "艰难" in story
        assert "发射激光" in story
        assert story[-1] in "。！？”"
        sentences = [one for one in story.replace("\n", "").split("。") if len(one) > 8]
        assert len(sentences) == len(set(sentences))
        assert ("他" in story.replace("其他", "")) != ("她" in story)


def test_unknown_model(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        ask(client, PROMPT, model="gpt-9")
    assert caught.value.code == "model_not_found"
    assert "gpt-9" in caught.value.message


def test_no_messages(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="messages"):
        client.chat.completions.create(model="base-zh", messages=[])


def test_two_answers_at_once_are_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        ask(client, PROMPT, n=2)
    assert caught.value.param == "n"
