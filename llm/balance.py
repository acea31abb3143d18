"""Tells an empty account from a rate limit, by what a provider answered (pure).

Providers say both with the same statuses and much the same words: "You exceeded your current quota" is an empty account
at OpenAI and a limit a minute at Google. What is looked at, the first that says something decides:

    402                              an empty account
    a code that a limit has          a rate limit        (智谱 1302, "rate_limit_exceeded")
    a code that an empty account has an empty account    ("insufficient_quota", "Arrearage", 智谱 1113)
    words that a limit has           a rate limit        ("per minute", "try again in 7 s")
    words that an empty account has  an empty account    ("Insufficient Balance", "余额不足")

One provider (百炼) uses the code "insufficient_quota" for both, and its words decide.
Source: the error pages of OpenAI, DeepSeek, Moonshot, 百炼, 智谱, SiliconFlow, OpenRouter, xAI, Fireworks, Anthropic.
"""

import json
import re
from collections.abc import Iterator
from http import HTTPStatus

POSSIBLE = {400, 401, 402, 403, 412, 429}
"""Statuses of an empty account. Proxies also wrap one in a 5xx, which then must say so by its code."""
CODE_NAMES = {"code", "type", "reason", "status", "error_code", "status_code"}
MAX_DEPTH = 6
MAX_WORDS = 2_000  # characters of a text that are looked at
MAX_BELIEVED = 300
"""Characters of words that are believed where the status is no 429. A longer message may quote the question, and a
reader who asks for a story about an "insufficient balance" must not stop the site."""
QUOTED = re.compile(r"(?<!\w)['\"`「“‘].*?['\"`」”’](?!\w)")

EMPTY_CODES = (
    *("insufficientquota", "insufficientuserquota", "exceededcurrentquota", "arrearage", "creditbalance"),
    *("insufficientbalance", "insufficientcredit", "insufficientfund", "notenoughbalance", "outofcredit"),
    *("spendlimitexceeded", "usagelimitexceeded", "billing", "accountoverdue", "paymentrequired"),
    *("freetieronly", "budgetexceeded"),
)
"""Parts of codes, in small letters without anything between them."""
EMPTY_NUMBERS = {"1113", "30001"}  # 智谱, SiliconFlow
LIMIT_CODES = (
    *("ratelimit", "throttlingrate", "throttlingallocation", "toomanyrequests", "requestlimit"),
    *("limitrequests", "concurren"),
)
LIMIT_NUMBERS = {"1302", "1303", "1304", "1305", "1308", "1310"}  # 智谱
LIMIT_WORDS = re.compile(
    r"per[ _-]?(second|minute|min|hour|day)|requests? limit|rate.?limit|too many requests|concurren"
    r"|(try again|retry) (in|after)|\b[rt]p[msd]\b|/min\b|并发|速率|频率|频繁|每分钟|每秒|请求过多|请求数超",
    re.IGNORECASE,
)
ALLOCATION = re.compile(r"allocated quota exceeded", re.IGNORECASE)  # 百炼, of the tokens a minute
EMPTY_WORDS = re.compile(
    r"insufficient[ _]+(account[ _]+)?(user[ _]+)?(balance|credits?|funds?|quota)"
    r"|(balance|credits?|funds?) (is|are) (insufficient|not enough|too low|exhausted|depleted|used up)"
    r"|not enough (balance|credits?|funds?)|out of (credits?|funds|money)|(requires|need) more credits"
    r"|used all available credits|have any credits|exceeded your current quota|(credit|key) limit exceeded"
    r"|(spending|billing|hard) limit|budget has been exceeded|account is not active"
    r"|account is in good standing|overdue (balance|payment)|past invoices|unpaid (bill|invoice)|arrearage"
    r"|recharge|top up your|included credits"
    r"|欠费|余额不足|额度不足|额度已用[完尽]|请充值",
    re.IGNORECASE,
)
# The names of the errors that proxies put in front of what the provider said; "RateLimitError" is no limit.
WRAPPERS = re.compile(r"litellm\.\w+|\w*(RateLimitError|APIError|BadRequestError|Exception)\b")


def is_out_of_money(status: int | None, body: object) -> bool:
    """Whether a refusal means that the account must be topped up.

    `status`: None where the answer had none of its own (a batch's line, an event of a stream). `body`: JSON or text,
    the whole body or its error; any shape.
    """
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return True
    is_wrapped = status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if status is not None and status not in POSSIBLE and not is_wrapped:
        return False
    said = list(_values(body))
    codes = [_squeeze(str(value)) for name, value in said if name in CODE_NAMES]
    words = WRAPPERS.sub("", " ".join(str(value) for name, value in said if name not in CODE_NAMES))
    if is_wrapped:
        codes, words = [*codes, *map(_squeeze, re.findall(r"\w+_\w+", words))], ""
    if _has(codes, LIMIT_CODES, LIMIT_NUMBERS) or ALLOCATION.search(words):
        return False
    if _has(codes, EMPTY_CODES, EMPTY_NUMBERS):
        return True
    return not LIMIT_WORDS.search(words) and EMPTY_WORDS.search(_believed(words, status)) is not None


def _believed(words: str, status: int | None) -> str:
    """The words that are surely the provider's own, and not the question's."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return words
    return QUOTED.sub("", words) if len(words) <= MAX_BELIEVED else ""


def _has(codes: list[str], parts: tuple[str, ...], numbers: set[str]) -> bool:
    return any(code in numbers or any(part in code for part in parts) for code in codes)


def _squeeze(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _values(said: object, name: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """The texts and numbers of a body under their names, also those of an object that stands in a text."""
    if depth > MAX_DEPTH or isinstance(said, bool):
        return
    if isinstance(said, dict):
        for key, value in said.items():
            yield from _values(value, str(key), depth + 1)
    elif isinstance(said, list):
        for value in said[:10]:
            yield from _values(value, name, depth + 1)
    elif isinstance(said, int):
        yield name, said
    elif isinstance(said, str):
        text, inner = _split_object(said[:MAX_WORDS])
        yield name, text
        if inner is not None:
            yield from _values(inner, "", depth + 1)


def _split_object(text: str) -> tuple[str, object]:
    """A text without the JSON object in it, and that object; None if there is none that can be read."""
    start, end = text.find("{"), text.rfind("}") + 1
    if not 0 <= start < end:
        return text, None
    try:
        return f"{text[:start]} {text[end:]}", json.loads(text[start:end])
    except (ValueError, RecursionError):
        return text, None
