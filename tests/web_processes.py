"""Web processes as the supervisor starts them, which a test may kill."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import httpx2
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

from aigov import database
from tests.services import SOURCE_FOLDER

READY_WAIT_S = 90.0


class WebProcesses:
    """`count` processes that accept on one socket, on the test's database."""

    def __init__(self, count: int, environment: Mapping[str, str]) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self._environment = {**os.environ, "DATABASE_URL": url_of_the_database(), **environment}
        self._processes = [self._start() for _ in range(count)]

    def _start(self) -> subprocess.Popen[bytes]:
        descriptor = self.socket.fileno()
        command = ["-m", "uvicorn", "aigov.asgi:application", "--fd", str(descriptor), "--no-access-log"]
        return subprocess.Popen(
            [sys.executable, *command, "--log-level", "error"],
            cwd=SOURCE_FOLDER,
            env=self._environment,
            pass_fds=[descriptor],
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        """Returns when each process has answered in turn, or raises TimeoutError."""
        until = time.monotonic() + READY_WAIT_S
        while time.monotonic() < until:
            with suppress(httpx2.TransportError):
                answers = [httpx2.get(f"{self.url}/readyz", timeout=1).status_code for _ in self._processes]
                if set(answers) == {200}:
                    return
            time.sleep(0.1)
        raise TimeoutError("the web processes do not get ready")

    def kill(self) -> None:
        """kill -9, as the kernel does when memory runs out."""
        for process in self._processes:
            process.kill()
            process.wait()

    def close(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait(timeout=40)
        self.socket.close()


@contextmanager
def web_processes(count: int, **environment: str) -> Iterator[WebProcesses]:
    """Ready web processes for the time of the block."""
    processes = WebProcesses(count, environment)
    try:
        processes.wait_until_ready()
        yield processes
    finally:
        processes.close()


def url_of_the_database() -> str:
    parts = conninfo_to_dict(database.conninfo())
    assert parts["dbname"] == settings.DATABASES["default"]["NAME"]
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}"
