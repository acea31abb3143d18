"""Writing: batches, adapters side by side, stop strings, limits, seeds, and what is refused."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI, RateLimitError
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.model_server.conftest import Server
from tests.servers import wait_until

from .conftest import Tuned, ask
from .tiny import combos, story

COMBO = combos(1)[0]
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
HOT: dict[str, Any] = {"temperature": 1.0, "max_tokens": 60}


def asked(combo: str) -> list[Any]:
    return [{"role": "user", "content": combo}]


def test_greedy_writing_is_that_of_generate(client: OpenAI, bases: dict[str, Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(bases["tiny"])
    tokenizer = AutoTokenizer.from_pretrained(bases["tiny"])
    for combo in combos(4):
        text = tokenizer.apply_chat_template(asked(combo), add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        written = model.generate(ids, do_sample=False, max_new_tokens=40)[0, ids.shape[1] :]
        expected = tokenizer.decode(written, skip_special_tokens=True)
        assert ask(client, "tiny", combo, max_tokens=40) == expected.rstrip("\ufffd")


def test_adapters_written_at_once_do_not_mix(client: OpenAI, first: Tuned, second: Tuned) -> None:
    alone = ask(client, "tiny", COMBO, max_tokens=80)
    orders = [(model, combo) for combo in combos(12) for model in (first.model, "tiny", second.model)]
    with ThreadPoolExecutor(len(orders)) as pool:
        texts = list(pool.map(lambda order: ask(client, order[0], order[1], max_tokens=80), orders))
    for (model, combo), text in zip(orders, texts, strict=True):
        if model == first.model:
            assert text == story(combo)
        elif model == second.model:
            assert text == story(combo, tail="大家都笑了。")
    assert texts[1] == alone


def test_two_bases_take_turns(client: OpenAI, first: Tuned) -> None:
    before = [ask(client, "plain", combo, max_tokens=20) for combo in combos(3)]
    orders = [("plain", combo) for combo in combos(3)] + [(first.model, combo) for combo in combos(3)]
    with ThreadPoolExecutor(6) as pool:
        texts = list(pool.map(lambda order: ask(client, order[0], order[1], max_tokens=60), orders))
    assert texts[3:] == [story(combo) for combo in combos(3)]
    assert [text[:5] for text in texts[:3]] == [text[:5] for text in before]


def test_a_stream_is_the_same_text_in_pieces(client: OpenAI, first: Tuned) -> None:
    stream = client.chat.completions.create(
        model=first.model,
        messages=asked(COMBO),
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == story(COMBO)
    assert sum(bool(piece) for piece in pieces) > 5
    assert "\ufffd" not in "".join(pieces)
    assert chunks[-2].choices[0].finish_reason == "stop"
    usage = chunks[-1].usage
    assert usage
    answer = client.chat.completions.create(model=first.model, messages=asked(COMBO), temperature=0)
    assert answer.usage == usage
    assert usage.prompt_tokens > 20
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_stop_strings_and_limits_end_a_text(client: OpenAI, first: Tuned) -> None:
    order: dict[str, Any] = {"model": first.model, "messages": asked(COMBO), "temperature": 0}
    stopped = client.chat.completions.create(**order, stop=["战斗", "不会来"])
    assert stopped.choices[0].message.content == story(COMBO).partition("战斗")[0]
    assert stopped.choices[0].finish_reason == "stop"
    cut = client.chat.completions.create(**order, max_tokens=7)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage
    assert cut.usage.completion_tokens == 7
    assert story(COMBO).startswith(cut.choices[0].message.content or "-")


def test_seeds_repeat_a_text_and_heat_varies_it(client: OpenAI) -> None:
    texts = [ask(client, "tiny", COMBO, seed=seed, **HOT) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert ask(client, "tiny", COMBO, **HOT | {"top_p": 0.0}) == ask(client, "tiny", COMBO, max_tokens=60)
    assert ask(client, "tiny", COMBO, **HOT) != ask(client, "tiny", COMBO, **HOT)


def test_a_story_is_gone_on_with(client: OpenAI, first: Tuned) -> None:
    text = story(COMBO)
    for written in (text[:9], text[:20]):
        messages = [*asked(COMBO), {"role": "assistant", "content": written}]
        for turns in (messages, [*messages, {"role": "user", "content": "接着写"}]):
            answer = client.chat.completions.create(model=first.model, messages=turns, temperature=0)
            assert (answer.choices[0].message.content or "").endswith(text[-6:])


def test_the_legacy_endpoint_completes_a_bare_prompt(client: OpenAI, bases: dict[str, Path]) -> None:
    answer = client.completions.create(model="tiny", prompt="唐朝的", temperature=0, max_tokens=12)
    tokenizer = AutoTokenizer.from_pretrained(bases["tiny"])
    ids = tokenizer("唐朝的", return_tensors="pt").input_ids
    written = AutoModelForCausalLM.from_pretrained(bases["tiny"]).generate(
        ids, do_sample=False, max_new_tokens=12
    )
    expected = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    assert answer.choices[0].text == expected.rstrip("\ufffd")


def test_a_prompt_beyond_the_context_is_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        ask(client, "tiny", "奥" * 600)
    assert caught.value.code == "context_length_exceeded"


def test_too_many_requests_are_429_and_leaving_makes_room(start: Callable[..., Server]) -> None:
    client = start("--rows", "1", "--max-requests", "2").client
    order: dict[str, Any] = {"model": "tiny", "messages": asked(COMBO), "temperature": 1.5, "stream": True}
    streams = [client.chat.completions.create(**order, logit_bias={}) for _ in range(2)]
    next(iter(streams[0]))
    with pytest.raises(RateLimitError) as caught:
        for _ in range(20):  # a random model may end by itself: fill up again
            streams.append(client.chat.completions.create(**order))
    assert caught.value.response.headers["retry-after"] == "1"
    for stream in streams:
        stream.close()

    def has_room() -> bool:
        try:
            assert ask(client, "tiny", COMBO, max_tokens=3)
        except RateLimitError:
            return False
        return True

    wait_until(has_room, seconds=10, every=0.1, what="the streams that were left no longer write")


def test_a_deleted_model_is_gone_and_bases_stay(client: OpenAI, server: Server, second: Tuned) -> None:
    name = f"{second.model}:ckpt-step-66"
    assert ask(client, name, COMBO, max_tokens=3)
    folder = server.data / "models" / second.job.id / "step-66"
    assert folder.is_dir()
    assert client.models.delete(name).deleted
    assert not folder.exists()
    with pytest.raises(NotFoundError):
        ask(client, name, COMBO)
    with pytest.raises(APIStatusError, match="cannot be deleted"):
        client.models.delete("tiny")


def test_an_adapter_without_its_base_says_what_is_missing(
    client: OpenAI, server: Server, second: Tuned, tmp_path: Path
) -> None:
    from tests.model_server.conftest import start_server

    other = start_server(server.data)
    try:
        with pytest.raises(BadRequestError, match="--base-model tiny=PATH"):
            ask(other.client, second.model, COMBO)
    finally:
        other.stop()


def test_an_adapter_does_what_peft_does(bases: dict[str, Path], server: Server, second: Tuned) -> None:
    from peft import PeftModel

    from model_server.engines.lora.adapters import AdapterCache

    folder = server.data / "models" / second.job.id / "step-72"
    ids = torch.arange(20)[None]
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases["tiny"]), folder)
    model = AutoModelForCausalLM.from_pretrained(bases["tiny"])
    adapters = AdapterCache(model)
    adapters.activate([None, folder])
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(bases["tiny"])(ids).logits
        both = model(ids.repeat(2, 1)).logits
        torch.testing.assert_close(both[:1], base, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(both[1:], theirs(ids).logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(both[0], both[1], atol=0.1)
