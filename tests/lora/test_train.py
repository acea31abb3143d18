"""Several processes, as accelerate starts one for each GPU: the same steps, whoever shares them.

Here they share the CPU. `accelerate launch` starts several processes on CPUs only by MPI, so torch's own launcher
stands in for it; the training process finds the same variables in its environment.
"""

import sys
from pathlib import Path

import pytest

from model_server.engines.base import Example, Step, TrainingFault, TrainOrder
from model_server.engines.lora import train as starting

from .tiny import chat_lines

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
OPTIONS = {"dtype": "auto", "rank": 16, "micro_batch_tokens": 8192, "accelerate_config": None}


def steps_of(base: Path, folder: Path, *, batch: int, **options: str) -> tuple[list[Step], list[str]]:
    """The steps of a training, and what else was said."""
    lines = [[message["content"] for message in line["messages"]] for line in chat_lines(12)]
    examples = [Example(asked, said, messages=(("user", asked),)) for asked, said in lines]
    steps: list[Step] = []
    said: list[str] = []
    order = TrainOrder(
        *(examples, examples[:3], None, folder),
        n_epochs=3,
        batch_size=batch,
        learning_rate_multiplier=10,
        seed=5,
        base=base,
        options=OPTIONS | options,
        say=said.append,
    )
    trained = starting.train(order, steps.append)
    assert (folder / f"step-{len(steps)}" / "adapter_model.safetensors").is_file()
    assert (trained.tokens or 0) > 0
    return steps, said


def test_the_one_process_of_a_cpu_uses_its_cores(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = starting.threads(OPTIONS)["OMP_NUM_THREADS"]
    assert f"1 × cpu (threads: {cores})" in trained_on(bases["tiny"], tmp_path / "all")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "1 × cpu (threads: 1)" in trained_on(bases["tiny"], tmp_path / "one")


def test_accelerates_own_configuration_is_used(bases: dict[str, Path], tmp_path: Path) -> None:
    config = tmp_path / "accelerate.yaml"
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nmixed_precision: 'no'\n"
        "num_machines: 1\nnum_processes: 1\nuse_cpu: true\n"
    )
    steps, said = steps_of(bases["tiny"], tmp_path / "configured", batch=12, accelerate_config=str(config))
    assert (len(steps), "1 × cpu" in said[0]) == (3, True)
    config.unlink()
    with pytest.raises(TrainingFault, match=r"accelerate\.yaml"):
        steps_of(bases["tiny"], tmp_path / "missing", batch=12, accelerate_config=str(config))


def trained_on(base: Path, folder: Path) -> str:
    return steps_of(base, folder, batch=12)[1][0]


def test_two_processes_make_the_steps_of_one(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = 5  # of twelve lines: the last batch of an epoch has two, and shares are uneven
    alone, said = steps_of(bases["tiny"], tmp_path / "one", batch=batch)
    assert "1 × cpu" in said[0]
    monkeypatch.setattr(starting, "launcher", lambda options: TORCHRUN)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    together, said = steps_of(bases["tiny"], tmp_path / "two", batch=batch)
    assert "2 × cpu" in said[0]
    for one, other in zip(alone, together, strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=2e-3)
        assert other.train_accuracy == pytest.approx(one.train_accuracy, abs=0.01)
        assert other.valid_loss == (one.valid_loss and pytest.approx(one.valid_loss, rel=2e-3))
