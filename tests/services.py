"""A pytest plugin: a real PostgreSQL, Valkey and provider sandbox, before Django reads its settings.

PostgreSQL and Valkey belong to a keeper process (`python -m tests.services FOLDER`), which stops them when
its standard input ends: so they go however the tests end, kill -9 included. The keeper takes the first
of the folders 0, 1, 2 … that no other run of the tests uses, so that two runs do not meet.

With xdist, each worker has a Valkey database and a sandbox of its own, for tests switch its faults on.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from aigov import embedded, processes
from aigov.environment import Environment

SOURCE_FOLDER = Path(__file__).resolve().parent.parent
RUNS_MAX = 16
ANSWER_WAIT_S = 30.0
END_WAIT_S = 60.0

#: The operator's variables; none of them reaches the tests, nor does what `.env` says of them.
OPERATORS = (
    *("SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "HOST", "PORT", "WEB_WORKERS", "EMAIL_URL", "REQUIRE_MFA"),
    *("DATABASE_URL", "REDIS_URL", "AIGOV_DATA_DIR", "REQUEST_DEADLINE_S", "HOLD_LIFETIME_S"),
    *("IN_FLIGHT_MAX", "PUBLIC_URL", "EMAIL_FROM", "OUTBOUND_TRUSTED_HOSTS"),
    *("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ADMIN_KEY"),
    *("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_ADMIN_KEY"),
)
UNSET = {name + suffix: "" for name in OPERATORS for suffix in ("", "_FILE")}

_started: list[subprocess.Popen[str]] = []


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests() -> Generator[None]:
    """A wrapper comes before pytest-django, which reads the settings here."""
    port = embedded.free_port()
    sandbox = _start(processes.bound(embedded.sandbox_command(port)))
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        shared = os.environ["REDIS_URL"].rpartition("/")[0]
        os.environ["REDIS_URL"] = f"{shared}/{int(worker.removeprefix('gw')) + 1}"
    else:
        os.environ.update(UNSET | {"SECRET_KEY": "known to everybody who reads the tests"})
        os.environ.update(_kept_services())
    os.environ.update(_answering(sandbox, f"http://127.0.0.1:{port}"))
    try:
        return (yield)
    except BaseException:
        pytest_unconfigure()  # which nobody calls where the settings cannot be loaded
        raise


def pytest_unconfigure() -> None:
    for process in reversed(_started):
        assert process.stdin and process.stdout
        process.stdin.close()
        process.terminate()
        process.wait(timeout=END_WAIT_S)
        process.stdout.close()
    _started.clear()


def _kept_services() -> Mapping[str, str]:
    base = os.environ.get("AIGOV_TEST_DATA_DIR") or str(SOURCE_FOLDER / ".data" / "test")
    keeper = _start([sys.executable, "-m", "tests.services", base])
    assert keeper.stdout
    said = keeper.stdout.readline()
    if not said:
        pytest.exit("The services that the tests need do not start.", returncode=3)
    variables: Mapping[str, str] = json.loads(said)
    return variables


def _answering(sandbox: subprocess.Popen[str], url: str) -> Mapping[str, str]:
    processes.within(ANSWER_WAIT_S, lambda: embedded.sandbox_answers(url) or sandbox.poll() is not None)
    if sandbox.poll() is not None:
        pytest.exit("The provider sandbox does not start.", returncode=3)
    return embedded.sandbox_variables(url)


def _start(command: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command,
        cwd=SOURCE_FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _started.append(process)
    return process


# --- The keeper


def keep(base: Path) -> None:
    """Says in one line of JSON where the services are, and keeps them until the standard input ends."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    os.environ.update(UNSET | embedded.sandbox_variables("http://127.0.0.1:9"))  # it needs no sandbox
    environment = Environment(Path(os.devnull))
    with _free_folder(base) as folder, embedded.services(environment, folder, durable=False) as running:
        print(json.dumps({**running.variables, "AIGOV_DATA_DIR": str(folder)}), flush=True)
        sys.stdin.read()


@contextmanager
def _free_folder(base: Path) -> Iterator[Path]:
    for number in range(RUNS_MAX):
        folder = (base / str(number)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "run.lock", "a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield folder
            return
    raise SystemExit(f"{RUNS_MAX} runs of the tests use {base} already.")


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
