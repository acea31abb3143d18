"""Whether a job learnt anything: what its losses say, and that its events say so."""

import random
from collections.abc import Sequence

import pytest
from openai import OpenAI

from model_server.engines.base import Step
from model_server.training.curve import warning, window
from tests.model_server.conftest import Trained, method, until, upload

HANZI = [chr(code) for code in range(0x4E00, 0x9FA6)]


def steps(losses: Sequence[float], *, per_epoch: int) -> list[Step]:
    return [
        Step(number + 1, len(losses), number // per_epoch + 1, None, loss, 0.5)
        for number, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(
    ("losses", "unigram_loss", "said"),
    [
        ([9.0] * 6 + [8.9] * 6, 6.0, "learnt nothing: the training loss went from 9.00"),
        ([2.0] * 6 + [2.5] * 6, None, "to 2.50 (mean of the last 6)"),
        ([9.4] * 6 + [7.2] * 6, 6.0, "only how often each token occurs: the training loss went from 9.40"),
        ([9.4] * 6 + [7.2] * 6, None, ""),
        ([9.0] * 6 + [0.5] * 6, 6.0, ""),
        ([3.0] * 6 + [2.9] * 6, 6.0, ""),
        ([1.0] * 6 + [0.01] * 6, 0.0, ""),  # every answer is one and the same token
        ([9.0] * 3, 6.0, ""),
    ],
)
def test_the_ends_of_the_curve_are_compared(
    losses: list[float], unigram_loss: float | None, said: str
) -> None:
    sentence = warning(steps(losses, per_epoch=6), multiplier=10, unigram_loss=unigram_loss)
    assert said in sentence
    assert bool(sentence) == bool(said)
    assert "(this was 10" in sentence or not sentence


def test_lines_of_unlike_difficulty_are_no_fall() -> None:
    """Epochs of the same lines, easy ones first: the same lines are compared, so nothing fell."""
    losses = [9.0, 8.0, 3.0, 2.0] * 3
    assert "went from 5.50" in warning(steps(losses, per_epoch=4), multiplier=1, unigram_loss=None)


@pytest.mark.parametrize(
    ("count", "per_epoch", "size"), [(48, 12, 12), (10, 10, 5), (300, 100, 30), (480, 12, 12), (4, 1, 1)]
)
def test_the_window_is_an_epoch_where_epochs_are_short(count: int, per_epoch: int, size: int) -> None:
    assert window(steps([1.0] * count, per_epoch=per_epoch)) == size


def warnings(client: OpenAI, job: str) -> list[str]:
    events = client.fine_tuning.jobs.list_events(job, limit=100)
    return [event.message for event in events if event.level == "warn"]


def test_a_job_that_learns_nothing_says_so(client: OpenAI) -> None:
    """Characters drawn by lot, each line seen once: there is nothing to learn from."""
    drawn = random.Random(7)
    lines = [
        {
            "messages": [
                {"role": "user", "content": "唐,隐形,轻松"},
                {"role": "assistant", "content": "".join(drawn.choices(HANZI, k=300))},
            ]
        }
        for _line in range(40)
    ]
    file = upload(client, lines)
    job = client.fine_tuning.jobs.create(
        model="base-zh", training_file=file, seed=1, method=method(n_epochs=1, batch_size=1)
    )
    done = until(client, job.id, "succeeded", "failed")
    assert done.status == "succeeded"
    (said,) = warnings(client, job.id)
    assert said.startswith("This job learnt nothing: the training loss went from ")
    assert "(this was 0.2:" in said


def test_a_job_that_learns_warns_of_nothing(client: OpenAI, trained: Trained) -> None:
    assert warnings(client, trained.job.id) == []
