"""Processes of this machine: whether they live, how they end, and how they are started apart from us."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil  # type: ignore[import-untyped]

SOURCE_FOLDER = Path(__file__).resolve().parent.parent
POLL_S = 0.02
KILLED_WAIT_S = 5.0

#: Runs a command as a daemon: in a session of its own, adopted by init.
DAEMON = "import os, sys; os.fork() and os._exit(0); os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"

#: Runs a command that gets SIGTERM when its parent, whose number comes first, is gone for whatever reason.
BOUND = """\
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM
if os.getppid() != int(sys.argv[1]):
    sys.exit("The process that started this one is gone.")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServiceError(SystemExit):
    """What is needed does not start. Uncaught, it ends the process with its sentence and status 1."""


def within(wait_s: float, happened: Callable[[], bool]) -> bool:
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


def end(process: psutil.Process, *, by: signal.Signals, wait_s: float) -> None:
    """Sends the signal `by`, and SIGKILL if the process does not end within `wait_s` seconds."""
    for number, patience_s in ((by, wait_s), (signal.SIGKILL, KILLED_WAIT_S)):
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            return
        if within(patience_s, lambda: not lives(process)):
            return


def at_work_in(folder: Path, *, mark: str) -> psutil.Process | None:
    """The process with `mark` in its command line whose working directory is `folder`, even a deleted one."""
    for process in psutil.process_iter():
        try:
            if mark not in " ".join(process.cmdline()):
                continue
            if process.cwd().removesuffix(" (deleted)") == str(folder):
                return process
        except psutil.Error:
            continue  # it ended, or belongs to somebody else
    return None


def start_daemon(command: Sequence[str], *, folder: Path) -> None:
    """Starts `command` with `folder` as its working directory and `folder`/log for what it says."""
    with open(folder / "log", "w", encoding="utf-8") as log:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", DAEMON, *command],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(SOURCE_FOLDER)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )


def bound(command: Sequence[str]) -> list[str]:
    """`command`, made to end with this process; it must be started by a thread that lives as long."""
    return [sys.executable, "-I", "-S", "-c", BOUND, str(os.getpid()), *command]


@contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the end of the block."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def write_private(path: Path, text: str) -> None:
    """Replaces the file at once, readable by the owner alone: it may hold a password."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def read(path: Path) -> str | None:
    """The file's text, or None where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def last_line(path: Path) -> str:
    lines = (read(path) or "").splitlines()
    return lines[-1] if lines else "it said nothing"


def package_folder(package: str) -> Path:
    """Where an installed package lies; it is not imported, as that may start machinery of its own."""
    spec = find_spec(package)
    if not spec or not spec.submodule_search_locations:
        raise ServiceError(f"The package {package} is not installed; give DATABASE_URL and REDIS_URL.")
    return Path(spec.submodule_search_locations[0])
