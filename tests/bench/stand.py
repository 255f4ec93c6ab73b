"""The stand: databases of its own, and the processes that are measured, each on a core of its own.

The gateway has the first core to itself; the provider, the database and the load share the second. What is
measured is CPU time, which counts no waiting, so that a busy machine blurs it less than it does a clock.
"""

import fcntl
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg

from aigov import embedded, processes
from aigov.environment import Environment
from tests.services import SOURCE_FOLDER, UNSET

READY_WAIT_S = 60.0
STOP_WAIT_S = 30.0
FOLDER = SOURCE_FOLDER / ".data" / "bench"


#: The gateway's core, and everybody else's; the same one where there is one alone.
_cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0, 1]
WEB_CORE, OTHER_CORE = _cores[0], _cores[min(1, len(_cores) - 1)]


def pin(pid: int, core: int) -> None:
    """Ties a process, and whatever it starts from then on, to one core (where the system can)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {core})


@contextmanager
def services(upstream_port: int) -> Iterator[None]:
    """An empty PostgreSQL (which waits for the disk, as in production) and a Valkey, for the block's time."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    provider = {"OPENAI_API_KEY": "bench", "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream_port}/v1"}
    os.environ.update(UNSET | provider | {"AIGOV_DATA_DIR": str(FOLDER)})
    with open(FOLDER / "run.lock", "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"The bench runs already in {FOLDER}.") from None
        with embedded.services(Environment(Path(os.devnull)), FOLDER, durable=True) as running:
            os.environ.update(running.variables)
            _empty(running.variables["DATABASE_URL"])
            yield


def _empty(url: str) -> None:
    with psycopg.connect(url.replace("/aigov?", "/postgres?"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS aigov WITH (FORCE)")
        connection.execute("CREATE DATABASE aigov")


class Measured:
    """A server process on a port of 127.0.0.1, and what it uses."""

    def __init__(
        self, command: Sequence[str], *, port: int, core: int, environment: Mapping[str, str]
    ) -> None:
        self.name, self.port = " ".join(command), port
        self._running = subprocess.Popen(
            processes.bound([sys.executable, "-m", *command]),
            cwd=SOURCE_FOLDER,
            env=os.environ | environment,
            start_new_session=True,
        )
        pin(self._running.pid, core)  # before it has threads, which inherit the core
        self._process = psutil.Process(self._running.pid)

    def wait_until_ready(self, path: str) -> None:
        processes.within(READY_WAIT_S, lambda: _answers(self.port, path) or self._ended())
        if not _answers(self.port, path):
            raise SystemExit(f"{self.name} does not get ready on port {self.port}.")

    def cpu_s(self) -> float:
        """User and system time of the process and all its children, so far."""
        times = [process.cpu_times() for process in self._tree()]
        return float(sum(time.user + time.system for time in times))

    def memory_mb(self) -> float:
        """Resident memory of the process and all its children."""
        return float(sum(process.memory_info().rss for process in self._tree()) / 2**20)

    def stop(self) -> None:
        self._running.terminate()
        try:
            self._running.wait(timeout=STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()

    def _tree(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def _ended(self) -> bool:
        return self._running.poll() is not None


@contextmanager
def measured(
    command: Sequence[str], *, core: int, port: int, ready: str, environment: Mapping[str, str]
) -> Iterator[Measured]:
    """A server that answers on the path `ready`, for the time of the block."""
    process = Measured(command, port=port, core=core, environment=environment)
    try:
        process.wait_until_ready(ready)
        yield process
    finally:
        process.stop()


def put(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("PUT", path)
    connection.getresponse().read()
    connection.close()


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
