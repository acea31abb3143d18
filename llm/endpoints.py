"""The endpoints of this deployment, read from its environment (used by `settings.py` alone)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from django.core.exceptions import ImproperlyConfigured

OPENAI_URL = "https://api.openai.com/v1"
LOCAL_URL = "http://127.0.0.1:8100/v1"
LOCAL_URL_VARIABLE = (
    "MODEL_SERVER_URL"  # `make run` writes it into run.env: the address of this copy's model server
)
NO_KEY = "none"
MODERATION_MODES = ("auto", "required", "off")
MAX_LIMIT = 1_000_000


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible address with its key; its repr, in logs and tracebacks, leaves the key out.

    `requests`: its limit a minute, and `calls`: its limit of calls at once, where the deployment knows them.
    """

    alias: str
    base_url: str
    key: str = field(repr=False)
    requests: int | None = None
    calls: int | None = None


def read_endpoints(environ: Mapping[str, str]) -> dict[str, Endpoint]:
    """`OPENAI_*` as "default", and every `LLM_ENDPOINT_<ALIAS>` (with `LLM_KEY_<ALIAS>`) in lower case.

    `LLM_RPM` and `LLM_CONCURRENCY` are the limits of the default endpoint, `LLM_RPM_<ALIAS>` those of the others.
    """
    endpoints = {"default": _default(environ)}
    for name, url in environ.items():
        if name.startswith("LLM_ENDPOINT_") and url:
            alias = name.removeprefix("LLM_ENDPOINT_")
            key = environ.get(f"LLM_KEY_{alias}") or NO_KEY
            endpoints[alias.lower()] = Endpoint(alias.lower(), url.rstrip("/"), key)
    for alias, count in _read_limits(environ, "LLM_RPM", endpoints):
        endpoints[alias] = replace(endpoints[alias], requests=count)
    for alias, count in _read_limits(environ, "LLM_CONCURRENCY", endpoints):
        endpoints[alias] = replace(endpoints[alias], calls=count)
    return endpoints


def _read_limits(
    environ: Mapping[str, str], variable: str, known: Mapping[str, Endpoint]
) -> Iterator[tuple[str, int]]:
    """The aliases that a variable names (`LLM_RPM`, `LLM_RPM_<ALIAS>`), with its values."""
    for name, value in environ.items():
        if (name == variable or name.startswith(f"{variable}_")) and value:
            alias = name.removeprefix(variable).removeprefix("_").lower() or "default"
            if alias not in known:
                raise ImproperlyConfigured(f"{name} is set, but there is no LLM_ENDPOINT_{alias.upper()}.")
            yield alias, _read_count(name, value)


def _read_count(name: str, value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= MAX_LIMIT:
        raise ImproperlyConfigured(f"{name} must be a whole number from 1 to {MAX_LIMIT}, not {value!r}.")
    return int(value)


def read_moderation(value: str, endpoints: Mapping[str, Endpoint]) -> str:
    """`auto`, `required`, `off` or an alias, in lower case."""
    said = value.strip().lower()
    if said not in MODERATION_MODES and said not in endpoints:
        known = ", ".join((*MODERATION_MODES, *endpoints))
        raise ImproperlyConfigured(f"MODERATION must be one of {known}, not {value!r}.")
    return said


def _default(environ: Mapping[str, str]) -> Endpoint:
    key, url = environ.get("OPENAI_API_KEY", ""), environ.get("OPENAI_BASE_URL", "")
    if key and not url and not environ.get("OPENAI_MODEL"):
        raise ImproperlyConfigured(
            "OPENAI_API_KEY is set, but OPENAI_MODEL is not: name the model that writes the stories."
        )
    local_url = environ.get(LOCAL_URL_VARIABLE) or LOCAL_URL
    return Endpoint("default", (url or (OPENAI_URL if key else local_url)).rstrip("/"), key or NO_KEY)
