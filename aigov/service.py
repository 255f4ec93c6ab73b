"""The service's processes: web, Celery worker, Celery beat; the same in production and here.

web      uvicorn, `WEB_WORKERS` processes that share one listening socket
worker   Celery with two processes of its own, so that a task which hangs is killed at its time limit
         and holds up only half of the work (threads would need less memory, but cannot be killed)
beat     Celery's clock; one, never more
"""

import errno
import http.client
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import connections

from aigov import embedded
from aigov.supervisor import Program, StartError, Supervisor, only_one

CONNECTIONS_MAX = 2000
WORKER_STOP_WAIT_S = 30.0
BACKLOG = 1024
KEEP_ALIVE_S = 75


def serve(*, on_ready: Callable[[str], int | None], log_folder: Path | None = None) -> int:
    """Runs the service until Ctrl-C or SIGTERM.

    Args:
        on_ready: is called with the service's address, such as http://127.0.0.1:8000, once it answers;
            in a thread of its own. If it returns a number, the service stops with it as exit status.
        log_folder: where web.log, worker.log and beat.log go; None leaves all output on the console.

    Raises:
        StartError: it runs already, the port is taken, or it does not get ready.
    """
    data_folder = settings.AIGOV_DATA_DIR
    record = data_folder / "run.json"
    with only_one(data_folder / "run.lock", record), _listening(settings.HOST, settings.PORT) as listener:
        call_command("migrate", interactive=False, verbosity=0)
        connections.close_all()
        address = _address(listener)
        supervisor = Supervisor(_programs(listener), record=record, log_folder=log_folder, also=_revive)
        return supervisor.run(
            ready=lambda: answers(address), on_ready=lambda: on_ready(address), on_stop=listener.close
        )


def _revive() -> None:
    for services in embedded.in_use:
        services.revive()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"PORT: {port} is taken on {host}; choose another one (0: any free one)."
            ) from error
        raise StartError(
            f"HOST and PORT: cannot listen on {host}, port {port} ({error.strerror})."
        ) from error
    # A client that takes nothing of its answer for so long is cut off; what it was to get is over by then.
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; each connection inherits it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, settings.REQUEST_DEADLINE_S * 1000)
    return listener


def _address(listener: socket.socket) -> str:
    """The service's address as seen from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def answers(address: str) -> bool:
    """Whether the web process answers at all; it accepts nothing before it can do its work."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _programs(listener: socket.socket) -> list[Program]:
    """In the order in which they stop."""
    deadline_s = settings.REQUEST_DEADLINE_S
    web = [
        *("uvicorn", "aigov.asgi:application", "--fd", str(listener.fileno())),
        *("--loop", "uvloop", "--http", "httptools", "--ws", "none", "--lifespan", "on"),
        *("--no-access-log", "--no-server-header", "--log-level", "warning"),
        *("--timeout-graceful-shutdown", str(deadline_s), "--timeout-keep-alive", str(KEEP_ALIVE_S)),
        *("--limit-concurrency", str(CONNECTIONS_MAX)),
    ]
    worker = [
        *("celery", "--quiet", "-A", "aigov", "worker", "--pool", "prefork", "--concurrency", "2"),
        *("--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
    ]
    schedule = str(settings.AIGOV_DATA_DIR / "beat-schedule")
    # That it runs as root here is the operator's decision, and no news to them.
    no_advice = ["-W", "ignore:You're running the worker with superuser privileges"]
    beat = [
        "celery",
        "--quiet",
        "-A",
        "aigov",
        "beat",
        "--schedule",
        schedule,
        "--pidfile",
        "",
        "--loglevel",
        "WARNING",
    ]
    return [
        # Calls in flight end by their deadline; then the ledger's last rows are written.
        Program(
            "web", (sys.executable, "-m", *web), settings.WEB_WORKERS, deadline_s + 40.0, (listener.fileno(),)
        ),
        Program("worker", (sys.executable, *no_advice, "-m", *worker), stop_wait_s=WORKER_STOP_WAIT_S),
        Program("beat", (sys.executable, "-m", *beat)),
    ]
