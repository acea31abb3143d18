"""The options of the command line; built once in __main__.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Settings:
    """One server's options. `tokens_per_second` 0 streams unpaced; `requests_per_minute` None sets no limit.
    `api_keys`: key to client, none: any key is accepted.

    `mistake_rate` is the probability of each of base-zh's four kinds of deliberate mistake, 0 to 0.25. `base_models`
    are those of the engine "lora", name to folder; what follows them is for that engine alone.
    """

    data: Path
    tokens_per_second: float = 30.0
    requests_per_minute: int | None = None
    api_keys: Mapping[str, str] = field(default_factory=dict)
    org: str = "local"
    mistake_rate: float = 0.015
    results_base64: bool = False
    max_file_bytes: int = 512 * 1024 * 1024
    base_models: Mapping[str, Path] = field(default_factory=dict)
    dtype: str = "auto"
    rows: int = 16
    max_requests: int = 64
    lora_rank: int = 16
    micro_batch_tokens: int = 8192
    accelerate_config: Path | None = None

    @property
    def training_options(self) -> dict[str, Any]:
        """What the engine "lora" is told besides a job's own numbers; plain JSON, it goes to the training child."""
        config = str(self.accelerate_config) if self.accelerate_config else None
        return {
            "dtype": self.dtype,
            "rank": self.lora_rank,
            "micro_batch_tokens": self.micro_batch_tokens,
            "accelerate_config": config,
        }

    @property
    def database(self) -> Path:
        """The SQLite file, shared with the training child."""
        return self.data / "store.sqlite3"

    @property
    def files(self) -> Path:
        """Uploaded files and results, one per id."""
        return self.data / "files"

    @property
    def models(self) -> Path:
        """Trained models, one file per job."""
        return self.data / "models"
