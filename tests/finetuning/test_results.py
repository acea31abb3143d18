"""Results files in every shape that providers send."""

import base64
import json
from pathlib import Path

import pytest

from finetuning.errors import UnreadableResults
from finetuning.results import Figures, parse_results, read_figures, read_total_steps

SAMPLES = Path(__file__).parent / "samples"


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def wrapped(content: bytes) -> bytes:
    """Base64 in lines, as some servers send it."""
    return base64.encodebytes(content)


@pytest.mark.parametrize("encode", [bytes, base64.b64encode, wrapped, lambda c: b"\xef\xbb\xbf" + c])
def test_todays_columns(encode) -> None:
    steps = parse_results(encode(sample("step_metrics_today.csv")))
    assert [one.step for one in steps] == [1, 2, 10, 1857]
    assert steps[0] == Figures(step=1, training_loss=0.88055, training_token_accuracy=0.75)
    assert steps[3] == Figures(
        step=1857,
        training_loss=0.14050,
        training_token_accuracy=0.95567,
        validation_loss=0.29874,
        validation_token_accuracy=0.90120,
    )


@pytest.mark.parametrize("encode", [bytes, base64.b64encode])
def test_the_notebooks_columns(encode) -> None:
    steps = parse_results(encode(sample("results_2023.csv")))
    assert steps[0] == Figures(1, 625, 1, 0.8805545861742778, 0.0, 0.75)
    assert steps[-1] == Figures(1857, 1229945, 1857, 0.14050147435694596, 0.0, 0.9556650246305419)


def test_blank_and_minus_one_are_missing() -> None:
    text = b"step,training_loss,training_token_accuracy,validation_loss\n1,0.5,-1,\n2,-1.0,0.7,nan\n3,,,\n"
    assert parse_results(text) == [
        Figures(step=1, training_loss=0.5),
        Figures(step=2, training_token_accuracy=0.7),
    ]


def test_a_step_twice_is_one_step() -> None:
    text = b"step,train_loss,valid_loss\n2,0.5,\n1,0.9,\n2,,0.6\n2,0.4,\n"
    assert parse_results(text) == [
        Figures(step=1, training_loss=0.9),
        Figures(step=2, training_loss=0.4, validation_loss=0.6),
    ]


LINES = b"""{"step": 2, "train_loss": 0.5, "valid_loss": 0.6}
{"step": 1, "loss": 0.9, "epoch": 0.1}
{"step": 2, "metrics": {"step": 2, "train_mean_token_accuracy": 0.8}}

{"step_number": 3, "metrics": {"train_loss": 0.4}}
"nothing"
{"step": 4, "train_lo"""
IN_LINES = [
    Figures(step=1, training_loss=0.9),
    Figures(step=2, training_loss=0.5, validation_loss=0.6, training_token_accuracy=0.8),
    Figures(step=3, training_loss=0.4),
]


@pytest.mark.parametrize("encode", [bytes, base64.b64encode, wrapped, lambda c: b"\xef\xbb\xbf" + c])
def test_lines_of_json(encode) -> None:
    assert parse_results(encode(LINES)) == IN_LINES


def test_one_list_of_json() -> None:
    whole = [json.loads(line) for line in LINES.splitlines() if line.endswith(b"}")]
    assert parse_results(json.dumps(whole, indent=1).encode()) == IN_LINES


@pytest.mark.parametrize(
    "content",
    [
        b'{"error": {"message": "no such file"}}',
        b"[]",
        b"{}",
        b"[1, 2]",
        b'{"step": null}',
        b"[" * 10_000,
        b"",
        b"<html>busy</html>",
        b"loss\n1\n",
        b"\xff\xfe\x00",
        b"step,train_loss\n1,\x00\n" + b"a" * 200_000,
    ],
)
def test_anything_else_is_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableResults, match="结果文件读不懂"):
        parse_results(content)


def test_metrics_of_an_event() -> None:
    data = {
        "step": 10,
        "total_steps": 88,
        "train_loss": 0.42,
        "train_mean_token_accuracy": 0.9,
        "valid_loss": None,
        "full_valid_loss": 0.5,
    }
    assert read_figures(data) == Figures(
        step=10, training_loss=0.42, training_token_accuracy=0.9, validation_loss=0.5
    )
    assert read_total_steps(data) == 88


@pytest.mark.parametrize(
    "data", [{}, {"step": "x"}, {"step": -3, "train_loss": 1}, {"step": 4}, {"step": 10**30, "train_loss": 1}]
)
def test_events_without_figures(data: dict) -> None:
    assert read_figures(data) is None
    assert read_total_steps(data) == 0
