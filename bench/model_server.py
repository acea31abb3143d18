"""The model server's engines in figures: training and serving, beside a plain transformers/peft script in the same run.

    .venv-lora/bin/python -m bench.model_server                                       a CPU: 11 M random weights
    .venv-lora/bin/python -m bench.model_server --hidden 1024 --layers 24 --vocabulary 32000    a GPU: about 300 M

Ends with one markdown table. The plain script trains in a process of its own, with the same batches, and the two take
turns, so that a busy machine is busy for both. Nothing is downloaded: weights are random, the tokenizer is made here.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from openai import OpenAI

from tests.lora.tiny import chat_lines, combos, make_model
from tests.model_server.conftest import Server, start_server, until, upload, write_stories

Row = tuple[str, str, str]
STREAMS = (1, 4, 16)


def long_lines(count: int) -> list[dict[str, Any]]:
    """Training lines of unlike length, as stories are: some 40 to 200 tokens."""
    lines = chat_lines(36)
    for at, line in enumerate(lines):
        line["messages"][-1]["content"] *= 1 + at % 4
    return [lines[at % 36] for at in range(count)]


# --- training -------------------------------------------------------------------------------------------


def ours(base: Path, lines: list[dict[str, Any]], *, batch: int, folder: Path) -> float:
    """Tokens a second between the first and the last step, as `accelerate launch` trains them for the server."""
    from model_server.engines.base import Example, TrainOrder
    from model_server.engines.lora.train import train

    examples = [
        Example(
            line["messages"][0]["content"],
            line["messages"][1]["content"],
            messages=(("user", line["messages"][0]["content"]),),
            line=number,
        )
        for number, line in enumerate(lines, start=1)
    ]
    options = {"dtype": "auto", "rank": 16, "micro_batch_tokens": 8192, "accelerate_config": None}
    order = TrainOrder(
        examples,
        [],
        None,
        folder,
        1,
        batch,
        0.2,
        1,
        base=base,
        options=options,
    )
    moments: list[float] = []
    trained = train(order, lambda step: moments.append(step.at or 0.0))
    return _rate(trained.tokens or 0, moments)


def plain(base: Path, lines: list[dict[str, Any]], *, batch: int) -> float:
    """The same of the plain script."""
    given = json.dumps({"base": str(base), "lines": lines, "batch": batch})
    done = subprocess.run(
        [sys.executable, "-m", "bench.model_server", "--plain"],
        input=given,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    return _rate(told["tokens"], told["moments"])


def plain_child() -> None:
    """What `plain` starts: trains, and prints when each step was done."""
    from transformers import AutoTokenizer

    from model_server.engines.lora.loading import device_here, dtype_for
    from tests.lora.plain import encode, plain_losses

    given = json.load(sys.stdin)
    tokenizer = AutoTokenizer.from_pretrained(given["base"])
    tokens = sum(len(encode(tokenizer, line)[0]) for line in given["lines"])
    moments: list[float] = []
    plain_losses(
        Path(given["base"]),
        given["lines"],
        seed=1,
        n_epochs=1,
        batch_size=given["batch"],
        learning_rate_multiplier=0.2,
        after_step=lambda: moments.append(time.time()),
        device=device_here(),
        dtype=dtype_for("auto", device_here()),
    )
    print(json.dumps({"tokens": tokens, "moments": moments}))


def _rate(tokens: int, moments: Sequence[float]) -> float:
    return tokens * (len(moments) - 1) / len(moments) / (moments[-1] - moments[0])


def training_rows(base: Path, folder: Path, *, lines: int, batch: int, rounds: int) -> list[Row]:
    data = long_lines(lines)
    mine, theirs = [], []
    for number in range(rounds):
        theirs.append(plain(base, data, batch=batch))
        mine.append(ours(base, data, batch=batch, folder=folder / f"job-{number}"))
    ratio = statistics.median(one / other for one, other in zip(mine, theirs, strict=True))
    best = f"{statistics.median(mine):,.0f} tokens/s"
    return [
        (
            f"train, batch {batch}, {lines} lines",
            f"{best} ({ratio:.2f} ×)",
            f"{statistics.median(theirs):,.0f} tokens/s",
        )
    ]


# --- serving --------------------------------------------------------------------------------------------


def serve(client: OpenAI, model: str, streams: int, *, tokens: int) -> tuple[float, float]:
    """(median seconds to the first token, tokens a second in all) of so many streams at once."""
    firsts: list[float] = []
    counts: list[int] = []

    def one(combo: str) -> None:
        began = time.perf_counter()
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": combo}],
            temperature=0,
            max_tokens=tokens,
            stream=True,
            stream_options={"include_usage": True},
        )
        first = 0.0
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content and not first:
                first = time.perf_counter() - began
            if chunk.usage:
                counts.append(chunk.usage.completion_tokens)
        firsts.append(first)

    began = time.perf_counter()
    threads = [threading.Thread(target=one, args=(combo,)) for combo in combos(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statistics.median(firsts), sum(counts) / (time.perf_counter() - began)


class Generate:
    """Plain generate with the same prompts in one batch."""

    def __init__(self, base: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from model_server.engines.lora.loading import device_here, dtype_for

        device = device_here()
        self._model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype_for("auto", device)).to(device)
        self._tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")

    def measure(self, streams: int, *, tokens: int) -> tuple[float, float]:
        """(seconds to a first token, tokens a second)."""
        chats = [[{"role": "user", "content": combo}] for combo in combos(streams)]
        inputs = self._tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
        ).to(self._model.device)
        self._run(inputs, 2)
        return self._run(inputs, 1), streams * tokens / self._run(inputs, tokens)

    def _run(self, inputs: Any, count: int) -> float:
        import torch

        began = time.perf_counter()
        with torch.inference_mode():
            self._model.generate(**inputs, do_sample=False, max_new_tokens=count, min_new_tokens=count)
        return time.perf_counter() - began


def serving_rows(
    server: Server, base: Path, model: str, given: argparse.Namespace, *, name: str
) -> list[Row]:
    """A row for each number of streams: the best of a few rounds, in which server and plain generate take turns."""
    plain_one = Generate(base)
    rows = []
    serve(server.client, model, 2, tokens=8)
    for streams in STREAMS:
        mine, theirs = [], []
        for _ in range(given.rounds):
            mine.append(serve(server.client, model, streams, tokens=given.tokens))
            theirs.append(plain_one.measure(streams, tokens=given.tokens))
        rows.append((f"{name}, {streams} at once", _best(mine), _best(theirs)))
    return rows


def _best(found: Sequence[tuple[float, float]]) -> str:
    first, rate = min(first for first, _ in found), max(rate for _, rate in found)
    return f"first after {first * 1000:.0f} ms, {rate:,.0f} tokens/s"


def built_in_rows(server: Server) -> list[Row]:
    """The engine without weights: characters a second in training, and of streams that are not paced."""
    client = server.client
    wanted = [tuple(combo.split(",")) for combo in combos(36)]
    stories = write_stories(client, wanted * 4)  # type: ignore[arg-type]
    lines = [
        {"messages": [{"role": "user", "content": ",".join(combo)}, {"role": "assistant", "content": text}]}
        for combo, text in zip(wanted * 4, stories, strict=True)
    ]
    began = time.perf_counter()
    job = client.fine_tuning.jobs.create(model="base-zh", training_file=upload(client, lines))
    job = until(client, job.id, "succeeded", "failed", seconds=300)
    seconds = time.perf_counter() - began
    rows = [
        (
            "built-in: train 144 stories, whole job",
            f"{(job.trained_tokens or 0) / seconds:,.0f} characters/s",
            "",
        )
    ]
    for streams in STREAMS:
        first, rate = serve(client, job.fine_tuned_model or "", streams, tokens=2000)
        rows.append(
            (
                f"built-in, {streams} at once",
                f"first after {first * 1000:.0f} ms, {rate:,.0f} characters/s",
                "",
            )
        )
    return rows


# --- the table ------------------------------------------------------------------------------------------


def table(rows: Sequence[Row], title: str) -> str:
    lines = [f"| {title} | model server | plain script |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def adapter_of(server: Server) -> str:
    """A trained adapter, to be served beside the base."""
    client = server.client
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4}}}
    job = client.fine_tuning.jobs.create(
        model="bench", training_file=upload(client, chat_lines(12)), method=method
    )
    return until(client, job.id, "succeeded", "failed", seconds=600).fine_tuned_model or ""


def silence_ends(folder: Path, *, known: int) -> None:
    """Random weights end a text at random: with an end token that is never the likeliest, all are long."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"][1] = 0
    weights["lm_head.weight"][known:] = 0  # nor those that the tokenizer has no text for
    save_file(weights, file, metadata={"format": "pt"})


def measured(folder: Path, given: argparse.Namespace, say: Callable[[str], None]) -> list[Row]:
    """All rows; each group is told as soon as it is there, for a run that is broken off."""
    rows: list[Row] = []

    def note(more: list[Row]) -> None:
        rows.extend(more)
        say("\n".join(" | ".join(row) for row in more))

    base = make_model(
        folder / "base", hidden=given.hidden, layers=given.layers, vocabulary=given.vocabulary, context=1024
    )
    silence_ends(base, known=len(json.loads((base / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]))
    note(training_rows(base, folder, lines=given.lines, batch=given.batch, rounds=given.rounds))
    server = start_server(
        folder / "data", "--base-model", f"bench={base}", "--tokens-per-second", "0", "--mistake-rate", "0"
    )
    try:
        note(serving_rows(server, base, "bench", given, name="base"))
        note(serving_rows(server, base, adapter_of(server), given, name="adapter (plain: base)"))
        note(built_in_rows(server))
    finally:
        server.stop()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (
        *(("hidden", 384), ("layers", 6), ("vocabulary", 4000), ("lines", 160), ("batch", 4), ("rounds", 3)),
        ("tokens", 128),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plain:
        plain_child()
        return 0
    folder = Path(tempfile.mkdtemp(prefix="bench-lora-"))
    try:
        rows = measured(folder, given, lambda what: print(what, file=sys.stderr, flush=True))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(rows, f"hidden {given.hidden}, {given.layers} layers, vocabulary {given.vocabulary}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
