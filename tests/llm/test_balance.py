"""An empty account and a rate limit, in the shapes that providers give them."""

import json
from typing import Any

import pytest

from llm import calls
from llm.balance import is_out_of_money
from llm.errors import LLMError, OutOfMoney, TryAgainLater
from stories.generation.batches.lines import Line, read_answer
from tests.llm.test_calls import ASK
from tests.provider import Fault, Provider


def openai(message: str, *, type: Any = None, code: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


PLAN = "You exceeded your current quota, please check your plan and billing details."
EMPTY: dict[str, tuple[int, Any]] = {
    "OpenAI": (429, openai(PLAN, type="insufficient_quota", code="insufficient_quota")),
    "OpenAI, hard limit": (
        400,
        openai(
            "Billing hard limit has been reached",
            type="invalid_request_error",
            code="billing_hard_limit_reached",
        ),
    ),
    "OpenAI, not active": (
        429,
        openai(
            "Your account is not active, please check your billing details on our website.",
            type="billing_not_active",
        ),
    ),
    "DeepSeek": (402, openai("Insufficient Balance", type="unknown_error", code="invalid_request_error")),
    "a 402 without words": (402, ""),
    "Moonshot": (
        429,
        openai("Your account is suspended, please recharge", type="exceeded_current_quota_error"),
    ),
    "百炼": (
        400,
        openai(
            "Access denied, please make sure your account is in good standing.",
            type="Arrearage",
            code="Arrearage",
        ),
    ),
    "百炼, its own shape": (
        400,
        {"code": "Arrearage", "message": "Access denied, please make sure your account is in good standing."},
    ),
    "百炼, the free tier": (
        403,
        openai("The free tier of the model has been exhausted.", code="AllocationQuota.FreeTierOnly"),
    ),
    "智谱": (429, {"error": {"code": "1113", "message": "您的账户已欠费，请充值后重试。"}}),
    "智谱, a number and new words": (429, {"error": {"code": 1113, "message": "无可用资源包"}}),
    "OpenRouter": (
        402,
        {"error": {"code": 402, "message": "This request requires more credits, or fewer max_tokens."}},
    ),
    "OpenRouter, the key": (403, {"error": {"code": 403, "message": "Key limit exceeded (total limit)."}}),
    "SiliconFlow": (
        403,
        {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None},
    ),
    "Anthropic": (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "Your credit balance is too low to access the API. Please go to Plans & Billing.",
            },
        },
    ),
    "xAI": (
        403,
        {
            "code": "The caller does not have permission to execute the specified operation",
            "error": "Your team has either used all available credits or reached its monthly spending limit.",
        },
    ),
    "Fireworks": (
        412,
        {"error": "Account x is suspended, possibly due to reaching the monthly spending limit."},
    ),
    "火山": (
        403,
        openai("The request failed because your account has an overdue balance.", code="AccountOverdueError"),
    ),
    "Perplexity": (401, openai(PLAN, type="insufficient_quota", code=401)),
    "Google, no billing": (
        403,
        [
            {
                "error": {
                    "code": 403,
                    "status": "PERMISSION_DENIED",
                    "details": [{"reason": "BILLING_DISABLED"}],
                }
            }
        ],
    ),
    "One API": (
        403,
        openai("用户额度不足 (request id: 20261125)", type="one_api_error", code="insufficient_user_quota"),
    ),
    "One API, a token": (401, openai("该令牌额度已用尽", type="one_api_error", code="")),
    "error is a text": (429, {"error": "insufficient balance"}),
    "a bare text": (429, "Insufficient account balance"),
    "LiteLLM": (
        429,
        openai(
            f"litellm.RateLimitError: RateLimitError: OpenAIException - {PLAN}",
            type="throttling_error",
            code="429",
        ),
    ),
    "LiteLLM, an object as text": (
        400,
        openai(
            'litellm.BadRequestError: DeepseekException - {"error":{"message":"Insufficient Balance",'
            '"type":"unknown_error","param":null,"code":"invalid_request_error"}}',
            code="400",
        ),
    ),
    "LiteLLM, Python as text": (
        429,
        openai(
            f"OpenAIException - Error code: 429 - {{'error': {{'message': '{PLAN}', 'code': 'insufficient_quota'}}}}"
        ),
    ),
    "LiteLLM, a 500": (500, openai("litellm.APIError: OpenAIException - insufficient_quota", code="500")),
    "LiteLLM's own budget": (
        400,
        openai(
            "Budget has been exceeded! Current cost: 20.1, Max budget: 20.0",
            type="budget_exceeded",
            code="400",
        ),
    ),
}
OTHERS: dict[str, tuple[int, Any]] = {
    "OpenAI, tokens a minute": (
        429,
        openai(
            "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 10000, Used 9800. Please try again in 7.2s. "
            "You can increase your rate limit by adding a payment method at https://platform.openai.com/account/billing.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
    ),
    "Google, a minute": (
        429,
        [
            {
                "error": {
                    "code": 429,
                    "message": f"{PLAN} * Quota exceeded for metric: generate_content_requests, limit: 15. "
                    "Please retry in 43.2s.",
                    "status": "RESOURCE_EXHAUSTED",
                }
            }
        ],
    ),
    "Vertex, a minute": (
        429,
        openai("Quota exceeded for quota metric 'Generate Content API requests per minute'.", code=429),
    ),
    "Azure": (
        429,
        openai(
            "Requests have exceeded call rate limit of your current pricing tier. Please retry after 7 seconds.",
            code="429",
        ),
    ),
    "百炼, tokens a minute": (
        429,
        openai(
            "Allocated quota exceeded, please increase your quota limit.",
            type="insufficient_quota",
            code="insufficient_quota",
        ),
    ),
    "百炼, requests": (
        429,
        openai("You exceeded your current requests list.", type="limit_requests", code="limit_requests"),
    ),
    "百炼, its own shape": (429, {"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded"}),
    "智谱, at once": (
        429,
        {
            "error": {
                "code": "1302",
                "message": "您当前使用该API的并发数过高，请降低并发，或联系客服增加限额。",
            }
        },
    ),
    "智谱, rate": (429, {"error": {"code": 1305, "message": "当前API请求过多，请稍后重试。"}}),
    "Moonshot": (
        429,
        openai(
            "Your account reached organization max RPM: 3, please try again after 1 seconds",
            type="rate_limit_reached_error",
        ),
    ),
    "OpenRouter, a free model": (
        429,
        {
            "error": {
                "code": 429,
                "message": "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock more.",
            }
        },
    ),
    "Groq": (
        429,
        openai(
            "Rate limit reached on tokens per day (TPD). Upgrade at https://console.groq.com/settings/billing",
            code="rate_limit_exceeded",
        ),
    ),
    "LiteLLM": (
        429,
        openai(
            "litellm.RateLimitError: OpenAIException - Rate limit reached for gpt-4o", type="throttling_error"
        ),
    ),
    "no words": (429, ""),
    "a page": (429, "<html><body>Too Many Requests</body></html>"),
    "a wrong key": (401, openai("Incorrect API key provided", code="invalid_api_key")),
    "a wrong number": (400, openai("Invalid value: 1113", code=1000)),
    "a question that is quoted": (
        400,
        openai("The prompt 「唐,余额不足,轻松」 was refused.", code="content_policy"),
    ),
    "a question that is told at length": (400, openai("Bad prompt: " + "请写一个关于余额不足的故事。" * 30)),
    "no such model": (404, openai("insufficient_quota", code="insufficient_quota")),
    "a fault": (500, openai("The server had an error while we looked at your billing balance")),
    "shapes that nobody sends": (429, [None, True, 7, {"code": {"deep": [[[[[[[[]]]]]]]]}}]),
}
ALL = [*((True, *each) for each in EMPTY.items()), *((False, *each) for each in OTHERS.items())]
each_shape = pytest.mark.parametrize(
    ("is_empty", "status", "body"),
    [(is_empty, *said) for is_empty, _name, said in ALL],
    ids=[f"{'empty' if is_empty else 'not'}: {name}" for is_empty, name, _said in ALL],
)


@each_shape
def test_an_empty_account_is_told_from_a_limit(is_empty: bool, status: int, body: Any) -> None:
    assert is_out_of_money(status, body) is is_empty


@each_shape
def test_the_sdk_and_a_batchs_line_see_the_same(
    provider: Provider, is_empty: bool, status: int, body: Any
) -> None:
    raw = body if isinstance(body, str) else json.dumps(body)
    provider.next(Fault.REFUSAL, status=status, body=raw)
    with pytest.raises(LLMError) as caught:
        calls.complete("default", ASK)
    assert isinstance(caught.value, OutOfMoney) is is_empty
    assert is_empty or status != 429 or isinstance(caught.value, TryAgainLater)
    content = {"response": {"status_code": status, "body": body}}
    with pytest.raises(LLMError) as caught:
        read_answer(Line("1", content))
    assert isinstance(caught.value, OutOfMoney) is is_empty


def test_the_providers_words_are_kept(provider: Provider) -> None:
    provider.next(Fault.REFUSAL, status=403, body=json.dumps(EMPTY["SiliconFlow"][1]))
    with pytest.raises(OutOfMoney, match="403：Sorry, your account balance is insufficient"):
        calls.complete("default", ASK)


@pytest.mark.parametrize("code", ["insufficient_quota", "arrearage"])
def test_an_error_without_a_status_is_read_by_its_code(code: str) -> None:
    assert is_out_of_money(None, {"message": "", "code": code})
    assert not is_out_of_money(None, {"message": "", "code": "server_error"})
