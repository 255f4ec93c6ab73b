"""What the operator says, read once from the environment and checked.

Settings come from environment variables; an `.env` file fills in those that are not set, and
`NAME_FILE` names a file that holds the value of `NAME` (for secrets that a container mounts). An empty
variable counts as unset. Whatever is wrong stops the start with one sentence that names the variable.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

PROVIDER_NAMES = ("openai", "anthropic")
SECRET_KEY_CHARACTERS_MIN = 32

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off"}
POSTGRESQL = "django.db.backends.postgresql"


class SettingError(SystemExit):
    """A variable is missing or wrong. Uncaught, it ends the process with its sentence and status 1."""


class Environment:
    """The environment's variables by their types.

    Args:
        dotenv: a file of `NAME=value` lines; it need not exist, and never overrides what is set.
    """

    def __init__(self, dotenv: Path) -> None:
        environ.Env.read_env(dotenv)

    def given(self, name: str) -> str | None:
        """The value of `name`, or of the file that `name`_FILE names; None where it is unset or empty."""
        if path := os.environ.get(f"{name}_FILE"):
            try:
                return Path(path).read_text(encoding="utf-8").strip() or None
            except (OSError, UnicodeDecodeError) as error:
                raise SettingError(f"{name}_FILE: {path} cannot be read ({_reason(error)}).") from error
        return os.environ.get(name) or None

    def text(self, name: str, *, default: str) -> str:
        return self.given(name) or default

    def bool(self, name: str, *, default: bool) -> bool:
        value = (self.given(name) or str(default)).strip().lower()
        if value not in TRUE | FALSE:
            raise SettingError(f"{name} must be true or false, not “{value}”.")
        return value in TRUE

    def integer(self, name: str, *, default: int, low: int, high: int) -> int:
        value = self.given(name) or str(default)
        try:
            number = int(value)
        except ValueError as error:
            raise SettingError(f"{name} must be a whole number, not “{value}”.") from error
        if not low <= number <= high:
            raise SettingError(f"{name} must be from {low} to {high}, not {number}.")
        return number

    def words(self, name: str, *, default: Sequence[str]) -> list[str]:
        """A list that is separated by commas."""
        value = self.given(name)
        return [word.strip() for word in value.split(",") if word.strip()] if value else list(default)

    def secret_key(self, name: str, *, kept_in: Path) -> str:
        """The given key, or one that is generated at the first start and kept in the file `kept_in`."""
        key = self.given(name) or _kept_secret(name, kept_in)
        if len(key) < SECRET_KEY_CHARACTERS_MIN:
            raise SettingError(f"{name} must have at least {SECRET_KEY_CHARACTERS_MIN} characters.")
        return key

    def database(self, name: str) -> dict[str, Any]:
        """Django's entry for the PostgreSQL database whose URL is given; a socket's folder is its HOST."""
        url = self._needed(name, "postgresql://user:password@host/database")
        try:
            database: dict[str, Any] = environ.Env.db_url_config(url)
        except (ValueError, ImproperlyConfigured) as error:
            raise SettingError(f"{name} is no database URL.") from error
        if database.get("ENGINE") != POSTGRESQL:
            raise SettingError(f"{name} must name a PostgreSQL database (postgresql://…).")
        if not database["NAME"]:
            raise SettingError(f"{name} must end with the name of a database (postgresql://…/aigov).")
        options = database.setdefault("OPTIONS", {})
        database["HOST"] = options.pop("host", database["HOST"])
        return database

    def redis_url(self, name: str) -> str:
        """A URL that both the cache and Celery understand."""
        url = self._needed(name, "redis://host:6379/0")
        if not _is_url(url, {"redis", "rediss"}):
            raise SettingError(f"{name} must be a URL such as redis://host:6379/0.")
        return url

    def url(self, name: str, *, default: str) -> str:
        """A web address without a slash at its end."""
        url = self.given(name) or default
        if not _is_url(url, {"http", "https"}) and url != default:
            raise SettingError(f"{name} must be a URL such as https://aigov.example.com.")
        return url.rstrip("/")

    def email(self, name: str, *, default: str) -> dict[str, Any]:
        """Django's EMAIL_… settings for a URL such as smtp+tls://user:password@host:587."""
        try:
            settings: dict[str, Any] = environ.Env.email_url_config(self.given(name) or default)
        except (ValueError, ImproperlyConfigured) as error:
            raise SettingError(f"{name} must be a URL such as smtp+tls://user:password@host:587.") from error
        return settings

    def providers(self) -> dict[str, dict[str, str | None]]:
        """The providers whose API key is set: `api_key`, and `base_url` (None: the provider's own)."""
        found = {provider: self._provider(provider.upper()) for provider in PROVIDER_NAMES}
        return {provider: settings for provider, settings in found.items() if settings}

    def billing(self) -> dict[str, tuple[str, str | None]]:
        """The admin key of each provider whose bills can be read, and its base URL (None: its own)."""
        keys = {provider: self.given(f"{provider.upper()}_ADMIN_KEY") for provider in PROVIDER_NAMES}
        return {
            provider: (key, self.given(f"{provider.upper()}_BASE_URL"))
            for provider, key in keys.items()
            if key
        }

    def _provider(self, prefix: str) -> dict[str, str | None] | None:
        api_key, base_url = self.given(f"{prefix}_API_KEY"), self.given(f"{prefix}_BASE_URL")
        if base_url and not api_key:
            raise SettingError(f"{prefix}_BASE_URL is set, but {prefix}_API_KEY is not.")
        if base_url and not _is_url(base_url, {"http", "https"}):
            raise SettingError(f"{prefix}_BASE_URL must be a URL such as https://host/v1.")
        return {"api_key": api_key, "base_url": base_url} if api_key else None

    def _needed(self, name: str, example: str) -> str:
        if value := self.given(name):
            return value
        raise SettingError(f"{name} is not set. Give it, such as {example}, or start through manage.py.")


def _is_url(value: str, schemes: set[str]) -> bool:
    try:
        url = urlsplit(value)
        return url.scheme in schemes and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def _kept_secret(name: str, kept_in: Path) -> str:
    try:
        return kept_text(kept_in, new=secrets.token_urlsafe(50))
    except OSError as error:
        message = f"{name} is not set, and none can be kept in {kept_in} ({_reason(error)})."
        raise SettingError(message) from error


def kept_text(path: Path, *, new: str) -> str:
    """What the file `path` holds; `new` where there is none yet, which is then kept for the owner alone.

    The file appears whole or not at all, so that of two processes which start at once both get one text.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(new)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # the other process was first
        finally:
            draft.unlink()
    return path.read_text(encoding="utf-8").strip()


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or "unknown reason").lower() if isinstance(error, OSError) else "not UTF-8 text"
