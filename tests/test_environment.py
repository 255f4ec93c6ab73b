"""Settings are read from the environment by their types; a bad one is said in a sentence that names it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aigov.environment import Environment, SettingError, kept_text
from aigov.processes import SOURCE_FOLDER


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment in which none of the names that the tests use is set."""
    for name in ("NAME", "NAME_FILE", *_provider_variables()):
        monkeypatch.delenv(name, raising=False)
    return Environment(Path(os.devnull))


def _provider_variables() -> list[str]:
    return [
        f"{name}_{what}" for name in ("OPENAI", "ANTHROPIC") for what in ("API_KEY", "BASE_URL", "ADMIN_KEY")
    ]


def test_unset_and_empty_give_the_default(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    for set_it in (lambda: None, lambda: monkeypatch.setenv("NAME", "")):
        set_it()
        assert environment.text("NAME", default="a") == "a"
        assert environment.bool("NAME", default=True) is True
        assert environment.integer("NAME", default=5, low=0, high=9) == 5
        assert environment.words("NAME", default=["a", "b"]) == ["a", "b"]


def test_values_have_their_types(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "1")
    assert environment.text("NAME", default="a") == "1"
    assert environment.bool("NAME", default=False) is True
    assert environment.integer("NAME", default=5, low=0, high=9) == 1
    monkeypatch.setenv("NAME", "a, b,,c ")
    assert environment.words("NAME", default=[]) == ["a", "b", "c"]
    monkeypatch.setenv("NAME", "No")
    assert environment.bool("NAME", default=True) is False


@pytest.mark.parametrize("value", ["maybe", "2", "tru"])
def test_a_bad_switch_is_refused(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("NAME", value)
    with pytest.raises(SettingError, match="NAME must be true or false"):
        environment.bool("NAME", default=False)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("x", "NAME must be a whole number"),
        ("1.5", "NAME must be a whole"),
        ("10", "NAME must be from 0 to 9"),
    ],
)
def test_a_bad_number_is_refused(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, value: str, sentence: str
) -> None:
    monkeypatch.setenv("NAME", value)
    with pytest.raises(SettingError, match=sentence):
        environment.integer("NAME", default=5, low=0, high=9)


def test_a_value_is_read_from_the_file_that_name_file_names(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("$from a file\n")
    monkeypatch.setenv("NAME_FILE", str(tmp_path / "secret"))
    assert environment.text("NAME", default="") == "$from a file"
    monkeypatch.setenv("NAME_FILE", str(tmp_path / "nothing"))
    with pytest.raises(SettingError, match="NAME_FILE: .* cannot be read"):
        environment.text("NAME", default="")


def test_dotenv_fills_in_what_is_not_set(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NAME", "")  # so that monkeypatch restores it
    monkeypatch.delenv("NAME")
    (tmp_path / ".env").write_text("# a comment\nNAME='from the file'\n")
    assert Environment(tmp_path / ".env").text("NAME", default="") == "from the file"
    monkeypatch.setenv("NAME", "from outside")
    assert Environment(tmp_path / ".env").text("NAME", default="") == "from outside"


def test_a_secret_key_is_made_once_and_kept_for_its_owner(environment: Environment, tmp_path: Path) -> None:
    kept_in = tmp_path / "data" / "secret_key"
    key = environment.secret_key("NAME", kept_in=kept_in)
    assert len(key) >= 50
    assert environment.secret_key("NAME", kept_in=kept_in) == key
    assert stat.S_IMODE(kept_in.stat().st_mode) == 0o600
    assert environment.secret_key("NAME", kept_in=tmp_path / "other") != key


def test_of_two_that_keep_a_text_at_once_the_first_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text"
    monkeypatch.setattr(Path, "exists", lambda self, **more: False)  # neither has seen the other's file
    assert kept_text(path, new="first") == "first"
    assert kept_text(path, new="second") == "first"


def test_a_given_secret_key_is_taken_unless_it_is_short(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NAME", "k" * 32)
    assert environment.secret_key("NAME", kept_in=tmp_path / "key") == "k" * 32
    monkeypatch.setenv("NAME", "k" * 31)
    with pytest.raises(SettingError, match="NAME must have at least 32 characters"):
        environment.secret_key("NAME", kept_in=tmp_path / "key")


def test_a_secret_key_that_cannot_be_kept_is_an_error(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="NAME is not set, and none can be kept"):
        environment.secret_key("NAME", kept_in=tmp_path / "file" / "key")


def test_a_database_is_postgresql(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "postgresql://me:p%40ss@db:5433/aigov?sslmode=require")
    database = environment.database("NAME")
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["USER"], database["PASSWORD"]) == ("me", "p@ss")
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("db", 5433, "aigov")
    assert database["OPTIONS"] == {"sslmode": "require"}
    monkeypatch.setenv("NAME", "postgresql://postgres@/aigov?host=%2Ftmp%2Fa%20b")
    assert environment.database("NAME")["HOST"] == "/tmp/a b"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("", "NAME is not set"),
        ("sqlite:///db", "NAME must name a PostgreSQL database"),
        ("mysql://host/db", "NAME must name a PostgreSQL database"),
        ("postgresql://host:many/db", "NAME is no database URL"),
        ("postgresql://host/", "NAME must end with the name of a database"),
    ],
)
def test_any_other_database_is_refused(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, value: str, sentence: str
) -> None:
    monkeypatch.setenv("NAME", value)
    with pytest.raises(SettingError, match=sentence):
        environment.database("NAME")


def test_a_redis_url_suits_cache_and_celery(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAME", "rediss://:secret@host:6379/1")
    assert environment.redis_url("NAME") == "rediss://:secret@host:6379/1"
    for bad in ("unix:///tmp/socket", "host:6379", "redis://", "redis://host:port/0"):
        monkeypatch.setenv("NAME", bad)
        with pytest.raises(SettingError, match="NAME must be a URL such as redis://"):
            environment.redis_url("NAME")


def test_an_email_url_gives_djangos_settings(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment.email("NAME", default="consolemail://")["EMAIL_BACKEND"].endswith(
        "console.EmailBackend"
    )
    monkeypatch.setenv("NAME", "smtp+tls://me:secret@host:587")
    settings = environment.email("NAME", default="consolemail://")
    assert (settings["EMAIL_HOST"], settings["EMAIL_PORT"], settings["EMAIL_USE_TLS"]) == ("host", 587, True)
    monkeypatch.setenv("NAME", "pigeon://host")
    with pytest.raises(SettingError, match="NAME must be a URL such as smtp"):
        environment.email("NAME", default="consolemail://")


def test_a_provider_takes_part_if_its_key_is_set(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment.providers() == {}
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    assert environment.providers() == {"anthropic": {"api_key": "key", "base_url": None}}
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    assert environment.providers() == {"anthropic": {"api_key": "key", "base_url": "http://127.0.0.1:9"}}


def test_a_bill_can_be_read_if_its_admin_key_is_set(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment.billing() == {}
    monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", "sk-ant-admin")
    assert environment.billing() == {"anthropic": ("sk-ant-admin", None)}
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    assert environment.billing() == {"anthropic": ("sk-ant-admin", "http://127.0.0.1:9")}


def test_a_base_url_needs_a_key_and_a_host(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "ftp://host")
    with pytest.raises(SettingError, match="OPENAI_BASE_URL is set, but OPENAI_API_KEY is not"):
        environment.providers()
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    with pytest.raises(SettingError, match="OPENAI_BASE_URL must be a URL"):
        environment.providers()


def test_a_bad_value_ends_a_command_with_one_sentence() -> None:
    command = [sys.executable, "manage.py", "check"]
    done = subprocess.run(
        command,
        cwd=SOURCE_FOLDER,
        env=os.environ | {"PORT": "80x"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == "PORT must be a whole number, not “80x”.\n"
