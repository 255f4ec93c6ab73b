"""Keeps a list of programs running, and stops them in order.

    with only_one(lock_file, record):
        Supervisor(programs, record=record).run(ready=…, on_ready=…)

Each program runs in a session of its own, so Ctrl-C reaches the supervisor alone, and it decides the order:
the programs stop in the order in which they are listed, each with time to finish what it does. One that
dies is started again, after a wait that grows as long as it keeps dying. If the supervisor itself is killed,
the kernel ends its programs; the next start looks after those that do not go.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil  # type: ignore[import-untyped]

from aigov import processes

POLL_S = 0.1
RESTART_WAIT_FIRST_S = 0.2
RESTART_WAIT_MAX_S = 10.0
#: Who ran this long is healthy: the wait begins at its shortest again.
HEALTHY_S = 30.0
READY_WAIT_S = 90.0
DEATHS_BEFORE_READY_MAX = 3
LEFTOVER_WAIT_S = 10.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StartError(SystemExit):
    """The service does not start. Uncaught, it ends the process with its sentence and status 1."""


@dataclass(frozen=True, slots=True)
class Program:
    """What is to be kept running.

    Args:
        count: how many processes of it.
        stop_wait_s: seconds it gets to finish after SIGTERM, before SIGKILL.
        descriptors: open files that its processes inherit under the same numbers.
    """

    name: str
    command: tuple[str, ...]
    count: int = 1
    stop_wait_s: float = 10.0
    descriptors: tuple[int, ...] = ()


@dataclass(slots=True)
class Child:
    """One process of a program, and how it fared."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    wait_s: float = RESTART_WAIT_FIRST_S
    deaths: int = 0

    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass
class Supervisor:
    """Runs `programs` until a signal to stop.

    Args:
        record: the file in which the numbers of the running processes are kept.
        log_folder: where each program's output goes, NAME.log; None leaves it on the console.
        also: is called every second, to look after what else must run.
    """

    programs: Sequence[Program]
    record: Path
    log_folder: Path | None = None
    also: Callable[[], None] = lambda: None
    children: list[Child] = field(default_factory=list)
    signals: int = 0

    def run(
        self,
        *,
        ready: Callable[[], bool],
        on_ready: Callable[[], int | None],
        on_stop: Callable[[], None] = lambda: None,
    ) -> int:
        """Starts all, and keeps them running until SIGINT, SIGTERM or SIGHUP; a second one hurries the end.

        The first program has the machine for itself until the service answers; then the others start.

        Args:
            ready: whether the service answers; asked until it does, at most for `READY_WAIT_S`.
            on_ready: is called once in a thread of its own. A number that it returns ends the run.
            on_stop: is called before the first program is stopped.

        Returns:
            the exit status: what `on_ready` gave, or 0 after a signal.

        Raises:
            StartError: the service does not get ready.
        """
        before = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        try:
            self._start()
            if not self._until_ready(ready):
                return 0
            self._add(self.programs[1:])
            return self._until_end(_Outcome.of(on_ready))
        finally:
            on_stop()
            self._stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1

    def _start(self) -> None:
        if self.log_folder:
            self.log_folder.mkdir(parents=True, exist_ok=True)
            for program in self.programs:
                (self.log_folder / f"{program.name}.log").write_text("", encoding="utf-8")
        self._add(self.programs[:1])

    def _add(self, programs: Sequence[Program]) -> None:
        for program in programs:
            for _ in range(program.count):
                self.children.append(Child(program))
                self._launch(self.children[-1])

    def _launch(self, child: Child) -> None:
        # By the main thread: the kernel ends the child when the thread that started it is gone.
        output = open(self.log_folder / f"{child.program.name}.log", "ab") if self.log_folder else None  # noqa: SIM115
        child.process = subprocess.Popen(
            processes.bound(child.program.command),
            cwd=processes.SOURCE_FOLDER,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=child.program.descriptors,
            start_new_session=True,
        )
        if output:
            output.close()
        child.started_at = time.monotonic()
        self._keep_record()

    def _until_ready(self, ready: Callable[[], bool]) -> bool:
        """False if a signal came first."""
        end = time.monotonic() + READY_WAIT_S
        while not ready():
            if self.signals:
                return False
            for child in self.children:
                if child.deaths >= DEATHS_BEFORE_READY_MAX:
                    raise StartError(f"{child.program.name} does not start: it ended {child.deaths} times.")
            if time.monotonic() > end:
                raise StartError(f"The service is not ready after {READY_WAIT_S:.0f} seconds.")
            self._watch()
            time.sleep(POLL_S)
        return True

    def _until_end(self, outcome: "_Outcome") -> int:
        turns = 0
        while not self.signals and outcome.status is None:
            self._watch()
            if turns % 10 == 0:
                self.also()
            turns += 1
            time.sleep(POLL_S)
        return outcome.status or 0

    def _watch(self) -> None:
        """Notes who died, and starts again whose wait is over."""
        now = time.monotonic()
        for child in self.children:
            if child.process and not child.lives():
                self._note_death(child, now)
            elif not child.process and now >= child.start_again_at:
                self._launch(child)

    def _note_death(self, child: Child, now: float) -> None:
        assert child.process
        ran_s = now - child.started_at
        child.wait_s = (
            RESTART_WAIT_FIRST_S if ran_s > HEALTHY_S else min(child.wait_s * 2, RESTART_WAIT_MAX_S)
        )
        child.start_again_at = now + child.wait_s
        child.deaths += 1
        status, child.process = child.process.returncode, None
        print(
            f"{child.program.name} ended (status {status}) and is started again.", file=sys.stderr, flush=True
        )

    def _stop(self) -> None:
        """Program after program: SIGTERM to all its processes, time to finish, SIGKILL."""
        for program in self.programs:
            running = [child.process for child in self.children if child.program is program and child.process]
            for process in running:
                process.terminate()
            processes.within(
                program.stop_wait_s,
                lambda: all(process.poll() is not None for process in running) or self.signals > 1,  # noqa: B023
            )
            for process in running:
                process.kill()
                process.wait()
        self.record.unlink(missing_ok=True)

    def _keep_record(self) -> None:
        alive = [
            psutil.Process(child.process.pid) for child in self.children if child.process and child.lives()
        ]
        processes.write_private(
            self.record, json.dumps([[process.pid, process.create_time()] for process in alive])
        )


@dataclass(slots=True)
class _Outcome:
    """What a function gives that runs in a thread of its own."""

    status: int | None = None

    @classmethod
    def of(cls, work: Callable[[], int | None]) -> "_Outcome":
        outcome = cls()

        def run() -> None:
            status: int | None = 1
            try:
                status = work()
            finally:
                outcome.status = status

        threading.Thread(target=run, name="on ready", daemon=True).start()
        return outcome


@contextmanager
def only_one(lock_file: Path, record: Path) -> Iterator[None]:
    """Keeps a second supervisor of this data folder out, and clears away what a killed one left.

    Raises:
        StartError: there is one already.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with open(lock_file, "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartError(f"The service runs already on the data in {lock_file.parent}.") from error
        _clear_away(record)
        yield


def _clear_away(record: Path) -> None:
    """The killed supervisor's programs have had SIGTERM from the kernel; they get a little time to follow."""
    for pid, created_at in json.loads(processes.read(record) or "[]"):
        try:
            process = psutil.Process(pid)
            ours = abs(process.create_time() - created_at) < 1
        except psutil.NoSuchProcess:
            continue
        if ours:
            processes.end(process, by=signal.SIGTERM, wait_s=LEFTOVER_WAIT_S)
    record.unlink(missing_ok=True)
