"""Reads what a model answered, and checks every value once (pure).

Compatible servers send counts as strings, floats or negative numbers, content as a list of parts, and words where
others have null. A count of a wrong type or range counts as absent. An answer whose text cannot be read is an unknown
outcome. The modules that use this one need not check a type again.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

from llm.declines import is_declined
from llm.errors import FailedAnswer, unreadable
from llm.finish_reasons import CONTENT_FILTER, MAX_WORD, STOP, is_break, read_finish_reason
from llm.rate_headers import NOTHING, Rates
from llm.redaction import redact
from llm.token_usage import find_usage, read_usage
from sentences import sentence as _

MAX_DIGITS = 40
BYTE_ORDER_MARK = "\ufeff"
ERROR_WORDS = ("message", "msg", "error_msg", "status_msg", "detail", "error", "errors")
CODES = ("code", "error_code", "errcode", "status_code")
THINKING = ("reasoning_content", "reasoning", "thinking")
NO_CHOICE: dict[str, object] = {}


@dataclass(frozen=True)
class Answer:
    """A whole answer, or a piece of one.

    `finish_reason` is "stop", "length" or "content_filter", "" if the answer did not end so; `finish_word` is what the
    provider called it. `refusal` holds the words in which the model declined, `thinking` what it thought before it
    wrote; neither is story. Token counts are the provider's own, None where it gave no possible one: `odd_usage` then
    quotes what it sent instead. `rates` come with a whole answer, or with the first piece. `begins_anew`: all text
    before this piece was thinking. `opened_inside`: whether the answer began inside its thinking, None where it shows
    nothing new (`separation.py`).
    """

    text: str
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    odd_usage: str = ""
    rates: Rates = NOTHING
    thinking: str = ""
    refusal: str = ""
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    finish_word: str = ""
    begins_anew: bool = False
    opened_inside: bool | None = None

    @property
    def says_usage(self) -> bool:
        """Whether it says anything of tokens, possible or not."""
        return self.completion_tokens is not None or self.prompt_tokens is not None or bool(self.odd_usage)


NOTHING_SAID = Answer("")


def read_json(data: bytes | str) -> object:
    """Raises `OutcomeUnknown` for data that is no JSON, or is nested more deeply than Python allows."""
    try:
        text = data.decode("utf-8", "surrogatepass") if isinstance(data, bytes) else data
        return DECODER.decode(text.removeprefix(BYTE_ORDER_MARK))
    except (ValueError, RecursionError) as error:
        raise unreadable(data) from error


def _read_whole_number(digits: str) -> int | float:
    """A float for many digits: `int` refuses thousands of them, and the whole answer would be lost with the number."""
    return int(digits) if len(digits) < MAX_DIGITS else float(digits)


DECODER = json.JSONDecoder(parse_int=_read_whole_number)
"""Made once: `json.loads` makes one for each text, which took a quarter of the time of reading a piece."""


def read_answer(event: object, *, taken: int = 0) -> Answer:
    """One event of a stream, or the body of a whole answer.

    `taken`: the characters of text that earlier events brought. A `message` holds all of the text so far, a `delta`
    only what is new. Raises `FailedAnswer` for an error of the provider, `OutcomeUnknown` for what cannot be read.
    """
    if not isinstance(event, dict):
        raise unreadable(event)
    if (error := _find_error(event)) is not None:
        return _read_error(error)
    choice = _first_choice(event)
    reason, word = read_finish_reason(choice.get("finish_reason"))
    text, thinking, refusal = _read_words(choice, taken)
    if reason == CONTENT_FILTER and not refusal:
        refusal = _filtered_categories(choice)
    piece = Answer(text, reason, thinking=thinking, refusal=refusal, finish_word=word)
    usage = find_usage(event, choice)
    if usage is None:
        return piece
    counted = read_usage(usage)
    return replace(
        piece,
        prompt_tokens=counted.prompt,
        completion_tokens=counted.completion,
        cached_tokens=counted.cached,
        reasoning_tokens=counted.reasoning,
        odd_usage=counted.odd,
    )


def read_whole(body: object) -> Answer:
    """The body of an answer that was not streamed. Raises as `read_answer`, also where it holds no message or text."""
    answer = read_answer(body)
    if isinstance(body, dict) and not answer.refusal:
        choice = _first_choice(body)
        if not ("message" in choice or "text" in choice):
            raise unreadable(body)
    return _counted(ended(answer))


def ended(answer: Answer) -> Answer:
    """An answer whose provider said all it had to say: it ended naturally, unless its provider called that a break.

    A model that declined, by whatever word it ended, has the reason "content_filter".
    """
    if answer.refusal:
        return replace(answer, finish_reason=CONTENT_FILTER)
    return (
        answer
        if answer.finish_reason or is_break(answer.finish_word)
        else replace(answer, finish_reason=STOP)
    )


def join(pieces: Iterable[Answer]) -> Answer:
    """The pieces of one answer as one; of all else than words the last that was said counts."""
    return _counted(reduce(_add, pieces, NOTHING_SAID))


def _counted(answer: Answer) -> Answer:
    """A whole answer; one with text for which no tokens were counted was not counted."""
    is_counted = bool(answer.completion_tokens) or not answer.text
    return answer if is_counted else replace(answer, completion_tokens=None)


def _add(so_far: Answer, piece: Answer) -> Answer:
    if piece.odd_usage:
        so_far = replace(so_far, prompt_tokens=None, completion_tokens=None)
    return Answer(
        text=so_far.text + piece.text,
        thinking=so_far.thinking + piece.thinking,
        refusal=so_far.refusal + piece.refusal,
        finish_reason=piece.finish_reason or so_far.finish_reason,
        finish_word=piece.finish_word or so_far.finish_word,
        prompt_tokens=_latest(so_far.prompt_tokens, piece.prompt_tokens),
        completion_tokens=_latest(so_far.completion_tokens, piece.completion_tokens),
        cached_tokens=_latest(so_far.cached_tokens, piece.cached_tokens),
        reasoning_tokens=_latest(so_far.reasoning_tokens, piece.reasoning_tokens),
        odd_usage=piece.odd_usage if piece.says_usage else so_far.odd_usage,
        rates=so_far.rates if piece.rates == NOTHING else piece.rates,
    )


def _latest(old: int | None, new: int | None) -> int | None:
    return old if new is None else new


# --- words ------------------------------------------------------------------------------------------------


def read_text(value: object) -> str:
    """The text of a content: a string, or a list of parts whose kind is text. Raises `OutcomeUnknown`."""
    return value if isinstance(value, str) else _read_parts(value)[0]


def _read_words(choice: dict[str, object], taken: int) -> tuple[str, str, str]:
    """What the choice holds of text, thinking and refusal."""
    delta = choice.get("delta")
    inner = delta if isinstance(delta, dict) else choice.get("message")
    if not isinstance(inner, dict):
        return read_text(choice.get("text")), "", ""
    content = inner.get("content")
    text, thinking, refusal = _read_parts(choice.get("text") if content is None else content)
    if inner is not delta:
        text = text[taken:]
    for name in THINKING:
        if said := inner.get(name):
            thinking += _read_thinking(said)
            break
    said = inner.get("refusal")
    return text, thinking, refusal + said if isinstance(said, str) else refusal


def _read_parts(value: object) -> tuple[str, str, str]:
    """What the typed parts of a content hold of text, thinking and refusal. Raises `OutcomeUnknown`."""
    if value is None or isinstance(value, str):
        return value or "", "", ""
    if not isinstance(value, list):
        raise unreadable(value)
    texts, thoughts, refusals = "", "", ""
    for part in value:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if kind in ("text", "output_text"):
            texts += _read_text_part(part)
        elif kind in ("thinking", "reasoning"):
            thoughts += _read_thinking(part)
        elif kind == "refusal" and isinstance(said := part.get("refusal"), str):
            refusals += said
    return texts, thoughts, refusals


def _read_text_part(part: object) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    if not isinstance(text, str):
        raise unreadable(part)
    return text


def _read_thinking(value: object, depth: int = 3) -> str:
    """The words of a thought: text, or parts that hold text. An odd one is "": nobody reads it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "".join(_read_thinking(part, depth - 1) for part in value)
    if isinstance(value, dict) and depth:
        named = (value.get(name) for name in ("thinking", "text", "reasoning", "summary"))
        return _read_thinking(next((words for words in named if words), ""), depth - 1)
    return ""


def _first_choice(event: dict[str, object]) -> dict[str, object]:
    choices = event.get("choices")
    if not choices:
        return NO_CHOICE
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise unreadable(event)
    return choices[0]


def _filtered_categories(choice: dict[str, object]) -> str:
    """The names of what Azure's filter found, "hate, violence"; "" if it names nothing."""
    results = choice.get("content_filter_results")
    found = results.items() if isinstance(results, dict) else ()
    return ", ".join(name for name, one in found if isinstance(one, dict) and one.get("filtered"))


# --- errors inside an answer ------------------------------------------------------------------------------


def _find_error(event: dict[str, object]) -> object:
    """The error that an event is or holds; None if it is none."""
    if event.get("error"):
        return event["error"]
    if event.get("choices"):
        return None
    result = event.get("base_resp")
    if isinstance(result, dict) and result.get("status_code"):
        return result  # MiniMax
    if event.get("object") == "error" or event.get("type") == "error":
        return event
    if "choices" in event or event.get("usage") is not None:
        return None
    # A message alone may be a heartbeat, so it must have a code. A detail alone is FastAPI's error.
    names = ERROR_WORDS if any(event.get(name) for name in CODES) else ("detail",)
    has_words = any(isinstance(event.get(name), str | list) and event[name] for name in names)
    return event if has_words else None


def _read_error(error: object) -> Answer:
    """An answer that declined, if the error says that. Raises `FailedAnswer` otherwise."""
    words = words_of(error)
    named = [error.get(name) for name in (*CODES, "type")] if isinstance(error, dict) else []
    code = " ".join(str(name) for name in named if name)
    if is_declined(code, words):
        return Answer("", CONTENT_FILTER, refusal=words, finish_word=redact(code, most=MAX_WORD))
    raise FailedAnswer(_("模型服务中途报错：%(words)s") % {"words": words or redact(error)})


def words_of(error: object) -> str:
    """A provider's own words in an error of any shape, made safe."""
    while isinstance(error, dict | list):
        parts = [error.get(name) for name in ERROR_WORDS] if isinstance(error, dict) else error
        error = next((part for part in parts if part), "")
    return redact(error)
