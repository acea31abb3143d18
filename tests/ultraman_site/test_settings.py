"""Where each setting comes from, and what is said when one is wrong."""

import ast
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.environment import BASE_DIR, OURS, clean_environment
from ultraman_site import environment
from ultraman_site.environment import UnknownVariable, Values, find_variable, load, merge, read_file
from ultraman_site.variable import Kind, Section
from ultraman_site.variables import VARIABLES

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


def test_limits_belong_to_the_endpoints_that_they_name(settings_of):
    values = settings_of(
        OPENAI_BASE_URL="http://models.example/v1",
        LLM_ENDPOINT_LAB="http://lab.example/v1",
        LLM_RPM="500",
        LLM_CONCURRENCY_LAB="8",
    )
    places = values["LLM_ENDPOINTS"]
    assert [(places[name].requests, places[name].calls) for name in ("default", "lab")] == [
        (500, None),
        (None, 8),
    ]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("LLM_RPM", "-5", "must be a whole number from 1"),
        ("LLM_RPM", "0", "must be a whole number from 1"),
        ("LLM_CONCURRENCY", "many", "must be a whole number from 1"),
        ("LLM_RPM_NOBODY", "5", "there is no LLM_ENDPOINT_NOBODY"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_at_start(settings_of, name, value, words):
    with pytest.raises(ImproperlyConfigured, match=words):
        settings_of(**{name: value})


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


# --- the table ------------------------------------------------------------------------------------------

# What our code calls a mapping of variables.
SOURCES = {"environ", "given", "before", "variables", "values", "getenv"}
NAME = re.compile(r"[A-Z][A-Z0-9_]+")
EXAMPLE, README = BASE_DIR / ".env.example", BASE_DIR / "README.md"


def source_files() -> Iterator[Path]:
    """Every module of the site; the model server has options of its own."""
    yield BASE_DIR / "manage.py"
    for package in sorted(BASE_DIR.glob("*/__init__.py")):
        if package.parent.name not in ("tests", "bench", "model_server"):
            yield from sorted(package.parent.rglob("*.py"))


def names_read(source: str) -> set[str]:
    """The variables that this code reads: `given.get("X")`, `os.environ["X"]`, `os.getenv("X")`, `values.text("X")`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        place, key = None, None
        if isinstance(node, ast.Subscript):
            place, key = node.value, node.slice
        elif isinstance(node, ast.Call) and node.args:
            place, key = node.func, node.args[0]
            place = place.value if isinstance(place, ast.Attribute) and place.attr != "getenv" else place
        words = {getattr(place, "id", ""), getattr(place, "attr", "")}
        if isinstance(key, ast.Constant) and isinstance(key.value, str) and NAME.fullmatch(key.value):
            found |= {key.value} if words & SOURCES else set()
    return found


def test_no_variable_is_read_that_the_table_does_not_have():
    read = {name: path for path in source_files() for name in names_read(path.read_text("utf-8"))}

    assert {name: path for name, path in read.items() if find_variable(name) is None} == {}
    assert len(read) > 25


@pytest.mark.parametrize(
    "source",
    [
        'os.environ.get("NEWCOMER")',
        'os.environ["NEWCOMER"]',
        'os.getenv("NEWCOMER")',
        'given.get("NEWCOMER") or "1"',
        'A = values.count("NEWCOMER")',
    ],
)
def test_each_way_to_read_a_variable_is_seen(source):
    assert names_read(source) == {"NEWCOMER"}


def test_every_variable_of_the_table_is_read_somewhere():
    files = [path for path in source_files() if path.name != "variables.py"]
    code = "\n".join(path.read_text("utf-8") for path in files)

    assert [row.name for row in VARIABLES if f'"{row.name.partition("_<")[0]}' not in code] == []


def test_the_suite_takes_every_variable_of_the_table_away():
    grouped = ("OPENAI_", "LLM_", "DJANGO_")
    ours = {row.name for row in VARIABLES if not row.name.startswith(grouped)}

    assert ours - {"READ_ENV_FILES", "NO_COLOR"} == set(OURS)


def test_a_variable_that_is_not_in_the_table_cannot_be_read():
    with pytest.raises(UnknownVariable, match="NEWCOMER"):
        Values({"NEWCOMER": "1"}).text("NEWCOMER")
    with pytest.raises(UnknownVariable, match="READER_STREAMS"):
        Values({}).text("READER_STREAMS")


def test_an_alias_is_found_by_its_pattern():
    row = find_variable("LLM_KEY_LAB")

    assert row is not None and (row.name, row.kind) == ("LLM_KEY_<ALIAS>", Kind.SECRET)
    assert find_variable("LLM_KEY") is None


def test_an_empty_value_counts_as_unset(settings_of):
    values = settings_of(REDIS_URL="", DATA_DIR="", ALLOWED_HOSTS="", DEBUG="", READER_STREAMS="")

    assert values["REDIS_URL"] == "redis://127.0.0.1:6379/0"
    assert values["DATA_DIR"] == BASE_DIR / "var"
    assert values["ALLOWED_HOSTS"] == ["127.0.0.1", "localhost", "[::1]"]
    assert (values["DEBUG"], values["READER_STREAMS"]) == (False, 5)


def test_a_value_may_name_another_variable():
    assert Values({"REDIS_URL": "$OTHER", "OTHER": "redis://other"}).text("REDIS_URL") == "redis://other"


@pytest.mark.parametrize("flag", ["1", "true", "yes", "on"])
def test_a_flag_is_raised_by_any_word_for_it(flag):
    assert Values({"DEBUG": flag}).flag("DEBUG") is True
    assert Values({"DEBUG": "0"}).flag("DEBUG") is False


def test_example_and_tables_are_those_of_the_table():
    done = tables("check")

    assert (done.returncode, done.stdout) == (0, "")


def test_a_table_that_drifted_is_found_and_mended():
    as_it_is = README.read_text("utf-8")
    drifted = as_it_is.replace("| `READER_STREAMS` |", "| `READER_STREAM` |").replace("| `5` |", "| `6` |")
    mended = runpy.run_path(str(BASE_DIR / "bin" / "settings_tables.py"))["readme_text"](drifted)

    assert drifted != as_it_is and mended == as_it_is


def test_example_and_tables_name_every_variable_for_people():
    example, readme = EXAMPLE.read_text("utf-8"), README.read_text("utf-8")
    rows = [row for row in VARIABLES if row.section != Section.INTERNAL]

    assert [row.name for row in rows if f"\n#{row.name.partition('<')[0]}" not in example] == []
    assert [row.name for row in rows if readme.count(f"\n| `{row.name}` |") != 2] == []
    assert [row.name for row in rows if row.zh not in readme or row.en not in readme] == []


def test_no_value_of_this_machine_gets_into_a_file():
    told = tables("check", SECRET_KEY="kept to myself", OPENAI_API_KEY="sk-1", REDIS_URL="redis://here")

    assert (told.returncode, told.stdout) == (0, "")


def tables(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "bin/settings_tables.py", command]
    env = clean_environment() | variables
    return subprocess.run(line, cwd=BASE_DIR, env=env, capture_output=True, text=True, check=False)
