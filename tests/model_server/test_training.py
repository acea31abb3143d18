"""Training on the 486 stories: its figures, and what the tuned model writes; legacy lines; training further."""

import random
from typing import Any

import pytest
from openai import OpenAI

from model_server.engines.base import Example
from model_server.engines.grammar.lexicon import GIVEN, SURNAMES
from model_server.engines.ngram.train import frame

from .conftest import (
    LONG_PROMPT,
    Trained,
    ask,
    chat_lines,
    combos,
    legacy_lines,
    method,
    new_combos,
    until,
    upload,
    write_stories,
)

UNSEEN = [
    ("宋", "发射激光", "艰难"),
    ("五代", "流星火雨", "艰难"),
    ("汉", "冰冻大海", "艰难"),
    ("三国", "唤雨", "勇敢"),
]


def metrics(client: OpenAI, job: str) -> list[dict[str, Any]]:
    """The data of the metrics events, oldest first."""
    events = [
        event for event in client.fine_tuning.jobs.list_events(job, limit=100) if event.type == "metrics"
    ]
    return [dict(event.data) for event in reversed(events)]


def test_training_is_quick_and_learns(client: OpenAI, trained: Trained) -> None:
    assert trained.seconds < 60
    rows = [row.split(",") for row in client.files.content(trained.job.result_files[0]).text.splitlines()[1:]]
    assert len(rows) == 4 * 486
    accuracies = [float(row[2]) for row in rows]
    losses = [float(row[1]) for row in rows]
    assert sum(accuracies[:10]) / 10 < 0.88
    assert sum(accuracies[-50:]) / 50 >= 0.93
    assert sum(losses[:10]) / 10 > 3 * sum(losses[-50:]) / 50
    assert 0 < float(rows[-1][3]) < 1
    assert 0.8 < float(rows[-1][4]) < 1


def test_events_say_what_was_in_sample(client: OpenAI, trained: Trained) -> None:
    told = metrics(client, trained.job.id)
    assert 100 <= len(told) <= 300
    assert [one["step"] for one in told] == sorted({one["step"] for one in told})
    for one in told:
        assert one["total_steps"] == 1944
        assert one["train_sample"] == ("predicted-before-counted" if one["step"] <= 486 else "in-sample")
    assert told[-1]["valid_loss"] is not None
    sentences = [
        event.message for event in client.fine_tuning.jobs.list_events(trained.job.id, limit=100).data
    ]
    assert any("in-sample" in sentence for sentence in sentences)


def test_the_checkpoint_is_the_model(client: OpenAI, trained: Trained) -> None:
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(trained.job.id).data
    assert checkpoint.fine_tuned_model_checkpoint == trained.model
    assert checkpoint.step_number == 1944
    assert checkpoint.metrics.train_mean_token_accuracy
    assert trained.model.startswith("ft:base-zh:local:ultraman:")


@pytest.mark.parametrize("combo", UNSEEN)
@pytest.mark.parametrize("prompt", ["{},{},{}", LONG_PROMPT])
def test_unseen_ingredients(
    client: OpenAI, trained: Trained, combo: tuple[str, str, str], prompt: str
) -> None:
    whole = 0
    for seed in range(15):
        story = ask(
            client, prompt.format(*combo), model=trained.model, temperature=0.7, seed=seed, max_tokens=2000
        )
        assert all(word in story for word in (*combo, "奥特曼"))
        assert 150 <= len(story) <= 450
        assert story[-1] in "。！？”"
        assert story not in trained.stories
        assert ("他" in story) != ("她" in story)
        whole += _same_hero_throughout(story)
    assert whole == 15


def _same_hero_throughout(story: str) -> bool:
    """One of the names that the base model could give, in at least two places, and no other."""
    names = [
        one + given for one in SURNAMES for given in [*GIVEN["他"], *GIVEN["她"]] if one + given in story
    ]
    return len(names) == 1 and story.count(names[0]) >= 2


def test_a_story_with_its_slots_filled_again_is_no_training_story(client: OpenAI, trained: Trained) -> None:
    combo = combos(1)[0]
    for seed in range(10):
        story = ask(client, ",".join(combo), model=trained.model, temperature=0.2, seed=seed)
        assert story not in trained.stories


def test_temperature_zero_repeats_itself_and_still_ends(client: OpenAI, trained: Trained) -> None:
    stories = {ask(client, "宋,发射激光,艰难", model=trained.model, temperature=0, seed=1) for _ in range(2)}
    assert len(stories) == 1
    assert 150 <= len(stories.pop()) <= 450


def test_a_tuned_story_is_continued(client: OpenAI, trained: Trained) -> None:
    prompt = "宋,发射激光,艰难"
    for seed in range(12):
        whole = ask(client, prompt, model=trained.model, temperature=0.7, seed=seed)
        written = whole[: random.Random(seed).randrange(20, len(whole) - 60)]
        messages: Any = [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": written},
            {"role": "user", "content": "接着写"},
        ]
        answer = client.chat.completions.create(
            model=trained.model, messages=messages, temperature=0.7, seed=seed, max_tokens=2000
        )
        story = written + (answer.choices[0].message.content or "")
        assert len(story) > len(written)
        assert all(word in story for word in ("宋", "发射激光", "艰难", "奥特曼"))
        assert _same_hero_throughout(story)


@pytest.mark.parametrize(
    ("endings", "stop"),
    [
        (["好。 END", "坏！ END"], " END"),
        (["他走了。.", "他走了。."], "."),
        (["再见。", "再见。"], ""),
        (["好。\n\n###\n", "坏。\n\n###\n"], "\n\n###\n"),
        (["好", "坏"], ""),
    ],
)
def test_the_stop_string_is_what_follows_the_stories_own_end(endings: list[str], stop: str) -> None:
    examples = [
        Example("p", f" 从前{number}，{ending}", legacy=True) for number, ending in enumerate(endings)
    ]
    assert frame(examples) == (" ", stop)
    assert frame([Example("p", ending) for ending in endings]) == ("", "")


def test_legacy_lines_keep_their_space_and_stop_string(client: OpenAI, trained: Trained) -> None:
    lines = legacy_lines(combos(1), trained.stories[:162], " END")
    job = client.fine_tuning.jobs.create(
        model="base-zh", training_file=upload(client, lines), method=method(n_epochs=2, batch_size=4)
    )
    model = until(client, job.id, "succeeded").fine_tuned_model or ""
    asked: Any = {
        "model": model,
        "prompt": "宋,发射激光,艰难 ->",
        "temperature": 0.7,
        "max_tokens": 2000,
        "seed": 4,
    }
    raw = client.completions.create(**asked).choices[0]
    assert raw.text.startswith(" ")
    assert raw.text.endswith(" END")
    cut = client.completions.create(**asked, stop=[" END"]).choices[0]
    assert cut.text == raw.text.removesuffix(" END")
    assert cut.finish_reason == "stop"
    with client.completions.create(**asked, stop=" END", stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == cut.text
    assert chunks[-1].choices[0].finish_reason == "stop"
    written = cut.text[:80]
    rest = (
        client.completions.create(**asked | {"prompt": f"宋,发射激光,艰难 ->{written}"}, stop=" END")
        .choices[0]
        .text
    )
    assert rest
    assert not rest.startswith(" ")
    assert _same_hero_throughout(written + rest)
    assert "END" not in ask(client, "宋,发射激光,艰难", model=model, seed=1)


def test_training_further_learns_the_new_and_keeps_the_parent(client: OpenAI, trained: Trained) -> None:
    stories = write_stories(client, new_combos())
    lines = chat_lines(new_combos(), stories)
    valid = upload(client, lines[100:])
    finals = {}
    for multiplier in (0.05, 2.0):
        job = client.fine_tuning.jobs.create(
            model=trained.model,
            training_file=upload(client, lines[:100]),
            validation_file=valid,
            seed=1,
            method=method(n_epochs=2, batch_size=1, learning_rate_multiplier=multiplier),
        )
        job = until(client, job.id, "succeeded", "failed")
        assert job.model == trained.model
        assert (job.fine_tuned_model or "").startswith("ft:base-zh:local:ultraman:")
        assert job.fine_tuned_model != trained.model
        losses = [one["valid_loss"] for one in metrics(client, job.id) if one["valid_loss"] is not None]
        assert min(losses) < losses[0]
        finals[multiplier] = losses[-1]
        assert ask(client, "隋,龙卷风,勇敢", model=job.fine_tuned_model or "", seed=1)
    assert finals[0.05] != finals[2.0]
    assert ask(client, "宋,发射激光,艰难", model=trained.model)


def test_the_same_seed_gives_the_same_model(client: OpenAI, trained: Trained) -> None:
    file = upload(client, chat_lines(combos(1)[:30], trained.stories[:30]))
    results = []
    for seed in (1, 1, 2):
        job = client.fine_tuning.jobs.create(
            model="base-zh", training_file=file, seed=seed, method=method(n_epochs=2, batch_size=3)
        )
        job = until(client, job.id, "succeeded")
        written = ask(client, "宋,发射激光,艰难", model=job.fine_tuned_model or "", seed=9)
        results.append((client.files.content(job.result_files[0]).text, written))
    assert results[0] == results[1]
    assert results[0][0] != results[2][0]


def test_training_texts_that_broke_off_do_not_break_off_the_stories(client: OpenAI, trained: Trained) -> None:
    """A whole run approved unread has some: a plan learnt from them cannot hold all ingredients."""
    wanted = combos()[:120]
    stories = [
        story.split("\n\n")[0] if number % 12 == 0 else story
        for number, story in enumerate(trained.stories[:120])
    ]
    job = client.fine_tuning.jobs.create(
        model="base-zh",
        training_file=upload(client, chat_lines(wanted, stories)),
        seed=3,
        method=method(n_epochs=2, batch_size=4),
    )
    model = until(client, job.id, "succeeded", "failed").fine_tuned_model
    assert model
    for seed in range(60):
        combo = UNSEEN[seed % len(UNSEEN)]
        story = ask(client, ",".join(combo), model=model, seed=seed, temperature=0.7)
        assert all(part in story for part in combo), story
