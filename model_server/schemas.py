"""The request bodies as pydantic models, and the function that reads a body into one.

A field that OpenAI knows but this server cannot honour is refused rather than silently ignored, unless ignoring it
changes nothing a client could notice (`user`, `store`, the penalties on a model that has none).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.requests import Request

from .errors import invalid, too_large

MAX_JSON_BYTES = 4 * 1024 * 1024

Auto = Literal["auto"]
Body = TypeVar("Body", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class TextPart(_Strict):
    """One text part of a message whose content is a list."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A chat message; extra fields such as `name` are accepted and ignored."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(_Strict):
    """`include_usage` asks for a last chunk with the counts."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class _Sampling(_Strict):
    model: Annotated[str, Field(min_length=1, max_length=256)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None

    @field_validator("stop")
    @classmethod
    def _at_most_four(cls, stop: str | list[str] | None) -> list[str]:
        stops = [stop] if isinstance(stop, str) else stop or []
        if len(stops) > 4 or not all(stops):
            raise ValueError("up to 4 non-empty stop strings are allowed")
        return stops

    @property
    def stops(self) -> list[str]:
        """The stop strings as a list."""
        return self.stop if isinstance(self.stop, list) else []

    @property
    def chosen_temperature(self) -> float:
        """The temperature, 1 if none was given."""
        return 1.0 if self.temperature is None else self.temperature

    @property
    def chosen_top_p(self) -> float:
        """top_p, 1 if none was given."""
        return 1.0 if self.top_p is None else self.top_p

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(_Sampling):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2048)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None


class CompletionRequest(_Sampling):
    """POST /v1/completions, the endpoint of models tuned on prompt/completion lines."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: Literal[""] | None = None

    @property
    def text(self) -> str:
        """The one prompt."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


class Hyperparameters(_Strict):
    """Each a number or "auto"; README.md says what "auto" becomes."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=100)] = "auto"


class PreferenceHyperparameters(Hyperparameters):
    """Those of DPO: `beta` weighs staying near to the model that training began with."""

    beta: Auto | Annotated[float, Field(gt=0, le=2)] = "auto"


class Supervised(_Strict):
    """Supervised fine-tuning."""

    hyperparameters: Hyperparameters | None = None


class Preference(_Strict):
    """Fine-tuning by preferences."""

    hyperparameters: PreferenceHyperparameters | None = None


class Method(_Strict):
    """`{"type": "supervised", "supervised": {"hyperparameters": {…}}}`, or the same with `dpo`."""

    type: Literal["supervised", "dpo"]
    supervised: Supervised | None = None
    dpo: Preference | None = None


class JobRequest(_Strict):
    """POST /v1/fine_tuning/jobs."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    training_file: Annotated[str, Field(min_length=1, max_length=256)]
    validation_file: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    integrations: None = None

    @field_validator("metadata")
    @classmethod
    def _at_most_sixteen(cls, metadata: dict[str, str] | None) -> dict[str, str] | None:
        if metadata and len(metadata) > 16:
            raise ValueError("at most 16 pairs are allowed")
        return metadata

    @property
    def asked(self) -> Hyperparameters:
        """The hyperparameters, from `method` or from the older top-level field."""
        if self.kind == "dpo":
            preference = self.method.dpo if self.method else None
            return (preference and preference.hyperparameters) or PreferenceHyperparameters()
        supervised = self.method.supervised if self.method else None
        return (supervised and supervised.hyperparameters) or self.hyperparameters or Hyperparameters()

    @property
    def kind(self) -> str:
        """`supervised` or `dpo`."""
        return self.method.type if self.method else "supervised"


class BatchRequest(_Strict):
    """POST /v1/batches."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=256)]
    endpoint: Literal["/v1/chat/completions", "/v1/completions"]
    completion_window: Literal["24h"]
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = None


class ModerationRequest(_Strict):
    """POST /v1/moderations."""

    input: str | Annotated[list[str], Field(min_length=1, max_length=256)]
    model: str | None = None


async def read_json(request: Request, schema: type[Body]) -> Body:
    """The request's body as `schema`. Raises ApiError 400 or 413 with one sentence."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_JSON_BYTES:
            raise too_large("request body", MAX_JSON_BYTES)
    try:
        body = json.loads(bytes(raw), parse_constant=_no_constants)
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # a lone surrogate is a ValueError too
        raise invalid("We could not parse the JSON body of your request as UTF-8 JSON.") from None
    if not isinstance(body, dict):
        raise invalid("The body of the request must be a JSON object.")
    return parse(schema, body)


def parse(schema: type[Body], body: dict[str, Any]) -> Body:
    """`body` checked against `schema`; the first fault becomes an ApiError 400."""
    try:
        return schema.model_validate(body)
    except ValidationError as error:
        raise _first_fault(error) from None


def _first_fault(error: ValidationError) -> Exception:
    faults = error.errors(include_url=False, include_input=False)
    fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])
    path = [str(part) for part in fault["loc"] if not str(part).startswith(("function-", "constrained-"))]
    param = ".".join(path)[:200]
    if fault["type"] == "extra_forbidden":
        return invalid(
            f"Unrecognized request argument supplied: {param}.", param=param, code="unknown_parameter"
        )
    if fault["type"] == "missing":
        return invalid(
            f"Missing required parameter: {param!r}.", param=param, code="missing_required_parameter"
        )
    said = fault["msg"].removeprefix("Value error, ")
    return invalid(f"Invalid value for {param!r}: {said}.", param=param, code="invalid_value")


def _no_constants(name: str) -> None:
    raise ValueError(name)
