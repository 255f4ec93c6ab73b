"""The service itself, started as an operator starts it, for as long as a run needs it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2

SOURCE_FOLDER = Path(__file__).resolve().parent.parent.parent
START_WAIT_S = 240.0
STOP_WAIT_S = 150.0
COMMAND_WAIT_S = 120.0
ADDRESS = re.compile(r"aigov serves at (http://[^/]+)/")
#: The operator's own installation is left alone: a run has its own database, cache and keys.
NOT_THE_OPERATORS = (
    *("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "HOST", "EMAIL_URL"),
    *("REQUEST_DEADLINE_S", "HOLD_LIFETIME_S", "IN_FLIGHT_MAX"),
)
PROVIDERS = tuple(
    f"{provider}_{what}"
    for provider in ("OPENAI", "ANTHROPIC")
    for what in ("API_KEY", "BASE_URL", "ADMIN_KEY")
)


class NoService(Exception):
    """It does not start, or does not do what it is told."""


class Service:
    """A running service, and a key of an organization.

    Args:
        environment: of its commands.
    """

    def __init__(self, address: str, key: str, environment: Mapping[str, str]) -> None:
        self.address, self.key, self.environment = address, key, environment
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx2.Client(base_url=address, headers=headers, timeout=COMMAND_WAIT_S)

    def get(self, path: str) -> httpx2.Response:
        return self._client.get(path)

    def put(self, path: str, body: object) -> httpx2.Response:
        return self._client.put(path, json=body)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return _command(self.environment, *words)

    def close(self) -> None:
        self._client.close()


@contextmanager
def serving(
    folder: Path, *, organization: str, cap_eur: str, providers: Mapping[str, str]
) -> Iterator[Service]:
    """The service on the data in `folder`, with an organization whose cap is `cap_eur` a month.

    Args:
        providers: the variables that lead to the providers; with none, the sandbox stands in for them.

    Raises:
        NoService: it does not start.
    """
    environment = _environment(folder, providers)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "service.log"
    with open(log, "w", encoding="utf-8") as output:
        command = [sys.executable, "manage.py", "run"]
        process = subprocess.Popen(
            command,
            cwd=SOURCE_FOLDER,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        address = _address(process, log)
        service = Service(address, _key(environment, organization, cap_eur), environment)
        with closing(service):
            wait_until(
                lambda: service.get("/v1/models").status_code == 200, "The service does not let the key in."
            )
            yield service
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=STOP_WAIT_S)


def wait_until(happens: Callable[[], bool], otherwise: str) -> None:
    """Raises NoService with the sentence `otherwise`."""
    until = time.monotonic() + START_WAIT_S
    while not happens():
        if time.monotonic() > until:
            raise NoService(otherwise)
        time.sleep(0.1)


def _environment(folder: Path, providers: Mapping[str, str]) -> dict[str, str]:
    names = (*NOT_THE_OPERATORS, *PROVIDERS)
    unset = {name + suffix: "" for name in names for suffix in ("", "_FILE")}
    own = {"AIGOV_DATA_DIR": str(folder), "PORT": "0", "WEB_WORKERS": "1"}
    return {**os.environ, **unset, **own, **providers}


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    def said() -> re.Match[str] | None:
        return ADDRESS.search(log.read_text(encoding="utf-8"))

    wait_until(
        lambda: said() is not None or process.poll() is not None, f"The service does not start; see {log}."
    )
    found = said()
    if found is None:
        raise NoService(f"The service does not start: {log.read_text(encoding='utf-8').strip()}")
    return found[1]


def _key(environment: Mapping[str, str], organization: str, cap_eur: str) -> str:
    made = _command(environment, "create_organization", organization, "--cap-eur", cap_eur, "--json")
    if made.returncode != 0:
        raise NoService(made.stderr.strip())
    return str(json.loads(made.stdout)["api_key"])


def _command(environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=SOURCE_FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_WAIT_S,
    )
