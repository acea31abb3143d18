"""What a training leaves: falling losses, adapters that know their lines, checkpoints, a parent to go on from."""

from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from tests.model_server.conftest import until, upload

from .conftest import HYPERPARAMETERS, Tuned, ask, results, supervised, train
from .plain import plain_losses
from .tiny import chat_lines, combos, story

# peft asks transformers by a name that transformers is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


def test_the_loss_falls_and_the_results_hold_every_step(client: OpenAI, first: Tuned) -> None:
    assert [int(row[0]) for row in first.rows] == list(range(1, 24 * 3 + 1))
    assert first.losses[0] > 2
    assert sum(first.losses[-6:]) / 6 < 0.1
    assert float(first.rows[-1][2]) > 0.95
    assert float(first.rows[0][3]) > float(first.rows[-1][3]) > 0
    chosen = first.job.hyperparameters
    assert {name: getattr(chosen, name) for name in HYPERPARAMETERS} == HYPERPARAMETERS
    tokens = first.job.trained_tokens or 0
    assert tokens > 24 * 12 * 40


def test_an_overfit_adapter_says_its_lines(client: OpenAI, first: Tuned) -> None:
    for combo in combos(12):
        assert ask(client, first.model, combo) == story(combo)


def test_events_tell_the_steps(client: OpenAI, first: Tuned) -> None:
    told = [
        event.data
        for event in client.fine_tuning.jobs.list_events(first.job.id, limit=100)
        if event.type == "metrics"
    ]
    assert len(told) == 72
    assert isinstance(told[0], dict)
    assert told[0]["step"] == told[0]["total_steps"] == 72
    assert told[0]["train_loss"] == pytest.approx(first.losses[-1], abs=1e-5)
    assert "train_sample" not in told[0]
    assert told[0]["valid_loss"] is not None


def test_the_last_three_epochs_are_kept_and_are_models(client: OpenAI, first: Tuned) -> None:
    kept = client.fine_tuning.jobs.checkpoints.list(first.job.id).data
    assert [one.step_number for one in kept] == [72, 69, 66]
    assert kept[0].fine_tuned_model_checkpoint == first.model
    assert kept[2].fine_tuned_model_checkpoint == f"{first.model}:ckpt-step-66"
    assert ask(client, kept[2].fine_tuned_model_checkpoint, combos(1)[0]) == story(combos(1)[0])
    listed = [model.id for model in client.models.list()]
    assert {one.fine_tuned_model_checkpoint for one in kept} < set(listed)
    assert f"{first.model}:ckpt-step-63" not in listed


def test_the_losses_are_those_of_a_plain_script(bases: dict[str, Any], first: Tuned) -> None:
    expected = plain_losses(bases["tiny"], first.lines, seed=5, **HYPERPARAMETERS)
    assert len(expected) == len(first.losses)
    assert first.losses == pytest.approx(expected, rel=0.02, abs=0.002)
    assert first.losses[:10] == pytest.approx(expected[:10], rel=1e-3)


def test_training_further_goes_on_from_the_adapter(client: OpenAI, first: Tuned) -> None:
    lines = chat_lines(12)[:6] + chat_lines(18)[12:]
    child = train(client, lines, model=first.model, method=supervised(n_epochs=6, learning_rate_multiplier=3))
    assert child.model.startswith("ft:tiny:local:first:")
    assert child.model != first.model
    assert child.losses[0] < first.losses[0] / 2
    assert ask(client, child.model, combos(1)[0]) == story(combos(1)[0])
    assert ask(client, first.model, combos(2)[1]) == story(combos(2)[1])


def test_auto_becomes_the_documented_numbers(client: OpenAI, first: Tuned) -> None:
    file = upload(client, chat_lines(12))
    job = client.fine_tuning.jobs.create(model="plain", training_file=file)
    done = until(client, job.id, "succeeded", "failed", seconds=180)
    chosen = done.hyperparameters
    assert (chosen.n_epochs, chosen.batch_size, chosen.learning_rate_multiplier) == (3, 1, 0.2)
    assert len(results(client, done)) == 36
    assert ask(client, done.fine_tuned_model or "", "唐", max_tokens=4)


def test_preferences_are_learnt(client: OpenAI) -> None:
    lines = [
        {
            "input": {"messages": [{"role": "user", "content": combo}]},
            "preferred_output": [{"role": "assistant", "content": story(combo)}],
            "non_preferred_output": [{"role": "assistant", "content": story(combo, tail="完了。")}],
        }
        for combo in combos(12)
    ]
    hyperparameters = {"n_epochs": 4, "batch_size": 4, "learning_rate_multiplier": 1, "beta": 0.2}
    tuned = train(client, lines, method={"type": "dpo", "dpo": {"hyperparameters": hyperparameters}})
    assert tuned.losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert tuned.losses[-1] < 0.3
    assert float(tuned.rows[-1][2]) == 1.0
    method = tuned.job.method
    assert method
    assert method.type == "dpo"
    assert method.dpo
    assert method.dpo.hyperparameters
    assert method.dpo.hyperparameters.beta == 0.2


def test_a_built_in_model_knows_no_preferences(client: OpenAI) -> None:
    file = upload(client, chat_lines(12))
    with pytest.raises(BadRequestError, match="only be trained by 'supervised'"):
        client.fine_tuning.jobs.create(model="base-zh", training_file=file, method={"type": "dpo"})


@pytest.mark.parametrize(
    ("line", "method", "sentence"),
    [
        ({"messages": [{"role": "user", "content": "唐" * 400}, {"role": "assistant", "content": "宋" * 400}]},
         "supervised", "Line 11 has "),
        (chat_lines(1)[0], "dpo", "Line 1 is no preference line"),
        ({"input": {}, "preferred_output": []}, "supervised", "Line 11 is a preference line"),
    ],
)  # fmt: skip
def test_lines_that_cannot_be_learnt_fail_the_job_in_words(
    client: OpenAI, line: dict[str, Any], method: str, sentence: str
) -> None:
    file = upload(client, [*chat_lines(10), line])
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file, method={"type": method})  # type: ignore[typeddict-item]
    failed = until(client, job.id, "failed", "succeeded", seconds=120)
    assert failed.error
    assert sentence in failed.error.message
    assert failed.error.code == "invalid_training_file"


def warnings(client: OpenAI, tuned: Tuned) -> list[str]:
    events = client.fine_tuning.jobs.list_events(tuned.job.id, limit=100)
    return [event.message for event in events if event.level == "warn"]


def test_a_job_that_learns_nothing_says_so(client: OpenAI, first: Tuned) -> None:
    stood_still = train(client, chat_lines(12), method=supervised(n_epochs=2, learning_rate_multiplier=1e-6))
    (said,) = warnings(client, stood_still)
    assert said.startswith("This job learnt nothing: the training loss went from ")
    assert "(this was 1e-06: a larger one if the loss stood still" in said
    assert warnings(client, first) == []


def test_a_job_that_stays_at_the_frequencies_of_tokens_says_so(client: OpenAI) -> None:
    """Steps far too large throw a random model about; what is left to it is which tokens there are."""
    thrown = train(client, chat_lines(12), method=supervised(n_epochs=6, learning_rate_multiplier=100))
    (said,) = warnings(client, thrown)
    assert said.startswith(("This job learnt only how often each token occurs", "This job learnt nothing"))
    assert "smaller" in said
