"""What refusals in the wordings of the world teach, and what teaches nothing."""

import pytest

from llm.dialects import THINKING_ALLOWANCE, Dialect
from llm.errors import Refusal, Refused
from llm.questions import Ask, lesson_from

SYSTEM = ({"role": "system", "content": "你是作家。"}, {"role": "user", "content": "写一个故事。"})
USUAL = Dialect()
OPENAI = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
ONE = "Unsupported value: '{}' does not support 0.5 with this model. Only the default (1) value is supported."
THINKS = Dialect(length_name="max_completion_tokens", allowance=THINKING_ALLOWANCE)


def learn(
    words: str, dialect: Dialect = USUAL, *, param: str = "", code: str = "", status: int = 400
) -> Dialect | None:
    error = Refused("no", status=status)
    error.refusal = Refusal(status, code, param, words)
    ask = Ask("m", SYSTEM, "", "。", 0.5, dialect.room(2048), dialect=dialect)
    lesson = lesson_from(ask, error, is_streamed=True)
    return lesson and lesson.dialect


def omits(*names: str) -> Dialect:
    return Dialect(omits=frozenset(names))


@pytest.mark.parametrize(
    ("words", "learnt"),
    [
        (OPENAI, THINKS),
        (ONE.format("temperature"), omits("temperature")),
        (ONE.format("top_p"), omits("top_p")),
        ("Unsupported parameter: 'stop' is not supported with this model.", omits("stop")),
        (
            "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), 'msg': 'Extra inputs are not permitted'}]",
            omits("stream_options"),
        ),
        ("Unrecognized request argument supplied: stream_options", omits("stream_options")),
        ("parameter top_p is not supported by this model", omits("top_p")),
        ("该模型不支持参数 temperature", omits("temperature")),
        ("System role not supported", Dialect(system="user")),
        ("This model does not support system messages", Dialect(system="user")),
        (
            "messages[0].role: 'system' is not supported with this model. Use 'developer' instead.",
            Dialect(system="developer"),
        ),
        (
            "Conversation roles must alternate user/assistant/user/assistant/... ; system is not allowed",
            Dialect(system="user"),
        ),
        (
            "max_tokens is too large: 2048. This model supports at most 1024 completion tokens.",
            Dialect(max_length=1024),
        ),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 2000]", Dialect(max_length=2000)),
        ("Range of max_tokens should be [1, 1500]", Dialect(max_length=1500)),
        (
            "This model's maximum context length is 2048 tokens. However, you requested 2548 tokens "
            "(500 in the messages, 2048 in the completion).",
            Dialect(max_length=2048 - 500 - 32),
        ),
    ],
)
def test_a_refusal_that_names_a_parameter_teaches(words: str, learnt: Dialect) -> None:
    assert learn(words) == learnt


@pytest.mark.parametrize(
    ("param", "learnt"),
    [
        ("max_tokens", THINKS),
        ("temperature", omits("temperature")),
        ("messages[0].role", Dialect(system="user")),
    ],
)
def test_a_parameter_may_be_named_beside_the_words(param: str, learnt: Dialect) -> None:
    assert learn("Invalid value: system is unsupported", param=param, code="unsupported_value") == learnt


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ("The model `m` does not exist", {"param": "model", "code": "model_not_found"}),
        ("Invalid 'messages[1].content': string too long", {"param": "messages[1].content"}),
        ("Unsupported parameter: 'logit_bias' is not supported", {}),  # was never sent
        ("frequency_penalty is not supported", {"param": "frequency_penalty"}),
        ("max_tokens_to_sample is not supported", {}),
        ("Unsupported parameter: 'seed'", {}),  # not sent, as there is none
        ("the server is at a temperature that we cannot bear", {}),
        (OPENAI, {"status": 403}),
        (OPENAI, {"status": 429}),
        ("", {}),
        ("Range of max_tokens should be [1, 8000]", {}),  # allows more than was asked
        ("max_tokens should be at most 3", {}),  # no room for a story
    ],
)
def test_what_names_nothing_of_ours_teaches_nothing(words: str, more: dict) -> None:
    assert learn(words, **more) is None


def test_what_was_sent_besides_can_be_refused() -> None:
    asked = Dialect(extra={"enable_thinking": False, "x": 1})
    assert learn("enable_thinking: Extra inputs are not permitted", asked) == Dialect(extra={"x": 1})


def test_a_developer_refused_is_asked_as_system_and_then_in_front_of_the_user() -> None:
    refused = "role 'developer' is not supported. Supported values are: 'system', 'assistant', 'user'."
    assert learn(refused, Dialect(system="developer")) == Dialect(system="system")
    assert learn("Unexpected role 'developer'; only user is allowed", Dialect(system="developer")) == Dialect(
        system="user"
    )


def test_when_both_names_of_the_limit_are_refused_none_is_sent() -> None:
    error = Refused("no", status=400)
    error.refusal = Refusal(400, words="max_completion_tokens is not supported")
    ask = Ask("m", SYSTEM, "", "", 0.5, 2048, dialect=THINKS)
    tried = [Dialect(allowance=THINKS.allowance)]
    lesson = lesson_from(ask, error, tried=tried)
    assert lesson is not None and lesson.dialect.length_name == ""
