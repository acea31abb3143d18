"""A dialect as JSON, and how a question sounds in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from llm.dialects import LENGTH_NAMES, OPTIONAL, SYSTEM_ROLES, BadDialect, Dialect, family_of, read_dialect
from llm.questions import Ask

MESSAGES = (
    {"role": "system", "content": "你是作家。"},
    {"role": "user", "content": "写一个故事。"},
    {"role": "assistant", "content": "从前"},
    {"role": "user", "content": "接着写"},
)
DIALECTS = some.builds(
    Dialect,
    length_name=some.sampled_from(LENGTH_NAMES),
    max_length=some.none() | some.integers(5_000, 9_000),
    allowance=some.integers(0, 4_000),
    omits=some.frozensets(some.sampled_from(OPTIONAL)),
    system=some.sampled_from(SYSTEM_ROLES),
    extra=some.dictionaries(some.sampled_from(["enable_thinking", "reasoning_effort"]), some.booleans()),
)


def ask(dialect: Dialect, **more: object) -> Ask:
    return Ask("m", MESSAGES, "", "。", 0.5, 2048, dialect=dialect, **more)


@given(DIALECTS)
def test_a_dialect_comes_back_from_its_json(dialect: Dialect) -> None:
    assert read_dialect(dialect.as_json()) == dialect


@given(DIALECTS)
def test_a_question_holds_what_its_dialect_takes_and_nothing_else(dialect: Dialect) -> None:
    body = ask(dialect, seed=7).body()
    limits = {"max_tokens", "max_completion_tokens"} & set(body)
    assert limits == ({dialect.length_name} - {""})
    assert not dialect.omits & set(body)
    assert {name: body[name] for name in dialect.extra} == dialect.extra
    assert body["messages"][-1] == MESSAGES[-1]


@pytest.mark.parametrize(
    ("system", "roles", "first"),
    [
        ("system", ["system", "user", "assistant", "user"], "你是作家。"),
        ("developer", ["developer", "user", "assistant", "user"], "你是作家。"),
        ("user", ["user", "assistant", "user"], "你是作家。\n\n写一个故事。"),
        ("none", ["user", "assistant", "user"], "写一个故事。"),
    ],
)
def test_the_system_message_stands_where_the_dialect_has_it(
    system: str, roles: list[str], first: str
) -> None:
    messages = ask(Dialect(system=system)).body()["messages"]
    assert [message["role"] for message in messages] == roles
    assert messages[0]["content"] == first
    assert MESSAGES[1]["content"] == "写一个故事。"  # the question itself is not changed


def test_legacy_completions_know_one_name_for_the_limit() -> None:
    dialect = Dialect(length_name="max_completion_tokens")
    body = Ask("m", (), "唐,隐形,轻松 ->", "", 0.7, 2000, dialect=dialect).body()
    assert body["max_tokens"] == 2000


def test_thinking_gets_room_of_its_own_within_the_highest_limit() -> None:
    assert Dialect(allowance=8000).room(2048) == 10048
    assert Dialect(allowance=8000, max_length=9000).room(2048) == 9000


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([], "要是一个 JSON 对象"),
        ("max_tokens", "要是一个 JSON 对象"),
        ({"max_tokenz": 1}, "没有「max_tokenz」这一项"),
        ({"max_length": -5}, "「max_length」要是 1 到"),
        ({"max_length": 12.5}, "「max_length」要是"),
        ({"allowance": True}, "「allowance」要是"),
        ({"allowance": 10**9}, "「allowance」要是"),
        ({"max_length": 100, "allowance": 100}, "思考余量要小于长度上限"),
        ({"length_name": "max"}, "「length_name」要是"),
        ({"system": "assistant"}, "「system」要是"),
        ({"omits": "stop"}, "「omits」要是一个列表"),
        ({"omits": ["messages"]}, "「omits」要是一个列表"),
        ({"extra": [1]}, "另外要发的内容要是一个 JSON 对象"),
        ({"extra": {"messages": []}}, "「messages」由本站自己来发"),
        ({"extra": {"x": "长" * 3000}}, "最多 2000 个字符"),
    ],
)
def test_what_is_no_dialect_is_one_sentence(said: object, words: str) -> None:
    with pytest.raises(BadDialect, match=words):
        read_dialect(said)


@pytest.mark.parametrize(
    ("name", "url", "title"),
    [
        ("gpt-5-mini", "https://api.openai.com/v1", "OpenAI o, gpt-5"),
        ("o4-mini", "https://x/v1", "OpenAI o, gpt-5"),
        ("ft:gpt-5-nano:org::abc", "https://x/v1", "OpenAI o, gpt-5"),
        ("gpt-5-chat-latest", "https://x/v1", ""),
        ("gpt-4o-mini", "https://api.openai.com/v1", ""),
        ("base-zh", "http://127.0.0.1:8100/v1", ""),
        ("qwen3-8b", "https://dashscope.aliyuncs.com/compatible-mode/v1", "Qwen3 · 百炼"),
        ("Qwen/Qwen3-8B", "http://vllm:8000/v1", ""),
        ("glm-4.6", "https://open.bigmodel.cn/api/paas/v4", "GLM · 智谱"),
        ("deepseek-reasoner", "https://api.deepseek.com", "thinking models"),
        ("deepseek-chat", "https://api.deepseek.com", ""),
        ("google/gemma-2-9b-it", "http://vllm:8000/v1", "Gemma 1, 2"),
        ("gemma-3-27b-it", "http://vllm:8000/v1", ""),
    ],
)
def test_families_are_known_by_name_and_address(name: str, url: str, title: str) -> None:
    family = family_of(name, url)
    assert (family.title if family else "") == title
