"""`python -m model_server`: reads the command line and serves until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from .app import create_app
from .clients import read_keys
from .engines.lora.bases import BadBase, read_bases
from .engines.registry import BASE_MODEL
from .settings import Settings


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 0.25:
        raise argparse.ArgumentTypeError("must lie between 0 and 0.25 (four kinds share the whole)")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument(
        "--data", type=Path, default=Path("var/model_server"), help="folder for files and models"
    )
    parser.add_argument(
        "--tokens-per-second", type=_number, default=30.0, help="pace of streams; 0: no pacing"
    )
    parser.add_argument("--requests-per-minute", type=_count, help="limit on completions; default: none")
    parser.add_argument(
        *("--api-key",),
        action="append",
        default=[],
        metavar="[CLIENT:]KEY",
        help="accepted key, repeatable; default: any",
    )
    parser.add_argument("--org", default="local", help="the organisation in tuned models' names")
    parser.add_argument("--mistake-rate", type=_rate, default=0.015, help="of each kind of base-zh mistake")
    parser.add_argument("--results-base64", action="store_true", help="serve result files base64-encoded")
    _add_lora(parser)
    parser.add_argument("--max-file-mb", type=_count, default=512, help="largest upload, in MiB")
    return parser


def _add_lora(parser: argparse.ArgumentParser) -> None:
    lora = parser.add_argument_group("open models", "the engine lora: pip install -r requirements-lora.txt")
    lora.add_argument(
        "--base-model",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a model folder in Hugging Face format, repeatable",
    )
    lora.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    lora.add_argument("--rows", type=_count, default=16, help="answers written at once")
    lora.add_argument("--max-requests", type=_count, default=64, help="running and waiting; 429 beyond")
    lora.add_argument("--lora-rank", type=_count, default=16, help="of new adapters")
    lora.add_argument(
        "--micro-batch-tokens", type=_count, default=8192, help="tokens in memory at once in training"
    )
    lora.add_argument(
        "--accelerate-config", type=Path, help="accelerate's own configuration, for several GPUs"
    )


def settings_from(arguments: Sequence[str] | None = None) -> tuple[Settings, argparse.Namespace]:
    """The settings of a command line, and the namespace with its address."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.org.replace("-", "").isalnum():
        parser.error("--org may hold letters, digits and hyphens only")
    try:
        bases = read_bases(given.base_model, reserved=[BASE_MODEL])
    except BadBase as error:
        parser.error(str(error))
    environment = os.environ.get("MODEL_SERVER_API_KEY", "").split(",")
    settings = Settings(
        data=given.data.resolve(),
        tokens_per_second=given.tokens_per_second,
        requests_per_minute=given.requests_per_minute,
        api_keys=read_keys([*given.api_key, *environment]),
        org=given.org,
        mistake_rate=given.mistake_rate,
        results_base64=given.results_base64,
        max_file_bytes=given.max_file_mb * 1024 * 1024,
        base_models=bases,
        dtype=given.dtype,
        rows=given.rows,
        max_requests=given.max_requests,
        lora_rank=given.lora_rank,
        micro_batch_tokens=given.micro_batch_tokens,
        accelerate_config=given.accelerate_config and given.accelerate_config.resolve(),
    )
    return settings, given


def main() -> None:
    """Serves. Open streams get one second to end, so that the whole stops promptly."""
    settings, given = settings_from()
    os.umask(0o077)  # files, models and the store are for our user alone
    app = create_app(settings)
    print(f"model server: http://{given.host}:{given.port}/v1 (data in {settings.data})", flush=True)
    uvicorn.run(
        app,
        host=given.host,
        port=given.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
        ws="none",
    )


if __name__ == "__main__":
    main()
