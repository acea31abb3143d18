"""The endpoints of this deployment, read from its environment (used by `settings.py` alone)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from django.core.exceptions import ImproperlyConfigured

OPENAI_URL = "https://api.openai.com/v1"
LOCAL_URL = "http://127.0.0.1:8100/v1"
LOCAL_URL_VARIABLE = (
    "MODEL_SERVER_URL"  # `make run` writes it into run.env: the address of this copy's model server
)
NO_KEY = "none"


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible address with its key; its repr, in logs and tracebacks, leaves the key out."""

    alias: str
    base_url: str
    key: str = field(repr=False)


def read_endpoints(environ: Mapping[str, str]) -> dict[str, Endpoint]:
    """`OPENAI_*` as "default", and every `LLM_ENDPOINT_<ALIAS>` (with `LLM_KEY_<ALIAS>`) in lower case."""
    endpoints = {"default": _default(environ)}
    for name, url in environ.items():
        if name.startswith("LLM_ENDPOINT_") and url:
            alias = name.removeprefix("LLM_ENDPOINT_")
            key = environ.get(f"LLM_KEY_{alias}") or NO_KEY
            endpoints[alias.lower()] = Endpoint(alias.lower(), url.rstrip("/"), key)
    return endpoints


def _default(environ: Mapping[str, str]) -> Endpoint:
    key, url = environ.get("OPENAI_API_KEY", ""), environ.get("OPENAI_BASE_URL", "")
    if key and not url and not environ.get("OPENAI_MODEL"):
        raise ImproperlyConfigured(
            "OPENAI_API_KEY is set, but OPENAI_MODEL is not: name the model that writes the stories."
        )
    local_url = environ.get(LOCAL_URL_VARIABLE) or LOCAL_URL
    return Endpoint("default", (url or (OPENAI_URL if key else local_url)).rstrip("/"), key or NO_KEY)
