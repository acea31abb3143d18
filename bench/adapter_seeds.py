"""Whether the training of tests/lora/test_site.py learns whatever the seed: first and last losses, as a table.

    .venv-lora/bin/python -m bench.adapter_seeds                                  ten seeds, as the test trains
    .venv-lora/bin/python -m bench.adapter_seeds --epochs 40 --multipliers 3 10   other settings, beside each other

A seed draws the stories, the tokenizer that learns from them, the base's weights, the new adapter and the order of the
lines. It trains in this process; the figures are those that the engine writes into a job's results. `others` is the
loss on stories of other ingredients, after the last step: where the test's further training begins.
"""

import argparse
import itertools
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model_server.engines.base import Example, WriteOrder
from model_server.engines.grammar.writer import GrammarWriter
from tests.lora.tiny import make_model

LINES = 12
OTHERS = ["秦,龙卷风,勇敢", "隋,冰冻大海,辛苦", "秦,冰冻大海,轻松", "隋,龙卷风,勇敢"]
COMBOS = [
    ",".join(parts) for parts in itertools.product(["唐", "宋", "元"], ["隐形", "飞行"], ["轻松", "艰难"])
]


def stories(seed: int, combos: Sequence[str]) -> list[str]:
    """A story by base-zh, without its deliberate mistakes, for each combo."""
    writer = GrammarWriter(mistake_rate=0.0)
    orders = [
        WriteOrder(
            "写一个故事：{}的英雄，超能力是{}，战斗很{}。".format(*combo.split(",")), seed=seed * 1000 + at
        )
        for at, combo in enumerate(combos)
    ]
    return ["".join(writer.write(order)) for order in orders]


def lines(seed: int, combos: Sequence[str]) -> list[dict[str, Any]]:
    """Training lines as the job's process reads them."""
    texts = stories(seed, combos)
    return [
        asdict(Example(combo, text, messages=(("user", combo),), line=number))
        for number, (combo, text) in enumerate(zip(combos, texts, strict=True), start=1)
    ]


def losses(seed: int, *, epochs: int, multiplier: float, folder: Path) -> tuple[list[float], float]:
    """The training loss of every step of one job, and its loss on other stories at the end."""
    from model_server.engines.lora.trainer import Trainer

    base = make_model(folder / "base", seed=seed, hidden=96, context=2048, texts=stories(seed, COMBOS * 4))
    order = {
        "folder": str(folder),
        "base": str(base),
        "parent": None,
        "training": lines(seed + 500, COMBOS),
        "validation": lines(seed + 900, OTHERS),
        "options": {"rank": 16, "dtype": "auto", "micro_batch_tokens": 8192},
        "method": "supervised",
        "beta": 0.1,
        "seed": seed,
        "n_epochs": epochs,
        "batch_size": 1,
        "learning_rate_multiplier": multiplier,
    }
    steps: list[dict[str, Any]] = []

    def log(kind: str, **facts: Any) -> None:
        if kind == "step":
            steps.append(facts)

    Trainer(order, log, stop=threading.Event()).run()
    return [step["train_loss"] for step in steps], steps[-1]["valid_loss"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--multipliers", type=float, nargs="+", default=[3.0])
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    print(
        f"| multiplier | seed | first loss | last loss | last epoch, mean | others | seconds |\n|{'---:|' * 7}"
    )
    for multiplier, seed in itertools.product(given.multipliers, range(given.seeds)):
        folder = Path(tempfile.mkdtemp(prefix="adapter-seeds-"))
        began = time.monotonic()
        try:
            found, others = losses(seed, epochs=given.epochs, multiplier=multiplier, folder=folder)
        finally:
            shutil.rmtree(folder)
        last = sum(found[-LINES:]) / LINES
        row = (f"{multiplier:g}", seed, f"{found[0]:.3f}", f"{found[-1]:.3f}", f"{last:.3f}", f"{others:.3f}")
        print(f"| {' | '.join(map(str, row))} | {time.monotonic() - began:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
