"""Base models on the command line: what is refused before anything heavy is imported."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from model_server.__main__ import settings_from
from model_server.engines.lora.bases import PACKAGES, BadBase, base_of, read_bases


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if requirements-lora.txt were installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.usefixtures("installed")
def test_several_bases_are_read(folder: Path) -> None:
    bases = read_bases([f"one={folder}", f"org/two-2.5={folder}"])
    assert bases == {"one": folder, "org/two-2.5": folder}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["qwen"], "write NAME=PATH"),
        (["a:b=/x"], "no colon"),
        (["=/x"], "write NAME=PATH"),
        (["base-zh={0}"], "already a model of this name"),
        (["one={0}", "one={0}"], "already a model of this name"),
        (["one={0}/none"], "no config.json"),
    ],
)
def test_a_wrong_base_is_refused_in_words(folder: Path, given: list[str], sentence: str) -> None:
    with pytest.raises(BadBase, match=sentence):
        read_bases([one.format(folder) for one in given], reserved=["base-zh"])


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("missing", "put", "config", "sentence"),
    [
        ("model.safetensors", "pytorch_model.bin", {}, "pickled, which is never loaded"),
        ("model.safetensors", "", {}, "no .*safetensors file"),
        ("tokenizer.json", "", {}, "no tokenizer"),
        ("", "", {"auto_map": {"AutoModel": "code.py"}}, "code of its own"),
        ("", "", {"model_type": "mamba2"}, "recurrent layers"),
        ("", "", {"layer_types": ["linear_attention", "full_attention"]}, "recurrent layers"),
        ("", "", [], "not a JSON object"),
    ],
)
def test_a_folder_that_cannot_be_served_says_why(
    folder: Path, missing: str, put: str, config: Any, sentence: str
) -> None:
    if missing:
        (folder / missing).unlink()
    if put:
        (folder / put).touch()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadBase, match=sentence):
        read_bases([f"one={folder}"])


def test_without_the_packages_the_engine_says_how_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as caught:
        settings_from(["--base-model", f"one={folder}"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "pip install -r requirements-lora.txt" in said
    assert ", ".join(PACKAGES) in said
    assert settings_from([])[0].base_models == {}


def test_a_tuned_models_base_is_in_its_name() -> None:
    assert base_of("ft:org/two:local:x:12ab:ckpt-step-3") == "org/two"
    assert base_of("org/two") == "org/two"
