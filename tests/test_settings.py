"""Where each setting comes from, and what is said when one is wrong."""

import os
import runpy
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.environment import BASE_DIR, OURS, clean_environment
from ultraman_site import environment
from ultraman_site.environment import load, merge, read_file

PRODUCTION = {"SECRET_KEY": "x" * 60, "READ_ENV_FILES": "0", "ALLOWED_HOSTS": "stories.example"}


@pytest.fixture
def settings_of(monkeypatch):
    """`settings_of(NAME="value")`: the settings module as a fresh process would read it."""

    def read(**variables):
        for name in [name for name in os.environ if name in OURS or name.startswith(("OPENAI_", "LLM_"))]:
            monkeypatch.delenv(name)
        for name, value in ({"SECRET_KEY": "x", "READ_ENV_FILES": "0"} | variables).items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(BASE_DIR / "ultraman_site" / "settings.py"))

    return read


@pytest.fixture
def files(monkeypatch, tmp_path):
    """`files(dot_env, run_env)` writes both files into an empty copy's folder, and lets them be read."""
    monkeypatch.setattr(environment, "BASE_DIR", tmp_path)
    for name in [name for name in os.environ if name in OURS or name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("READ_ENV_FILES", "1")

    def write(dot_env: str = "", run_env: str = "", data_dir: str = "var") -> Path:
        (tmp_path / ".env").write_text(dot_env, "utf-8")
        (tmp_path / data_dir).mkdir()
        (tmp_path / data_dir / "run.env").write_text(run_env, "utf-8")
        return tmp_path

    return write


# --- precedence -----------------------------------------------------------------------------------------


def test_the_first_source_that_names_a_variable_wins():
    assert merge({"A": "1"}, {"A": "2", "B": "2"}, {"B": "3", "C": "3"}) == {"A": "1", "B": "2", "C": "3"}


def test_openai_variables_are_taken_from_one_source_as_a_group():
    merged = merge({"OPENAI_API_KEY": "sk-1"}, {"OPENAI_BASE_URL": "http://a", "OPENAI_MODEL": "m", "X": "1"})

    assert merged == {"OPENAI_API_KEY": "sk-1", "X": "1"}


def test_an_empty_openai_variable_is_as_good_as_none():
    merged = merge({"OPENAI_API_KEY": ""}, {"OPENAI_API_KEY": "sk-2", "OPENAI_MODEL": "m"})

    assert merged == {"OPENAI_API_KEY": "sk-2", "OPENAI_MODEL": "m"}


def test_the_environment_then_dot_env_then_run_env(files, monkeypatch):
    files("DEBUG=1\nREDIS_URL=redis://dot-env\n", "REDIS_URL=redis://run-env\nSECRET_KEY=kept\nDEBUG=0\n")
    monkeypatch.setenv("DEBUG", "from the environment")

    seen = load()

    assert (seen["DEBUG"], seen["REDIS_URL"], seen["SECRET_KEY"]) == (
        "from the environment",
        "redis://dot-env",
        "kept",
    )


def test_a_key_of_the_environment_never_meets_an_address_of_a_file(files, monkeypatch):
    files("OPENAI_BASE_URL=http://dot-env\n", "OPENAI_BASE_URL=http://run-env\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")

    assert "OPENAI_BASE_URL" not in load()


def test_data_dir_may_stand_in_dot_env_and_says_where_run_env_is(files):
    files("DATA_DIR=elsewhere\n", "SECRET_KEY=kept there\n", data_dir="elsewhere")

    assert load()["SECRET_KEY"] == "kept there"


def test_make_run_decides_without_the_run_env_of_last_time(files):
    files("DEBUG=1\n", "REDIS_URL=redis://of-last-time\n")

    seen = load(with_run_env=False)

    assert seen["DEBUG"] == "1" and "REDIS_URL" not in seen


def test_the_suite_reads_neither_file(files, monkeypatch):
    files("DEBUG=1\n", "SECRET_KEY=kept\n")
    monkeypatch.setenv("READ_ENV_FILES", "0")

    assert "DEBUG" not in load() and "SECRET_KEY" not in load()


def test_a_file_does_not_leak_into_the_environment(tmp_path):
    (tmp_path / "run.env").write_text("LEAKED=1\nQUOTED='a b # c'\n", "utf-8")

    assert read_file(tmp_path / "run.env") == {"LEAKED": "1", "QUOTED": "a b # c"}
    assert "LEAKED" not in os.environ


# --- values ---------------------------------------------------------------------------------------------


def test_with_nothing_set_the_site_runs_on_sqlite_with_the_local_model(settings_of, tmp_path):
    values = settings_of(DATA_DIR=str(tmp_path))

    assert values["DATABASES"]["default"]["NAME"] == str(tmp_path / "site.sqlite3")
    assert values["OPENAI_MODEL"] == values["FINE_TUNE_BASE_MODEL"] == "base-zh"
    assert values["LLM_ENDPOINTS"]["default"].base_url == "http://127.0.0.1:8100/v1"
    assert values["DAILY_SPEND_LIMIT_USD"] is None
    limits = ["READER_STORIES_PER_DAY", "READER_STREAMS", "ADDRESS_STORIES_PER_DAY", "ADDRESS_SOCKETS"]
    assert [values[name] for name in limits] == [50, 5, 200, 150]
    assert values["DEBUG"] is False


def test_what_is_set_is_read(settings_of):
    values = settings_of(
        OPENAI_API_KEY="sk-1",
        OPENAI_MODEL="gpt-4.1-mini",
        FINE_TUNE_BASE_MODEL="gpt-4.1",
        LLM_ENDPOINT_LAB="http://lab.example/v1",
        LLM_KEY_LAB="sk-2",
        DAILY_SPEND_LIMIT_USD="2.50",
        READER_STREAMS="3",
        DATABASE_URL="postgres://u:p@db.example:5433/stories",
    )

    assert (values["OPENAI_MODEL"], values["FINE_TUNE_BASE_MODEL"]) == ("gpt-4.1-mini", "gpt-4.1")
    assert {alias: place.key for alias, place in values["LLM_ENDPOINTS"].items()} == {
        "default": "sk-1",
        "lab": "sk-2",
    }
    assert values["DAILY_SPEND_LIMIT_USD"] == Decimal("2.50")
    assert values["READER_STREAMS"] == 3
    database = values["DATABASES"]["default"]
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("db.example", 5433, "stories")
    assert "pool" in database["OPTIONS"]


def test_the_model_to_train_defaults_to_the_model_that_writes(settings_of):
    values = settings_of(OPENAI_BASE_URL="http://models.example/v1", OPENAI_MODEL="qwen3")

    assert values["FINE_TUNE_BASE_MODEL"] == "qwen3"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("READER_STORIES_PER_DAY", "0"),
        ("READER_STREAMS", "-1"),
        ("ADDRESS_STORIES_PER_DAY", "many"),
        ("ADDRESS_SOCKETS", "1.5"),
        ("DAILY_SPEND_LIMIT_USD", "ten"),
        ("DAILY_SPEND_LIMIT_USD", "-1"),
        ("DAILY_SPEND_LIMIT_USD", "NaN"),
    ],
)
def test_a_bad_number_is_refused_by_name(settings_of, name, value):
    with pytest.raises(ImproperlyConfigured, match=f"^{name} must be .*, not '{value}'"):
        settings_of(**{name: value})


def test_without_a_secret_key_nothing_starts(settings_of):
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY is not set"):
        settings_of(SECRET_KEY="")


def test_an_openai_key_without_a_model_is_one_line_of_any_command(tmp_path):
    env = clean_environment() | PRODUCTION | {"DATA_DIR": str(tmp_path), "OPENAI_API_KEY": "sk-1"}
    command = [sys.executable, "manage.py", "migrate"]

    done = subprocess.run(command, cwd=BASE_DIR, env=env, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "OPENAI_MODEL is not" in done.stderr and "sk-1" not in done.stderr


# --- production and loopback ----------------------------------------------------------------------------


def test_behind_a_name_everything_is_https(settings_of):
    values = settings_of(**PRODUCTION)

    secure = ["SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_SSL_REDIRECT"]
    assert [values[name] for name in secure] == [True, True, True]
    assert values["SECURE_HSTS_SECONDS"] == 31_536_000
    assert values["CSRF_TRUSTED_ORIGINS"] == ["https://stories.example"]


def test_on_loopback_plain_http_works(settings_of):
    values = settings_of()

    assert [values["SESSION_COOKIE_SECURE"], values["SECURE_SSL_REDIRECT"]] == [False, False]
    assert values["SECURE_HSTS_SECONDS"] == 0


def test_the_policy_allows_no_inline_code(settings_of):
    directives = settings_of()["CONTENT_SECURITY_POLICY"]["DIRECTIVES"]

    assert directives["default-src"] == ["'self'"]
    assert not [value for values in directives.values() for value in values if "unsafe" in value]
